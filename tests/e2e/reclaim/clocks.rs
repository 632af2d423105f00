//! Clocks that are wrong, and the one that brings a machine back.

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde_json::json;

use crate::drain::yard::Yard;
use crate::harness::{pass_until, refusal};
use crate::world::{is_true, said};

#[tokio::test]
async fn a_clock_that_is_ahead_hides_no_later_request() {
    let yard = Yard::lent("reclaim-ahead", json!({"reclaim": {"returnAfter": "Never"}})).await;
    let tenant = &yard.world.tenant;
    let refused =
        refusal::refuse_deletes(tenant.management_plane(), &tenant.namespace, "machines", "not today").await;
    let ahead = Timestamp::now() + SignedDuration::from_mins(4);
    yard.annotate("true", "java", &ahead.to_string()).await;
    let first = yard.reclaimed().await;
    let asked_at = |hold: &kube::core::DynamicObject| -> Timestamp {
        hold.data["spec"]["reclaim"]["requestedAt"].as_str().unwrap().parse().unwrap()
    };
    assert!(asked_at(&first) <= Timestamp::now(), "{}", first.data);
    yard.give_back(&first).await;
    yard.until_cleared().await;
    yard.until("back", |sm| sm.data["status"]["decision"]["rule"] == "Window").await;

    // By a clock that has been put right.
    yard.reclaim("idea").await;
    let second = yard.reclaimed().await;
    assert_eq!(second.data["spec"]["reclaim"]["matched"], "idea");
    assert!(asked_at(&second) > asked_at(&first), "{} {}", first.data, second.data);
    let node = second.data["spec"]["reclaim"]["node"].as_str().unwrap();
    yard.world
        .until_event(&yard.name, &format!("its owner asked for it at {} on {node}: idea", asked_at(&second)))
        .await;
    let reclaim = |sm: &kube::core::DynamicObject| sm.data["status"]["reclaim"].clone();
    let told = reclaim(&yard.until("told", |sm| reclaim(sm)["matched"] == "idea").await);
    assert_eq!((told["last24h"].as_u64(), yard.creates_of_holds().accepted().len()), (Some(2), 2), "{told}");
    refused.lift().await;
    let off = yard.world.until_settled(&yard.name, "Disabled").await;
    pass_until(Timestamp::now() + SignedDuration::from_secs(3)).await;
    let later = yard.world.scheduled_machines().get(&yard.name).await.unwrap();
    assert_eq!((reclaim(&off), reclaim(&later)), (told.clone(), told), "not one, then the other");
    assert_eq!(yard.all_holds().await.len(), 1);
}

#[tokio::test]
async fn the_end_of_its_hold_brings_the_machine_back_while_its_window_is_open() {
    let yard = Yard::lent("reclaim-return", json!({"reclaim": {"returnAfter": "90s"}})).await;
    let asked = yard.reclaim("java").await;
    yard.deleted_in_time(asked).await;
    let hold = yard.reclaimed().await;
    let until: Timestamp = hold.data["spec"]["until"].as_str().unwrap().parse().unwrap();
    assert!(until.duration_since(asked).abs() <= SignedDuration::from_secs(91), "{until}");
    let off =
        yard.until("with its owner", |sm| said(sm, "Ready").0 == "Reclaimed" && is_true(sm, "Ready")).await;
    let message = off.data["status"]["message"].as_str().unwrap();
    assert!(message.contains("joins "), "it says when: {message}");

    yard.world.until_settled(&yard.name, "Active").await;
    let creates = yard.world.calls().on("machines").verb("create").accepted();
    assert_eq!(creates.len(), 2, "{creates}");
    let back = creates.iter().map(|call| call.received).max().unwrap();
    let late = back.duration_since(until);
    eprintln!("back {} ms after the end of its hold", late.as_millis());
    assert!(!late.is_negative() && late < SignedDuration::from_secs(5), "{late}: {creates}");
    // It ended by itself: nobody touched the hold, which goes an hour later.
    let there = yard.holds().get(&hold.name_any()).await.unwrap();
    assert_eq!(there.resource_version().is_some(), there.metadata.deletion_timestamp.is_none());
    yard.is_spec_untouched();
}
