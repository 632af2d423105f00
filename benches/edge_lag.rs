//! From the edge to the audit log: how late a Machine's create stands in the API server's own record. Fails when the
//! 99th percentile is over 100 ms.
//!
//! Real control planes, the real controller as a process. `EDGES_PER_MINUTE` machines open at each full minute, for
//! `MINUTES` minutes: no timetable has finer edges. Run by `just edge-lag`, on a machine that does nothing else.
#![allow(missing_docs, reason = "a program")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a measurement that cannot go on says why and ends"
)]
#![allow(clippy::print_stdout, reason = "its result")]
#![allow(clippy::disallowed_methods, reason = "it measures, and reads its size from the environment")]
#![allow(unreachable_pub, reason = "modules of one binary")]

#[path = "../tests/harness/mod.rs"]
mod harness;
#[path = "report/mod.rs"]
mod report;
#[allow(dead_code, reason = "the fixture of all end-to-end tests")]
#[path = "../tests/e2e/world.rs"]
mod world;

use std::collections::HashMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use report::size;
use serde_json::json;
use world::{World, civil, minute_ahead};

/// What is promised of the 99th percentile of Machines, in milliseconds.
const BOUND: i128 = 100;

fn main() {
    let count = |variable: &str, default| i64::try_from(size(variable, default)).expect("not so many");
    report::run(measure(count("EDGES_PER_MINUTE", 3), count("MINUTES", 34)));
}

async fn measure(per_minute: i64, minutes: i64) {
    let world = World::start("lag").await;
    let first = minute_ahead(SignedDuration::from_secs(45));
    let mut edges: HashMap<String, Timestamp> = HashMap::new();
    for nth in 0..per_minute * minutes {
        let name = world.tenant.unique("ws");
        let opens = first + SignedDuration::from_mins(nth / per_minute);
        // Long after the last edge: what is measured is an opening, not an opening beside a closing.
        let closes = opens + SignedDuration::from_hours(6);
        let window = json!([{"from": civil(opens), "to": civil(closes), "state": "Active"}]);
        let schedule = json!({"daysOfWeek": null, "hoursOfDay": null, "exceptions": window});
        world.create(&name, json!({ "schedule": schedule })).await;
        edges.insert(name, opens);
    }
    let last = first + SignedDuration::from_mins(minutes - 1);
    println!("{} edges, {per_minute} at each full minute from {first} to {last}", edges.len());
    let left = last.duration_since(Timestamp::now()).as_secs().max(0).unsigned_abs();
    let patience = Duration::from_secs(left + 60);
    let all = |calls: &harness::audit::Calls| {
        calls.on("machines").verb("create").by(&world.user).len() >= edges.len()
    };
    let calls =
        world.tenant.planes().management().audit().until(world.mark, "all created", patience, all).await;
    for resource in ["stubconfigs", "stubmachines", "machines"] {
        let created = calls.by(&world.user).verb("create").on(resource);
        let lags = created.iter().map(|call| call.ended.duration_since(edges[&call.name]).as_millis());
        let p99 = report::tell(resource, "after the edge", lags.collect());
        assert!(resource != "machines" || p99 <= BOUND, "p99 {p99} ms, promised are {BOUND} ms");
    }
    let early = calls
        .by(&world.user)
        .verb("create")
        .only(|call| edges.get(&call.name).is_some_and(|at| call.received < *at));
    assert!(early.is_empty(), "before their edge: {early}");
}
