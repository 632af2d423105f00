//! Leaving under Cluster API 1.10, with pods on the Node.

use kube::api::DeleteParams;
use serde_json::json;

use crate::harness::provider;
use crate::v1beta1::planes;
use crate::world::said;
use crate::yard::{Yard, slow};

#[tokio::test]
async fn a_hold_empties_the_node_and_honours_budgets_in_v1beta1() {
    planes().await;
    let yard = Yard::lent("older-drain", json!({"nodeDrainTimeout": "10m"})).await;
    yard.pod("free", slow(1)).await;
    yard.pod("kept", json!({})).await;
    yard.budget("keep", "kept").await;
    let hold = provider::kind("5spot.finos.org", "v1alpha1", "MachineHold");
    let spec = json!({"scheduledMachine": yard.name, "state": "Inactive", "reason": "a test of holds"});
    yard.world.tenant.create(&hold, json!({"metadata": {"name": "needed"}, "spec": spec})).await;
    let held_up = yard
        .until("held up by its budget", |sm| {
            let lines = sm.data["status"]["leaving"]["blockedBy"].as_array().cloned().unwrap_or_default();
            lines.iter().any(|line| line["kind"] == "PodDisruptionBudget" && line["name"] == "keep")
        })
        .await;
    assert_eq!(held_up.data["status"]["decision"]["rule"], "Hold");
    assert_eq!(said(&held_up, "Ready").0, "NodeDraining");
    assert!(!yard.is_deleted());
    yard.release("keep").await;
    let deletion = yard.deletion().await;
    assert!(deletion.uri.contains("/v1beta1/"), "{deletion}");
    yard.until_machine_gone().await;
    for pod in ["free", "kept"] {
        let evicted = yard.evictions().named(pod).accepted();
        assert_eq!(evicted.len(), 1, "{evicted}");
        assert!(evicted.iter().all(|call| call.ended < deletion.received), "{evicted}\n{deletion}");
    }
    assert!(yard.evictions_by_capi().is_empty(), "{}", yard.evictions_by_capi());
    yard.holds().delete("needed", &DeleteParams::default()).await.unwrap();
    yard.world.until_settled(&yard.name, "Active").await;
}

#[tokio::test]
async fn a_drain_rule_in_v1beta1_leaves_the_drain_to_cluster_api() {
    planes().await;
    let yard = Yard::lent("older-ruled", json!({"nodeDrainTimeout": "1m"})).await;
    let rule = json!({"metadata": {"name": "of-db"}, "spec": {
        "drain": {"behavior": "Drain", "order": 5},
        "pods": [{"selector": {"matchLabels": {"app": "db"}}}],
    }});
    yard.world.tenant.create(&provider::kind("cluster.x-k8s.io", "v1beta1", "MachineDrainRule"), rule).await;
    yard.pod("db", slow(3)).await;
    yard.close().await;
    yard.deletion().await;
    yard.until_machine_gone().await;
    assert!(yard.evictions().is_empty(), "{}", yard.evictions());
    assert_eq!(yard.evictions_by_capi().named("db").accepted().len(), 1);
}
