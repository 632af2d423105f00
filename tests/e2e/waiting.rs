//! What a machine waits for, in Cluster API's own words; and days on which none is to be had.

use jiff::SignedDuration;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use crate::world::{World, civil, condition, instant, is_true, merge, minute_ahead, open, said};

/// From an edge to what is done about it: milliseconds, on a machine that has nothing else to do.
const ON_THE_EDGE: SignedDuration = SignedDuration::from_secs(5);

async fn mend(api: &Api<DynamicObject>, name: &str) {
    let sound = Patch::Merge(json!({"spec": {"stub": null}}));
    api.patch(name, &PatchParams::default(), &sound).await.unwrap();
}

/// Which of its parts a machine waits for, and why, in the words of who makes that part.
async fn waits(world: &World, name: &str, reason: &str, words: &str) -> DynamicObject {
    let waiting = world
        .until(name, reason, |sm| {
            let (told, message) = said(sm, "Ready");
            told == reason && message.contains(words)
        })
        .await;
    let status = &waiting.data["status"];
    assert_eq!(
        (&status["phase"], &status["message"]),
        (&json!("Pending"), &json!(said(&waiting, "Ready").1))
    );
    assert!(!is_true(&waiting, "Ready") && !is_true(&waiting, "Stalled"), "{status}");
    assert_eq!(condition(&waiting, "Ready").unwrap()["status"], "False");
    assert_eq!(said(&waiting, "Reconciling").0, reason, "what tools that wait read");
    assert!(status["machineRef"]["uid"].is_string() && status["lastRun"]["openedAt"].is_string(), "{status}");
    assert!(status["lastRun"].get("readyAt").is_none() && status.get("nodeRef").is_none(), "{status}");
    waiting
}

#[tokio::test]
async fn what_keeps_a_machine_from_joining_is_told_part_by_part_until_it_is_mended() {
    let world = World::start("joining").await;
    let name = world.tenant.unique("ws");
    let (no_token, no_host) = ("the token has expired", "no host answers at 10.0.0.17");
    let fails = |words: &str| json!({"spec": {"stub": {"fail": words}}});
    world
        .create(&name, json!({"bootstrapSpec": fails(no_token), "infrastructureSpec": fails(no_host)}))
        .await;
    let first = waits(&world, &name, "WaitingForBootstrap", no_token).await;
    mend(&world.tenant.stub_configs(), &name).await;
    let second = waits(&world, &name, "WaitingForInfrastructure", no_host).await;
    mend(&world.tenant.stub_machines(), &name).await;
    let lent = world.until_settled(&name, "Active").await;
    for field in ["/status/machineRef/uid", "/status/lastRun/openedAt"] {
        let of = |sm: &DynamicObject| sm.data.pointer(field).cloned();
        assert_eq!((of(&first), of(&second)), (of(&lent), of(&lent)), "{field}: it was one and the same");
    }
    assert!(instant(&lent, "/status/lastRun/readyAt") > instant(&lent, "/status/lastRun/openedAt"));
    assert!(condition(&lent, "Reconciling").is_none());
    assert_eq!(world.machines_created(&name), 1);
    let calls = world.calls();
    assert!(calls.verb("delete").is_empty(), "{}", calls.verb("delete"));
}

/// Nobody would mend it before the window ends: what never joined goes as what did, and at once.
#[tokio::test]
async fn what_never_joined_goes_with_its_window_and_no_grace_is_spent_on_it() {
    let world = World::start("never-joined").await;
    let name = world.tenant.unique("ws");
    let never = json!({"spec": {"stub": {"neverProvisions": true}}});
    world.create(&name, json!({"infrastructureSpec": never, "gracefulShutdownTimeout": "10m"})).await;
    waits(&world, &name, "WaitingForInfrastructure", "").await;
    world.edit(&name, json!({"schedule": {"enabled": false}})).await;
    let off = world.until_settled(&name, "Disabled").await;
    let run = &off.data["status"]["lastRun"];
    assert_eq!((&run["endedBy"], &run["lateBySeconds"]), (&json!("Disabled"), &json!(0)), "{run}");
    assert!(run.get("readyAt").is_none() && run["goneAt"].is_string(), "{run}");
    let took =
        instant(&off, "/status/lastRun/goneAt").unwrap() - instant(&off, "/status/lastRun/closedAt").unwrap();
    assert!(
        SignedDuration::try_from(took).unwrap() < SignedDuration::from_mins(2),
        "of a grace of ten: {took}"
    );
    world.until_nothing_left(&name).await;
    let calls = world.calls();
    assert_eq!(calls.on("machines").verb("create").accepted().len(), 1, "{calls}");
}

fn shut(from: jiff::Timestamp, to: jiff::Timestamp) -> Value {
    let mut schedule = open();
    let freeze =
        json!([{"from": civil(from), "to": civil(to), "state": "Inactive", "reason": "year-end freeze"}]);
    merge(&mut schedule, json!({ "exceptions": freeze }));
    schedule
}

#[tokio::test]
async fn an_exception_cuts_a_piece_out_of_a_window_and_says_why() {
    let world = World::start("exception").await;
    let name = world.tenant.unique("ws");
    world.create(&name, json!({})).await;
    world.until_settled(&name, "Active").await;
    let (from, to) = {
        let from = minute_ahead(SignedDuration::from_secs(20));
        (from, from + SignedDuration::from_mins(1))
    };
    world.edit(&name, json!({"schedule": shut(from, to)})).await;
    let before = world.until(&name, "warned", |sm| instant(sm, "/status/nextCleanup") == Some(from)).await;
    assert_eq!(said(&before, "Scheduled").0, "ScheduleActive");
    assert_eq!(instant(&before, "/status/nextActivation"), Some(to));
    assert_eq!(before.data["status"]["next"]["rule"], "Exception", "{}", before.data["status"]);

    let cut = world.until(&name, "shut", |sm| said(sm, "Scheduled").0 == "ExceptionInactive").await;
    assert!(!is_true(&cut, "Scheduled"));
    let decision = &cut.data["status"]["decision"];
    assert_eq!((&decision["rule"], &decision["state"]), (&json!("Exception"), &json!("Inactive")));
    assert_eq!(decision["source"]["fieldPath"], "spec.schedule.exceptions[0]");
    assert!(said(&cut, "Scheduled").1.contains("year-end freeze"), "{:?}", said(&cut, "Scheduled"));
    assert_eq!(
        (instant(&cut, "/status/decision/since"), cut.data["status"]["inSchedule"].clone()),
        (Some(from), json!(false))
    );
    let off = world.until_settled(&name, "Inactive").await;
    assert_eq!(off.data["status"]["lastRun"]["endedBy"], "Exception");

    let back = world.until_settled(&name, "Active").await;
    assert_eq!(said(&back, "Scheduled").0, "ScheduleActive");
    assert_eq!(instant(&back, "/status/decision/since"), Some(to));
    let calls = world.calls().on("machines");
    let (deleted, made) = (calls.verb("delete").since(from), calls.verb("create").accepted().since(to));
    for (edge, call) in [(from, deleted.iter().next()), (to, made.iter().next())] {
        let late = call.unwrap_or_else(|| panic!("nothing at {edge}: {calls}")).received.duration_since(edge);
        assert!(late < ON_THE_EDGE, "{late:#} after the edge: {calls}");
    }
    assert_eq!(world.machines_created(&name), 2, "{calls}");
}
