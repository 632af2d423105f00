//! More machines are due at one edge than may be made at one time: the highest priority goes first, the rest wait.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{StreamExt, pin_mut};
use http::Method;
use jiff::{SignedDuration, Timestamp};
use kube::core::DynamicObject;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::harness::FaultProxy;
use crate::harness::audit::Calls;
use crate::world::{World, between, closed, instant, minute_ahead, said};

/// What a create takes on a slow API server.
const SLOW: Duration = Duration::from_millis(700);
const PRIORITIES: [u8; 10] = [10, 200, 50, 50, 255, 0, 120, 50, 5, 90];

/// Ten machines that open at one edge, made two at a time; their names, the first to be made in front.
async fn ten_at_one_edge(name: &str) -> (World, FaultProxy, Vec<String>, Timestamp) {
    let (tenant, user, proxy, setup) = World::prepare_through(name).await;
    proxy.delay(SLOW, |entry| entry.method == Method::POST && entry.path.contains("/machines?"));
    let world = World::with(tenant, user, setup.arg("--max-concurrent-creates").arg("2").start());
    let mut machines: Vec<(u8, String)> =
        PRIORITIES.iter().map(|priority| (*priority, world.tenant.unique("ws"))).collect();
    for (priority, name) in &machines {
        world.create(name, json!({"priority": priority, "schedule": closed()})).await;
    }
    for (_, name) in &machines {
        world.until_settled(name, "Inactive").await;
    }
    // The edge is near only once all have settled, however long that took.
    let opens = minute_ahead(SignedDuration::from_secs(45));
    let window = between(opens, opens + SignedDuration::from_hours(1));
    for (_, name) in &machines {
        world.edit(name, json!({"schedule": window})).await;
    }
    for (_, name) in &machines {
        world.until(name, "told", |sm| instant(sm, "/status/nextActivation") == Some(opens)).await;
    }
    assert!(Timestamp::now() < opens, "too slow a machine to see anything");
    machines.sort_by(|(a, first), (b, second)| b.cmp(a).then_with(|| first.cmp(second)));
    (world, proxy, machines.into_iter().map(|(_, name)| name).collect(), opens)
}

/// Who was ever told to wait.
fn watch_who_waits(machines: Api<DynamicObject>) -> (Arc<Mutex<BTreeSet<String>>>, JoinHandle<()>) {
    let waited = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = waited.clone();
    let task = tokio::spawn(async move {
        let stream = watcher(machines, watcher::Config::default()).default_backoff().applied_objects();
        pin_mut!(stream);
        while let Some(next) = stream.next().await {
            if let Ok(object) = next
                && said(&object, "Ready").0 == "WaitingForTurn"
            {
                seen.lock().unwrap().insert(object.name_any());
            }
        }
    });
    (waited, task)
}

/// Two at a time, and at every moment those that stand in front.
fn assert_in_order(calls: &Calls, order: &[String], opens: Timestamp) {
    let first = |name: &String| {
        let parts = calls.verb("create").named(name).only(|call| call.resource != "machines");
        parts.iter().map(|call| call.received).min().unwrap()
    };
    let last = |name: &String| calls.verb("create").on("machines").named(name).iter().next().unwrap().ended;
    let mut begun: Vec<(Timestamp, usize)> =
        order.iter().enumerate().map(|(rank, name)| (first(name), rank)).collect();
    begun.sort_unstable();
    for (position, (at, rank)) in begun.iter().enumerate() {
        assert!(*at >= opens, "before the edge: {calls}");
        assert!(
            // One whose pass comes later than a second loses its place, on a machine that is busy.
            *rank <= position + 2,
            "{} is {rank} in the order and was made as {position}: {begun:?}",
            order[*rank]
        );
    }
    for (at, _) in &begun {
        let in_the_making = order.iter().filter(|name| first(name) <= *at && *at < last(name)).count();
        assert!(in_the_making <= 2, "{in_the_making} at one time: {calls}");
    }
}

#[tokio::test]
async fn at_one_edge_the_highest_priority_goes_first_and_the_rest_say_that_they_wait() {
    let (world, _proxy, order, opens) = ten_at_one_edge("turns").await;
    let (waited, task) = watch_who_waits(world.scheduled_machines());
    for name in &order {
        world.until_settled(name, "Active").await;
    }
    task.abort();
    assert_in_order(&world.calls(), &order, opens);
    let waited = waited.lock().unwrap().clone();
    assert!(
        order[..2].iter().all(|name| !waited.contains(name)),
        "the first two wait for nobody: {waited:?}"
    );
    assert!(
        order[6..].iter().all(|name| waited.contains(name)),
        "the last four wait for seconds: {waited:?}"
    );
    for name in &order {
        assert_eq!(world.machines_created(name), 1);
    }
}

#[tokio::test]
async fn the_order_holds_where_the_edge_fell_into_an_outage() {
    let (mut world, _proxy, order, opens) = ten_at_one_edge("late").await;
    world.controller.kill();
    crate::harness::pass_until(opens).await;
    world.controller = world.controller.again();
    for name in &order {
        world.until_settled(name, "Active").await;
    }
    assert_in_order(&world.calls(), &order, opens);
}
