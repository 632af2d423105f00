//! A host that is lent again while a Node of an earlier run still carries its provider id.

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::harness::{gone, pass_until};
use crate::world::{World, is_true, said};

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
    gone(&world.nodes(), &old, crate::world::PATIENCE).await;
    let lent = world
        .until(&name, "on the new Node", |sm| {
            is_true(sm, "Ready") && sm.data["status"]["nodeRef"]["name"] == name.as_str()
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
