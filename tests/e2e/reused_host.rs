//! A host that is lent again while a Node of an earlier run still carries its provider id.

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::harness::{eventually, gone, pass_until, provider};
use crate::world::{PATIENCE, World, is_true, narrow_kubeconfig, said};

/// A Node without a kubelet that stands for the host of the machine of that name.
async fn leave_a_node(world: &World, node: &str, machine: &str, annotations: Value) -> Node {
    let id = format!("stub://{}/{machine}", world.tenant.namespace);
    let left = json!({"metadata": {"name": node, "annotations": annotations}, "spec": {"providerID": id}});
    let left = serde_json::from_value(left).unwrap();
    world.nodes().create(&PostParams::default(), &left).await.unwrap();
    let silent = json!({"status": {"conditions": [
        {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "Kubelet stopped posting node status."},
    ]}});
    let patched =
        world.nodes().patch_status(node, &PatchParams::default(), &Patch::Merge(silent)).await.unwrap();
    // Older than the Machine by more than the second in which both might be made.
    pass_until(patched.creation_timestamp().unwrap().0 + SignedDuration::from_secs(2)).await;
    patched
}

#[tokio::test]
async fn the_node_of_an_earlier_run_goes_and_the_machine_finds_its_own() {
    let world = World::start("reused").await;
    let (name, old) = (world.tenant.unique("ws"), world.tenant.unique("old"));
    let marks = json!({"cluster.x-k8s.io/machine": name, "cluster.x-k8s.io/cluster-namespace": world.tenant.namespace,
                       "cluster.x-k8s.io/owner-kind": "ScheduledMachine", "cluster.x-k8s.io/owner-name": name});
    leave_a_node(&world, &old, &name, marks).await;
    world.create(&name, json!({})).await;
    gone(&world.nodes(), &old, PATIENCE).await;
    let lent = world
        .until(&name, "on the new Node", |sm| {
            let node = &sm.data["status"]["nodeRef"];
            is_true(sm, "Ready") && node["name"] == name.as_str() && node["uid"].is_string()
        })
        .await;
    let node = world.nodes().get(&name).await.unwrap();
    assert_eq!(lent.data["status"]["nodeRef"]["uid"], node.uid().unwrap());
    let deleted = world.workload_calls().on("nodes").verb("delete").accepted();
    assert!(deleted.len() == 1 && deleted.named(&old).len() == 1, "{deleted}");
    assert_eq!(world.machines_created(&name), 1);
}

#[tokio::test]
async fn the_node_of_somebody_else_is_named_and_left_alone() {
    let world = World::start("rival").await;
    let (name, theirs) = (world.tenant.unique("ws"), world.tenant.unique("theirs"));
    let node = leave_a_node(&world, &theirs, &name, json!({})).await;
    world.create(&name, json!({})).await;
    let told = world
        .until(&name, "told", |sm| {
            let (reason, message) = said(sm, "Ready");
            reason == "WaitingForNode" && message.contains("have the same host")
        })
        .await;
    let (_, message) = said(&told, "Ready");
    assert!(message.contains(&theirs) && message.contains("kubectl delete node"), "{message}");
    let there = world.nodes().get(&theirs).await.unwrap();
    assert_eq!((there.uid(), there.metadata.deletion_timestamp), (node.uid(), None));
    assert!(world.workload_calls().on("nodes").verb("delete").is_empty());

    world.nodes().delete(&theirs, &DeleteParams::default()).await.unwrap();
    world.until_settled(&name, "Active").await;
}

/// From now on Cluster API deletes no Node of the Cluster: it takes the control plane for one of Machines, and finds none.
pub async fn nodes_stay(world: &World) {
    let planes = world.tenant.api(&provider::control_plane());
    let own = Patch::Merge(json!({"spec": {"isExternal": false}}));
    planes.patch(&world.tenant.cluster, &PatchParams::default(), &own).await.unwrap();
    eventually(&planes, &world.tenant.cluster, "not managed externally", PATIENCE, |plane| {
        plane.data["status"]["externalManagedControlPlane"] == false
    })
    .await;
}

/// One host, lent by day and by night. While the day's way to the workload cluster is broken its machine leaves and the
/// night's comes; then the way is mended.
async fn is_lent_on(world: &World, day: &str, host: &str, secret: &str) {
    let tenant = &world.tenant;
    let before = world.scheduled_machines().get(day).await.unwrap();
    assert_eq!(before.data["status"]["nodeRef"]["name"], host, "remembered: nobody saw it go");
    let night = tenant.unique("night");
    world.create(&night, json!({"infrastructureSpec": {"spec": on(world, host)}})).await;
    let active = world.until_settled(&night, "Active").await;
    assert_eq!(active.data["status"]["nodeRef"]["name"], host);
    // A future of this is large.
    let node = Box::pin(eventually(&world.nodes(), host, "marked by Cluster API", PATIENCE, |node| {
        node.annotations().get("cluster.x-k8s.io/machine") == Some(&night)
    }))
    .await;

    tenant.put_kubeconfig(secret, &narrow_kubeconfig(tenant, &world.user)).await;
    world
        .until(day, "done with that Node", |sm| {
            said(sm, "WorkloadReachable").0 == "Connected" && sm.data["status"]["nodeRef"].is_null()
        })
        .await;
    let still = world.nodes().get(host).await.unwrap();
    assert_eq!((still.uid(), still.metadata.deletion_timestamp), (node.uid(), None));
    let deleted = world.workload_calls().on("nodes").verb("delete").named(host);
    assert!(deleted.is_empty(), "the night's Node: {deleted}");
    let after = world.scheduled_machines().get(&night).await.unwrap();
    assert!(is_true(&after, "Ready"), "{}", after.data["status"]);
}

/// The host, by whichever machine.
fn on(world: &World, host: &str) -> Value {
    json!({"providerID": format!("stub://{}/{host}", world.tenant.namespace), "stub": {"node": host}})
}

#[tokio::test]
async fn a_node_that_came_after_the_run_is_not_taken_from_who_has_the_host_now() {
    let world = World::start("day-and-night").await;
    let (day, host, secret) = (world.tenant.unique("day"), world.tenant.unique("host"), "not-there-yet");
    let over =
        json!({"infrastructureSpec": {"spec": on(&world, &host)}, "kubeconfigSecretRef": {"name": secret}});
    world.create(&day, over).await;
    let unseen = world.until_settled(&day, "Active").await;
    assert!(unseen.data["status"]["nodeRef"]["uid"].is_null(), "nobody saw it: {}", unseen.data["status"]);
    world.edit(&day, json!({"schedule": {"enabled": false}})).await;
    world.until_settled(&day, "Disabled").await;
    gone(&world.nodes(), &host, PATIENCE).await;
    Box::pin(is_lent_on(&world, &day, &host, secret)).await;
}

#[tokio::test]
async fn a_node_that_outlived_the_run_is_not_taken_from_who_has_it_now() {
    let world = World::start("night-and-day").await;
    nodes_stay(&world).await;
    let (day, host, secret) = (world.tenant.unique("day"), world.tenant.unique("host"), "of-the-day");
    world.tenant.put_kubeconfig(secret, &narrow_kubeconfig(&world.tenant, &world.user)).await;
    let over =
        json!({"infrastructureSpec": {"spec": on(&world, &host)}, "kubeconfigSecretRef": {"name": secret}});
    world.create(&day, over).await;
    let seen = world
        .until(&day, "lent and seen", |sm| {
            is_true(sm, "Ready") && sm.data["status"]["nodeRef"]["uid"].is_string()
        })
        .await;
    world.tenant.put_kubeconfig(secret, "{}").await;
    world.until(&day, "cut off", |sm| said(sm, "WorkloadReachable").0 == "KubeconfigInvalid").await;
    world.edit(&day, json!({"schedule": {"enabled": false}})).await;
    world.until_settled(&day, "Disabled").await;
    let left = world.nodes().get(&host).await.unwrap();
    assert_eq!(seen.data["status"]["nodeRef"]["uid"], left.uid().unwrap());
    Box::pin(is_lent_on(&world, &day, &host, secret)).await;
}
