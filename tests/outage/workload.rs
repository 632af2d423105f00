//! The workload API server is gone while a machine leaves.

use serde_json::json;

use crate::harness::{self, eventually};
use crate::world::{PATIENCE, World, is_refused, is_true, said};

#[tokio::test]
async fn a_machine_leaves_while_its_workload_cluster_is_gone() {
    let _turn = crate::turn().await;
    let world = World::start("dark").await;
    let name = world.tenant.unique("ws");
    world.create(&name, json!({"gracefulShutdownTimeout": "3s"})).await;
    world.until_settled(&name, "Active").await;
    let plane = harness::shared().await.workload();
    plane.stop_apiserver();
    let dark = world.until(&name, "told", |sm| is_refused(sm, "WorkloadReachable", "Unreachable")).await;
    assert!(said(&dark, "WorkloadReachable").1.len() > 10, "{:?}", said(&dark, "WorkloadReachable"));

    world.edit(&name, json!({"schedule": {"enabled": false}})).await;
    // What can be done is done: nothing on the workload side holds up the DELETE.
    eventually(&world.tenant.machines(), &name, "going", PATIENCE, |machine| {
        machine.metadata.deletion_timestamp.is_some()
    })
    .await;
    world.until(&name, "told why it waits", |sm| !is_true(sm, "Ready") && is_true(sm, "Reconciling")).await;
    plane.restart_apiserver().await;

    let off = world.until_settled(&name, "Disabled").await;
    assert!(off.data["status"]["machineRef"].is_null());
    world.until_nothing_left(&name).await;
    assert_eq!(world.machines_created(&name), 1);
    world.edit(&name, json!({"schedule": {"enabled": true}})).await;
    world.until_settled(&name, "Active").await;
    world.until(&name, "reachable", |sm| is_true(sm, "WorkloadReachable")).await;
}
