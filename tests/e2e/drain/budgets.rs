//! Budgets are honoured until the time is over, and named meanwhile.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::yard::{ROUND, Yard};
use crate::harness::audit::Calls;
use crate::news::news_since;
use crate::world::{PATIENCE, instant, is_true, said};

fn refused(calls: &Calls) -> Calls {
    calls.only(|call| call.code == 429)
}

async fn until_named(yard: &Yard) -> Value {
    let namespace = yard.world.tenant.namespace.clone();
    let held = yard
        .until("held up by its budget", |sm| {
            let lines = sm.data["status"]["leaving"]["blockedBy"].as_array().cloned().unwrap_or_default();
            lines.iter().any(|line| {
                line["kind"] == "PodDisruptionBudget"
                    && line["name"] == "keep"
                    && line["namespace"] == *namespace
            })
        })
        .await;
    let (reason, message) = said(&held, "Ready");
    assert_eq!(reason, "NodeDraining");
    assert!(message.contains("PodDisruptionBudget") && message.contains("keep"), "{message}");
    let leaving = held.data["status"]["leaving"].clone();
    let pods = leaving["blockedBy"].as_array().unwrap().iter().filter(|line| line["kind"] == "Pod");
    assert!(pods.clone().any(|line| line["name"] == "kept"), "{leaving}");
    leaving
}

#[tokio::test]
async fn a_budget_holds_the_machine_until_it_lets_the_pod_go() {
    let yard = Yard::lent("released", json!({"nodeDrainTimeout": "10m"})).await;
    yard.pod("kept", json!({})).await;
    yard.pod("free", json!({})).await;
    yard.budget("keep", "kept").await;
    let closed = yard.close().await;
    let leaving = until_named(&yard).await;
    assert_eq!(leaving["stage"], "Drain");
    assert_eq!(yard.evictions().named("free").accepted().len(), 1);
    let audit = yard.world.tenant.planes().workload().audit();
    let mark = yard.world.workload_mark;
    audit.until(mark, "refused again and again", PATIENCE, |_| refused(&yard.evictions()).len() >= 4).await;
    let before = yard.until("at rest", |sm| is_true(sm, "WorkloadReachable")).await;
    let since = Timestamp::now();
    yard.until_refused_again().await;
    yard.until_refused_again().await;
    let news = news_since(&yard.world, &before, since);
    assert!(news.is_empty(), "a refusal like the last one is no news: {news}");
    let span = Timestamp::now().duration_since(closed).as_secs_f64();
    assert!(f64::from(u32::try_from(refused(&yard.evictions()).len()).unwrap()) < 5.0 + span, "with pauses");

    let released = Timestamp::now();
    yard.release("keep").await;
    let deletion = yard.deletion().await;
    assert!(deletion.received > released, "not held by it: {deletion}");
    assert!(deletion.received.duration_since(released) < ROUND, "noticed soon");
    assert_eq!(yard.evictions().named("kept").accepted().len(), 1, "{}", yard.evictions());
    assert!(yard.evictions_by_capi().is_empty());
    yard.world.until_settled(&yard.name, "Inactive").await;
}

#[tokio::test]
async fn when_the_time_is_over_the_machine_goes_and_the_time_is_not_spent_twice() {
    let yard = Yard::lent("over", json!({"nodeDrainTimeout": "25s"})).await;
    yard.pod("kept", json!({})).await;
    yard.budget("keep", "kept").await;
    let closed = yard.close().await;
    until_named(&yard).await;
    let ends = instant(&yard.until_draining().await, "/status/leaving/drainEndsAt").unwrap();
    let deletion = yard.deletion().await;
    assert!(deletion.received >= ends, "{deletion} before {ends}");
    assert!(deletion.received.duration_since(ends) < SignedDuration::from_secs(8), "{deletion} for {ends}");
    let calls = yard.world.calls();
    let excluding = yard.excluding(&calls, &["exclude-node-draining"]).accepted();
    assert!(excluding.iter().any(|patch| patch.ended <= deletion.received), "{excluding}{deletion}");
    let volumes = yard.excluding(&calls, &["exclude-wait-for-node-volume-detach"]);
    assert!(volumes.is_empty(), "these have a limit of their own: {volumes}");
    yard.until_machine_gone().await;
    let took = Timestamp::now().duration_since(closed);
    assert!(took < SignedDuration::from_secs(25) + ROUND, "{took}");
    assert!(yard.evictions_by_capi().is_empty(), "{}", yard.evictions_by_capi());
    assert!(yard.evictions().accepted().is_empty(), "the budget was honoured to the end");
    yard.release("keep").await;
}
