//! Where the order of pods is Cluster API's business, or its way to the workload cluster is the better one, it drains; and
//! where it does not, we do all of it.

use jiff::SignedDuration;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::yard::{Yard, slow};
use crate::harness::{eventually, gone, provider};
use crate::world::{PATIENCE, said};

#[tokio::test]
async fn a_pod_with_cluster_apis_label_leaves_the_drain_to_it() {
    let yard = Yard::lent("labelled", json!({"nodeDrainTimeout": "1m"})).await;
    yard.pod("web", json!({})).await;
    yard.pod("last", json!({"metadata": {"labels": {"cluster.x-k8s.io/drain": "skip"}}})).await;
    yard.close().await;
    let deletion = yard.deletion().await;
    let after = deletion.received.duration_since(yard.edited());
    assert!(after < SignedDuration::from_secs(5), "at once: {deletion}");
    yard.until_machine_gone().await;
    assert!(yard.evictions().is_empty(), "{}", yard.evictions());
    let by_capi = yard.evictions_by_capi();
    assert!(by_capi.named("web").accepted().len() == 1 && by_capi.named("last").is_empty(), "{by_capi}");
}

#[tokio::test]
async fn a_machine_drain_rule_that_speaks_of_a_pod_leaves_the_drain_to_cluster_api() {
    let yard = Yard::lent("ruled", json!({"nodeDrainTimeout": "1m"})).await;
    let tenant = &yard.world.tenant;
    let rules = provider::kind("cluster.x-k8s.io", "v1beta2", "MachineDrainRule");
    let rule = |name: &str, app: &str| {
        json!({"metadata": {"name": name}, "spec": {
            "drain": {"behavior": "Drain", "order": 5},
            "pods": [{"selector": {"matchLabels": {"app": app}}}],
        }})
    };
    tenant.create(&rules, rule("of-another", "unheard-of")).await;
    tenant.create(&rules, rule("of-db", "db")).await;
    yard.pod("db", slow(3)).await;
    yard.close().await;
    yard.deletion().await;
    // Its own words are shown, once it has said them: until then the reason is ours.
    let told = yard.until("told by Cluster API", |sm| said(sm, "Ready").1.contains("db")).await;
    assert_eq!(said(&told, "Ready").0, "NodeDraining");
    assert_eq!(told.data["status"]["leaving"]["blockedBy"][0]["kind"], "Machine");
    yard.until_machine_gone().await;
    assert!(yard.evictions().is_empty(), "{}", yard.evictions());
    assert_eq!(yard.evictions_by_capi().named("db").accepted().len(), 1);
}

#[tokio::test]
async fn a_workload_cluster_that_cannot_be_reached_is_not_waited_for_for_ever() {
    let (yard, proxy) = Yard::lent_through("out-of-reach", json!({"nodeDrainTimeout": "1m"})).await;
    yard.pod("web", json!({})).await;
    proxy.cut();
    let unreachable = |sm: &kube::api::DynamicObject| said(sm, "WorkloadReachable").0 == "Unreachable";
    yard.until("out of reach", unreachable).await;
    let closed = yard.close().await;
    let told =
        yard.until("told", |sm| sm.data["status"]["leaving"]["blockedBy"][0]["kind"] == "Cluster").await;
    assert_eq!(said(&told, "Ready").0, "NodeDraining");
    let deletion = yard.deletion().await;
    let after = deletion.received.duration_since(closed);
    assert!(after > SignedDuration::from_secs(8) && after < SignedDuration::from_secs(20), "{after}");
    yard.until_machine_gone().await;
    // Its way there was open.
    assert_eq!(yard.evictions_by_capi().named("web").accepted().len(), 1);
    assert!(yard.evictions().is_empty());
}

#[tokio::test]
async fn where_cluster_api_neither_drains_nor_deletes_nodes_both_are_done_here() {
    let yard = Yard::lent("not-managed", json!({"nodeDrainTimeout": "1m"})).await;
    yard.pod("web", slow(2)).await;
    let tenant = &yard.world.tenant;
    let planes = tenant.api(&provider::control_plane());
    let own = Patch::Merge(json!({"spec": {"isExternal": false}}));
    planes.patch(&tenant.cluster, &PatchParams::default(), &own).await.unwrap();
    eventually(&planes, &tenant.cluster, "not managed externally", PATIENCE, |plane| {
        plane.data["status"]["externalManagedControlPlane"] == false
    })
    .await;
    let node = yard.world.nodes().get(&yard.name).await.unwrap();
    yard.close().await;
    let deletion = yard.deletion().await;
    let evictions = yard.evictions().named("web").accepted();
    assert_eq!(evictions.len(), 1);
    assert!(evictions.iter().all(|call| call.ended < deletion.received));
    yard.until_machine_gone().await;
    gone(&yard.world.nodes(), &yard.name, PATIENCE).await;
    let deleted = yard.world.workload_calls().on("nodes").verb("delete").named(&yard.name).accepted();
    assert_eq!(deleted.len(), 1, "by us: {}, {}", node.name_any(), yard.world.workload_calls().writes());
    yard.world.until_settled(&yard.name, "Inactive").await;
}
