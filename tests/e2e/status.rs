//! What the status tells and when: the timetable under every rule, Events once per transition, columns.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};

use crate::harness::refusal::refuse_creates;
use crate::harness::{gone, pass_until};
use crate::news::news_since;
use crate::world::{PATIENCE, World, between, closed, instant, is_true, minute_ahead, open, said, uid};

/// What is done at an edge comes milliseconds after it, on a machine that has nothing else to do.
const ON_THE_EDGE: SignedDuration = SignedDuration::from_secs(5);

#[tokio::test]
async fn the_timetable_is_told_to_the_minute_whatever_rule_decides() {
    let world = World::start("told").await;
    // Room to settle in on a machine that has other work.
    let opens = minute_ahead(SignedDuration::from_secs(90));
    let closes = opens + SignedDuration::from_mins(1);
    let mut objects = Vec::new();
    for (over, reason) in [
        (json!({"schedule": {"enabled": false}}), "Disabled"),
        (json!({"killSwitch": true}), "Terminated"),
        (json!({"paused": true}), "Paused"),
    ] {
        let name = world.tenant.unique("ws");
        let mut spec = json!({"schedule": between(opens, closes)});
        crate::world::merge(&mut spec, over);
        world.create(&name, spec).await;
        objects.push((name, reason));
    }
    let mut settled = Vec::new();
    for (name, reason) in &objects {
        let before = world
            .until(name, "settled", |sm| {
                // The connection may open last, and its word is a write of its own.
                is_true(sm, "Ready")
                    && is_true(sm, "WorkloadReachable")
                    && sm.data["status"]["inSchedule"] == false
            })
            .await;
        assert_eq!(said(&before, "Ready").0, *reason);
        assert_eq!(instant(&before, "/status/nextActivation"), Some(opens));
        assert_eq!(instant(&before, "/status/nextCleanup"), Some(closes));
        settled.push((before, Timestamp::now()));
    }
    assert!(Timestamp::now() < opens, "too slow a machine to see anything");
    for (name, reason) in &objects {
        let within = world.until(name, "within", |sm| sm.data["status"]["inSchedule"] == true).await;
        assert_eq!(instant(&within, "/status/nextActivation"), None, "{}", within.data["status"]);
        assert_eq!(instant(&within, "/status/nextCleanup"), Some(closes));
        assert_eq!((said(&within, "Ready").0.as_str(), is_true(&within, "Ready")), (*reason, true));
    }
    for (name, reason) in &objects {
        let after = world.until(name, "after", |sm| sm.data["status"]["inSchedule"] == false).await;
        for field in ["nextActivation", "nextCleanup"] {
            assert!(after.data["status"].get(field).is_none(), "{field}: {}", after.data["status"]);
        }
        assert_eq!((said(&after, "Ready").0.as_str(), is_true(&after, "Ready")), (*reason, true));
        assert_eq!(world.machines_created(name), 0);
    }
    // One write an edge, on the edge, and nothing is read for it. Before the first edge only what a slow machine still had
    // to say.
    for (before, seen) in &settled {
        let calls = world.calls().calls().since(opens).named(&before.name_any()).on("scheduledmachines");
        let reads = calls.only(|call| !call.is_write());
        assert!(reads.is_empty(), "{reads}");
        let writes = news_since(&world, before, *seen).since(opens);
        let at: Vec<Timestamp> = writes.iter().map(|call| call.received).collect();
        assert_eq!(at.len(), 2, "{writes}");
        for (at, edge) in at.iter().zip([opens, closes]) {
            let late = at.duration_since(edge);
            assert!(!late.is_negative() && late < ON_THE_EDGE, "{late:#} after the edge: {writes}");
        }
    }
}

#[tokio::test]
async fn a_machine_that_cannot_be_made_still_turns_at_the_edge() {
    let world = World::start("refused").await;
    let name = world.tenant.unique("ws");
    let plane = world.tenant.management_plane();
    let refusal = refuse_creates(plane, &world.tenant.namespace, "machines", "no machines today").await;
    // Delays between tries double; by then each is longer than what is left of the window.
    let closes = minute_ahead(SignedDuration::from_secs(40));
    let opens = closes - SignedDuration::from_mins(5);
    world.create(&name, json!({"schedule": between(opens, closes)})).await;
    world.until(&name, "refused", |sm| said(sm, "Ready").0 == "CreateFailed").await;
    pass_until(closes).await;
    let off = world.until_settled(&name, "Inactive").await;
    assert_eq!(off.data["status"]["inSchedule"], false);
    world.until_nothing_left(&name).await;
    let calls = world.calls();
    for resource in ["stubmachines", "stubconfigs"] {
        let deleted = calls.on(resource).verb("delete");
        let late = deleted.iter().next().unwrap().received.duration_since(closes);
        assert!(!late.is_negative() && late < ON_THE_EDGE, "{late:#} after the edge: {deleted}");
    }
    let tries = calls.on("machines").verb("create");
    assert!((3..=12).contains(&tries.len()), "{tries}");
    refusal.lift().await;
}

/// Of one object, in the order in which they came about.
async fn events_about(world: &World, uid: &str) -> Vec<Event> {
    let api: Api<Event> = Api::namespaced(world.tenant.management.clone(), &world.tenant.namespace);
    let mut events = api.list(&ListParams::default()).await.unwrap().items;
    events.retain(|event| event.regarding.as_ref().and_then(|about| about.uid.as_deref()) == Some(uid));
    events.sort_by_key(|event| event.event_time.as_ref().map(|at| at.0));
    events
}

/// From which phase to which.
fn steps(events: &[Event]) -> Vec<(String, String)> {
    let step = |event: &Event| {
        let note = event.note.clone().unwrap_or_default();
        let (from, rest) = note.split_once(" -> ").unwrap_or_else(|| panic!("no step: {note}"));
        (from.to_owned(), rest.split(':').next().unwrap_or_default().to_owned())
    };
    events.iter().map(step).collect()
}

#[tokio::test]
async fn each_transition_is_one_event_also_when_the_controller_restarts_in_the_middle() {
    let (tenant, user, setup) = World::prepare("events").await;
    let mut world = World::with(tenant, user, setup.env("POD_NAME", "controller-pod-7").start());
    let (name, bystander) = (world.tenant.unique("ws"), world.tenant.unique("ws"));
    let created = world.create(&name, json!({"schedule": closed(), "gracefulShutdownTimeout": "8s"})).await;
    world.until_settled(&name, "Inactive").await;
    world.edit(&name, json!({ "schedule": open() })).await;
    world.until_settled(&name, "Active").await;
    // An Event follows the status; a process that is killed between the two tells of that step no more.
    world.until_event(&name, "Pending -> Active: ").await;
    world.controller = world.controller.again();
    // What the new process does for another shows that it is up and has passed over this one.
    world.create(&bystander, json!({"schedule": closed()})).await;
    world.until_settled(&bystander, "Inactive").await;
    world.edit(&name, json!({ "schedule": closed() })).await;
    world.until_event(&name, "Active -> ShuttingDown: ").await;
    world.controller = world.controller.again();
    world.until_settled(&name, "Inactive").await;
    world.until_event(&name, "ShuttingDown -> Inactive: ").await;

    let uid = uid(&created);
    let events = events_about(&world, &uid).await;
    let expected = [
        ("new", "Pending"),
        ("Pending", "Inactive"),
        ("Inactive", "Pending"),
        ("Pending", "Active"),
        ("Active", "ShuttingDown"),
        ("ShuttingDown", "Inactive"),
    ];
    let expected = expected.map(|(from, to)| (from.to_owned(), to.to_owned()));
    assert_eq!(steps(&events), expected);
    for event in &events {
        let about = event.regarding.as_ref().unwrap();
        assert_eq!(about.kind.as_deref(), Some("ScheduledMachine"));
        assert_eq!(
            (about.name.as_deref(), about.namespace.as_deref()),
            (Some(&*name), event.metadata.namespace.as_deref())
        );
        assert_eq!(event.reporting_controller.as_deref(), Some("5spot-controller"));
        assert_eq!(event.reporting_instance.as_deref(), Some("controller-pod-7"));
        assert!(
            event.event_time.is_some() && event.action.is_some() && event.type_.as_deref() == Some("Normal")
        );
    }
    // Nothing is told by other means either: one create of each, and no Event written twice.
    let told = world.calls().on("events").verb("create");
    let others =
        events_about(&world, &crate::world::uid(&world.scheduled_machines().get(&bystander).await.unwrap()))
            .await;
    assert_eq!(told.len(), events.len() + others.len(), "{told}");
    world.delete(&name).await;
    gone(&world.scheduled_machines(), &name, PATIENCE).await;
}

#[tokio::test]
async fn the_columns_of_a_lent_machine() {
    let world = World::start("columns").await;
    let name = world.tenant.unique("ws");
    world.create(&name, json!({})).await;
    world
        .until(&name, "lent, its Node known", |sm| {
            sm.data["status"]["phase"] == "Active" && sm.data["status"]["nodeRef"]["name"] == *name
        })
        .await;
    let path = format!(
        "/apis/5spot.finos.org/v1alpha1/namespaces/{}/scheduledmachines/{name}",
        world.tenant.namespace
    );
    let request = http::Request::get(path)
        .header(http::header::ACCEPT, "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(Vec::new())
        .unwrap();
    let table: Value = world.tenant.management.request(request).await.unwrap();
    let columns = table["columnDefinitions"].as_array().unwrap();
    let named = |wide: bool| -> Vec<&str> {
        let of = columns.iter().filter(|column| (column["priority"].as_i64() > Some(0)) == wide);
        of.map(|column| column["name"].as_str().unwrap()).collect()
    };
    assert_eq!(named(false), ["Name", "Phase", "Ready", "Rule", "Enabled", "Cluster", "Node", "Next", "Age"]);
    assert_eq!(named(true), ["InSchedule", "Days", "Hours", "Zone"]);
    let cells = table["rows"][0]["cells"].as_array().unwrap();
    let cell = |name: &str| &cells[columns.iter().position(|column| column["name"] == name).unwrap()];
    for (column, shown) in [
        ("Name", json!(name)),
        ("Phase", json!("Active")),
        ("Rule", json!("Window")),
        ("Enabled", json!(true)),
        ("Cluster", json!(world.tenant.cluster)),
        ("Node", json!(name)),
        ("Next", json!("never (no change within a year)")),
        ("InSchedule", json!(true)),
        ("Days", json!("[\"mon-sun\"]")),
        ("Hours", json!("[\"0-23\"]")),
        ("Zone", json!("UTC")),
    ] {
        assert_eq!(cell(column), &shown, "{column}");
    }
    world.edit(&name, json!({"schedule": {"enabled": false}})).await;
    world.until_settled(&name, "Disabled").await;
    world.until_nothing_left(&name).await;
    let after = world.scheduled_machines().get(&name).await.unwrap();
    assert_eq!(after.data["status"]["nextText"], "never (disabled)");
    assert_eq!(after.name_any(), name);
}
