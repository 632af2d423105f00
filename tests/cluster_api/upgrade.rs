//! One controller process through the whole life of an installation of Cluster API: before it, on 1.10, on today's.

use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::json;

use crate::at_rest;
use crate::harness::audit::Calls;
use crate::harness::{ControlPlanes, Options, Release};
use crate::world::{self, World, is_true, said, uid};

fn is_kept_in(sm: &DynamicObject, version: &str) -> bool {
    sm.data["status"]["machineRef"]["apiVersion"] == format!("cluster.x-k8s.io/{version}")
        && is_true(sm, "Ready")
}

/// Of Machines and their parts.
fn made_or_deleted(calls: &Calls) -> Calls {
    calls.only(|call| {
        ["machines", "stubmachines", "stubconfigs"].contains(&call.resource.as_str())
            && ["create", "delete"].contains(&call.verb.as_str())
    })
}

/// A controller on a management cluster that has our definitions and the provider's, and no Cluster API.
async fn there_first() -> (&'static ControlPlanes, World) {
    let planes = ControlPlanes::start(Options { release: None, ..Options::default() }).await.unwrap();
    // Tenants are for the life of the process; so is this pair, which ends with it.
    let planes: &'static ControlPlanes = Box::leak(Box::new(planes));
    world::install(planes).await;
    let tenant = planes.tenant_without_cluster("first").await;
    let user = format!("controller-of-{}", tenant.namespace);
    let controller = World::prepare_for(&tenant, &user).start();
    (planes, World::with(tenant, user, controller))
}

#[tokio::test]
async fn a_controller_that_was_there_first_comes_alive_with_cluster_api_and_lives_through_its_upgrade() {
    let (planes, world) = there_first().await;
    let audit = planes.management().audit();

    let name = world.tenant.unique("ws");
    // By the default Secret, which comes with the Cluster.
    world.create(&name, json!({"kubeconfigSecretRef": null})).await;
    let told = world.until(&name, "told", |sm| said(sm, "Ready").0 == "ClusterApiNotServed").await;
    for kind in ["Ready", "ReferencesValid", "Stalled"] {
        let (reason, message) = said(&told, kind);
        assert_eq!(reason, "ClusterApiNotServed", "{kind}");
        assert!(message.contains("machines.cluster.x-k8s.io") && message.contains("install"), "{message}");
    }
    at_rest(&world).await;

    planes.install_capi(Release::V1_10).await;
    let cluster = world.tenant.cluster.clone();
    world.tenant.make_cluster(&cluster, &world.tenant.workload_kubeconfig()).await;
    world.until_settled(&name, "Active").await;
    let lent = world
        .until(&name, "on a Node it knows", |sm| {
            is_kept_in(sm, "v1beta1") && sm.data["status"]["nodeRef"]["uid"].is_string()
        })
        .await;
    assert!(!is_true(&lent, "Stalled"));
    let machine = world.tenant.machines().get(&name).await.unwrap();

    let upgrade = audit.mark();
    planes.install_capi(Release::V1_14).await;
    let after = world.until(&name, "read in v1beta2", |sm| is_kept_in(sm, "v1beta2")).await;
    let same = crate::harness::eventually(
        &world.tenant.machines(),
        &name,
        "owned in v1beta2",
        world::PATIENCE,
        |machine| {
            let owners = machine.owner_references();
            owners
                .iter()
                .any(|owner| owner.api_version == "cluster.x-k8s.io/v1beta2" && owner.kind == "Cluster")
        },
    )
    .await;
    assert_eq!((uid(&same), same.metadata.deletion_timestamp), (uid(&machine), None), "the Machine stays");
    assert_eq!(same.data["spec"]["deletion"]["nodeDrainTimeoutSeconds"], 10, "{}", same.data["spec"]);
    assert_eq!(after.data["status"]["nodeRef"], lent.data["status"]["nodeRef"]);
    assert_eq!(after.data["status"]["lastRun"]["openedAt"], lent.data["status"]["lastRun"]["openedAt"]);
    let calls = audit.after(upgrade).by(&world.user);
    assert!(made_or_deleted(&calls).is_empty(), "{}", made_or_deleted(&calls));
    assert_eq!(calls.on("machines").verb("patch").accepted().len(), 1, "the owner, once: {calls}");
    at_rest(&world).await;

    let quiet = audit.mark();
    world.edit(&name, json!({"schedule": {"enabled": false}})).await;
    world.until_settled(&name, "Disabled").await;
    world.until_nothing_left(&name).await;
    world.edit(&name, json!({"schedule": {"enabled": true}})).await;
    world.until_settled(&name, "Active").await;
    let next = audit.after(quiet).by(&world.user).on("machines").verb("create");
    assert!(next.len() == 1 && next.iter().all(|call| call.uri.contains("/v1beta2/")), "{next}");
    assert!(world.controller.ended().is_none(), "all in one process");
}
