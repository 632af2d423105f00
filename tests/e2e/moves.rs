//! `clusterctl move`: the graph that it walks, and its writes, against running controllers on both sides.

mod mover;

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use crate::harness::{eventually, provider};
use crate::world::{PATIENCE, World, closed, narrow_secret, said, uid};
use mover::Graph;

const UID_LABEL: &str = "5spot.finos.org/scheduled-machine-uid";

fn machine_hold() -> kube::api::ApiResource {
    provider::kind("5spot.finos.org", "v1alpha1", "MachineHold")
}

/// A lent machine, one that is out, one that is lent by a hold, and one in its grace.
struct Scene {
    world: World,
    lent: String,
    out: String,
    held: String,
    leaving: String,
}

async fn scene(name: &str) -> Scene {
    let world = World::start(name).await;
    // As the documents tell: Cluster API moves no Secrets but its own by itself.
    let moves = json!({"metadata": {"labels": {"clusterctl.cluster.x-k8s.io/move": ""}}});
    let secrets = world.tenant.api(&provider::kind("", "v1", "Secret"));
    let secret = narrow_secret(&world.tenant);
    secrets.patch(&secret, &PatchParams::default(), &Patch::Merge(moves)).await.unwrap();
    let [lent, out, held, leaving] = [(); 4].map(|()| world.tenant.unique("ws"));
    world.create(&lent, json!({})).await;
    world.create(&out, json!({"schedule": closed()})).await;
    world.create(&held, json!({"schedule": closed(), "gracefulShutdownTimeout": "10m"})).await;
    let spec = json!({"scheduledMachine": held, "state": "Active", "reason": "month end"});
    world.tenant.create(&machine_hold(), json!({"metadata": {"name": "extra"}, "spec": spec})).await;
    let taint = json!({"key": "lent", "effect": "NoSchedule"});
    world.create(&leaving, json!({"gracefulShutdownTimeout": "10m", "nodeTaints": [taint]})).await;
    for name in [&lent, &held, &leaving] {
        world
            .until(name, "lent, on a Node it knows", |sm| {
                sm.data["status"]["phase"] == "Active" && sm.data["status"]["nodeRef"]["uid"].is_string()
            })
            .await;
    }
    world.until_settled(&out, "Inactive").await;
    world.until(&leaving, "tainted", |sm| crate::world::is_true(sm, "NodeTainted")).await;
    world.edit(&leaving, json!({"schedule": {"enabled": false}})).await;
    eventually(&world.nodes(), &leaving, "cordoned", PATIENCE, |node| !takes_pods(node)).await;
    Scene { world, lent, out, held, leaving }
}

#[tokio::test]
async fn every_object_of_ours_is_in_the_list_of_a_move() {
    let Scene { world, lent, out, held, leaving } = scene("move-graph").await;
    let unlabelled = format!("{}-spare", world.tenant.cluster);
    world.tenant.put_kubeconfig(&unlabelled, "{}").await;
    let graph = Graph::discover(&world.tenant).await;
    let moving: Vec<(String, String)> =
        graph.sequence().into_iter().flatten().map(mover::Moving::named).collect();
    let is_in = |kind: &str, name: &str| moving.contains(&(kind.to_owned(), name.to_owned()));
    for name in [&lent, &out, &held, &leaving] {
        assert!(is_in("ScheduledMachine", name), "{name} stays behind: {moving:?}");
    }
    for name in [&lent, &held] {
        for kind in ["Machine", "StubMachine", "StubConfig"] {
            assert!(is_in(kind, name), "{kind} {name} stays behind: {moving:?}");
        }
        assert!(is_in("Secret", &format!("{name}-data")), "{moving:?}");
    }
    assert!(is_in("MachineHold", "extra"), "{moving:?}");
    assert!(is_in("Secret", &narrow_secret(&world.tenant)), "labelled: {moving:?}");
    assert!(!is_in("Secret", &unlabelled), "{moving:?}");
    assert!(is_in("Cluster", &world.tenant.cluster));
    // Owners first: a Machine after what owns it, or it would be left behind.
    let place = |kind: &str, name: &str| {
        graph
            .sequence()
            .iter()
            .position(|group| group.iter().any(|node| node.named() == (kind.to_owned(), name.to_owned())))
    };
    assert!(place("Machine", &lent) > place("ScheduledMachine", &lent));
    assert!(place("StubMachine", &lent) > place("Machine", &lent));
}

async fn until_blocked(world: &World, names: &[&str]) {
    for name in names {
        world.until(name, "blocked", |sm| said(sm, "Ready").0 == "BlockedByPause").await;
    }
}

#[tokio::test]
async fn a_move_cordons_and_deletes_nothing_and_the_other_side_takes_the_machines_over() {
    let Scene { world: source, lent, out, held, leaving } = scene("move").await;
    let mut tenant = source.tenant.clone();
    tenant.namespace = format!("{}-target", source.tenant.namespace);
    let target = World::start_in(tenant).await;
    let nodes_before: Vec<Option<String>> = nodes(&source, &[&lent, &held]).await;
    let (source_writes, target_writes) = (source.calls().writes().len(), target.calls().writes().len());
    assert_eq!(target_writes, 0);

    let mut graph = Graph::discover(&source.tenant).await;
    graph.pause_source().await;
    let node_writes = source.workload_calls().on("nodes").writes().len();
    until_blocked(&source, &[&lent, &out, &held, &leaving]).await;
    graph.create_on(&target.tenant).await;
    graph.delete_from_source().await;
    for name in [&lent, &out, &held, &leaving] {
        crate::harness::gone(&source.scheduled_machines(), name, PATIENCE).await;
    }
    until_blocked(&target, &[&lent, &out, &held, &leaving]).await;
    let still = target.calls().writes().only(|call| !is_word(call));
    assert!(still.is_empty(), "before the target was resumed: {still}");
    graph.resume_target(&target.tenant).await;

    let lent_there = target.until(&lent, "taken over", is_taken_over).await;
    let held_there = target.until(&held, "taken over", is_taken_over).await;
    target.until_settled(&out, "Inactive").await;
    assert_eq!(held_there.data["status"]["decision"]["rule"], "Hold");
    for (name, sm) in [(&lent, &lent_there), (&held, &held_there)] {
        let machine =
            crate::harness::eventually(&target.tenant.machines(), name, "labelled", PATIENCE, |machine| {
                machine.labels().get(UID_LABEL) == Some(&uid(sm))
            })
            .await;
        assert_eq!(Some(uid(&machine)), graph.new_uid("Machine", name), "the very Machine that was moved");
        assert!(machine.metadata.deletion_timestamp.is_none());
    }
    assert_eq!(nodes(&source, &[&lent, &held]).await, nodes_before, "the same Nodes, schedulable");
    // Both controllers call the workload cluster as one user.
    let on_nodes = source.workload_calls().on("nodes").writes();
    assert_eq!(on_nodes.len(), node_writes, "{on_nodes}");
    for world in [&source, &target] {
        let machines = world.calls().on("machines").writes();
        let wrong = machines.only(|call| {
            call.verb == "delete"
                || (call.verb == "create" && world.tenant.namespace == target.tenant.namespace)
        });
        assert!(wrong.is_empty(), "{wrong}");
    }
    let since = source.calls().writes().0.split_off(source_writes);
    let wrong: Vec<_> = since.iter().filter(|call| !is_word(call) && !is_release(call)).collect();
    assert!(wrong.is_empty(), "the source side wrote {wrong:?}");
    // What was cordoned before the move stays where it is there, and takes pods again, its taints on.
    target.until(&leaving, "in its grace", |sm| said(sm, "Ready").0 == "GracePeriodActive").await;
    target.edit(&leaving, json!({"schedule": {"enabled": true}})).await;
    let node = eventually(&target.nodes(), &leaving, "free", PATIENCE, takes_pods).await;
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    assert!(taints.iter().any(|taint| taint.key == "lent"), "{taints:?}");
    assert!(!node.annotations().contains_key("5spot.finos.org/cordoned-by"), "{:?}", node.annotations());
    target.until_settled(&leaving, "Active").await;
    let is_known = |sm: &DynamicObject| sm.data["status"]["appliedNodeTaints"][0]["key"] == "lent";
    target.until(&leaving, "known to be tainted", is_known).await;
    // And it is alive there: the loan ends as any other.
    target.edit(&lent, json!({"schedule": {"enabled": false}})).await;
    target.until_settled(&lent, "Disabled").await;
    target.until_nothing_left(&lent).await;
}

/// Says how things stand: a copy may be seen before its Cluster, and the Cluster may go before the object does.
fn is_word(call: &crate::harness::audit::Call) -> bool {
    call.resource.ends_with("/status") || call.resource == "events"
}

/// Lets go of what `clusterctl` is deleting: the finalizer, and nothing else.
fn is_release(call: &crate::harness::audit::Call) -> bool {
    call.resource == "scheduledmachines" && call.verb == "patch"
}

fn is_taken_over(sm: &DynamicObject) -> bool {
    sm.data["status"]["phase"] == "Active"
        && sm.data["status"]["nodeRef"]["uid"].is_string()
        && crate::world::is_true(sm, "Ready")
        && crate::world::is_true(sm, "WorkloadReachable")
}

fn takes_pods(node: &Node) -> bool {
    node.spec.as_ref().is_none_or(|spec| spec.unschedulable != Some(true))
}

/// Uids of those that take pods.
async fn nodes(world: &World, names: &[&String]) -> Vec<Option<String>> {
    let mut found = Vec::new();
    for name in names {
        let node = world.nodes().get(name).await.unwrap();
        let spec = node.spec.clone().unwrap_or_default();
        let taints = spec.taints.unwrap_or_default();
        assert!(spec.unschedulable != Some(true) && taints.is_empty(), "{name}: {taints:?}");
        found.push(node.uid());
    }
    found
}

#[tokio::test]
async fn an_object_that_is_being_moved_is_let_go_whatever_else_is_true_of_it() {
    let world = World::start("let-go").await;
    let name = world.tenant.unique("ws");
    world.create(&name, json!({})).await;
    world.until(&name, "lent and at rest", is_taken_over).await;
    world.until_event(&name, "Pending -> Active: ").await;
    let writes = world.calls().writes().len();
    let marked: Value =
        json!({"metadata": {"annotations": {"clusterctl.cluster.x-k8s.io/delete-for-move": ""}}});
    let params = PatchParams::default();
    world.scheduled_machines().patch(&name, &params, &Patch::Merge(&marked)).await.unwrap();
    world.edit(&name, json!({"killSwitch": true})).await;
    world.delete(&name).await;
    crate::harness::gone(&world.scheduled_machines(), &name, PATIENCE).await;
    let since = world.calls().writes().0.split_off(writes);
    assert!(since.iter().all(is_release), "{since:?}");
    assert!(world.workload_calls().on("nodes").writes().is_empty(), "{}", world.workload_calls());
    assert!(world.tenant.machines().get(&name).await.unwrap().metadata.deletion_timestamp.is_none());
    nodes(&world, &[&name]).await;
}
