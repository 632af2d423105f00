//! An admission webhook that takes its time over evictions, or an API server that is loaded.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::yard::Yard;
use crate::harness::wait::asked_until;
use crate::harness::{FaultProxy, gone, pass_until};
use crate::world::{PATIENCE, said};

const PODS: [&str; 3] = ["a", "b", "c"];

/// A drain whose evictions the API server does not see before that time.
async fn slow(test: &str, by: Duration) -> (Yard, FaultProxy) {
    let (yard, proxy) = Yard::lent_through(test, json!({"nodeDrainTimeout": "10m"})).await;
    for pod in PODS {
        yard.pod(pod, json!({})).await;
    }
    proxy.delay(by, |entry| entry.path.contains("/eviction"));
    (yard, proxy)
}

fn sent(proxy: &FaultProxy, part: &str) -> usize {
    proxy.journal().iter().filter(|entry| entry.path.contains(part)).count()
}

#[tokio::test]
async fn evictions_that_take_long_are_waited_for_and_asked_for_once() {
    // A webhook may take 30 s.
    let by = Duration::from_secs(12);
    let (yard, proxy) = slow("slow-evictions", by).await;
    let lists = sent(&proxy, "/api/v1/nodes?");
    let closed = yard.close().await;
    let waiting = yard
        .until("waited for", |sm| {
            let lines = sm.data["status"]["leaving"]["blockedBy"].as_array().cloned().unwrap_or_default();
            said(sm, "Ready").0 == "NodeDraining" || !lines.is_empty()
        })
        .await;
    assert_eq!(waiting.data["status"]["leaving"]["stage"], "Drain");
    let deletion = yard.deletion().await;
    let evictions = yard.evictions();
    assert_eq!(evictions.len(), PODS.len(), "{evictions}");
    for pod in PODS {
        assert_eq!(evictions.named(pod).accepted().len(), 1, "{evictions}");
    }
    assert_eq!(sent(&proxy, "/eviction"), PODS.len(), "{}", proxy.shown());
    assert!(evictions.iter().all(|call| call.ended < deletion.received), "{evictions}\n{deletion}");
    let took = deletion.received.duration_since(closed);
    assert!(took >= SignedDuration::try_from(by).unwrap(), "{took}");
    // A watch is begun anew by itself once in a while.
    assert!(sent(&proxy, "/api/v1/nodes?") <= lists + 1, "no reason to connect anew: {}", proxy.shown());
    eprintln!(
        "evictions that take 12 s: DELETE {:.1} s after the window, one call a pod",
        took.as_secs_f64()
    );
    assert!(yard.evictions_by_capi().is_empty(), "{}", yard.evictions_by_capi());
    yard.until_machine_gone().await;
    yard.world.until_settled(&yard.name, "Inactive").await;
}

#[tokio::test]
async fn an_eject_does_not_wait_for_evictions_that_are_out() {
    let (yard, proxy) = slow("slow-and-ejected", Duration::from_secs(20)).await;
    yard.close().await;
    asked_until("evicted", PATIENCE, async || sent(&proxy, "/eviction") == PODS.len()).await;
    let killed = yard.kill().await;
    let deletion = yard.deletion().await;
    assert!(deletion.received >= killed, "before anybody asked for it: {deletion}");
    let after = deletion.received.duration_since(yard.edited());
    assert!(after < SignedDuration::from_secs(2), "{after}: {}", yard.world.calls().writes());
    // By us, or by Kubernetes' own eviction by taint.
    for pod in PODS {
        gone(&yard.pods(), pod, PATIENCE).await;
    }
    yard.until_machine_gone().await;
    yard.world.until_settled(&yard.name, "Terminated").await;
    assert_eq!(sent(&proxy, "/eviction"), PODS.len(), "none was sent again: {}", proxy.shown());
}

#[tokio::test]
async fn a_freeze_gives_up_what_was_asked_and_not_answered() {
    let (yard, proxy) = slow("slow-and-frozen", Duration::from_secs(6)).await;
    yard.close().await;
    asked_until("evicted", PATIENCE, async || sent(&proxy, "/eviction") == PODS.len()).await;
    let asked = Timestamp::now();
    yard.world.edit(&yard.name, json!({"paused": true})).await;
    yard.until("frozen", |sm| said(sm, "Ready").0 == "Paused").await;
    pass_until(asked + SignedDuration::from_secs(8)).await;
    assert!(yard.evictions().is_empty(), "never reached the API server: {}", yard.evictions());
    for pod in PODS {
        assert!(yard.pods().get(pod).await.unwrap().metadata.deletion_timestamp.is_none(), "{pod}");
    }
    let thawed = Timestamp::now();
    yard.world.edit(&yard.name, json!({"paused": false})).await;
    let deletion = yard.deletion().await;
    assert!(deletion.received >= thawed, "{deletion}");
    yard.world.until_settled(&yard.name, "Inactive").await;
}
