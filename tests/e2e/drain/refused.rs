//! The Node is empty, and the Machine may not be deleted.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::yard::Yard;
use crate::harness::audit::Calls;
use crate::harness::pass_until;
use crate::harness::refusal::refuse_deletes;
use crate::world::{PATIENCE, said};

#[tokio::test]
async fn a_deletion_that_is_refused_after_a_drain_is_tried_again_less_and_less_often() {
    let yard = Yard::lent("refused-end", json!({"nodeDrainTimeout": "5m"})).await;
    yard.pod("web", json!({})).await;
    let plane = yard.world.tenant.management_plane();
    let refusal = refuse_deletes(plane, &yard.world.tenant.namespace, "machines", "not today").await;
    let writes = yard.status_writes();
    yard.close().await;
    let told = yard.until("refused", |sm| said(sm, "Ready").0 == "DeleteFailed").await;
    assert!(said(&told, "Ready").1.contains("not today"), "{:?}", said(&told, "Ready"));
    // Pauses of about 1, 2, 4 and 8 s: four tries, or five, in this time.
    pass_until(Timestamp::now() + SignedDuration::from_secs(12)).await;
    let deletes = |calls: &Calls| calls.by(&yard.world.user).on("machines").verb("delete").named(&yard.name);
    let audit = plane.audit();
    audit.until(yard.world.mark, "a third try", PATIENCE, |calls| deletes(calls).len() >= 3).await;
    let tries = yard.world.calls().on("machines").verb("delete").named(&yard.name);
    let lists =
        yard.world.workload_calls().on("pods").only(|call| call.verb == "list" || call.verb == "watch");
    let writes = yard.status_writes() - writes;
    eprintln!(
        "refused for 12 s: {} tries, {} lists of pods, {writes} status writes",
        tries.len(),
        lists.len()
    );
    assert!((3..=6).contains(&tries.len()), "{tries}");
    assert!(lists.len() <= 3, "one sight of the Node: {lists}");
    assert!(writes <= 8, "{}", yard.world.calls().writes());
    let at: Vec<Timestamp> = tries.iter().map(|call| call.received).collect();
    let pauses: Vec<SignedDuration> = at.windows(2).map(|pair| pair[1].duration_since(pair[0])).collect();
    assert!(pauses.iter().all(|pause| *pause > SignedDuration::from_millis(700)), "{pauses:?}");
    assert!(pauses.last() > pauses.first(), "{pauses:?}");
    refusal.lift().await;
    yard.until_machine_gone().await;
    yard.world.until_settled(&yard.name, "Inactive").await;
}
