//! At rest an object costs no API call: five hundred settled objects, three minutes, both audit logs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "these are tests, and so are the functions they share"
)]
#![allow(clippy::disallowed_methods, reason = "tests read clocks")]
#![allow(unreachable_pub, reason = "modules of one binary")]

#[path = "../harness/mod.rs"]
mod harness;
#[allow(dead_code, reason = "the fixture of all end-to-end tests")]
#[path = "../e2e/world.rs"]
mod world;

use std::collections::HashSet;
use std::time::Duration;

use futures::{StreamExt, pin_mut, stream};
use harness::audit::Calls;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::core::DynamicObject;
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::json;
use world::{World, closed, is_true};

const OBJECTS: usize = 500;
const STRETCH: Duration = Duration::from_secs(180);
/// 250 Machines through Cluster API and the stub provider, on two cores.
const SETTLING: Duration = Duration::from_secs(1800);

#[tokio::test]
async fn five_hundred_settled_objects_cost_no_call_in_three_minutes() {
    let world = World::start("rest").await;
    let names: Vec<String> = (0..OBJECTS).map(|_| world.tenant.unique("ws")).collect();
    let (on, off) = names.split_at(OBJECTS / 2);
    let tainted = json!({"nodeTaints": [{"key": "lent", "value": "true", "effect": "NoSchedule"}]});
    stream::iter(on)
        .for_each_concurrent(8, |name| async { drop(world.create(name, tainted.clone()).await) })
        .await;
    let closed = json!({ "schedule": closed() });
    stream::iter(off)
        .for_each_concurrent(8, |name| async { drop(world.create(name, closed.clone()).await) })
        .await;
    let settled = tokio::time::timeout(SETTLING, all_settled(&world, on, off)).await;
    assert!(settled.is_ok(), "not settled after {SETTLING:?}\n{}", last_lines(&world));

    // Two more kinds of rest: switched off by its user, and frozen after its machine has gone.
    world.edit(&off[1], json!({"schedule": {"enabled": false}})).await;
    world.until_settled(&off[1], "Disabled").await;
    world.edit(&off[2], json!({"paused": true})).await;
    world.until(&off[2], "paused", |object| world::said(object, "Ready").0 == "Paused").await;

    let planes = world.tenant.planes();
    let (management, workload) = (planes.management().audit(), planes.workload().audit());
    let ours = |calls: &Calls| calls.by(&world.user);
    let theirs = |calls: &Calls| world.of_the_controller(calls);
    // The Event of the last change comes after its status.
    harness::wait::asked_until("at rest", SETTLING, async || {
        let marks = (management.mark(), workload.mark());
        harness::pass_until(Timestamp::now() + SignedDuration::from_secs(5)).await;
        let (managing, working) = (management.after(marks.0), workload.after(marks.1));
        ours(&managing).calls().is_empty() && theirs(&working).calls().is_empty()
    })
    .await;
    let marks = (management.mark(), workload.mark());
    tokio::join!(
        management.silent(marks.0, "management", STRETCH, |calls| ours(calls).calls()),
        workload.silent(marks.1, "workload", STRETCH, |calls| theirs(calls).calls()),
    );

    // Silence proves nothing if we listened for the wrong name, or to a controller that has died: its watches were
    // renewed meanwhile, and what it does now is heard through the same filters.
    let renewed = (ours(&management.after(marks.0)).len(), theirs(&workload.after(marks.1)).len());
    assert!(renewed.0 > 0 && renewed.1 > 0, "watches renewed: {renewed:?}");
    world.edit(&on[0], json!({"gracefulShutdownTimeout": "1h", "schedule": {"enabled": false}})).await;
    let patience = Duration::from_secs(60);
    management.until(marks.0, "heard", patience, |calls| !ours(calls).writes().is_empty()).await;
    workload.until(marks.1, "heard", patience, |calls| !theirs(calls).writes().is_empty()).await;
    eprintln!("{OBJECTS} objects, {STRETCH:?}: no call; {renewed:?} watches renewed");
}

/// Follows all objects until each is where it should be.
async fn all_settled(world: &World, on: &[String], off: &[String]) {
    let mut waiting: HashSet<String> = on.iter().chain(off).cloned().collect();
    let stream =
        watcher(world.scheduled_machines(), watcher::Config::default()).default_backoff().applied_objects();
    pin_mut!(stream);
    let is_settled = |object: &DynamicObject| {
        let wanted = if on.contains(&object.name_any()) { "Active" } else { "Inactive" };
        object.data["status"]["phase"] == wanted
            && is_true(object, "Ready")
            && is_true(object, "WorkloadReachable")
            && (wanted == "Inactive" || is_true(object, "NodeTainted"))
    };
    while !waiting.is_empty() {
        if let Some(Ok(object)) = stream.next().await {
            if is_settled(&object) {
                waiting.remove(&object.name_any());
            } else if on.contains(&object.name_any()) || off.contains(&object.name_any()) {
                waiting.insert(object.name_any());
            }
        }
    }
}

fn last_lines(world: &World) -> String {
    let log = world.controller.log();
    log.lines().rev().take(30).collect::<Vec<_>>().join("\n")
}
