//! What users get wrong: the object says what is wrong with it, nothing is made or left behind, and once it is put
//! right the machine comes.

use jiff::{SignedDuration, Timestamp};
use kube::api::{DeleteParams, DynamicObject, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::harness::refusal::refuse_creates;
use crate::harness::{self, Tenant, gone, manifests, provider};
use crate::world::{
    self, PATIENCE, World, between, closed, instant, is_refused, is_true, merge, minute_ahead, open, said,
    uid,
};

async fn refusal(client: &Client, schedule: Value) -> String {
    let mut object = json!({
        "apiVersion": "5spot.finos.org/v1alpha1", "kind": "ScheduledMachine",
        "metadata": {"name": "refused"}, "spec": world::spec("none"),
    });
    merge(&mut object["spec"]["schedule"], schedule);
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    let api: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), "default", &world::scheduled_machine());
    match api.create(&PostParams::default(), &object).await {
        Err(kube::Error::Api(status)) if status.code == 422 => status.message,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn what_the_server_can_tell_is_refused_with_field_and_words() {
    let planes = harness::shared().await;
    world::installed().await;
    let client = planes.management().client().await;
    let none = json!({"daysOfWeek": null, "hoursOfDay": null});
    let with = |field: &str, value: Value| {
        let mut schedule = none.clone();
        schedule[field] = value;
        schedule
    };
    let cases = [
        (none.clone(), "spec.schedule", "the schedule never opens"),
        (with("windows", json!([])), "spec.schedule", "the schedule never opens"),
        (with("daysOfWeek", json!(["mon"])), "spec.schedule", "daysOfWeek needs hoursOfDay"),
        (json!({"hoursOfDay": ["25"]}), "spec.schedule.hoursOfDay[0]", "hours from 0 to 23"),
        (json!({"hoursOfDay": ["9-25"]}), "spec.schedule.hoursOfDay[0]", "hours from 0 to 23"),
        (
            with("windows", json!([{"days": ["mon"], "from": "09:00"}])),
            "spec.schedule.windows[0].to",
            "Required value",
        ),
        (
            with("windows", json!([{"days": ["mon"], "from": "25:00", "to": "26:00"}])),
            "spec.schedule.windows[0].from",
            "must be a clock time",
        ),
        (
            json!({"exceptions": [{"from": "2099-01-01T10:00", "state": "Active"}]}),
            "spec.schedule.exceptions[0]",
            "from and to come together",
        ),
    ];
    for (schedule, field, words) in cases {
        let said = refusal(&client, schedule.clone()).await;
        assert!(said.contains(field) && said.contains(words), "{schedule}: {said}");
    }
}

#[tokio::test]
async fn an_unknown_zone_opens_nothing_until_it_is_put_right() {
    let world = World::start("zone").await;
    let name = world.tenant.unique("ws");
    world.create(&name, json!({"schedule": {"timezone": "Europe/Lundon"}})).await;
    let told = |sm: &DynamicObject| is_true(sm, "Stalled") && is_refused(sm, "Ready", "SpecInvalid");
    let bad = world.until(&name, "stalled", told).await;
    for kind in ["Stalled", "Ready", "ReferencesValid", "Scheduled"] {
        let (reason, message) = said(&bad, kind);
        assert_eq!(reason, "SpecInvalid", "{kind}");
        if kind != "Ready" {
            assert!(
                message.contains("spec.schedule.timezone") && message.contains("Europe/Lundon"),
                "{kind}: {message}"
            );
        }
    }
    assert_eq!(bad.data["status"]["phase"], "Error");
    assert!(
        world.calls().verb("create").only(|call| call.resource != "events").is_empty(),
        "{}",
        world.calls()
    );

    world.edit(&name, json!({"schedule": open()})).await;
    let lent = world.until_settled(&name, "Active").await;
    assert!(!is_true(&lent, "Stalled") && is_true(&lent, "ReferencesValid"), "{}", lent.data["status"]);
    assert_eq!(world.machines_created(&name), 1);
}

#[tokio::test]
async fn a_schedule_turned_to_garbage_ends_at_the_end_last_promised() {
    let world = World::start("garbage").await;
    let name = world.tenant.unique("ws");
    // Room to join, and to be turned to garbage, on a machine that has other work.
    let closes = minute_ahead(SignedDuration::from_secs(120));
    let opens = closes - SignedDuration::from_mins(10);
    world.create(&name, json!({"schedule": between(opens, closes)})).await;
    let lent = world.until_settled(&name, "Active").await;
    assert_eq!(instant(&lent, "/status/nextCleanup"), Some(closes));

    world.edit(&name, json!({"schedule": {"timezone": "Nowhere/Land"}})).await;
    let stalled = world.until(&name, "stalled", |sm| is_true(sm, "Stalled")).await;
    assert!(Timestamp::now() < closes, "too slow a machine to see anything");
    assert!(said(&stalled, "Stalled").1.contains("Nowhere/Land"), "{:?}", said(&stalled, "Stalled"));
    let status = &stalled.data["status"];
    assert_eq!(
        (&status["phase"], &status["decision"]["state"]),
        (&json!("Active"), &json!("Active")),
        "{status}"
    );
    assert_eq!(status["decision"]["rule"], "ScheduleInvalid");
    assert_eq!(instant(&stalled, "/status/nextCleanup"), Some(closes));

    let off = world
        .until(&name, "off", |sm| {
            sm.data["status"]["phase"] == "Error" && sm.data["status"]["machineRef"].is_null()
        })
        .await;
    world.until_nothing_left(&name).await;
    assert_eq!(instant(&off, "/status/lastRun/closedAt"), Some(closes), "{}", off.data["status"]);
    assert_eq!(said(&off, "Ready").0, "SpecInvalid");
    let at = world.deletion(&name).received;
    assert!(at >= closes && at < closes + SignedDuration::from_secs(8), "deleted at {at}, promised {closes}");

    world.edit(&name, json!({"schedule": open()})).await;
    let back = world.until_settled(&name, "Active").await;
    assert!(!is_true(&back, "Stalled"));
    assert_eq!(world.machines_created(&name), 2);
}

/// A kind like `StubMachine` that nobody has installed yet, and that no provider serves.
fn late_kind() -> Value {
    let all = provider::crds().unwrap();
    let stub = all.iter().find(|crd| crd["spec"]["names"]["kind"] == "StubMachine").unwrap();
    let text = stub.to_string().replace("StubMachine", "LateMachine").replace("stubmachine", "latemachine");
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn a_kind_that_nobody_serves_is_waited_for() {
    let world = World::start("kind").await;
    let name = world.tenant.unique("ws");
    world.create(&name, json!({"infrastructureSpec": {"kind": "LateMachine"}})).await;
    let bad = world.until(&name, "stalled", |sm| is_true(sm, "Stalled")).await;
    for kind in ["Stalled", "Ready", "ReferencesValid"] {
        let (reason, message) = said(&bad, kind);
        assert_eq!(reason, "KindNotServed", "{kind}: {message}");
        assert!(
            message.contains("LateMachine") && message.contains("infrastructure.cluster.x-k8s.io/v1"),
            "{message}"
        );
    }
    assert!(world.tenant.stub_configs().get_opt(&name).await.unwrap().is_none(), "not even half of it");

    manifests::install(&world.tenant.management, vec![late_kind()]).await.unwrap();
    let sm = world.until(&name, "made", |sm| sm.data["status"]["machineRef"].is_object()).await;
    assert!(!is_true(&sm, "Stalled") && is_true(&sm, "ReferencesValid"), "{}", sm.data["status"]);
    let late: Api<DynamicObject> = world.tenant.api(&provider::infrastructure("LateMachine"));
    assert_eq!(late.get(&name).await.unwrap().labels()["5spot.finos.org/scheduled-machine"], name);
    let machine = world.tenant.machines().get(&name).await.unwrap();
    assert_eq!(machine.data["spec"]["infrastructureRef"]["kind"], "LateMachine");

    world.delete(&name).await;
    gone(&world.scheduled_machines(), &name, PATIENCE).await;
    assert!(late.get_opt(&name).await.unwrap().is_none());
    world.until_nothing_left(&name).await;
    assert_eq!(world.machines_created(&name), 1);
}

#[tokio::test]
async fn a_template_turned_to_garbage_keeps_no_machine_from_leaving() {
    let world = World::start("template").await;
    let name = world.tenant.unique("ws");
    world.create(&name, json!({})).await;
    world.until_settled(&name, "Active").await;
    world.edit(&name, json!({"infrastructureSpec": {"kind": "NeverMachine"}})).await;
    let kept = world.until(&name, "told", |sm| is_refused(sm, "ReferencesValid", "KindNotServed")).await;
    assert_eq!(kept.data["status"]["phase"], "Active");
    assert!(is_true(&kept, "Ready"), "what is lent stays as it is: {}", kept.data["status"]);
    assert_eq!(said(&kept, "TemplateCurrent").0, "PendingNextMachine");

    world.edit(&name, json!({"schedule": closed()})).await;
    world.until_settled(&name, "Inactive").await;
    world.until_nothing_left(&name).await;
    world.edit(&name, json!({"schedule": open()})).await;
    let bad = world.until(&name, "stalled", |sm| is_true(sm, "Stalled")).await;
    assert!(said(&bad, "Ready").1.contains("NeverMachine"), "{:?}", said(&bad, "Ready"));
    assert_eq!(world.machines_created(&name), 1);
}

#[tokio::test]
async fn a_cluster_that_does_not_exist_is_waited_for() {
    let world = World::start("cluster").await;
    let (name, cluster) = (world.tenant.unique("ws"), world.tenant.unique("later"));
    world.create(&name, json!({ "clusterName": cluster })).await;
    let bad = world.until(&name, "told", |sm| is_refused(sm, "Ready", "WaitingForCluster")).await;
    assert_eq!(said(&bad, "ReferencesValid").0, "ClusterNotFound");
    let (_, message) = said(&bad, "Ready");
    assert!(message.contains(&cluster) && message.contains("spec.clusterName"), "{message}");
    assert!(is_true(&bad, "Reconciling") && !is_true(&bad, "Stalled"), "it may still come");
    assert_eq!(world.machines_created(&name), 0);
    assert!(world.tenant.stub_machines().get_opt(&name).await.unwrap().is_none());

    world.tenant.make_cluster(&cluster, &world.tenant.workload_kubeconfig()).await;
    let lent = world.until_settled(&name, "Active").await;
    assert!(is_true(&lent, "ReferencesValid"));
    assert_eq!(world.machines_created(&name), 1);
}

/// A Machine of somebody else's, with parts of other names.
async fn make_foreign_machine(tenant: &Tenant, name: &str) -> DynamicObject {
    let (config, machine) = (provider::bootstrap(), provider::infrastructure("StubMachine"));
    let parts = format!("{name}-parts");
    tenant.create(&config, json!({"metadata": {"name": parts}, "spec": {}})).await;
    tenant.create(&machine, json!({"metadata": {"name": parts}, "spec": {}})).await;
    let spec = json!({
        "clusterName": tenant.cluster,
        "bootstrap": {"configRef": {"apiGroup": config.group, "kind": config.kind, "name": parts}},
        "infrastructureRef": {"apiGroup": machine.group, "kind": machine.kind, "name": parts},
    });
    tenant.create(&provider::machine(), json!({"metadata": {"name": name}, "spec": spec})).await
}

#[tokio::test]
async fn a_strangers_machine_of_our_name_is_neither_adopted_nor_touched() {
    let world = World::start("stranger").await;
    let name = world.tenant.unique("ws");
    let foreign = make_foreign_machine(&world.tenant, &name).await;
    world.create(&name, json!({})).await;
    let bad = world.until(&name, "stalled", |sm| is_true(sm, "Stalled")).await;
    for kind in ["Stalled", "Ready", "ReferencesValid"] {
        let (reason, message) = said(&bad, kind);
        assert_eq!(reason, "NameTaken", "{kind}: {message}");
        assert!(message.contains(&name) && message.contains("not ours"), "{message}");
    }
    // Parts of ours would be taken over by the stranger's Machine if it asked for them.
    let made = world.calls().verb("create").only(|call| call.resource != "events");
    assert!(made.is_empty(), "{made}");
    world.edit(&name, json!({"killSwitch": true})).await;
    world.until_settled(&name, "Terminated").await;
    world.edit(&name, json!({"killSwitch": false})).await;
    world.until(&name, "stalled again", |sm| is_true(sm, "Stalled")).await;
    let there = world.tenant.machines().get(&name).await.unwrap();
    assert_eq!((uid(&there), there.metadata.deletion_timestamp), (uid(&foreign), None));
    assert!(world.calls().on("machines").writes().is_empty(), "{}", world.calls());

    world.tenant.machines().delete(&name, &DeleteParams::default()).await.unwrap();
    gone(&world.tenant.machines(), &name, PATIENCE).await;
    let lent = world.until_settled(&name, "Active").await;
    assert_ne!(lent.data["status"]["machineRef"]["uid"], uid(&foreign));
    assert!(!is_true(&lent, "Stalled"));
}

#[tokio::test]
async fn a_strangers_part_of_our_name_is_left_alone() {
    let world = World::start("part").await;
    for (resource, ours) in [
        (provider::infrastructure("StubMachine"), world.tenant.stub_configs()),
        (provider::bootstrap(), world.tenant.stub_machines()),
    ] {
        let name = world.tenant.unique("ws");
        let foreign = world.tenant.create(&resource, json!({"metadata": {"name": name}, "spec": {}})).await;
        world.create(&name, json!({})).await;
        let bad = world.until(&name, "stalled", |sm| is_true(sm, "Stalled")).await;
        let (reason, message) = said(&bad, "Stalled");
        assert_eq!(reason, "NameTaken");
        assert!(message.contains(&resource.kind) && message.contains(&name), "{message}");
        assert_eq!(said(&bad, "ReferencesValid").0, "NameTaken");
        assert_eq!(bad.data["status"]["phase"], "Error");
        world.delete(&name).await;
        gone(&world.scheduled_machines(), &name, PATIENCE).await;
        assert!(ours.get_opt(&name).await.unwrap().is_none(), "our half is cleared up");
        let there: DynamicObject = world.tenant.api(&resource).get(&name).await.unwrap();
        assert_eq!((uid(&there), there.metadata.deletion_timestamp), (uid(&foreign), None));
        assert_eq!(world.machines_created(&name), 0);
    }
}

#[tokio::test]
async fn a_strangers_part_that_goes_makes_room() {
    let world = World::start("room").await;
    let name = world.tenant.unique("ws");
    let resource = provider::infrastructure("StubMachine");
    world.tenant.create(&resource, json!({"metadata": {"name": name}, "spec": {}})).await;
    world.create(&name, json!({})).await;
    world.until(&name, "stalled", |sm| is_true(sm, "Stalled")).await;
    world.tenant.stub_machines().delete(&name, &DeleteParams::default()).await.unwrap();
    let lent = world.until_settled(&name, "Active").await;
    assert!(!is_true(&lent, "Stalled"));
    assert_eq!(world.machines_created(&name), 1);
}

#[tokio::test]
async fn a_refused_create_is_told_in_its_own_words_and_tried_again() {
    let world = World::start("quota").await;
    let plane = world.tenant.management_plane();
    for resource in ["machines", "stubmachines"] {
        let name = world.tenant.unique("ws");
        let words = format!("no {resource} for your team this month");
        let refusal = refuse_creates(plane, &world.tenant.namespace, resource, &words).await;
        world.create(&name, json!({})).await;
        let bad = world.until(&name, "told", |sm| is_refused(sm, "Ready", "CreateFailed")).await;
        let (_, message) = said(&bad, "Ready");
        assert!(message.contains(&words) && message.contains(&name), "{message}");
        assert!(is_true(&bad, "Reconciling"), "{}", bad.data["status"]);
        assert_eq!(world.machines_created(&name), 0);
        refusal.lift().await;
        world.until_settled(&name, "Active").await;
        assert_eq!(world.machines_created(&name), 1);
        world.delete(&name).await;
        gone(&world.scheduled_machines(), &name, PATIENCE).await;
        world.until_nothing_left(&name).await;
    }
}
