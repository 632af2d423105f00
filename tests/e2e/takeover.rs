//! What the predecessor left behind is taken over as it stands.

use kube::ResourceExt;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use crate::harness::{Tenant, eventually, provider};
use crate::world::{self, PATIENCE, World, is_true, uid};

const LABEL: &str = "5spot.finos.org/scheduled-machine";
const UID_LABEL: &str = "5spot.finos.org/scheduled-machine-uid";
const FINALIZER: &str = "5spot.finos.org/scheduledmachine";

/// A ScheduledMachine as the predecessor leaves it while its machine is lent: finalizer, phase, one condition, and three
/// objects of its name with two labels each. The Machine is controlled by it, bounded by nothing, and its parts are the
/// Machine's.
async fn left_by_the_predecessor(tenant: &Tenant, name: &str) -> DynamicObject {
    let made = tenant
        .create(
            &world::scheduled_machine(),
            json!({"metadata": {"name": name, "finalizers": [FINALIZER]}, "spec": world::spec(&tenant.cluster)}),
        )
        .await;
    let status = json!({"phase": "Active", "message": "Machine created", "inSchedule": true, "conditions": [
        {"type": "Ready", "status": "True", "reason": "MachineCreated", "message": "Machine created",
         "lastTransitionTime": "2026-04-26T09:00:00Z"},
    ]});
    let patch = Patch::Merge(json!({ "status": status }));
    let objects = tenant.api(&world::scheduled_machine());
    objects.patch_status(name, &PatchParams::default(), &patch).await.unwrap();

    let labels = json!({LABEL: name, "cluster.x-k8s.io/cluster-name": tenant.cluster});
    let (config, machine) = (provider::bootstrap(), provider::infrastructure("StubMachine"));
    for part in [&config, &machine] {
        tenant.create(part, json!({"metadata": {"name": name, "labels": labels}, "spec": {}})).await;
    }
    let reference = |part: &kube::api::ApiResource| json!({"apiVersion": part.api_version, "kind": part.kind, "name": name, "namespace": tenant.namespace});
    let owner = json!({"apiVersion": "5spot.finos.org/v1alpha1", "kind": "ScheduledMachine", "name": name,
                       "uid": uid(&made), "controller": true, "blockOwnerDeletion": true});
    // In the one version that it speaks.
    tenant
        .create(
            &provider::machine_in("v1beta1"),
            json!({
                "metadata": {"name": name, "labels": labels, "ownerReferences": [owner]},
                "spec": {
                    "clusterName": tenant.cluster,
                    "bootstrap": {"configRef": reference(&config)},
                    "infrastructureRef": reference(&machine),
                },
            }),
        )
        .await;
    eventually(&tenant.machines(), name, "running", PATIENCE, |machine| {
        machine.data["status"]["phase"] == "Running"
    })
    .await;
    made
}

/// Takes it over, lets it go, and shows that no object was replaced on the way in and none was left on the way out.
pub async fn is_taken_over(tenant: Tenant) {
    let name = tenant.unique("ws");
    let user = format!("controller-of-{}", tenant.namespace);
    let sm = left_by_the_predecessor(&tenant, &name).await;
    let before: Vec<Value> = objects(&tenant, &name).await.iter().map(|object| json!(uid(object))).collect();
    let setup = World::prepare_for(&tenant, &user);
    let world = World::with(tenant, user, setup.start());
    let taken = world
        .until(&name, "taken over", |sm| {
            is_true(sm, "Ready") && sm.data["status"]["nodeRef"]["uid"].is_string()
        })
        .await;
    assert_eq!((uid(&taken), &taken.data["status"]["phase"]), (uid(&sm), &json!("Active")));
    for labelled in objects(&world.tenant, &name).await {
        let what = labelled.types.as_ref().map(|types| types.kind.clone());
        let api = match what.as_deref() {
            Some("Machine") => world.tenant.machines(),
            Some("StubConfig") => world.tenant.stub_configs(),
            _ => world.tenant.stub_machines(),
        };
        eventually(&api, &name, "labelled", PATIENCE, |object| {
            object.labels().get(UID_LABEL) == Some(&uid(&sm)) && object.labels().get(LABEL) == Some(&name)
        })
        .await;
    }
    let after = objects(&world.tenant, &name).await;
    let after_uids: Vec<Value> = after.iter().map(|object| json!(uid(object))).collect();
    assert_eq!(after_uids, before);
    let owners: Vec<&str> = after[0].owner_references().iter().map(|owner| owner.kind.as_str()).collect();
    assert_eq!(owners, ["ScheduledMachine", "Cluster"]);
    let calls = world.calls().only(|call| call.resource != "events");
    assert!(calls.verb("create").is_empty() && calls.verb("delete").is_empty(), "{calls}");
    for resource in ["machines", "stubconfigs", "stubmachines"] {
        assert_eq!(calls.on(resource).verb("patch").accepted().len(), 1, "{resource}: {calls}");
    }

    world.edit(&name, json!({"schedule": {"enabled": false}})).await;
    world.until_settled(&name, "Disabled").await;
    world.until_nothing_left(&name).await;
    let deleted = world.calls().verb("delete");
    assert_eq!(deleted.len(), deleted.on("machines").len(), "the Machine takes the rest: {deleted}");
    crate::world::first_of_one(deleted);
}

/// Machine first.
async fn objects(tenant: &Tenant, name: &str) -> [DynamicObject; 3] {
    [
        tenant.machines().get(name).await.unwrap(),
        tenant.stub_configs().get(name).await.unwrap(),
        tenant.stub_machines().get(name).await.unwrap(),
    ]
}
