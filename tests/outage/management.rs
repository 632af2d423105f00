//! The management API server is gone while one machine is due to come and another is due to go.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::harness::{self, pass_until};
use crate::world::{World, between, instant, minute_ahead, uid};

/// How long it is gone.
const OUTAGE: SignedDuration = SignedDuration::from_secs(30);
/// What was due is done this long after it is back, on a machine that has other work.
const SOON: SignedDuration = SignedDuration::from_secs(20);

#[tokio::test]
async fn what_fell_due_in_half_a_minute_without_api_server_is_done_when_it_is_back() {
    let _turn = crate::turn().await;
    let world = World::start("outage").await;
    let (comes, goes) = (world.tenant.unique("comes"), world.tenant.unique("goes"));
    let edge = minute_ahead(SignedDuration::from_secs(70));
    let hours = SignedDuration::from_hours(2);
    world.create(&goes, json!({"schedule": between(edge - hours, edge)})).await;
    world.create(&comes, json!({"schedule": between(edge, edge + hours)})).await;
    world.until_settled(&comes, "Inactive").await;
    world.until_settled(&goes, "Active").await;
    let planes = harness::shared().await;
    let plane = planes.management();

    pass_until(edge - SignedDuration::from_secs(10)).await;
    let killed = Timestamp::now();
    plane.stop_apiserver();
    pass_until(killed + OUTAGE).await;
    assert!(world.controller.ended().is_none(), "{}", world.controller.log());
    plane.restart_apiserver().await;
    let back = Timestamp::now();
    eprintln!("gone for {:#}", back.duration_since(killed));

    let lent = world.until_settled(&comes, "Active").await;
    let off = world.until_settled(&goes, "Inactive").await;
    world.until_nothing_left(&goes).await;
    // Answered for by the edge, not by the hour at which the server came back.
    assert_eq!(instant(&lent, "/status/decision/since"), Some(edge));
    assert_eq!(instant(&off, "/status/lastRun/closedAt"), Some(edge));
    let calls = world.calls().on("machines").accepted();
    for (verb, name) in [("create", &comes), ("delete", &goes)] {
        // While the watch of Machines is not back yet the DELETE of the same uid may be said again.
        let first = calls.verb(verb).named(name).iter().next().expect("it was done").received;
        let late = first.duration_since(back);
        eprintln!("{verb} {late:#} after it was back");
        assert!(late < SOON, "{verb} only {late:#} after it was back\n{}", world.controller.log());
    }
    assert_eq!((world.machines_created(&comes), world.machines_created(&goes)), (1, 1));
    let machine = world.tenant.machines().get(&comes).await.unwrap();
    assert_eq!(lent.data["status"]["machineRef"]["uid"], uid(&machine));
}
