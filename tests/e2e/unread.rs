//! The management API server keeps to itself what has to be known first, or does not answer at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Method;
use kube::api::{DeleteParams, DynamicObject};
use serde_json::json;

use crate::faults::is_call;
use crate::harness::FaultProxy;
use crate::harness::proxy::status_body;
use crate::world::{World, closed, is_true, said, uid};

/// Something that goes wrong until it is mended.
#[derive(Clone)]
struct Trouble(Arc<AtomicBool>);

impl Trouble {
    fn begins() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    fn is_on(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    fn ends(&self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// From now on the controller may not get that object by its name; lists and watches go on.
fn forbid(proxy: &FaultProxy, resource: &str, name: &str) -> Trouble {
    let (trouble, end) = (Trouble::begins(), format!("/{resource}/{name}"));
    let body = status_body(403, "Forbidden", "get is taken away from you");
    let forbidden = trouble.clone();
    proxy.answer(1000, 403, body, move |entry| forbidden.is_on() && is_call(entry, &Method::GET, &end));
    trouble
}

/// It says that it waits, for what, and what a person has to do about it.
async fn unread(world: &World, name: &str, words: &str) -> DynamicObject {
    let told = world.until(name, "unread", |sm| said(sm, "Ready").0 == "ReadFailed").await;
    let (_, message) = said(&told, "Ready");
    assert!(message.contains(words) && message.contains("get is taken away from you"), "{message}");
    assert_eq!(told.data["status"]["message"], *message);
    assert!(!is_true(&told, "Ready"));
    told
}

#[tokio::test]
async fn nothing_is_taken_down_while_the_object_itself_cannot_be_read() {
    let (world, proxy) = World::start_through("unread").await;
    let name = world.tenant.unique("ws");
    world.create(&name, json!({})).await;
    world.until_settled(&name, "Active").await;
    let trouble = forbid(&proxy, "scheduledmachines", &name);
    world.edit(&name, json!({"schedule": closed()})).await;
    let told = unread(&world, &name, "reading the ScheduledMachine before a destructive step failed").await;
    assert_eq!(told.data["status"]["decision"]["state"], "Inactive");
    // A second try that is refused as well: the first might have been one that the proxy let through in between.
    let refused = || proxy.journal().iter().filter(|entry| entry.status.is_some_and(|s| s == 403)).count();
    crate::harness::wait::asked_until("asked again", Duration::from_secs(60), async || refused() >= 3).await;
    assert!(world.calls().verb("delete").is_empty(), "{}", world.calls().verb("delete"));
    assert!(world.workload_calls().on("nodes").writes().only(|call| call.verb != "create").is_empty());
    assert!(world.workload_calls().only(|call| call.resource == "pods/eviction").is_empty());
    let tries = refused();
    assert!(tries < 12, "a refusal is asked about ever more slowly: {tries}\n{}", proxy.shown());

    trouble.ends();
    world.until_settled(&name, "Inactive").await;
    world.until_nothing_left(&name).await;
}

/// A Machine that left our watch may have lost its label alone: until somebody looks, it is not known to be gone.
#[tokio::test]
async fn no_second_machine_is_made_while_nobody_can_look_whether_the_first_is_gone() {
    let (world, proxy) = World::start_through("unlooked").await;
    let name = world.tenant.unique("ws");
    world.create(&name, json!({})).await;
    let lent = world.until_settled(&name, "Active").await;
    let first = world.tenant.machines().get(&name).await.unwrap();
    let trouble = forbid(&proxy, "machines", &name);
    world.tenant.machines().delete(&name, &DeleteParams::default()).await.unwrap();
    let told = unread(&world, &name, "looking for the Machine failed").await;
    assert_eq!(told.data["status"]["machineRef"]["uid"], uid(&first), "remembered");
    assert_eq!(told.data["status"]["lastRun"]["openedAt"], lent.data["status"]["lastRun"]["openedAt"]);
    assert_eq!(world.machines_created(&name), 1);

    trouble.ends();
    let new = world
        .until(&name, "lent anew", |sm| {
            let of = &sm.data["status"]["machineRef"]["uid"];
            is_true(sm, "Ready") && of.is_string() && *of != uid(&first)
        })
        .await;
    assert_eq!(new.data["status"]["phase"], "Active");
    assert_eq!(world.machines_created(&name), 2);
}

#[tokio::test]
async fn a_delete_that_is_not_answered_in_time_is_told_and_sent_again() {
    let (world, proxy) = World::start_through("unanswered").await;
    let name = world.tenant.unique("ws");
    world.create(&name, json!({})).await;
    world.until_settled(&name, "Active").await;
    let (trouble, end) = (Trouble::begins(), format!("/machines/{name}"));
    let swallowed = trouble.clone();
    proxy.delay(Duration::from_secs(600), move |entry| {
        swallowed.is_on() && is_call(entry, &Method::DELETE, &end)
    });
    world.edit(&name, json!({"schedule": closed()})).await;
    let told = world.until(&name, "told", |sm| said(sm, "Ready").0 == "ApiTimeout").await;
    let (_, message) = said(&told, "Ready");
    assert_eq!(message, "delete: no answer from the API server within 10 s");
    assert!(is_true(&told, "Reconciling") && !is_true(&told, "Stalled"), "{}", told.data["status"]);
    assert_eq!(told.data["status"]["phase"], "ShuttingDown");
    let machine = world.tenant.machines().get(&name).await.unwrap();
    assert!(machine.metadata.deletion_timestamp.is_none(), "it never came there");
    let swallowed = world.calls().on("machines").verb("delete");
    assert!(swallowed.is_empty(), "{swallowed}");

    trouble.ends();
    let out = world.until_settled(&name, "Inactive").await;
    assert_eq!(out.data["status"]["lastRun"]["endedBy"], "OutsideWindows");
    world.until_nothing_left(&name).await;
    let sent = proxy.journal().iter().filter(|entry| entry.method == Method::DELETE).count();
    assert!(sent >= 2, "{}", proxy.shown());
}
