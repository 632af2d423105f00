//! Holds: a person's word over the timetable, on time, and what it costs.

use jiff::{SignedDuration, Timestamp};
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use crate::harness::audit::Calls;
use crate::harness::{eventually, gone, pass_until, provider};
use crate::world::{PATIENCE, World, closed, condition, instant, is_true, open, said, uid};

/// From what a person does, or the clock, to what the controller does about it. Milliseconds as a rule, and printed; the
/// machine that runs these tests runs a dozen other things. Less than any poll would take.
const AT_ONCE: SignedDuration = SignedDuration::from_secs(5);

fn holds(world: &World) -> Api<DynamicObject> {
    world.tenant.api(&provider::kind("5spot.finos.org", "v1alpha1", "MachineHold"))
}

async fn hold(world: &World, name: &str, spec: Value) -> DynamicObject {
    let mut spec = spec;
    spec["reason"] = json!("a test of holds");
    let resource = provider::kind("5spot.finos.org", "v1alpha1", "MachineHold");
    world.tenant.create(&resource, json!({"metadata": {"name": name}, "spec": spec})).await
}

async fn lift(world: &World, name: &str) -> Timestamp {
    let at = Timestamp::now();
    holds(world).delete(name, &DeleteParams::default()).await.unwrap();
    at
}

async fn until_held(world: &World, name: &str, reason: &str) -> DynamicObject {
    let _log = world.log_on_panic();
    let is_so = |hold: &DynamicObject| said(hold, "InForce").0 == reason;
    eventually(&holds(world), name, reason, PATIENCE, is_so).await
}

/// With everything in the status that comes a moment after the machine itself.
async fn until_at_rest(world: &World, name: &str) -> DynamicObject {
    let is_so = |sm: &DynamicObject| {
        sm.data["status"]["phase"] == "Active"
            && sm.data["status"]["nodeRef"]["uid"].is_string()
            && is_true(sm, "Ready")
            && is_true(sm, "WorkloadReachable")
    };
    world.until(name, "lent and at rest", is_so).await
}

/// The same of one that is out.
async fn until_out_and_at_rest(world: &World, name: &str) {
    let is_so = |sm: &DynamicObject| {
        sm.data["status"]["phase"] == "Inactive" && is_true(sm, "Ready") && is_true(sm, "WorkloadReachable")
    };
    world.until(name, "out and at rest", is_so).await;
}

/// To the second, as the API writes it.
fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The full second at least `ahead` from now.
fn second_ahead(ahead: i64) -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second() + ahead + 1).unwrap()
}

fn first(calls: &Calls) -> Timestamp {
    calls.iter().next().unwrap_or_else(|| panic!("no such call")).received
}

/// The call is in the audit log, whose line may come a moment after what the call did.
async fn on_time(world: &World, resource: &str, verb: &str, name: &str, due: Timestamp) {
    let wanted = |calls: &Calls| {
        let calls =
            calls.by(&world.user).on(resource).verb(verb).since(due - SignedDuration::from_millis(500));
        calls.only(|call| call.name == name || (verb == "create" && call.name.is_empty()))
    };
    let audit = world.tenant.planes().management().audit();
    let calls = audit.until(world.mark, "heard", PATIENCE, |calls| !wanted(calls).is_empty()).await;
    let at = first(&wanted(&calls));
    let late = at.duration_since(due);
    eprintln!("{verb} of {resource} {} ms after it was due", late.as_millis());
    assert!(at >= due && late < AT_ONCE, "{verb} {resource}: due {due}, came {at}: {}", wanted(&calls));
}

/// Neither API server was asked anything.
fn silent(world: &World, from: Timestamp, to: Timestamp) {
    for calls in [world.calls(), world.workload_calls()] {
        let calls = calls.calls().since(from).until(to);
        assert!(calls.is_empty(), "between {from} and {to}: {calls}");
    }
}

#[tokio::test]
async fn an_inactive_hold_gives_the_machine_back_gracefully_and_its_deletion_returns_it_at_once() {
    let world = World::start("held-off").await;
    let name = world.tenant.unique("ws");
    world.create(&name, json!({"gracefulShutdownTimeout": "30s"})).await;
    world.until_settled(&name, "Active").await;
    let made = hold(&world, "mine", json!({"scheduledMachine": name, "state": "Inactive"})).await;

    let leaving = world.until(&name, "leaving", |sm| sm.data["status"]["leaving"].is_object()).await;
    assert_eq!(leaving.data["status"]["leaving"]["stage"], "Grace");
    let grace_ends = instant(&leaving, "/status/leaving/graceEndsAt").unwrap();
    let held = world.until_settled(&name, "Inactive").await;
    world.until_nothing_left(&name).await;
    assert!(first(&world.calls().on("machines").verb("delete")) >= grace_ends);

    assert_eq!(said(&held, "Ready").0, "Held");
    assert_eq!(said(&held, "Scheduled").0, "Held");
    let decision = &held.data["status"]["decision"];
    let source = json!({"kind": "MachineHold", "name": "mine", "uid": uid(&made), "fieldPath": "spec.state"});
    assert_eq!((&decision["rule"], &decision["source"]), (&json!("Hold"), &source));
    assert_eq!(held.data["status"]["nextText"], "never (held)");
    assert_eq!(held.data["status"]["lastRun"]["endedBy"], "Hold");
    let command = format!("kubectl delete machinehold -n {} mine", world.tenant.namespace);
    let message = held.data["status"]["message"].as_str().unwrap();
    assert!(message.ends_with(&command) && message.contains("a test of holds"), "{message}");
    let in_force = until_held(&world, "mine", "InForce").await;
    assert_eq!(in_force.data["status"]["matches"], 1);

    let lifted = lift(&world, "mine").await;
    world.until_settled(&name, "Active").await;
    on_time(&world, "machines", "create", &name, lifted).await;
    assert_eq!(world.machines_created(&name), 2);
}

#[tokio::test]
async fn an_active_hold_lends_outside_the_windows_to_the_second_and_asks_nothing_in_between() {
    let world = World::start("held-on").await;
    let name = world.tenant.unique("ws");
    world.create(&name, json!({"schedule": closed()})).await;
    until_out_and_at_rest(&world, &name).await;
    // Room for each step on a machine that has other work.
    let (from, until) = (second_ahead(40), second_ahead(160));
    let spec =
        json!({"scheduledMachine": name, "state": "Active", "from": seconds(from), "until": seconds(until)});
    hold(&world, "extra", spec).await;

    let announced = world.until(&name, "announced", |sm| sm.data["status"]["next"]["rule"] == "Hold").await;
    assert_eq!(instant(&announced, "/status/next/at"), Some(from));
    let not_yet = until_held(&world, "extra", "NotYet").await;
    assert!(said(&not_yet, "InForce").1.contains(&name), "{:?}", said(&not_yet, "InForce"));
    let quiet = Timestamp::now() + SignedDuration::from_secs(1);
    assert!(quiet < from - SignedDuration::from_secs(2), "announced too late for this test");
    pass_until(from).await;
    let lent = until_at_rest(&world, &name).await;
    on_time(&world, "stubconfigs", "create", &name, from).await;
    on_time(&world, "machineholds", "patch", "extra", from).await;
    silent(&world, quiet, from);

    // Its drain, its volumes, and Cluster API's deletion.
    let span = SignedDuration::from_secs(10 + 60 + 30);
    assert_eq!(instant(&lent, "/status/handBackBy"), Some(until + span));
    assert_eq!(instant(&lent, "/status/decision/until"), Some(until));
    assert_eq!(
        (&lent.data["status"]["inSchedule"], &lent.data["status"]["next"]["state"]),
        (&json!(false), &json!("Inactive"))
    );
    until_held(&world, "extra", "InForce").await;
    let quiet = Timestamp::now() + SignedDuration::from_secs(2);
    assert!(quiet < until - SignedDuration::from_secs(5), "the machine joined too late for this test");
    pass_until(until).await;
    let back = world.until_settled(&name, "Inactive").await;
    world.until_nothing_left(&name).await;
    silent(&world, quiet, until);
    on_time(&world, "machines", "delete", &name, until).await;
    assert_eq!(instant(&back, "/status/lastRun/closedAt"), Some(until));
    let over = until_held(&world, "extra", "Expired").await;
    assert!(is_true(&over, "Expired"));
    on_time(&world, "machineholds", "patch", "extra", until).await;
}

#[tokio::test]
async fn as_it_is_neither_deletes_nor_makes_until_the_hold_is_lifted() {
    let world = World::start("held-as-is").await;
    let (stays, lost) = (world.tenant.unique("ws"), world.tenant.unique("ws"));
    for name in [&stays, &lost] {
        world.create(name, json!({})).await;
    }
    for name in [&stays, &lost] {
        until_at_rest(&world, name).await;
    }
    hold(&world, "freeze", json!({"selector": {}, "state": "AsIs"})).await;
    let frozen = |sm: &DynamicObject| said(sm, "Ready").0 == "Held";
    for name in [&stays, &lost] {
        world.until(name, "frozen", frozen).await;
    }
    let before = Timestamp::now();
    world.edit(&stays, json!({"schedule": {"enabled": false}})).await;
    world.until(&stays, "seen", |sm| sm.data["status"]["observedGeneration"] == 2 && frozen(sm)).await;
    world.tenant.machines().delete(&lost, &DeleteParams::default()).await.unwrap();
    gone(&world.tenant.machines(), &lost, PATIENCE).await;
    let half_way =
        world.until(&lost, "without its machine", |sm| condition(sm, "MachineReady").is_none()).await;
    let decision = &half_way.data["status"]["decision"];
    assert_eq!((&decision["state"], &decision["rule"]), (&json!("AsIs"), &json!("Hold")));
    pass_until(Timestamp::now() + SignedDuration::from_secs(3)).await;
    let others = world.calls().since(before).writes().only(|call| !call.resource.ends_with("/status"));
    assert!(others.is_empty(), "touched: {others}");
    assert!(world.workload_calls().since(before).writes().is_empty(), "{}", world.workload_calls());

    let lifted = lift(&world, "freeze").await;
    world.until_settled(&stays, "Disabled").await;
    until_at_rest(&world, &lost).await;
    on_time(&world, "machines", "delete", &stays, lifted).await;
    assert_eq!((world.machines_created(&stays), world.machines_created(&lost)), (1, 2));
}

#[tokio::test]
async fn a_freeze_keeps_out_what_is_out_and_lets_stay_what_is_in() {
    let world = World::start("held-no-new").await;
    let (inside, outside) = (world.tenant.unique("ws"), world.tenant.unique("ws"));
    world.create(&inside, json!({})).await;
    let in_two_days = (Timestamp::now() + SignedDuration::from_hours(48)).strftime("%Y-%m-%d").to_string();
    let far = json!({"daysOfWeek": null, "hoursOfDay": null, "exceptions": [{"date": in_two_days, "state": "Active"}]});
    world.create(&outside, json!({ "schedule": far })).await;
    until_at_rest(&world, &inside).await;
    world.until_settled(&outside, "Inactive").await;
    hold(&world, "freeze", json!({"selector": {}, "state": "NoNew"})).await;
    let blocked = |sm: &DynamicObject| sm.data["status"]["next"]["blockedBy"] == "MachineHold freeze";
    let waits = world.until(&outside, "told that it will not join", blocked).await;
    assert_eq!(
        (said(&waits, "Ready").0.as_str(), &waits.data["status"]["decision"]["rule"]),
        ("Inactive", &json!("OutsideWindows"))
    );
    assert!(waits.data["status"]["decision"].get("until").is_none(), "{}", waits.data["status"]);

    // The window opens, and nothing joins; somebody deletes the Machine of the other, and none follows.
    world.edit(&outside, json!({"schedule": open()})).await;
    let kept = |sm: &DynamicObject| said(sm, "Ready").0 == "Held" && is_true(sm, "Ready");
    world.until(&outside, "kept out", kept).await;
    let stays = world.until(&inside, "still lent", |sm| sm.data["status"]["phase"] == "Active").await;
    assert_eq!(stays.data["status"]["decision"]["rule"], "Window");
    world.tenant.machines().delete(&inside, &DeleteParams::default()).await.unwrap();
    world.until_nothing_left(&inside).await;
    let out = world.until(&inside, "kept out", kept).await;
    assert_eq!(out.data["status"]["decision"]["source"]["name"], "freeze");
    assert_eq!((world.machines_created(&inside), world.machines_created(&outside)), (1, 0));

    let lifted = lift(&world, "freeze").await;
    for name in [&inside, &outside] {
        world.until_settled(name, "Active").await;
        on_time(&world, "machines", "create", name, lifted).await;
    }
}

#[tokio::test]
async fn the_newest_of_several_counts_and_after_it_the_next() {
    let world = World::start("held-twice").await;
    let name = world.tenant.unique("ws");
    world.create(&name, json!({})).await;
    world.until_settled(&name, "Active").await;
    // Within one second the later name would win; the older one has it, so that only the time can decide.
    let older = hold(&world, "z-older", json!({"scheduledMachine": name, "state": "Inactive"})).await;
    world.until_settled(&name, "Inactive").await;
    let newer = hold(&world, "a-newer", json!({"scheduledMachine": name, "state": "Active"})).await;
    assert!(newer.metadata.creation_timestamp > older.metadata.creation_timestamp);
    let lent = world.until_settled(&name, "Active").await;
    assert_eq!(lent.data["status"]["decision"]["source"]["name"], "a-newer");

    let lifted = lift(&world, "a-newer").await;
    let out = world.until_settled(&name, "Inactive").await;
    on_time(&world, "machines", "delete", &name, lifted).await;
    assert_eq!(out.data["status"]["decision"]["source"]["uid"], uid(&older));
    lift(&world, "z-older").await;
    let back = world.until_settled(&name, "Active").await;
    assert_eq!(back.data["status"]["decision"]["rule"], "Window");
}

#[tokio::test]
async fn a_selector_follows_the_labels_of_machines_and_its_own_edits() {
    let world = World::start("held-by-label").await;
    let (one, other) = (world.tenant.unique("ws"), world.tenant.unique("ws"));
    for name in [&one, &other] {
        world.create(name, json!({})).await;
    }
    label(&world, &one, "risk").await;
    for name in [&one, &other] {
        world.until_settled(name, "Active").await;
    }
    let team = |team: &str| json!({"matchExpressions": [{"key": "team", "operator": "In", "values": [team, "none"]}]});
    hold(&world, "team", json!({"selector": team("risk"), "state": "Inactive"})).await;
    world.until_settled(&one, "Inactive").await;
    assert_eq!(until_held(&world, "team", "InForce").await.data["status"]["matches"], 1);
    assert!(world.calls().on("machines").verb("delete").named(&other).is_empty());

    label(&world, &other, "risk").await;
    world.until_settled(&other, "Inactive").await;
    eventually(&holds(&world), "team", "over two", PATIENCE, |hold| hold.data["status"]["matches"] == 2)
        .await;

    let patch = json!({"spec": {"selector": team("grid")}});
    holds(&world).patch("team", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    for name in [&one, &other] {
        world.until_settled(name, "Active").await;
    }
    let alone = until_held(&world, "team", "MatchesNothing").await;
    let words = said(&alone, "InForce").1;
    assert!(words.contains("--show-labels") && words.contains("correct spec.selector"), "{words}");
    assert_eq!(alone.data["status"]["observedGeneration"], 2);
}

async fn label(world: &World, name: &str, team: &str) {
    let patch = Patch::Merge(json!({"metadata": {"labels": {"team": team}}}));
    world.scheduled_machines().patch(name, &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test]
async fn a_hold_of_nothing_says_what_to_do_and_counts_for_the_first_that_it_finds() {
    let world = World::start("held-nothing").await;
    let (name, bystander) = (world.tenant.unique("ws"), world.tenant.unique("ws"));
    // A controller that has just started has other things to ask.
    world.create(&bystander, json!({"schedule": closed()})).await;
    until_out_and_at_rest(&world, &bystander).await;
    hold(&world, "early", json!({"scheduledMachine": name, "state": "Inactive"})).await;
    let nothing = until_held(&world, "early", "MatchesNothing").await;
    let words = said(&nothing, "InForce").1;
    assert!(
        words.contains(&format!("no ScheduledMachine {name}")) && words.contains("kubectl get"),
        "{words}"
    );
    assert_eq!(nothing.data["status"]["matches"], 0);
    let quiet = Timestamp::now() + SignedDuration::from_secs(1);
    pass_until(quiet + SignedDuration::from_secs(3)).await;
    silent(&world, quiet, Timestamp::now());

    world.create(&name, json!({})).await;
    let held = world.until_settled(&name, "Inactive").await;
    assert_eq!(said(&held, "Ready").0, "Held");
    until_held(&world, "early", "InForce").await;
    assert_eq!(world.machines_created(&name), 0);
    world.delete(&name).await;
    until_held(&world, "early", "MatchesNothing").await;
}

#[tokio::test]
async fn a_hold_over_a_schedule_that_nobody_can_read_still_works() {
    let world = World::start("held-garbage").await;
    let name = world.tenant.unique("ws");
    world.create(&name, json!({"schedule": {"timezone": "Europe/Lundon"}})).await;
    world.until(&name, "stalled", |sm| is_true(sm, "Stalled")).await;
    hold(&world, "anyway", json!({"scheduledMachine": name, "state": "Active"})).await;
    world.until(&name, "lent", |sm| sm.data["status"]["phase"] == "Active" && is_true(sm, "Ready")).await;
    lift(&world, "anyway").await;
    world.until_nothing_left(&name).await;
}

/// As the agent's side will make it: the controller has no right to, and these tests are a person's.
fn reclaim(name: &str, until: Timestamp) -> Value {
    json!({
        "scheduledMachine": name, "state": "Inactive", "origin": "Reclaim", "until": seconds(until),
        "reclaim": {"request": "x", "node": name, "matched": "java", "requestedAt": seconds(Timestamp::now())},
    })
}

#[tokio::test]
async fn the_hold_of_a_reclaim_ejects_keeps_away_and_returns_on_time() {
    let world = World::start("reclaimed").await;
    let name = world.tenant.unique("ws");
    world.create(&name, json!({"gracefulShutdownTimeout": "10m", "nodeDrainTimeout": "10m"})).await;
    until_at_rest(&world, &name).await;
    let made = Timestamp::now();
    let until = second_ahead(150);
    hold(&world, "reclaim", reclaim(&name, until)).await;
    let away = world.until_settled(&name, "Disabled").await;
    world.until_nothing_left(&name).await;
    on_time(&world, "machines", "delete", &name, made).await;
    assert_eq!(
        (said(&away, "Ready").0.as_str(), said(&away, "Scheduled").0.as_str()),
        ("Reclaimed", "EmergencyReclaim")
    );
    let status = &away.data["status"];
    assert_eq!(
        (&status["decision"]["rule"], &status["decision"]["manner"]),
        (&json!("Reclaim"), &json!("Eject"))
    );
    let told = &status["reclaim"];
    assert_eq!(
        (&told["node"], &told["matched"], &told["last24h"]),
        (&json!(name), &json!("java"), &json!(1))
    );
    assert_eq!(instant(&away, "/status/next/at"), Some(until));
    assert!(Timestamp::now() < until, "gone too late for this test");
    world.until_settled(&name, "Active").await;
    on_time(&world, "machines", "create", &name, until).await;
}

#[tokio::test]
async fn our_own_hold_goes_an_hour_after_its_end_and_a_persons_stays() {
    let world = World::start("expired").await;
    let name = world.tenant.unique("ws");
    world.create(&name, json!({"schedule": closed()})).await;
    world.until_settled(&name, "Inactive").await;
    // Room to be seen as expired before they go.
    let an_hour_ago = second_ahead(100) - SignedDuration::from_hours(1);
    hold(&world, "ours", reclaim(&name, an_hour_ago)).await;
    let theirs = json!({"scheduledMachine": name, "state": "Active", "until": seconds(an_hour_ago)});
    hold(&world, "theirs", theirs).await;
    for name in ["ours", "theirs"] {
        assert!(is_true(&until_held(&world, name, "Expired").await, "Expired"));
    }
    gone(&holds(&world), "ours", PATIENCE).await;
    on_time(&world, "machineholds", "delete", "ours", an_hour_ago + SignedDuration::from_hours(1)).await;
    let stays = holds(&world).get("theirs").await.unwrap();
    assert!(condition(&stays, "Expired").is_some());
    assert_eq!(world.calls().on("machineholds").verb("delete").len(), 1, "{}", world.calls());
}
