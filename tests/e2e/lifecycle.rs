//! A machine joins when its window opens and leaves when it closes.

use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use serde_json::json;

use crate::harness::eventually;
use crate::world::{PATIENCE, World, civil, closed, instant, is_true, minute_ahead, said, uid};

const UID_LABEL: &str = "5spot.finos.org/scheduled-machine-uid";

#[tokio::test]
async fn an_open_window_makes_a_machine_with_its_parts_and_a_node() {
    let world = World::start("open").await;
    let name = world.tenant.unique("ws");
    let created = world.create(&name, json!({})).await;
    world.until_settled(&name, "Active").await;
    // The workload connection may open after the Machine is ready.
    let sm = world
        .until(&name, "on a Node it knows", |sm| {
            sm.data["status"]["nodeRef"]["uid"].is_string() && is_true(sm, "Ready")
        })
        .await;

    let machine = world.tenant.machines().get(&name).await.unwrap();
    let (config, stub) = (world.tenant.stub_configs(), world.tenant.stub_machines());
    for object in [&machine, &config.get(&name).await.unwrap(), &stub.get(&name).await.unwrap()] {
        assert_eq!(object.labels()["5spot.finos.org/scheduled-machine"], name);
        assert_eq!(object.labels()["cluster.x-k8s.io/cluster-name"], world.tenant.cluster);
        assert_eq!(object.labels()[UID_LABEL], uid(&created));
    }
    let owners: Vec<(&str, bool)> =
        machine.owner_references().iter().map(|o| (o.kind.as_str(), o.controller == Some(true))).collect();
    assert_eq!(owners, [("ScheduledMachine", true), ("Cluster", false)]);
    let deletion = &machine.data["spec"]["deletion"];
    assert_eq!(deletion["nodeDrainTimeoutSeconds"], 10);
    assert_ne!(deletion["nodeDeletionTimeoutSeconds"], 0);

    let node = world.nodes().get(&name).await.unwrap();
    let status = &sm.data["status"];
    assert_eq!(status["nodeRef"]["name"], name.as_str());
    assert_eq!(status["nodeRef"]["uid"], node.uid().unwrap());
    assert_eq!(status["providerID"], node.spec.unwrap().provider_id.unwrap());
    assert_eq!(status["machineRef"]["uid"], uid(&machine));
    assert_eq!(status["decision"]["rule"], "Window");
    assert_eq!(status["observedGeneration"], 1);
    for kind in
        ["Ready", "Scheduled", "ReferencesValid", "WorkloadReachable", "MachineReady", "TemplateCurrent"]
    {
        assert!(is_true(&sm, kind), "{kind} in {status}");
    }
    assert!(!is_true(&sm, "Reconciling") && !is_true(&sm, "Stalled"), "{status}");
    let created = world.calls().verb("create");
    for resource in ["machines", "stubmachines", "stubconfigs"] {
        assert_eq!(created.on(resource).len(), 1, "{created}");
    }
    let became = world.until_event(&name, "Pending -> Active: ").await;
    assert_eq!(became.regarding.unwrap().uid, Some(uid(&sm)));
    assert_eq!(became.reporting_controller.as_deref(), Some("5spot-controller"));
}

#[tokio::test]
async fn at_the_edge_it_opens_and_at_the_next_edge_it_closes() {
    let world = World::start("edges").await;
    let name = world.tenant.unique("ws");
    // Time enough to see each state on a machine that has other work.
    let opens = minute_ahead(SignedDuration::from_secs(25));
    let closes = opens + SignedDuration::from_mins(2);
    let window = json!([{"from": civil(opens), "to": civil(closes), "state": "Active", "reason": "a test"}]);
    let schedule = json!({"daysOfWeek": null, "hoursOfDay": null, "exceptions": window});
    world.create(&name, json!({ "schedule": schedule })).await;

    let before = world.until_settled(&name, "Inactive").await;
    assert_eq!(instant(&before, "/status/nextActivation"), Some(opens));
    assert_eq!(instant(&before, "/status/nextCleanup"), Some(closes));
    assert_eq!(before.data["status"]["next"]["rule"], "Exception");

    let lent = world.until_settled(&name, "Active").await;
    assert_eq!(instant(&lent, "/status/decision/since"), Some(opens));
    assert_eq!(instant(&lent, "/status/decision/until"), Some(closes));
    assert_eq!(instant(&lent, "/status/handBackBy"), Some(closes + SignedDuration::from_secs(100)));
    assert_eq!(said(&lent, "Scheduled").0, "ExceptionActive");

    world.until_nothing_left(&name).await;
    let back = world
        .until(&name, "without a Node", |sm| {
            sm.data["status"]["phase"] == "Inactive"
                && is_true(sm, "Ready")
                && sm.data["status"]["nodeRef"].is_null()
        })
        .await;
    let run = &back.data["status"]["lastRun"];
    assert_eq!(instant(&back, "/status/lastRun/closedAt"), Some(closes), "{run}");
    assert_eq!(run["endedBy"], "OutsideWindows", "{run}");
    for cleared in
        ["nodeRef", "providerID", "machineRef", "bootstrapRef", "infrastructureRef", "leaving", "timers"]
    {
        assert!(back.data["status"].get(cleared).is_none(), "{cleared} in {}", back.data["status"]);
    }
    let calls = world.calls().on("machines").writes();
    let times: Vec<_> = calls.iter().map(|call| (call.verb.clone(), call.received)).collect();
    let create = times.iter().find(|(verb, _)| verb == "create").unwrap().1;
    let delete = times.iter().find(|(verb, _)| verb == "delete").unwrap().1;
    assert!(
        create >= opens && create < closes && delete >= closes,
        "opens {opens}, closes {closes}: {calls}"
    );
    assert_eq!(world.machines_created(&name), 1);
}

#[tokio::test]
async fn a_disabled_schedule_still_honours_the_grace_period() {
    let world = World::start("grace").await;
    let name = world.tenant.unique("ws");
    world.create(&name, json!({"gracefulShutdownTimeout": "30s"})).await;
    world.until_settled(&name, "Active").await;
    world.edit(&name, json!({"schedule": {"enabled": false}})).await;

    let leaving = world.until(&name, "in its grace", |sm| sm.data["status"]["phase"] == "ShuttingDown").await;
    assert_eq!(said(&leaving, "Ready").0, "GracePeriodActive");
    assert_eq!(leaving.data["status"]["leaving"]["stage"], "Grace");
    let grace_ends = instant(&leaving, "/status/leaving/graceEndsAt").unwrap();
    let node = eventually(&world.nodes(), &name, "cordoned", PATIENCE, is_cordoned).await;
    assert_eq!(node.annotations()["5spot.finos.org/cordoned-by"], uid(&leaving));

    let off = world.until_settled(&name, "Disabled").await;
    world.until_nothing_left(&name).await;
    assert_eq!(said(&off, "Scheduled").0, "ScheduleDisabled");
    let first = world.deletion(&name).received;
    assert!(first >= grace_ends, "deleted at {first}, grace until {grace_ends}");
    assert!(world.calls().on("stubmachines").verb("delete").is_empty(), "parts go through the Machine");
}

#[tokio::test]
async fn a_window_that_comes_back_in_the_grace_cancels_the_leaving() {
    let world = World::start("cancel").await;
    let name = world.tenant.unique("ws");
    world.create(&name, json!({"gracefulShutdownTimeout": "10m"})).await;
    world.until_settled(&name, "Active").await;
    let machine = world.tenant.machines().get(&name).await.unwrap();
    world.edit(&name, json!({"schedule": closed()})).await;
    eventually(&world.nodes(), &name, "cordoned", PATIENCE, is_cordoned).await;
    world.until(&name, "in its grace", |sm| said(sm, "Ready").0 == "GracePeriodActive").await;

    world
        .edit(
            &name,
            json!({"schedule": {"exceptions": null, "daysOfWeek": ["mon-sun"], "hoursOfDay": ["0-23"]}}),
        )
        .await;
    let back = world.until_settled(&name, "Active").await;
    let node = eventually(&world.nodes(), &name, "free again", PATIENCE, |node| !is_cordoned(node)).await;
    assert!(!node.annotations().contains_key("5spot.finos.org/cordoned-by"));
    assert!(back.data["status"].get("leaving").is_none(), "{}", back.data["status"]);
    assert_eq!(uid(&world.tenant.machines().get(&name).await.unwrap()), uid(&machine), "the same Machine");
    assert!(world.calls().on("machines").verb("delete").is_empty());
}

#[tokio::test]
async fn an_admins_cordon_is_neither_taken_over_nor_lifted() {
    let world = World::start("admin").await;
    let name = world.tenant.unique("ws");
    world.create(&name, json!({"gracefulShutdownTimeout": "10m"})).await;
    world.until_settled(&name, "Active").await;
    world.until(&name, "reachable", |sm| is_true(sm, "WorkloadReachable")).await;
    world.nodes().cordon(&name).await.unwrap();
    world.edit(&name, json!({"schedule": {"enabled": false}})).await;
    world.until(&name, "in its grace", |sm| said(sm, "Ready").0 == "GracePeriodActive").await;
    world.edit(&name, json!({"schedule": {"enabled": true}})).await;
    world.until_settled(&name, "Active").await;
    let node = world.nodes().get(&name).await.unwrap();
    assert!(is_cordoned(&node) && !node.annotations().contains_key("5spot.finos.org/cordoned-by"));
    // One that was tried before the admin's was seen is refused.
    let writes = world.workload_calls().on("nodes").writes();
    assert!(writes.accepted().is_empty(), "{writes}");
}

#[tokio::test]
async fn deleting_it_gives_the_machine_back_before_the_object_goes() {
    let world = World::start("delete").await;
    let name = world.tenant.unique("ws");
    world.create(&name, json!({"gracefulShutdownTimeout": "20s"})).await;
    world.until_settled(&name, "Active").await;
    world.delete(&name).await;
    let going = world.until(&name, "leaving", |sm| sm.data["status"]["leaving"].is_object()).await;
    assert_eq!(going.data["status"]["decision"]["rule"], "Deletion");
    crate::harness::gone(&world.scheduled_machines(), &name, PATIENCE).await;
    world.until_nothing_left(&name).await;
    let calls = world.tenant.management_plane().audit().after(world.mark);
    let calls = calls.within(&world.tenant.namespace);
    let finalizer = calls.only(|call| call.resource == "scheduledmachines" && call.verb == "patch");
    let released = finalizer.by(&world.user).accepted().iter().last().unwrap().received;
    for resource in ["machines", "stubmachines", "stubconfigs"] {
        let of_it = calls.on(resource);
        let last = of_it.named(&name).writes().accepted().iter().map(|call| call.received).max().unwrap();
        assert!(last < released, "{resource} was there when the finalizer went: {of_it}");
        let looked =
            of_it.by(&world.user).verb("list").accepted().only(|call| {
                call.uri.contains("labelSelector") && call.ended >= last && call.ended <= released
            });
        assert!(!looked.is_empty(), "a live look before the finalizer goes: {of_it}");
    }
}

#[tokio::test]
async fn one_that_was_never_open_goes_at_once() {
    let world = World::start("never").await;
    let name = world.tenant.unique("ws");
    world.create(&name, json!({"schedule": closed()})).await;
    world.until_settled(&name, "Inactive").await;
    world.delete(&name).await;
    crate::harness::gone(&world.scheduled_machines(), &name, PATIENCE).await;
    assert_eq!(world.machines_created(&name), 0);
}

#[tokio::test]
async fn a_grace_period_goes_on_through_a_restart_of_the_controller() {
    let mut world = World::start("restart").await;
    let name = world.tenant.unique("ws");
    world.create(&name, json!({"gracefulShutdownTimeout": "30s"})).await;
    world.until_settled(&name, "Active").await;
    world.edit(&name, json!({"schedule": {"enabled": false}})).await;
    let leaving = world.until(&name, "in its grace", |sm| said(sm, "Ready").0 == "GracePeriodActive").await;
    let grace_ends = instant(&leaving, "/status/leaving/graceEndsAt").unwrap();
    world.controller = world.controller.again();
    world.until_settled(&name, "Disabled").await;
    world.until_nothing_left(&name).await;
    let deletes = world.calls().on("machines").verb("delete");
    let at = deletes.iter().next().unwrap().received;
    // Not before, and not a grace period later either.
    let a_grace_later = grace_ends + SignedDuration::from_secs(30);
    assert!(at >= grace_ends && at < a_grace_later, "{at} against {grace_ends}");
}

#[tokio::test]
async fn the_kill_switch_takes_it_out_at_once_and_gives_it_back_to_the_schedule() {
    let world = World::start("kill").await;
    let name = world.tenant.unique("ws");
    world.create(&name, json!({"gracefulShutdownTimeout": "10m", "nodeDrainTimeout": "10m"})).await;
    world.until_settled(&name, "Active").await;
    world.edit(&name, json!({"killSwitch": true})).await;
    let out = world.until_settled(&name, "Terminated").await;
    assert_eq!(out.data["status"]["nextText"], "never (kill switch)");
    world.until_nothing_left(&name).await;
    world.edit(&name, json!({"killSwitch": false})).await;
    world.until_settled(&name, "Active").await;
    assert_eq!(world.machines_created(&name), 2);
}

#[tokio::test]
async fn a_controller_that_is_told_to_stop_ends_well_and_another_goes_on() {
    let mut world = World::start("stop").await;
    let name = world.tenant.unique("ws");
    world.create(&name, json!({})).await;
    world.until_settled(&name, "Active").await;
    let status = world.controller.terminate(Duration::from_secs(30)).await;
    assert!(status.success(), "{status}: {}", world.controller.log());
    world.edit(&name, json!({"schedule": {"enabled": false}})).await;
    world.controller = world.controller.again();
    world.until_settled(&name, "Disabled").await;
    world.until_nothing_left(&name).await;
    assert_eq!(world.machines_created(&name), 1);
}

fn is_cordoned(node: &Node) -> bool {
    node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true))
}
