//! The owner takes her machine back, and nothing is played: her program runs on this kernel, the shipped agent sees it under
//! the shipped rights, the controller answers, Cluster API lets the machine go.

pub mod lent;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams};
use serde_json::json;

use self::lent::{Steps, watched_over};
use crate::agent::desk::{Desk, LogOnPanic, NAMESPACE, REQUESTED, USER, name, now};
use crate::drain::yard::Yard;
use crate::harness::gone;
use crate::reclaim::{AT_ONCE, is_remembered_before_the_delete};
use crate::world::{PATIENCE, said};

#[tokio::test]
async fn her_program_starts_and_she_has_her_machine_back_until_the_hold_ends() {
    let mut desk = Desk::empty().await;
    let program = desk.program();
    let over = json!({"killIfCommands": [name(&program)], "reclaim": {"returnAfter": "1h"}});
    let yard = Yard::lent("owner", over).await;
    desk.sit_at(&yard.name).await;
    let agent = watched_over(&yard, &desk).await;
    let _log = LogOnPanic(&agent);
    let maps: Api<ConfigMap> = Api::namespaced(desk.admin.clone(), NAMESPACE);
    let rules = maps.get(&desk.object()).await.unwrap().data.unwrap();
    assert!(rules["reclaim.toml"].contains(name(&program)), "{rules:?}");

    let started = now();
    desk.start(&program);
    yard.until_machine_gone().await;
    // On a slow server it may be written after the DELETE, the status standing in for it.
    yard.reclaimed().await;
    let steps = Steps::of(&yard, started);
    steps.tell();
    // From when the server had her request: what a busy machine needs to start a program is none of the promise.
    assert!(steps.deleted.duration_since(steps.asked) < AT_ONCE, "{}", yard.world.calls().writes());
    is_remembered_before_the_delete(&yard.world.calls().writes().since(started));

    let off = yard.world.until_settled(&yard.name, "Disabled").await;
    assert_eq!(said(&off, "Scheduled").0, "EmergencyReclaim");
    assert!(off.data["status"]["message"].as_str().unwrap().contains(name(&program)));
    let made = yard.all_holds().await;
    assert_eq!(made.len(), 1, "one reclaim, one hold");
    gone(&maps, &desk.object(), PATIENCE).await;

    // She is done; whoever runs the platform gives the machine back to its schedule.
    agent.kill();
    yard.holds().delete(&made[0].name_any(), &DeleteParams::default()).await.unwrap();
    yard.world.until_settled(&yard.name, "Active").await;
    let node = yard.world.nodes().get(&yard.name).await.unwrap();
    assert!(!node.annotations().contains_key(REQUESTED), "{:?}", node.annotations());
}

#[tokio::test]
async fn what_she_starts_that_is_not_on_the_list_takes_nothing() {
    let mut desk = Desk::empty().await;
    let (listed, other) = (desk.program(), desk.program());
    let yard = Yard::lent("owner-other", json!({"killIfCommands": [name(&listed)]})).await;
    desk.sit_at(&yard.name).await;
    let agent = watched_over(&yard, &desk).await;
    let _log = LogOnPanic(&agent);
    desk.start(&other);
    // It looks at what runs over and over, and has looked since: each time that it writes its Lease it asks for its Node.
    let workload = desk.planes.workload().audit();
    workload
        .until(workload.mark(), "looked twice more", PATIENCE, |calls| {
            calls.by(USER).on("leases").named(&desk.object()).writes().accepted().len() >= 2
        })
        .await;
    assert!(desk.requests().is_empty(), "{}", desk.requests());
    // An edit of the list reaches it, and then that one counts at once, though it runs already.
    let before = now();
    yard.world.edit(&yard.name, json!({"killIfCommands": [name(&other)]})).await;
    yard.until_machine_gone().await;
    let asked = desk.requests().accepted();
    assert!(asked.iter().all(|call| call.received >= before) && asked.len() == 1, "{asked}");
}
