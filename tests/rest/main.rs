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
use kube::ResourceExt;
use kube::core::DynamicObject;
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::json;
use world::{World, closed, is_true};

const OBJECTS: usize = 500;
const STRETCH: Duration = Duration::from_secs(180);
/// 250 Machines through Cluster API and the stub provider, on two cores.
const SETTLING: Duration = Duration::from_secs(600);

#[tokio::test]
async fn five_hundred_settled_objects_cost_no_call_in_three_minutes() {
    let world = World::start("rest").await;
    let names: Vec<String> = (0..OBJECTS).map(|_| world.tenant.unique("ws")).collect();
    let (on, off) = names.split_at(OBJECTS / 2);
    stream::iter(on).for_each_concurrent(8, |name| async { drop(world.create(name, json!({})).await) }).await;
    let closed = json!({ "schedule": closed() });
    stream::iter(off)
        .for_each_concurrent(8, |name| async { drop(world.create(name, closed.clone()).await) })
        .await;
    let settled = tokio::time::timeout(SETTLING, all_settled(&world, on, off)).await;
    assert!(settled.is_ok(), "not settled after {SETTLING:?}\n{}", last_lines(&world));

    let planes = world.tenant.planes();
    let (management, workload) = (planes.management().audit(), planes.workload().audit());
    let user = world.user.clone();
    let (marks, watches) = ((management.mark(), workload.mark()), world.calls().verb("watch").len());
    let ours = management.silent(marks.0, "management", STRETCH, |calls| calls.by(&user).calls());
    let theirs = workload.silent(marks.1, "workload", STRETCH, |calls| {
        calls.by(&world.tenant.workload_user).only(|call| call.user_agent.starts_with("5spot/")).calls()
    });
    tokio::join!(ours, theirs);
    // Silence of a controller that has died would prove nothing: an edit is still acted on.
    assert!(world.controller.ended().is_none());
    world.edit(&off[0], json!({"killSwitch": true})).await;
    world.until_settled(&off[0], "Terminated").await;
    let renewed = world.calls().verb("watch").len() - watches;
    eprintln!("{OBJECTS} objects, {STRETCH:?}: no call; {renewed} watches renewed");
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
