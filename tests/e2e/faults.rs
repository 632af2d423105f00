//! What goes wrong around the controller: lost answers, refusals, conflicts, and people who tear at its objects.

use std::path::Path;

use http::Method;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::harness::proxy::{Entry, status_body};
use crate::harness::{Behaviour, Controller, FaultProxy, eventually, gone, manifests};
use crate::world::{PATIENCE, World, closed, first_of_one, instant, is_true, open, said, uid};

const LABEL: &str = "5spot.finos.org/scheduled-machine";
const UID_LABEL: &str = "5spot.finos.org/scheduled-machine-uid";

/// Each kind of write on the way to a lent machine, once: method and end of the path.
fn opening_writes(name: &str) -> Vec<(Method, String)> {
    vec![
        (Method::PATCH, format!("/scheduledmachines/{name}")),
        (Method::POST, "/stubconfigs".to_owned()),
        (Method::POST, "/stubmachines".to_owned()),
        (Method::POST, "/machines".to_owned()),
        (Method::PATCH, format!("/scheduledmachines/{name}/status")),
    ]
}

pub fn is_call(entry: &Entry, method: &Method, end: &str) -> bool {
    entry.method == method && entry.path.split('?').next().is_some_and(|path| path.ends_with(end))
}

async fn one_of_each(world: &World, proxy: &FaultProxy, name: &str) {
    let lent = world.until_settled(name, "Active").await;
    assert_eq!(proxy.unanswered(), 0, "{}", proxy.shown());
    let machine = world.tenant.machines().get(name).await.unwrap();
    assert_eq!(lent.data["status"]["machineRef"]["uid"], uid(&machine));
    let created = world.calls().verb("create").named(name).accepted();
    for resource in ["machines", "stubmachines", "stubconfigs"] {
        assert_eq!(created.on(resource).len(), 1, "{resource}: {created}");
    }
    world.delete(name).await;
    gone(&world.scheduled_machines(), name, PATIENCE).await;
    world.until_nothing_left(name).await;
}

#[tokio::test]
async fn writes_whose_answers_are_lost_are_not_done_twice() {
    let (world, proxy) = World::start_through("lost").await;
    for (code, reason) in [(504, "Timeout"), (500, "InternalError")] {
        let name = world.tenant.unique("ws");
        for (method, end) in opening_writes(&name) {
            let body = status_body(code, reason, "the answer got lost");
            proxy.answer_instead(1, code, body, move |entry| is_call(entry, &method, &end));
        }
        world.create(&name, json!({})).await;
        one_of_each(&world, &proxy, &name).await;
    }
}

#[tokio::test]
async fn writes_that_fail_with_500_or_504_are_done_in_the_end() {
    let (world, proxy) = World::start_through("failing-server").await;
    let name = world.tenant.unique("ws");
    for (code, reason) in [(500, "InternalError"), (504, "Timeout"), (429, "TooManyRequests")] {
        for (method, end) in opening_writes(&name) {
            let body = status_body(code, reason, "not now");
            proxy.answer(1, code, body, move |entry| is_call(entry, &method, &end));
        }
    }
    world.create(&name, json!({})).await;
    one_of_each(&world, &proxy, &name).await;
}

#[tokio::test]
async fn a_conflict_is_looked_at_again() {
    let (world, proxy) = World::start_through("conflict").await;
    let name = world.tenant.unique("ws");
    for (method, end) in opening_writes(&name) {
        let body = status_body(
            409,
            "Conflict",
            "the object has been modified; please apply your changes to the latest",
        );
        proxy.answer(2, 409, body, move |entry| is_call(entry, &method, &end));
    }
    let began = Timestamp::now();
    world.create(&name, json!({})).await;
    world.until(&name, "made", |sm| sm.data["status"]["machineRef"].is_object()).await;
    let took = Timestamp::now().duration_since(began);
    assert!(took < SignedDuration::from_secs(45), "a conflict is no reason to wait: {took}");
    one_of_each(&world, &proxy, &name).await;
}

#[tokio::test]
async fn a_create_that_keeps_failing_is_told_in_the_status() {
    let (world, proxy) = World::start_through("told").await;
    let name = world.tenant.unique("ws");
    let body = status_body(500, "InternalError", "failed calling webhook \"quota.bank\": connection refused");
    proxy.answer(4, 500, body, |entry| is_call(entry, &Method::POST, "/machines"));
    world.create(&name, json!({})).await;
    let told = world.until(&name, "told", |sm| said(sm, "Ready").0 == "CreateFailed").await;
    assert!(said(&told, "Ready").1.contains("quota.bank"), "{:?}", said(&told, "Ready"));
    assert!(is_true(&told, "Reconciling") && !is_true(&told, "Stalled"));
    one_of_each(&world, &proxy, &name).await;
}

#[tokio::test]
async fn a_window_that_re_opens_while_the_old_machine_goes_gets_a_new_one_after_it() {
    let world = World::start("reopen").await;
    let name = world.tenant.unique("ws");
    world.create(&name, json!({})).await;
    world.until_settled(&name, "Active").await;
    let old = world.tenant.machines().get(&name).await.unwrap();
    let held = Behaviour { hold_finalizer: true, ..Behaviour::default() };
    world.tenant.behave(held);
    world.edit(&name, json!({"schedule": closed()})).await;
    eventually(&world.tenant.stub_machines(), &name, "going", PATIENCE, |stub| {
        stub.metadata.deletion_timestamp.is_some()
    })
    .await;
    world.edit(&name, json!({"schedule": open()})).await;
    let waiting = world
        .until(&name, "waiting", |sm| {
            sm.data["status"]["decision"]["state"] == "Active"
                && said(sm, "Ready").0 == "WaitingForMachineDeletion"
        })
        .await;
    assert!(said(&waiting, "Ready").1.contains("previous Machine"), "{:?}", said(&waiting, "Ready"));
    assert_eq!(world.machines_created(&name), 1);
    world.tenant.behave(Behaviour::default());

    world.until_settled(&name, "Active").await;
    let lent = world.until(&name, "on a Node", |sm| sm.data["status"]["nodeRef"]["uid"].is_string()).await;
    let new = world.tenant.machines().get(&name).await.unwrap();
    assert_ne!(uid(&new), uid(&old));
    assert_eq!(lent.data["status"]["machineRef"]["uid"], uid(&new));
    assert_eq!(world.machines_created(&name), 2);
    let deletes = world.calls().on("machines").verb("delete");
    let made = new.metadata.creation_timestamp.as_ref().unwrap().0 + SignedDuration::from_secs(1);
    assert!(deletes.iter().all(|call| call.ended < made), "the new one is left alone: {deletes}");
    first_of_one(deletes);
    let node = world.nodes().get(&name).await.unwrap();
    assert_eq!(lent.data["status"]["nodeRef"]["uid"], node.uid().unwrap());
}

async fn strip(world: &World, name: &str, metadata: Value) {
    let patch = Patch::Merge(json!({ "metadata": metadata }));
    world.tenant.machines().patch(name, &PatchParams::default(), &patch).await.unwrap();
}

fn no_labels() -> Value {
    json!({"labels": {LABEL: null, UID_LABEL: null}, "ownerReferences": null})
}

#[tokio::test]
async fn labels_owners_and_finalizer_that_somebody_takes_off_are_put_back() {
    let world = World::start("stripped").await;
    let name = world.tenant.unique("ws");
    world.create(&name, json!({})).await;
    world.until_settled(&name, "Active").await;
    let machines = world.tenant.machines();
    let before = machines.get(&name).await.unwrap();
    let node = world.nodes().get(&name).await.unwrap();
    for taken in [json!({"labels": {LABEL: null}}), json!({"labels": {UID_LABEL: null}}), no_labels()] {
        strip(&world, &name, taken).await;
        let back = eventually(&machines, &name, "put right", PATIENCE, |machine| {
            let owners = machine.owner_references();
            machine.labels().get(LABEL) == Some(&name)
                && machine.labels().contains_key(UID_LABEL)
                && owners.iter().any(|o| o.kind == "ScheduledMachine" && o.controller == Some(true))
                && owners.iter().any(|o| o.kind == "Cluster")
        })
        .await;
        assert_eq!((uid(&back), back.metadata.deletion_timestamp), (uid(&before), None));
    }
    let bare = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    world.scheduled_machines().patch(&name, &PatchParams::default(), &bare).await.unwrap();
    world.until(&name, "guarded again", |sm| !sm.finalizers().is_empty()).await;

    world.until_settled(&name, "Active").await;
    assert_eq!(world.nodes().get(&name).await.unwrap().uid(), node.uid(), "the Node never went");
    assert_eq!(world.machines_created(&name), 1);
    assert!(world.calls().verb("delete").is_empty(), "{}", world.calls().verb("delete"));
    world.delete(&name).await;
    gone(&world.scheduled_machines(), &name, PATIENCE).await;
    world.until_nothing_left(&name).await;
}

#[tokio::test]
async fn a_machine_without_its_labels_is_still_taken_out() {
    let mut world = World::start("bare").await;
    for end in ["closed", "deleted"] {
        let name = world.tenant.unique("ws");
        world.create(&name, json!({})).await;
        world.until_settled(&name, "Active").await;
        // While nobody looks.
        world.controller.kill();
        strip(&world, &name, no_labels()).await;
        match end {
            "closed" => world.edit(&name, json!({"schedule": {"enabled": false}})).await,
            _ => world.delete(&name).await,
        }
        world.controller = world.controller.again();
        match end {
            "closed" => drop(world.until_settled(&name, "Disabled").await),
            _ => gone(&world.scheduled_machines(), &name, PATIENCE).await,
        }
        assert!(world.tenant.machines().get_opt(&name).await.unwrap().is_none(), "told gone, and there");
        world.until_nothing_left(&name).await;
        assert_eq!(world.machines_created(&name), 1);
    }
}

#[tokio::test]
async fn a_machine_deleted_by_hand_comes_back_once() {
    let world = World::start("by-hand").await;
    let name = world.tenant.unique("ws");
    world.create(&name, json!({})).await;
    world.until_settled(&name, "Active").await;
    let old = world.tenant.machines().get(&name).await.unwrap();
    // It goes on going until somebody has seen it.
    world.tenant.behave(Behaviour { hold_finalizer: true, ..Behaviour::default() });
    world.tenant.machines().delete(&name, &DeleteParams::default()).await.unwrap();
    world.until(&name, "seen going", |sm| said(sm, "Ready").0 == "WaitingForMachineDeletion").await;
    world.tenant.behave(Behaviour::default());
    let lent = world
        .until(&name, "lent anew", |sm| {
            let of = &sm.data["status"]["machineRef"]["uid"];
            is_true(sm, "Ready") && of.is_string() && *of != uid(&old)
        })
        .await;
    let new = world.tenant.machines().get(&name).await.unwrap();
    assert_eq!(lent.data["status"]["machineRef"]["uid"], uid(&new));
    assert_eq!(world.machines_created(&name), 2);
    assert!(world.calls().on("machines").verb("delete").is_empty());
    let stub = world.tenant.stub_machines().get(&name).await.unwrap();
    assert!(stub.owner_references().iter().any(|owner| owner.uid == uid(&new)), "parts of its own");
}

#[tokio::test]
async fn edits_of_the_grace_in_its_middle_act_at_once() {
    let world = World::start("regrace").await;
    let name = world.tenant.unique("ws");
    world.create(&name, json!({"gracefulShutdownTimeout": "10m"})).await;
    world.until_settled(&name, "Active").await;
    world.edit(&name, json!({"schedule": {"enabled": false}})).await;
    let first = world.until(&name, "in its grace", |sm| said(sm, "Ready").0 == "GracePeriodActive").await;
    let since = instant(&first, "/status/leaving/since").unwrap();
    let ends = |minutes| Some(since + SignedDuration::from_mins(minutes));
    assert_eq!(instant(&first, "/status/leaving/graceEndsAt"), ends(10));
    world.edit(&name, json!({"gracefulShutdownTimeout": "20m", "nodeDrainTimeout": "7s"})).await;
    let longer =
        world.until(&name, "longer", |sm| instant(sm, "/status/leaving/graceEndsAt") == ends(20)).await;
    let promised = ends(20).map(|at| at + SignedDuration::from_secs(7 + 60 + 30));
    assert_eq!(instant(&longer, "/status/handBackBy"), promised);

    world.tenant.behave(Behaviour { hold_finalizer: true, ..Behaviour::default() });
    let at = Timestamp::now();
    world.edit(&name, json!({"gracefulShutdownTimeout": "1s"})).await;
    eventually(&world.tenant.machines(), &name, "going", PATIENCE, |machine| {
        machine.metadata.deletion_timestamp.is_some()
            && machine.data["spec"]["deletion"]["nodeDrainTimeoutSeconds"] == 7
    })
    .await;
    let took = Timestamp::now().duration_since(at);
    assert!(took < SignedDuration::from_secs(15), "{took}");
    world.tenant.behave(Behaviour::default());
    world.until_settled(&name, "Disabled").await;
    world.until_nothing_left(&name).await;
}

#[tokio::test]
async fn without_the_right_to_read_definitions_every_object_says_so_until_it_is_given() {
    let (tenant, user, _) = World::prepare("no-definitions").await;
    let group = format!("{user}-and-no-other");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/controller/role.yaml");
    let mut role = manifests::documents(&std::fs::read_to_string(shipped).unwrap()).unwrap().remove(0);
    role["metadata"]["name"] = json!(group);
    let whole = role.clone();
    let reads_definitions = |rule: &Value| rule["apiGroups"] == json!(["apiextensions.k8s.io"]);
    role["rules"].as_array_mut().unwrap().retain(|rule| !reads_definitions(rule));
    assert_ne!(role, whole);
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": group},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": group},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group}],
    });
    manifests::install(&tenant.management, vec![role, binding]).await.unwrap();
    let kubeconfig = tenant.management_plane().issue_kubeconfig(&user, &[&group]);
    let setup = Controller::setup(tenant.planes(), &kubeconfig).watch_namespace(&tenant.namespace);
    let world = World::with(tenant.clone(), user, setup.start());
    let name = tenant.unique("ws");
    world.create(&name, json!({})).await;
    let told = world
        .until(&name, "told", |sm| {
            let (reason, message) = said(sm, "Ready");
            reason == "ClusterApiNotServed" && message.contains("cannot be read")
        })
        .await;
    let (_, message) = said(&told, "Ready");
    for words in
        [".cluster.x-k8s.io cannot be read", "customresourcedefinitions", "manifests/controller/role.yaml"]
    {
        assert!(message.contains(words), "{words}: {message}");
    }
    assert!(is_true(&told, "Stalled"));
    let refused = world.calls().on("customresourcedefinitions").only(|call| call.code == 403);
    assert!(!refused.is_empty(), "{}", world.calls());
    let made = world.calls().verb("create").only(|call| call.resource != "events");
    assert!(made.is_empty(), "{made}");

    manifests::install(&tenant.management, vec![whole]).await.unwrap();
    world.until_settled(&name, "Active").await;
}
