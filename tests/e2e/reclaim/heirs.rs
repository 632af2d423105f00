//! Whoever takes over from a controller that died in the middle of a reclaim tells what that one could not.

use http::Method;
use serde_json::json;

use super::in_the_way::lent_through;
use crate::harness::proxy::{Entry, status_body};
use crate::harness::wait::answered_until;
use crate::world::PATIENCE;

#[tokio::test]
async fn a_reclaim_that_was_latched_and_not_told_is_told_by_the_next() {
    let (yard, proxy) = lent_through("reclaim-heir").await;
    let holds = |entry: &Entry| entry.method == Method::POST && entry.path.contains("/machineholds");
    proxy.answer(1000, 403, status_body(403, "Forbidden", "no holds today"), holds);
    let victim = yard.world.controller.clone();
    // The hold, and then the latch.
    let struck = proxy.kill_after_write(2, move || victim.kill());
    yard.reclaim("java").await;
    let last = struck.sprung().await;
    assert!(last.method == Method::PATCH && last.path.contains("/status?"), "{last:?}");
    let before = yard.world.scheduled_machines().get(&yard.name).await.unwrap();
    let status = &before.data["status"];
    assert!(status["timers"]["reclaimedAt"].is_string(), "{status}");
    assert_eq!(status["decision"]["rule"], "Window", "its last write was the latch: {status}");

    let heir = yard.world.controller.again();
    let deletion = yard.deletion().await;
    yard.world.until_event(&yard.name, "its owner asked for it at ").await;
    yard.world.until_event(&yard.name, "the MachineHold of this reclaim could not be written").await;
    answered_until("counted", PATIENCE, async || {
        let page = heir.scrape().await.unwrap_or_default();
        let is_counted = page.lines().any(|line| line == "fivespot_emergency_reclaims_total 1");
        if is_counted { Ok(()) } else { Err(page) }
    })
    .await;
    let off = yard.world.until_settled(&yard.name, "Disabled").await;
    let reclaim = &off.data["status"]["reclaim"];
    assert_eq!(
        (&reclaim["matched"], &reclaim["last24h"]),
        (&json!("java"), &json!(1)),
        "{reclaim} {deletion:?}"
    );
}
