//! Whatever changes in the middle of a drain is acted on at once.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::yard::{Yard, is_cordoned};
use crate::harness::gone;
use crate::world::{PATIENCE, instant, open, said, uid};

const SOON: SignedDuration = SignedDuration::from_secs(5);

async fn held(test: &str) -> Yard {
    let yard = Yard::lent(test, json!({"nodeDrainTimeout": "10m"})).await;
    yard.pod("kept", json!({})).await;
    yard.budget("keep", "kept").await;
    yard.close().await;
    yard.until("begun", |sm| sm.data["status"]["timers"]["drainStartedAt"].is_string()).await;
    yard
}

#[tokio::test]
async fn a_window_that_re_opens_after_the_first_eviction_lets_the_leaving_complete() {
    let yard = held("reopened").await;
    let old = yard.machine().await;
    yard.world.edit(&yard.name, json!({"schedule": open()})).await;
    let going = yard
        .until("wanted again, and going", |sm| {
            sm.data["status"]["decision"]["state"] == "Active" && said(sm, "Ready").0 == "NodeDraining"
        })
        .await;
    assert!(said(&going, "Ready").1.contains("a new Machine follows"), "{:?}", said(&going, "Ready"));
    assert!(is_cordoned(&yard.world.nodes().get(&yard.name).await.unwrap()));
    yard.release("keep").await;
    yard.deletion().await;
    yard.until("lent anew", |sm| {
        let of = &sm.data["status"]["machineRef"]["uid"];
        of.is_string() && *of != uid(&old) && said(sm, "Ready").0 == "Active"
    })
    .await;
    assert!(!is_cordoned(&yard.world.nodes().get(&yard.name).await.unwrap()));
    assert_eq!(yard.world.machines_created(&yard.name), 2);
}

#[tokio::test]
async fn a_shorter_and_a_longer_limit_act_in_the_middle() {
    let yard = held("relimited").await;
    let draining = yard.until_draining().await;
    let began = instant(&draining, "/status/timers/drainStartedAt").unwrap();
    yard.world.edit(&yard.name, json!({"nodeDrainTimeout": "20m"})).await;
    let ends = began + SignedDuration::from_mins(20);
    yard.until("longer", |sm| instant(sm, "/status/leaving/drainEndsAt") == Some(ends)).await;
    yard.until_refused_again().await;
    let edited = Timestamp::now();
    yard.world.edit(&yard.name, json!({"nodeDrainTimeout": "1s"})).await;
    let deletion = yard.deletion().await;
    assert!(deletion.received >= edited, "under the longer one: {deletion}");
    assert!(deletion.received.duration_since(edited) < SOON, "{deletion}");
    yard.world.until_settled(&yard.name, "Inactive").await;
    yard.release("keep").await;
}

#[tokio::test]
async fn a_deletion_in_the_middle_goes_on_with_the_drain() {
    let yard = held("deleted").await;
    yard.world.delete(&yard.name).await;
    let going = yard.until("being deleted", |sm| sm.data["status"]["decision"]["rule"] == "Deletion").await;
    assert_eq!(going.data["status"]["leaving"]["stage"], "Drain");
    yard.until_refused_again().await;
    yard.until_refused_again().await;
    let released = Timestamp::now();
    yard.release("keep").await;
    let deletion = yard.deletion().await;
    assert!(deletion.received >= released, "its drain is honoured: {deletion}");
    gone(&yard.world.scheduled_machines(), &yard.name, PATIENCE).await;
    yard.world.until_nothing_left(&yard.name).await;
}

#[tokio::test]
async fn a_restart_in_the_middle_goes_on_where_it_was() {
    let mut yard = held("restarted").await;
    let before = instant(&yard.until_draining().await, "/status/leaving/drainEndsAt");
    yard.world.controller = yard.world.controller.again();
    let evictions = yard.evictions().len();
    let audit = yard.world.tenant.planes().workload().audit();
    let mark = yard.world.workload_mark;
    audit.until(mark, "tried again", PATIENCE, |_| yard.evictions().len() > evictions).await;
    let after = yard.until_draining().await;
    assert_eq!(instant(&after, "/status/leaving/drainEndsAt"), before);
    yard.release("keep").await;
    yard.deletion().await;
    assert_eq!(yard.evictions().accepted().len(), 1);
    yard.world.until_settled(&yard.name, "Inactive").await;
}
