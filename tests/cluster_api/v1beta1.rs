//! Cluster API 1.10: Machines and Clusters in v1beta1 and in nothing else.

use kube::ResourceExt;
use serde_json::json;

use crate::at_rest;
use crate::harness::{self, ControlPlanes, Options, Release, eventually};
use crate::takeover::is_taken_over;
use crate::world::{self, PATIENCE, World, said, uid};

pub async fn planes() -> &'static ControlPlanes {
    harness::shared_with(Options { release: Some(Release::V1_10), ..Options::default() }).await
}

async fn world(name: &str) -> World {
    planes().await;
    World::start(name).await
}

#[tokio::test]
async fn what_the_predecessor_left_on_cluster_api_1_10_is_taken_over_as_it_stands() {
    let planes = planes().await;
    world::installed().await;
    Box::pin(is_taken_over(planes.tenant("takeover").await)).await;
}

#[tokio::test]
async fn a_machine_comes_is_bounded_anew_and_goes_in_v1beta1() {
    let world = world("older").await;
    let name = world.tenant.unique("ws");
    let template = json!({"spec": {"version": "v1.31.2", "failureDomain": "rack-2", "minReadySeconds": 5,
                                   "nodeVolumeDetachTimeout": "90s"}});
    world.create(&name, json!({"machineTemplate": template})).await;
    world.until_settled(&name, "Active").await;
    let sm =
        world.until(&name, "on a Node it knows", |sm| sm.data["status"]["nodeRef"]["uid"].is_string()).await;

    let machines = world.tenant.machines();
    let machine = machines.get(&name).await.unwrap();
    let spec = &machine.data["spec"];
    // Cluster API writes a duration in its own way.
    assert_eq!(
        (&spec["nodeDrainTimeout"], &spec["nodeVolumeDetachTimeout"]),
        (&json!("10s"), &json!("1m30s"))
    );
    assert_eq!((&spec["version"], &spec["failureDomain"]), (&json!("v1.31.2"), &json!("rack-2")));
    assert_eq!(spec["infrastructureRef"]["apiVersion"], "infrastructure.cluster.x-k8s.io/v1");
    let owners: Vec<(&str, &str)> =
        machine.owner_references().iter().map(|o| (o.kind.as_str(), o.api_version.as_str())).collect();
    assert_eq!(
        owners,
        [("ScheduledMachine", "5spot.finos.org/v1alpha1"), ("Cluster", "cluster.x-k8s.io/v1beta1")]
    );
    let status = &sm.data["status"];
    assert_eq!(status["machineRef"]["apiVersion"], "cluster.x-k8s.io/v1beta1");
    assert_eq!(status["providerID"], spec["providerID"]);
    let (_, valid) = said(&sm, "ReferencesValid");
    assert!(valid.contains("minReadySeconds is left out"), "what v1beta1 cannot say is said: {valid}");

    world.edit(&name, json!({"nodeDrainTimeout": "90s"})).await;
    eventually(&machines, &name, "bounded anew", PATIENCE, |machine| {
        machine.data["spec"]["nodeDrainTimeout"] == "1m30s"
    })
    .await;
    world.until(&name, "seen", |sm| sm.data["status"]["observedGeneration"] == 2).await;
    // Read back as what was wanted: nothing is written again.
    at_rest(&world).await;

    world.edit(&name, json!({"schedule": {"enabled": false}})).await;
    world.until_settled(&name, "Disabled").await;
    world.until_nothing_left(&name).await;

    let calls = world.calls();
    let (machines, parts) = (calls.on("machines").accepted(), calls.on("stubmachines"));
    assert!(machines.iter().all(|call| call.uri.contains("/v1beta1/")), "{machines}");
    assert_eq!(machines.verb("create").len(), 1, "{machines}");
    world.deletion(&name);
    assert_eq!(machines.verb("patch").len(), 1, "{machines}");
    assert!(parts.verb("delete").is_empty(), "parts go with their Machine: {parts}");
}

#[tokio::test]
async fn the_kill_switch_works_in_v1beta1() {
    let world = world("older-kill").await;
    let name = world.tenant.unique("ws");
    world.create(&name, json!({"gracefulShutdownTimeout": "10m", "nodeDrainTimeout": "10m"})).await;
    world.until_settled(&name, "Active").await;
    let machine = world.tenant.machines().get(&name).await.unwrap();
    world.edit(&name, json!({"killSwitch": true})).await;
    let going = eventually(&world.tenant.machines(), &name, "going", PATIENCE, |machine| {
        machine.metadata.deletion_timestamp.is_some()
    })
    .await;
    assert_eq!(uid(&going), uid(&machine));
    assert!(going.annotations().contains_key("machine.cluster.x-k8s.io/exclude-node-draining"));
    world.until_settled(&name, "Terminated").await;
    world.until_nothing_left(&name).await;
}
