//! One rule over another, where both are true: the table of the contract, lived through.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use kube::api::{DeleteParams, DynamicObject};
use serde_json::{Value, json};

use crate::drain::yard::{Yard, is_cordoned, slow};
use crate::harness::{eventually, gone, pass_until};
use crate::world::{PATIENCE, between, condition, instant, minute_ahead, said};

/// Promised of the DELETE.
const AT_ONCE: SignedDuration = SignedDuration::from_secs(2);

async fn hold(yard: &Yard, state: &str) {
    let resource = crate::harness::provider::kind("5spot.finos.org", "v1alpha1", "MachineHold");
    let spec = json!({"scheduledMachine": yard.name, "state": state, "reason": "a test of precedence"});
    yard.world.tenant.create(&resource, json!({"metadata": {"name": "held"}, "spec": spec})).await;
}

async fn lift(yard: &Yard) -> Timestamp {
    let at = Timestamp::now();
    yard.holds().delete("held", &DeleteParams::default()).await.unwrap();
    at
}

fn rule(sm: &DynamicObject) -> (Value, Value, Value) {
    let decision = &sm.data["status"]["decision"];
    (decision["state"].clone(), decision["rule"].clone(), decision["manner"].clone())
}

fn ready_status(sm: &DynamicObject) -> Value {
    condition(sm, "Ready").map(|ready| ready["status"].clone()).unwrap_or_default()
}

/// The kill switch goes on, and the Machine goes at once.
async fn killed_in_time(yard: &Yard) {
    yard.kill().await;
    let deletion = yard.deletion().await;
    let after = deletion.received.duration_since(yard.edited());
    assert!(after < AT_ONCE, "{after}: {}", yard.world.calls().writes());
}

#[tokio::test]
async fn a_kill_switch_is_heard_in_the_middle_of_the_objects_own_deletion() {
    let yard = Yard::lent("kill-deleted", json!({"gracefulShutdownTimeout": "10m"})).await;
    yard.world.delete(&yard.name).await;
    let leaving = yard.until("in its grace", |sm| said(sm, "Ready").0 == "GracePeriodActive").await;
    assert_eq!(rule(&leaving), (json!("Inactive"), json!("Deletion"), json!("Graceful")));
    killed_in_time(&yard).await;
    gone(&yard.world.scheduled_machines(), &yard.name, PATIENCE).await;
    yard.world.until_nothing_left(&yard.name).await;
}

#[tokio::test]
async fn a_kill_switch_and_an_owner_are_heard_over_a_pause_and_a_kill_switch_over_a_freeze() {
    let killed = async {
        let yard = Yard::lent("kill-paused", json!({})).await;
        yard.world.edit(&yard.name, json!({"paused": true})).await;
        let paused = yard.until("paused", |sm| said(sm, "Ready").0 == "Paused").await;
        assert_eq!(rule(&paused).1, "Paused");
        killed_in_time(&yard).await;
        let off = yard.world.until_settled(&yard.name, "Terminated").await;
        assert_eq!(rule(&off), (json!("Inactive"), json!("KillSwitch"), json!("Eject")));
        let run = &off.data["status"]["lastRun"];
        assert_eq!((&run["node"], &run["endedBy"]), (&json!(yard.name), &json!("KillSwitch")));
        assert!(run["providerID"].as_str().is_some_and(|id| !id.is_empty()), "{run}");
        // The pause is what is left, and it makes nothing.
        yard.world.edit(&yard.name, json!({"killSwitch": false})).await;
        yard.until("paused again", |sm| said(sm, "Ready").0 == "Paused").await;
        assert_eq!(yard.world.machines_created(&yard.name), 1);
    };
    let reclaimed = async {
        let yard = Yard::lent("reclaim-paused", json!({"reclaim": {"returnAfter": "Never"}})).await;
        yard.world.edit(&yard.name, json!({"paused": true})).await;
        yard.until("paused", |sm| said(sm, "Ready").0 == "Paused").await;
        let asked = yard.reclaim("java").await;
        yard.deleted_in_time(asked).await;
        let off = yard.until("reclaimed", |sm| said(sm, "Ready").0 == "Reclaimed").await;
        assert_eq!(rule(&off), (json!("Inactive"), json!("Reclaim"), json!("Eject")));
        let at = instant(&off, "/status/reclaim/at").unwrap();
        assert!(at.duration_since(asked).abs() < SignedDuration::from_secs(5), "{at} {asked}");
    };
    let frozen = async {
        let yard = Yard::lent("kill-frozen", json!({})).await;
        hold(&yard, "AsIs").await;
        yard.until("frozen", |sm| said(sm, "Ready").0 == "Held").await;
        killed_in_time(&yard).await;
        yard.world.until_settled(&yard.name, "Terminated").await;
    };
    futures::join!(Box::pin(killed), Box::pin(reclaimed), Box::pin(frozen));
}

#[tokio::test]
async fn a_hold_lends_what_is_disabled_and_a_kill_switch_takes_that_too() {
    let yard = Yard::lent("hold-disabled", json!({})).await;
    yard.world.edit(&yard.name, json!({"schedule": {"enabled": false}})).await;
    yard.world.until_settled(&yard.name, "Disabled").await;
    hold(&yard, "Active").await;
    let lent = yard.world.until_settled(&yard.name, "Active").await;
    assert_eq!(rule(&lent).1, "Hold");
    yard.kill().await;
    let off = yard.world.until_settled(&yard.name, "Terminated").await;
    assert_eq!(rule(&off).1, "KillSwitch");
    yard.world.edit(&yard.name, json!({"killSwitch": false})).await;
    yard.world.until_settled(&yard.name, "Active").await;
    lift(&yard).await;
    let off = yard.world.until_settled(&yard.name, "Disabled").await;
    assert_eq!(rule(&off).1, "Disabled");
    assert_eq!(yard.world.machines_created(&yard.name), 3);
}

#[tokio::test]
async fn a_freeze_in_the_middle_of_a_drain_asks_no_pod_and_its_end_begins_with_the_grace() {
    let yard = Yard::lent("freeze-drain", json!({"nodeDrainTimeout": "10m"})).await;
    yard.pod("kept", slow(600)).await;
    yard.budget("keep", "kept").await;
    yard.close().await;
    yard.until_evicted("kept", 2).await;
    hold(&yard, "AsIs").await;
    let held = yard.until("frozen", |sm| said(sm, "Ready").0 == "Held").await;
    assert_eq!(ready_status(&held), "Unknown", "half way: neither here nor there");
    assert_eq!(rule(&held).0, "AsIs");
    assert!(held.data["status"].get("leaving").is_none(), "{}", held.data["status"]);
    // One that was on its way when the hold came has arrived by then.
    let frozen = Timestamp::now() + SignedDuration::from_secs(1);
    pass_until(frozen + SignedDuration::from_secs(10)).await;
    let written = yard.world.workload_calls().writes().since(frozen);
    assert!(written.is_empty(), "nothing is touched: {written}");
    eventually(&yard.world.nodes(), &yard.name, "as it was", PATIENCE, is_cordoned).await;

    yard.world.edit(&yard.name, json!({"gracefulShutdownTimeout": "10m"})).await;
    let lifted = lift(&yard).await;
    let again = yard.until("in a grace", |sm| said(sm, "Ready").0 == "GracePeriodActive").await;
    let ends = instant(&again, "/status/leaving/graceEndsAt").unwrap();
    assert!(ends >= lifted + SignedDuration::from_mins(10), "{ends}, lifted at {lifted}");
    assert!(yard.machine().await.metadata.deletion_timestamp.is_none());
    killed_in_time(&yard).await;
    yard.world.until_settled(&yard.name, "Terminated").await;
    yard.release("keep").await;
}

/// The graces of what happened while nobody was there count from when it happened.
#[tokio::test]
async fn an_edge_that_passed_without_the_controller_is_where_the_grace_counts_from() {
    let closes = minute_ahead(SignedDuration::from_secs(40));
    let schedule = between(closes - SignedDuration::from_hours(1), closes);
    let over = json!({"schedule": schedule, "gracefulShutdownTimeout": "10m"});
    let mut yard = Yard::lent("edge-away", over).await;
    let lent = yard.until("lent, in words", |sm| sm.data["status"]["nextText"].is_string()).await;
    let at = closes.to_zoned(TimeZone::UTC).strftime("%a %H:%M UTC").to_string();
    assert_eq!(lent.data["status"]["nextText"], format!("leaves {at}"));
    yard.world.controller.kill();
    pass_until(closes + SignedDuration::from_secs(5)).await;
    yard.world.controller = yard.world.controller.again();
    let leaving = yard.until("in its grace", |sm| said(sm, "Ready").0 == "GracePeriodActive").await;
    assert_eq!(instant(&leaving, "/status/leaving/since"), Some(closes));
    let ends = closes + SignedDuration::from_mins(10);
    assert_eq!(instant(&leaving, "/status/leaving/graceEndsAt"), Some(ends));
    assert_eq!(said(&leaving, "Scheduled").0, "ScheduleInactive");
    let message = leaving.data["status"]["message"].as_str().unwrap();
    assert!(message.contains("; leaves from ") && message.contains("; back by "), "{message}");
}

/// What is said nothing else about returns with the next window, not within the one that it was taken in.
#[tokio::test]
async fn an_owner_who_said_nothing_of_a_return_keeps_the_machine_until_the_next_window() {
    let opens = minute_ahead(SignedDuration::from_secs(100));
    let closes = opens - SignedDuration::from_mins(1);
    let mut schedule = between(closes - SignedDuration::from_hours(1), closes);
    let next = between(opens, opens + SignedDuration::from_hours(1));
    let windows = schedule["exceptions"].as_array_mut().unwrap();
    windows.extend(next["exceptions"].as_array().unwrap().iter().cloned());
    let yard = Yard::lent("next-window", json!({"schedule": schedule})).await;
    let node = yard.until("on a Node", |_| true).await.data["status"]["nodeRef"]["uid"].clone();
    let asked = yard.reclaim("java").await;
    yard.deleted_in_time(asked).await;
    let made = yard.reclaimed().await;
    assert_eq!(instant(&made, "/spec/until"), Some(opens), "{}", made.data["spec"]);
    let prefix = format!("{}-reclaim-", yard.name);
    assert_eq!(made.metadata.generate_name.as_deref(), Some(&*prefix));
    let request = made.data["spec"]["reclaim"]["request"].as_str().unwrap();
    assert!(request.starts_with(node.as_str().unwrap()), "which Node asked, and when: {request}");
    yard.until("with her", |sm| said(sm, "Ready").0 == "Reclaimed").await;
    yard.until_machine_gone().await;
    yard.world.until_settled(&yard.name, "Active").await;
    let creates = yard.world.calls().on("machines").verb("create").accepted();
    let back = creates.iter().map(|call| call.received).max().unwrap();
    assert_eq!(creates.len(), 2, "{creates}");
    assert!(back >= opens, "not before the next window: {creates}");
}
