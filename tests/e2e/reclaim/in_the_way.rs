//! What may stand in the way of a hold does not keep the owner waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Method;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::json;

use crate::drain::yard::{Yard, is_cordoned, is_ejecting, slow};
use crate::harness::proxy::{Entry, status_body};
use crate::harness::{FaultProxy, eventually, refusal};
use crate::world::{PATIENCE, World, said};

use super::is_remembered_before_the_delete;

#[tokio::test]
async fn a_hold_that_is_refused_is_latched_told_and_written_once_it_may_be() {
    let yard = Yard::lent("reclaim-refused", json!({"reclaim": {"returnAfter": "Never"}})).await;
    let tenant = &yard.world.tenant;
    let why = "no more holds in this namespace";
    let refused =
        refusal::refuse_creates(tenant.management_plane(), &tenant.namespace, "machineholds", why).await;
    let asked = yard.reclaim("java").await;
    let writes = yard.deleted_in_time(asked).await;
    is_remembered_before_the_delete(&writes);
    yard.until_machine_gone().await;
    // The last attempt of all may have ended otherwise, on a server that is slow; the refusal is told again.
    let off = yard
        .until("off, and told why there is no hold", |sm| {
            let message = sm.data["status"]["message"].as_str().unwrap_or_default();
            sm.data["status"]["phase"] == "Disabled" && message.contains(why) && message.contains("java")
        })
        .await;
    assert_eq!(said(&off, "Scheduled").0, "EmergencyReclaim");
    assert!(off.data["status"]["timers"]["reclaimedAt"].is_string(), "{:#}", off.data["status"]);
    yard.world.until_event(&yard.name, "the MachineHold of this reclaim could not be written").await;

    refused.lift().await;
    let hold = yard.reclaimed().await;
    let off = yard.until("unlatched", |sm| sm.data["status"].get("timers").is_none()).await;
    assert_eq!(hold.data["spec"]["reclaim"]["matched"], "java");
    assert_eq!(off.data["status"]["reclaim"]["last24h"], 1);
    assert_eq!((yard.creates_of_holds().accepted().len(), yard.all_holds().await.len()), (1, 1));
    yard.is_spec_untouched();
}

/// Lent, with a proxy before the management API server.
pub async fn lent_through(test: &str) -> (Yard, FaultProxy) {
    let (world, proxy) = World::start_through(test).await;
    let name = world.tenant.unique("ws");
    world.create(&name, json!({"reclaim": {"returnAfter": "Never"}})).await;
    world.until_settled(&name, "Active").await;
    world.until(&name, "on a Node", |sm| sm.data["status"]["nodeRef"]["uid"].is_string()).await;
    (Yard { world, name }, proxy)
}

#[tokio::test]
async fn a_request_cuts_a_grace_and_a_drain_short() {
    for (stage, grace) in [("Grace", "10m"), ("Drain", "0s")] {
        let over = json!({"gracefulShutdownTimeout": grace, "nodeDrainTimeout": "10m", "reclaim": {"returnAfter": "Never"}});
        let yard = Yard::lent(&format!("reclaim-in-{}", stage.to_lowercase()), over).await;
        yard.pod("kept", slow(600)).await;
        yard.budget("keep", "kept").await;
        yard.close().await;
        yard.until(stage, |sm| sm.data["status"]["leaving"]["stage"] == stage).await;
        eventually(&yard.world.nodes(), &yard.name, "cordoned", PATIENCE, is_cordoned).await;
        let asked = yard.reclaim("java").await;
        yard.deleted_in_time(asked).await;
        yard.until_machine_gone().await;
        yard.reclaimed().await;
        let off = yard.world.until_settled(&yard.name, "Disabled").await;
        assert_eq!(said(&off, "Scheduled").0, "EmergencyReclaim", "in its {stage}");
        yard.release("keep").await;
    }
}

/// What would spare Cluster API its drain is no reason to keep the owner waiting: refused, or not answered.
#[tokio::test]
async fn a_patch_of_the_machine_that_fails_or_hangs_does_not_keep_the_owner_waiting() {
    let patches_it = |entry: &Entry| entry.method == Method::PATCH && entry.path.contains("/machines/");
    for hangs in [false, true] {
        let (yard, proxy) =
            lent_through(if hangs { "reclaim-patch-hung" } else { "reclaim-patch-refused" }).await;
        if hangs {
            proxy.delay(Duration::from_secs(600), patches_it);
        } else {
            proxy.answer(1000, 403, status_body(403, "Forbidden", "no patches today"), patches_it);
        }
        let asked = yard.reclaim("java").await;
        yard.deleted_in_time(asked).await;
        yard.until_machine_gone().await;
        yard.reclaimed().await;
        yard.world.until_settled(&yard.name, "Disabled").await;
    }
}

/// The Node half goes on while the management side is kept from looking; and that is given up soon, and tried with more
/// patience.
#[tokio::test]
async fn looks_that_hang_keep_neither_the_node_waiting_nor_the_machine_for_ever() {
    let (yard, proxy) = lent_through("reclaim-look-hung").await;
    let looks = |entry: &Entry| entry.method == Method::GET && entry.path.contains("/clusters/");
    proxy.delay(Duration::from_secs(3), looks);
    let asked = yard.reclaim("java").await;
    let ejected = yard.until_node_is_ejected(asked).await;
    // Slow is not dead: it has its time when it is asked again.
    let deletion = yard.deletion().await;
    assert!(ejected.received < deletion.received, "{ejected}\n{deletion}");
    let looks = yard.world.calls().on("clusters").verb("get").accepted().since(asked);
    assert!(
        looks.iter().any(|look| look.ended <= deletion.received),
        "not before somebody has looked: {looks}{deletion}"
    );
    yard.until_machine_gone().await;
    yard.reclaimed().await;
}

fn makes_a_hold(entry: &Entry) -> bool {
    entry.method == Method::POST && entry.path.contains("/machineholds")
}

#[tokio::test]
async fn a_create_that_hangs_does_not_keep_the_owner_waiting_and_makes_no_second_hold() {
    let (yard, proxy) = lent_through("reclaim-hung").await;
    let hangs = Arc::new(AtomicBool::new(true));
    let still = hangs.clone();
    let swallows = move |entry: &Entry| makes_a_hold(entry) && still.load(Ordering::Relaxed);
    proxy.delay(Duration::from_secs(600), swallows);
    let asked = yard.reclaim("java").await;
    away_and_latched(&yard, asked).await;
    is_held_after_all(&yard, &hangs).await;
}

/// Out in time, though its hold could not be made: the status stands in for it.
async fn away_and_latched(yard: &Yard, asked: Timestamp) -> DynamicObject {
    yard.deleted_in_time(asked).await;
    yard.until_machine_gone().await;
    let off = yard.world.until_settled(&yard.name, "Disabled").await;
    assert!(off.data["status"]["timers"]["reclaimedAt"].is_string(), "{:#}", off.data["status"]);
    off
}

/// What stood in its way is gone: it is made, once.
async fn is_held_after_all(yard: &Yard, stands: &AtomicBool) {
    stands.store(false, Ordering::Relaxed);
    yard.reclaimed().await;
    yard.until("unlatched", |sm| sm.data["status"].get("timers").is_none()).await;
    assert_eq!(yard.all_holds().await.len(), 1);
}

#[tokio::test]
async fn a_hold_whose_making_was_not_heard_of_is_found_and_no_second_one_made() {
    let (yard, proxy) = lent_through("reclaim-unheard").await;
    let body = status_body(504, "Timeout", "request did not complete within the allotted timeout");
    proxy.answer_instead(1, 504, body, makes_a_hold);
    let asked = yard.reclaim("java").await;
    yard.deleted_in_time(asked).await;
    yard.reclaimed().await;
    yard.world.until_settled(&yard.name, "Disabled").await;
    yard.until("unlatched", |sm| sm.data["status"].get("timers").is_none()).await;
    assert_eq!((proxy.unanswered(), yard.all_holds().await.len()), (0, 1));
    assert_eq!(yard.creates_of_holds().len(), 1, "{}", yard.creates_of_holds());
}

#[tokio::test]
async fn a_name_that_is_taken_keeps_nobody_waiting_and_makes_no_second_hold() {
    let (yard, proxy) = lent_through("reclaim-taken").await;
    let body = status_body(409, "AlreadyExists", "machineholds \"x\" already exists");
    proxy.answer(1, 409, body, makes_a_hold);
    let asked = yard.reclaim("java").await;
    yard.deleted_in_time(asked).await;
    let hold = yard.reclaimed().await;
    assert!(hold.name_any().starts_with(&format!("{}-reclaim-", yard.name)));
    yard.until("unlatched", |sm| sm.data["status"].get("timers").is_none()).await;
    assert_eq!((proxy.unanswered(), yard.all_holds().await.len()), (0, 1));
}

/// The look before a hold is made; the watch asks in another way.
fn looks_for_holds(entry: &Entry) -> bool {
    entry.method == Method::GET
        && entry.path.contains("/machineholds")
        && entry.path.contains("labelSelector=")
        && !entry.path.contains("watch=")
}

async fn is_away_and_held_once_it_may_be(yard: &Yard, asked: Timestamp, stands: &AtomicBool) {
    let off = away_and_latched(yard, asked).await;
    let message = off.data["status"]["message"].as_str().unwrap();
    assert!(message.contains("whether there is one already cannot be seen"), "{message}");
    assert!(yard.all_holds().await.is_empty());
    is_held_after_all(yard, stands).await;
}

#[tokio::test]
async fn holds_that_may_not_be_listed_keep_no_owner_waiting() {
    let (yard, proxy) = lent_through("reclaim-unlisted").await;
    let refuses = Arc::new(AtomicBool::new(true));
    let still = refuses.clone();
    let body = status_body(403, "Forbidden", "machineholds is forbidden");
    proxy.answer(1000, 403, body, move |entry| looks_for_holds(entry) && still.load(Ordering::Relaxed));
    let asked = yard.reclaim("java").await;
    is_away_and_held_once_it_may_be(&yard, asked, &refuses).await;
}

#[tokio::test]
async fn a_list_of_holds_that_hangs_keeps_no_owner_waiting() {
    let (yard, proxy) = lent_through("reclaim-list-hung").await;
    let hangs = Arc::new(AtomicBool::new(true));
    let still = hangs.clone();
    proxy
        .delay(Duration::from_secs(20), move |entry| looks_for_holds(entry) && still.load(Ordering::Relaxed));
    let asked = yard.reclaim("java").await;
    is_away_and_held_once_it_may_be(&yard, asked, &hangs).await;
}

#[tokio::test]
async fn under_a_pause_of_cluster_api_the_node_half_runs_and_the_rest_follows_the_thaw() {
    let yard = Yard::lent("reclaim-paused", json!({"reclaim": {"returnAfter": "Never"}})).await;
    let pause = |paused: bool| Patch::Merge(json!({"spec": {"paused": paused}}));
    let (clusters, cluster) = (yard.world.tenant.clusters(), yard.world.tenant.cluster.clone());
    clusters.patch(&cluster, &PatchParams::default(), &pause(true)).await.unwrap();
    yard.until("paused", |sm| said(sm, "Ready").0 == "BlockedByPause").await;
    yard.annotate("true", "java", "no time at all").await;
    eventually(&yard.world.nodes(), &yard.name, "ejected", PATIENCE, |node| {
        is_ejecting(node) && is_cordoned(node)
    })
    .await;
    let paused = yard.until("reclaimed", |sm| sm.data["status"]["decision"]["rule"] == "Reclaim").await;
    let seen: Timestamp = paused.data["status"]["decision"]["ruleSince"].as_str().unwrap().parse().unwrap();
    crate::harness::pass_until(Timestamp::now() + SignedDuration::from_secs(3)).await;
    assert!(!yard.is_deleted() && yard.all_holds().await.is_empty(), "{}", yard.world.calls().writes());
    let status = yard.world.calls().only(|call| call.resource == "scheduledmachines/status").writes();
    assert!(status.since(seen).len() < 5, "a status that is written for ever: {status}");
    let thawed = Timestamp::now();
    clusters.patch(&cluster, &PatchParams::default(), &pause(false)).await.unwrap();
    let hold = yard.reclaimed().await;
    let at: Timestamp = hold.data["spec"]["reclaim"]["requestedAt"].as_str().unwrap().parse().unwrap();
    assert_eq!(at, seen, "as of when it was first seen");
    let deletion = yard.deletion().await;
    assert!(deletion.received >= thawed, "{deletion}");
    yard.world.until_settled(&yard.name, "Disabled").await;
}
