//! Whose objects are whose, whoever tears at the references between them.

use jiff::SignedDuration;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, PropagationPolicy};
use serde_json::json;

use crate::harness::audit::Call;
use crate::harness::wait::{self, asked_until};
use crate::harness::{self, eventually, gone};
use crate::takeover::is_taken_over;
use crate::world::{self, PATIENCE, World, first_of_one, instant, is_true, said, uid};

const UID_LABEL: &str = "5spot.finos.org/scheduled-machine-uid";

#[tokio::test]
async fn what_the_predecessor_left_is_taken_over_as_it_stands() {
    world::installed().await;
    Box::pin(is_taken_over(harness::shared().await.tenant("takeover").await)).await;
}

#[tokio::test]
async fn every_way_of_deleting_it_honours_the_grace_and_orphans_nothing() {
    let world = World::start("propagation").await;
    let policies = [PropagationPolicy::Orphan, PropagationPolicy::Foreground, PropagationPolicy::Background];
    futures::future::join_all(policies.map(|policy| deleted_by(&world, policy))).await;
}

async fn deleted_by(world: &World, policy: PropagationPolicy) {
    let name = world.tenant.unique("ws");
    // Longer than the garbage collector takes on a busy machine.
    world.create(&name, json!({"gracefulShutdownTimeout": "60s"})).await;
    world.until_settled(&name, "Active").await;
    let mark = world.tenant.management_plane().audit().mark();
    let params = DeleteParams { propagation_policy: Some(policy.clone()), ..DeleteParams::default() };
    world.scheduled_machines().delete(&name, &params).await.unwrap();
    let leaving = world.until(&name, "in its grace", |sm| said(sm, "Ready").0 == "GracePeriodActive").await;
    let ends = instant(&leaving, "/status/leaving/graceEndsAt").unwrap();
    if policy != PropagationPolicy::Background {
        // The garbage collector takes the reference off, and the controller puts it back: who comes late sees neither. The
        // label stays.
        let machines = world.tenant.machines();
        let stripped = wait::watch(&machines, &name, "stripped, or gone", PATIENCE, |machine| {
            machine.is_none_or(|machine| {
                machine.owner_references().iter().all(|owner| owner.kind != "ScheduledMachine")
            })
        })
        .await;
        assert!(stripped.is_none_or(|machine| machine.labels().contains_key(UID_LABEL)), "{policy:?}");
    }
    gone(&world.scheduled_machines(), &name, PATIENCE).await;
    world.until_nothing_left(&name).await;
    let deletes =
        world.tenant.management_plane().audit().after(mark).on("machines").verb("delete").named(&name);
    let by_us = deletes.iter().all(|call| call.user == world.user);
    assert!(by_us, "{policy:?}: not the garbage collector's work: {deletes}");
    let delete = first_of_one(deletes);
    assert!(delete.received >= ends - SignedDuration::from_millis(50), "{policy:?}: {delete} before {ends}");
}

#[tokio::test]
async fn a_controller_of_one_namespace_asks_nothing_of_another() {
    let world = World::start("confined").await;
    let neighbour = harness::shared().await.tenant("neighbour").await;
    let (name, other) = (world.tenant.unique("ws"), world.tenant.unique("ws"));
    let foreign = json!({"metadata": {"name": other}, "spec": world::spec(&neighbour.cluster)});
    neighbour.create(&world::scheduled_machine(), foreign).await;
    world.create(&name, json!({})).await;
    world.until_settled(&name, "Active").await;
    world.delete(&name).await;
    gone(&world.scheduled_machines(), &name, PATIENCE).await;
    let untouched = neighbour.api(&world::scheduled_machine()).get(&other).await.unwrap();
    assert!(
        untouched.finalizers().is_empty() && untouched.data["status"]["phase"].is_null(),
        "{untouched:?}"
    );
    let namespace = &world.tenant.namespace;
    let elsewhere = world.calls().only(|call| {
        // What has no namespace: definitions and discovery.
        call.namespace != *namespace
            && !call.resource.is_empty()
            && call.resource != "customresourcedefinitions"
    });
    assert!(elsewhere.is_empty(), "{elsewhere}");
    // Of Secrets none but those that objects name.
    let secrets = world.calls().on("secrets");
    let is_by_name = |call: &Call| !call.name.is_empty() || call.uri.contains("fieldSelector=metadata.name");
    assert!(secrets.iter().any(|call| call.verb == "watch"), "{secrets}");
    assert!(secrets.only(|call| !is_by_name(call)).is_empty(), "{secrets}");
}

#[tokio::test]
async fn a_part_deleted_under_a_living_machine_is_told_with_what_to_do() {
    let world = World::start("part-gone").await;
    let name = world.tenant.unique("ws");
    world.create(&name, json!({})).await;
    let lent = world.until_settled(&name, "Active").await;
    world.tenant.stub_machines().delete(&name, &DeleteParams::default()).await.unwrap();
    gone(&world.tenant.stub_machines(), &name, PATIENCE).await;
    let told = world.until(&name, "told", |sm| said(sm, "Ready").0 == "InfrastructureDeleted").await;
    let (_, message) = said(&told, "Ready");
    assert!(message.contains("StubMachine") && message.contains("kubectl delete machine"), "{message}");
    assert_eq!(told.data["status"]["machineRef"], lent.data["status"]["machineRef"]);
    let made = world.calls().on("stubmachines").verb("create");
    assert_eq!(made.len(), 1, "not put back under a Machine that has lost its host: {made}");

    world.tenant.machines().delete(&name, &DeleteParams::default()).await.unwrap();
    let anew = world
        .until(&name, "lent anew", |sm| {
            let of = &sm.data["status"]["machineRef"];
            is_true(sm, "Ready") && of.is_object() && *of != lent.data["status"]["machineRef"]
        })
        .await;
    let stub = world.tenant.stub_machines().get(&name).await.unwrap();
    assert_eq!(anew.data["status"]["infrastructureRef"]["uid"], uid(&stub));
    assert_eq!(world.machines_created(&name), 2);
}

#[tokio::test]
async fn an_edit_of_the_machines_labels_waits_for_the_next_machine() {
    let world = World::start("template").await;
    let name = world.tenant.unique("ws");
    let labels = |team: &str| json!({"labels": {"team": team}});
    world.create(&name, json!({"machineTemplate": labels("blue")})).await;
    let lent = world.until_settled(&name, "Active").await;
    assert!(is_true(&lent, "TemplateCurrent"));
    world.edit(&name, json!({"machineTemplate": labels("green")})).await;
    world.until(&name, "told", |sm| said(sm, "TemplateCurrent").0 == "PendingNextMachine").await;
    assert_eq!(world.tenant.machines().get(&name).await.unwrap().labels()["team"], "blue");
    assert!(world.calls().on("machines").verb("patch").is_empty());
    world.edit(&name, json!({"schedule": {"enabled": false}})).await;
    let off = world.until_settled(&name, "Disabled").await;
    assert_eq!(said(&off, "TemplateCurrent").0, "", "nothing to be current");
    world.edit(&name, json!({"schedule": {"enabled": true}})).await;
    let next = world.until_settled(&name, "Active").await;
    assert!(is_true(&next, "TemplateCurrent"));
    assert_eq!(world.tenant.machines().get(&name).await.unwrap().labels()["team"], "green");
}

#[tokio::test]
async fn a_readiness_gate_holds_ready_back_until_somebody_says_so() {
    let world = World::start("gate").await;
    let name = world.tenant.unique("ws");
    let gates = json!({"spec": {"readinessGates": [{"conditionType": "BurnedIn"}], "minReadySeconds": 1,
                                "version": "v1.33.1", "failureDomain": "rack-2"}});
    world.create(&name, json!({"machineTemplate": gates})).await;
    let machines = world.tenant.machines();
    let running = eventually(&machines, &name, "running", PATIENCE, |machine| {
        machine.data["status"]["phase"] == "Running"
    })
    .await;
    let spec = &running.data["spec"];
    assert_eq!(
        (&spec["minReadySeconds"], &spec["version"], &spec["failureDomain"]),
        (&json!(1), &json!("v1.33.1"), &json!("rack-2"))
    );
    let held = world.until(&name, "held back", |sm| said(sm, "Ready").1.contains("BurnedIn")).await;
    assert!(!is_true(&held, "Ready") && held.data["status"]["nodeRef"]["name"].is_string());
    asked_until("told that it is burned in", PATIENCE, async || {
        // The list is replaced whole: only as it is now.
        let now = machines.get(&name).await.unwrap();
        let mut conditions = now.data["status"]["conditions"].as_array().cloned().unwrap();
        conditions.push(json!({"type": "BurnedIn", "status": "True", "reason": "Done", "message": "",
                               "lastTransitionTime": "2026-11-01T00:00:00Z"}));
        let patch = Patch::Merge(json!({"metadata": {"resourceVersion": now.resource_version()},
                                        "status": {"conditions": conditions}}));
        machines.patch_status(&name, &PatchParams::default(), &patch).await.is_ok()
    })
    .await;
    world.until_settled(&name, "Active").await;
}

#[tokio::test]
async fn a_part_whose_label_is_taken_off_is_found_and_labelled_again() {
    let world = World::start("unlabelled").await;
    let name = world.tenant.unique("ws");
    world.create(&name, json!({})).await;
    let lent = world.until_settled(&name, "Active").await;
    let stubs = world.tenant.stub_machines();
    let made = stubs.get(&name).await.unwrap();
    let label = "5spot.finos.org/scheduled-machine";
    let strip = Patch::Merge(json!({"metadata": {"labels": {label: null, UID_LABEL: null}}}));
    stubs.patch(&name, &PatchParams::default(), &strip).await.unwrap();
    let again = eventually(&stubs, &name, "labelled again", PATIENCE, |stub| {
        stub.labels().get(label) == Some(&name) && stub.labels().contains_key(UID_LABEL)
    })
    .await;
    assert_eq!(uid(&again), uid(&made));
    let told = world.until(&name, "lent as before", |sm| is_true(sm, "Ready")).await;
    assert_eq!(told.data["status"]["machineRef"], lent.data["status"]["machineRef"]);
    let calls = world.calls().on("stubmachines").named(&name);
    let looks = calls.verb("get");
    assert!(!looks.is_empty() && looks.len() <= 3, "a look or two, not one after the other: {looks}");
    assert!(calls.verb("delete").is_empty(), "{calls}");
    assert_eq!(world.machines_created(&name), 1);
    let log = world.controller.log();
    assert!(!log.contains("InfrastructureDeleted"), "nobody was told that it is gone: {log}");

    world.delete(&name).await;
    gone(&world.scheduled_machines(), &name, PATIENCE).await;
    world.until_nothing_left(&name).await;
}
