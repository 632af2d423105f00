//! Events that the API server does not take, or does not answer to.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use jiff::SignedDuration;
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use serde_json::json;

use crate::faults::is_call;
use crate::harness::proxy::{Entry, status_body};
use crate::world::{World, closed};

fn is_event(entry: &Entry) -> bool {
    is_call(entry, &Method::POST, "/events")
}

#[tokio::test]
async fn an_event_that_is_refused_or_whose_answer_is_lost_is_told_once_all_the_same() {
    let (world, proxy) = World::start_through("untold").await;
    proxy.answer(3, 503, status_body(503, "ServiceUnavailable", "not now"), is_event);
    proxy.answer_instead(3, 500, status_body(500, "InternalError", "nobody knows"), is_event);
    let name = world.tenant.unique("ws");
    world.create(&name, json!({"schedule": closed()})).await;
    world.until_settled(&name, "Inactive").await;
    world.until_event(&name, "Pending -> Inactive: ").await;
    world.edit(&name, json!({"killSwitch": true})).await;
    world.until_event(&name, "Inactive -> Terminated: ").await;
    // Each is tried until the server's own word comes through: that it took it, or that it has it already.
    let answered = |entry: &Entry| is_event(entry) && entry.status.is_some_and(|s| s == 201 || s == 409);
    crate::harness::wait::asked_until("answered", Duration::from_secs(60), async || {
        proxy.unanswered() == 0 && proxy.journal().iter().filter(|entry| answered(entry)).count() >= 3
    })
    .await;
    let events: Api<Event> = Api::namespaced(world.tenant.management.clone(), &world.tenant.namespace);
    let mut told = BTreeMap::new();
    let ours = |event: &Event| event.reporting_controller.as_deref() == Some("5spot-controller");
    for event in events.list(&ListParams::default()).await.unwrap().into_iter().filter(ours) {
        *told.entry(event.note.clone().unwrap_or_default()).or_insert(0) += 1;
        assert!(event.name_any().starts_with(&format!("{name}.")), "{}", event.name_any());
    }
    assert_eq!(told.len(), 3, "{told:#?}");
    assert!(told.values().all(|times| *times == 1), "{told:#?}");
}

#[tokio::test]
async fn events_that_hang_keep_no_owner_waiting() {
    let (world, proxy) = World::start_through("hung-events").await;
    proxy.delay(Duration::from_secs(3600), is_event);
    let name = world.tenant.unique("ws");
    world.create(&name, json!({})).await;
    world.until_settled(&name, "Active").await;
    assert!(proxy.journal().iter().any(is_event), "one hangs");
    let mark = world.tenant.planes().management().audit().mark();
    world.edit(&name, json!({"killSwitch": true})).await;
    world.until_settled(&name, "Terminated").await;
    let after = world.tenant.planes().management().audit().after(mark);
    let calls = after.calls().named(&name);
    let edited = calls.on("scheduledmachines").verb("patch");
    let edited = edited.iter().next().unwrap();
    let deleted = calls.on("machines").verb("delete");
    let deleted = deleted.iter().next().unwrap();
    let took = deleted.received.duration_since(edited.received);
    // A pass that waited for the Event before would have taken ten seconds.
    assert!(took < SignedDuration::from_secs(5), "{took:#}");
}
