//! Pauses: our own, and Cluster API's. Nothing is touched, and a thaw begins anew.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use crate::harness::{eventually, pass_until};
use crate::news::news_since;
use crate::world::{PATIENCE, World, instant, is_true, said, uid};

const PAUSED: &str = "cluster.x-k8s.io/paused";
/// Long enough to be seen in it on a machine that has other work.
const GRACE: SignedDuration = SignedDuration::from_secs(30);

async fn pause_cluster(world: &World, paused: Value) {
    let patch = Patch::Merge(json!({"spec": {"paused": paused}}));
    world.tenant.clusters().patch(&world.tenant.cluster, &PatchParams::default(), &patch).await.unwrap();
}

async fn annotate(world: &World, name: &str, value: Value) {
    let patch = Patch::Merge(json!({"metadata": {"annotations": {PAUSED: value}}}));
    world.scheduled_machines().patch(name, &PatchParams::default(), &patch).await.unwrap();
}

/// In a grace that does not end by itself before the test has paused it.
async fn leaving(world: &World, name: &str) {
    world.create(name, json!({"gracefulShutdownTimeout": "10m"})).await;
    world.until_settled(name, "Active").await;
    world.edit(name, json!({"schedule": {"enabled": false}})).await;
    world.until(name, "in its grace", |sm| said(sm, "Ready").0 == "GracePeriodActive").await;
    eventually(&world.nodes(), name, "cordoned", PATIENCE, is_cordoned).await;
}

fn is_cordoned(node: &Node) -> bool {
    node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true))
}

/// Longer than the grace, and nothing is written meanwhile, but what the status says of that.
async fn stands_still(world: &World, name: &str, since: Timestamp) {
    let before = world.until(name, "in sight of its Node", |sm| is_true(sm, "WorkloadReachable")).await;
    let seen = Timestamp::now();
    pass_until(Timestamp::now() + GRACE + SignedDuration::from_secs(2)).await;
    let writes = world.calls().since(since).writes();
    let others = writes.only(|call| call.resource != "scheduledmachines/status" || call.name != name);
    assert!(others.is_empty(), "written: {others}");
    let news = news_since(world, &before, seen);
    assert!(news.len() <= 2, "said once: {news}");
    let nodes = world.workload_calls().since(since).writes();
    assert!(nodes.is_empty(), "written: {nodes}");
    assert!(world.tenant.machines().get(name).await.unwrap().metadata.deletion_timestamp.is_none());
}

/// A whole grace follows, and the same Machine leaves.
async fn leaves_after_a_whole_grace(world: &World, name: &str, thawed: Timestamp) {
    let again =
        world.until(name, "in its grace again", |sm| said(sm, "Ready").0 == "GracePeriodActive").await;
    let ends = instant(&again, "/status/leaving/graceEndsAt").unwrap();
    assert!(ends >= thawed + GRACE, "thawed {thawed}, grace until {ends}");
    world.until_settled(name, "Disabled").await;
    world.until_nothing_left(name).await;
    let deletes = world.calls().on("machines").verb("delete");
    assert!(
        !deletes.is_empty() && deletes.iter().all(|call| call.received >= ends),
        "until {ends}: {deletes}"
    );
}

#[tokio::test]
async fn a_paused_machine_is_not_touched_and_the_thaw_begins_its_grace_anew() {
    let world = World::start("paused").await;
    let name = world.tenant.unique("ws");
    leaving(&world, &name).await;
    world.edit(&name, json!({"paused": true, "gracefulShutdownTimeout": "30s"})).await;
    let paused = world.until(&name, "paused", |sm| said(sm, "Ready").0 == "Paused").await;
    let since = Timestamp::now();
    let status = &paused.data["status"];
    assert_eq!(
        (&status["decision"]["state"], &status["decision"]["rule"]),
        (&json!("AsIs"), &json!("Paused"))
    );
    assert!(status.get("leaving").is_none() && status.get("next").is_none(), "{status}");
    assert_eq!(status["nextText"], "never (paused)");
    stands_still(&world, &name, since).await;
    let thawed = Timestamp::now();
    world.edit(&name, json!({"paused": false})).await;
    leaves_after_a_whole_grace(&world, &name, thawed).await;
}

#[tokio::test]
async fn under_a_paused_cluster_nothing_is_written_but_that() {
    let world = World::start("cluster-paused").await;
    let name = world.tenant.unique("ws");
    leaving(&world, &name).await;
    pause_cluster(&world, json!(true)).await;
    let blocked = |sm: &DynamicObject| said(sm, "Ready").0 == "BlockedByPause";
    let paused = world.until(&name, "blocked", blocked).await;
    let since = Timestamp::now();
    assert!(said(&paused, "Ready").1.contains(&format!("paused Cluster {}", world.tenant.cluster)));
    world.edit(&name, json!({"gracefulShutdownTimeout": "30s"})).await;
    world.until(&name, "seen", |sm| sm.data["status"]["observedGeneration"] == 3).await;
    // Born under the pause: not even a finalizer.
    let late = world.tenant.unique("ws");
    world.create(&late, json!({})).await;
    let new = world.until(&late, "blocked", blocked).await;
    assert!(new.finalizers().is_empty(), "{:?}", new.finalizers());
    let after = Timestamp::now();
    stands_still(&world, &name, after).await;
    let early = world.calls().since(since).writes().only(|call| call.resource != "scheduledmachines/status");
    assert!(early.is_empty(), "{early}");

    let thawed = Timestamp::now();
    pause_cluster(&world, Value::Null).await;
    leaves_after_a_whole_grace(&world, &name, thawed).await;
    let joined = world.until_settled(&late, "Active").await;
    assert!(!joined.finalizers().is_empty());
}

#[tokio::test]
async fn a_paused_object_is_left_alone_also_while_it_is_being_deleted() {
    let world = World::start("object-paused").await;
    let name = world.tenant.unique("ws");
    world.create(&name, json!({"gracefulShutdownTimeout": "30s"})).await;
    let lent = world.until_settled(&name, "Active").await;
    annotate(&world, &name, json!("")).await;
    let blocked = |sm: &DynamicObject| said(sm, "Ready").0 == "BlockedByPause";
    let paused = world.until(&name, "blocked", blocked).await;
    assert!(paused.data["status"].get("handBackBy").is_none(), "nobody can promise that now");
    world.delete(&name).await;
    world
        .until(&name, "being deleted", |sm| {
            sm.data["status"]["decision"]["rule"] == "Deletion" && blocked(sm)
        })
        .await;
    stands_still(&world, &name, Timestamp::now()).await;
    annotate(&world, &name, Value::Null).await;
    crate::harness::gone(&world.scheduled_machines(), &name, PATIENCE).await;
    world.until_nothing_left(&name).await;
    assert_eq!(world.machines_created(&name), 1, "{}", uid(&lent));
}
