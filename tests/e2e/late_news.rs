//! What somebody meant at the last moment, and a watch has not shown yet, counts all the same before anything is taken
//! from a cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::harness::wait::asked_until;
use crate::harness::{FaultProxy, provider};
use crate::world::{PATIENCE, World, said};

/// Longer than anybody waits for a watch to begin.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// A lent machine without a grace, whose controller does not hear of that kind while this is so: its watch is being
/// renewed, and each try hangs.
async fn deaf_to(collection: &'static str) -> (World, Arc<AtomicBool>, FaultProxy, String) {
    let (world, proxy) = World::start_through(&format!("deaf-to-{collection}")).await;
    let name = world.tenant.unique("ws");
    world.create(&name, json!({"gracefulShutdownTimeout": "0s", "nodeDrainTimeout": "0s"})).await;
    world.until_settled(&name, "Active").await;
    world.until(&name, "on a Node", |sm| sm.data["status"]["nodeRef"]["uid"].is_string()).await;
    let is_watch = move |path: &str| path.contains(&format!("/{collection}?")) && path.contains("watch=true");
    let deaf = Arc::new(AtomicBool::new(true));
    let still = deaf.clone();
    proxy.delay(FOR_EVER, move |entry| is_watch(&entry.path) && still.load(Ordering::Relaxed));
    let from = Timestamp::now();
    asked_until("renewing its watch", PATIENCE, async || {
        proxy.journal().iter().any(|entry| entry.at >= from && is_watch(&entry.path))
    })
    .await;
    (world, deaf, proxy, name)
}

/// Nothing is taken from the machine, although its window is over: what no watch has shown is asked for by that call.
async fn is_left_alone(world: &World, name: &str, since: Timestamp, (verb, collection): (&str, &str)) {
    asked_until("looked at live", PATIENCE, async || {
        !world.calls().since(since).verb(verb).on(collection).accepted().is_empty()
    })
    .await;
    let wrong = world.calls().since(since).on("machines").writes();
    assert!(wrong.is_empty(), "{wrong}");
    let wrong = world.workload_calls().since(since).writes();
    assert!(wrong.is_empty(), "{wrong}");
    assert!(world.tenant.machines().get(name).await.unwrap().metadata.deletion_timestamp.is_none());
}

#[tokio::test]
async fn a_freeze_that_no_watch_has_shown_yet_keeps_a_machine() {
    let (world, deaf, _proxy, name) = deaf_to("machineholds").await;
    let since = Timestamp::now();
    let resource = provider::kind("5spot.finos.org", "v1alpha1", "MachineHold");
    let spec = json!({"scheduledMachine": name, "state": "AsIs", "reason": "an incident"});
    world.tenant.create(&resource, json!({"metadata": {"name": "freeze"}, "spec": spec})).await;
    world.edit(&name, json!({"schedule": {"enabled": false}})).await;
    is_left_alone(&world, &name, since, ("list", "machineholds")).await;
    deaf.store(false, Ordering::Relaxed);
    world.until(&name, "frozen", |sm| said(sm, "Ready").0 == "Held").await;
    is_left_alone(&world, &name, since, ("list", "machineholds")).await;
}

#[tokio::test]
async fn a_pause_of_the_cluster_that_no_watch_has_shown_yet_keeps_a_machine() {
    let (world, deaf, _proxy, name) = deaf_to("clusters").await;
    let since = Timestamp::now();
    let pause = |paused: serde_json::Value| Patch::Merge(json!({"spec": {"paused": paused}}));
    let (clusters, params) = (world.tenant.clusters(), PatchParams::default());
    clusters.patch(&world.tenant.cluster, &params, &pause(json!(true))).await.unwrap();
    world.edit(&name, json!({"schedule": {"enabled": false}})).await;
    is_left_alone(&world, &name, since, ("get", "clusters")).await;
    deaf.store(false, Ordering::Relaxed);
    world.until(&name, "blocked", |sm| said(sm, "Ready").0 == "BlockedByPause").await;
    is_left_alone(&world, &name, since, ("get", "clusters")).await;
    clusters.patch(&world.tenant.cluster, &params, &pause(json!(null))).await.unwrap();
    world.until_settled(&name, "Disabled").await;
}
