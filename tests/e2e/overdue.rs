//! What was promised to the owner, and what she is told when it is not kept.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, DynamicObject, ListParams};
use serde_json::{Value, json};

use crate::harness::audit::Calls;
use crate::harness::{Behaviour, pass_until};
use crate::world::{World, closed, condition, instant, is_true, said, uid};

/// What is promised for the Machine's deletion, after grace, drain and volumes.
const ALLOWANCE: SignedDuration = SignedDuration::from_secs(30);
/// From the promised instant to the word that it has passed: milliseconds, on a machine that has nothing else to do.
const ON_TIME: SignedDuration = SignedDuration::from_secs(5);

/// Neither grace nor drain, and a second for volumes.
fn quick() -> Value {
    json!({
        "gracefulShutdownTimeout": "0s", "nodeDrainTimeout": "0s",
        "machineTemplate": {"spec": {"nodeVolumeDetachTimeout": "1s"}},
    })
}

/// Lent on a Node that is known, with true times of it in the books.
async fn lent(world: &World, name: &str) -> DynamicObject {
    world.until_settled(name, "Active").await;
    let lent = world.until(name, "on a Node", |sm| sm.data["status"]["nodeRef"]["uid"].is_string()).await;
    let run = |field: &str| instant(&lent, &format!("/status/lastRun/{field}")).expect(field);
    let made = lent.metadata.creation_timestamp.as_ref().unwrap().0;
    assert!(made <= run("openedAt") && run("openedAt") < run("readyAt"), "{}", lent.data["status"]);
    assert!(run("readyAt") <= Timestamp::now());
    assert_eq!(instant(&lent, "/status/lastScheduledTime"), Some(run("openedAt")));
    assert!(lent.data["status"]["lastRun"].get("lateBySeconds").is_none(), "{}", lent.data["status"]);
    assert!(condition(&lent, "HandBackOverdue").is_none());
    lent
}

/// The Events of one object for that reason.
async fn events(world: &World, object: &DynamicObject, reason: &str) -> Vec<Event> {
    let api: Api<Event> = Api::namespaced(world.tenant.management.clone(), &world.tenant.namespace);
    let mut events = api.list(&ListParams::default()).await.unwrap().items;
    events.retain(|event| {
        event.regarding.as_ref().and_then(|about| about.uid.as_deref()) == Some(&uid(object))
            && event.reason.as_deref() == Some(reason)
    });
    events
}

/// The word comes with the promised instant, once, and to everybody.
async fn told_on_time(world: &World, before: &DynamicObject, name: &str) -> Timestamp {
    let by = instant(before, "/status/handBackBy").expect("a promise");
    assert_eq!(instant(before, "/status/leaving/goneBy"), Some(by));
    let late = world.until(name, "overdue", |sm| is_true(sm, "HandBackOverdue")).await;
    assert_eq!(instant(&late, "/status/handBackBy"), Some(by), "what was promised stands");
    let (reason, message) = said(&late, "HandBackOverdue");
    assert_eq!((reason.as_str(), said(&late, "Ready").0.as_str()), ("WaitingForMachineDeletion", &*reason));
    let words = format!("promised to its owner by {by}: ");
    assert!(message.starts_with(&words), "{message}");
    world.until_event(name, &words).await;

    let audit = world.tenant.planes().management().audit();
    let told = |calls: &Calls| {
        let writes = calls.by(&world.user).named(name).accepted().since(by);
        writes.only(|call| call.resource == "scheduledmachines/status")
    };
    let calls = audit.until(world.mark, "told", ON_TIME.unsigned_abs(), |calls| !told(calls).is_empty());
    let told = told(&calls.await);
    let after = told.iter().next().unwrap().received.duration_since(by);
    eprintln!("HandBackOverdue {} ms after the promised instant", after.as_millis());
    assert!(after < ON_TIME, "{after}: {told}");
    by
}

/// Back late, and by how much is in the books.
fn is_booked(out: &DynamicObject, by: Timestamp, rule: &str) {
    let run = &out.data["status"]["lastRun"];
    let gone_at = instant(out, "/status/lastRun/goneAt").unwrap();
    let late = gone_at.duration_since(by).as_secs();
    assert!(late > 0, "{run}");
    assert_eq!((&run["lateBySeconds"], &run["endedBy"]), (&json!(late), &json!(rule)), "{run}");
    assert!(condition(out, "HandBackOverdue").is_none(), "{}", out.data["status"]);
    assert!(instant(out, "/status/handBackBy").is_none(), "nothing is promised any more");
}

#[tokio::test]
async fn an_owner_who_is_kept_waiting_beyond_the_promise_is_told_until_she_has_it_and_by_how_much_after() {
    let world = World::start("overdue").await;
    world.tenant.behave(Behaviour { hold_finalizer: true, ..Behaviour::default() });
    let (killed, shut) = (world.tenant.unique("ws"), world.tenant.unique("ws"));
    for name in [&killed, &shut] {
        world.create(name, quick()).await;
    }
    let first = lent(&world, &killed).await;
    lent(&world, &shut).await;
    world.edit(&killed, json!({"killSwitch": true})).await;
    world.edit(&shut, json!({"schedule": closed()})).await;

    let ejected =
        world.until(&killed, "being ejected", |sm| sm.data["status"]["phase"] == "EmergencyRemove").await;
    assert_eq!(said(&ejected, "Scheduled").0, "KillSwitchActivated");
    assert!(!is_true(&ejected, "Scheduled") && !is_true(&ejected, "Ready"));
    assert_eq!(ejected.data["status"]["decision"]["manner"], "Eject");
    assert!(condition(&ejected, "HandBackOverdue").is_none(), "there is time yet");
    let since = instant(&ejected, "/status/timers/ejectStartedAt").unwrap();
    assert_eq!(instant(&ejected, "/status/handBackBy"), Some(since + ALLOWANCE));
    let step = world.until_event(&killed, "Active -> EmergencyRemove: ").await;
    assert_eq!(step.type_.as_deref(), Some("Warning"));
    assert_eq!(step.action.as_deref(), Some("PhaseTransitionToEmergencyRemove"));

    let leaving = world.until(&shut, "leaving", |sm| sm.data["status"]["phase"] == "ShuttingDown").await;
    let since = instant(&leaving, "/status/leaving/since").unwrap();
    let volumes = SignedDuration::from_secs(1);
    assert_eq!(instant(&leaving, "/status/handBackBy"), Some(since + volumes + ALLOWANCE));

    let promised = told_on_time(&world, &ejected, &killed).await;
    let promised_too = told_on_time(&world, &leaving, &shut).await;
    assert_eq!(
        world.scheduled_machines().get(&killed).await.unwrap().data["status"]["phase"],
        "EmergencyRemove"
    );
    pass_until(promised.max(promised_too) + SignedDuration::from_secs(2)).await;
    world.tenant.behave(Behaviour::default());

    is_booked(&world.until_settled(&killed, "Terminated").await, promised, "KillSwitch");
    is_booked(&world.until_settled(&shut, "Inactive").await, promised_too, "OutsideWindows");
    for name in [&killed, &shut] {
        let object = world.scheduled_machines().get(name).await.unwrap();
        let told = events(&world, &object, "HandBackOverdue").await;
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(
            (told[0].type_.as_deref(), told[0].action.as_deref()),
            (Some("Warning"), Some("HandBack"))
        );
        let deletes = world.calls().on("machines").verb("delete").named(name).accepted();
        let first = deletes.iter().next().expect("a DELETE");
        assert!(first.ended < promised, "long before the promise was broken: {deletes}");
    }

    // Taken anew: a run of its own, and nothing of the last one's lateness in it.
    world.edit(&killed, json!({"killSwitch": false})).await;
    let again = world
        .until(&killed, "lent anew", |sm| {
            instant(sm, "/status/lastScheduledTime") > instant(&first, "/status/lastScheduledTime")
        })
        .await;
    assert_eq!(instant(&again, "/status/lastRun/openedAt"), instant(&again, "/status/lastScheduledTime"));
    lent(&world, &killed).await;
}
