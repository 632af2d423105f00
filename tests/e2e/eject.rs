//! Out at once, whatever stands in the way.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::drain::yard::{Yard, is_cordoned, is_ejecting, slow, stuck, unstick};
use crate::harness::audit::Calls;
use crate::harness::{Behaviour, FaultProxy, eventually};
use crate::reused_host::nodes_stay;
use crate::world::{PATIENCE, closed, is_true, said, uid};

const CORDONED_BY: &str = "5spot.finos.org/cordoned-by";

/// Promised of the DELETE, whatever the workload side does.
const AT_ONCE: SignedDuration = SignedDuration::from_secs(2);
/// Of what the promise does not name, on a machine that has other work.
const SOON: SignedDuration = SignedDuration::from_secs(5);

/// The kill switch goes on, and the DELETE follows.
async fn ejected_in_time(yard: &Yard) -> Timestamp {
    let killed = yard.kill().await;
    let deletion = yard.deletion().await;
    let after = deletion.received.duration_since(yard.edited());
    eprintln!("{}: DELETE {} ms after the kill switch", yard.world.tenant.namespace, after.as_millis());
    assert!(after < AT_ONCE, "{after}: {}", yard.world.calls().writes());
    assert!(deletion.received >= killed, "before anybody asked for it: {deletion}");
    killed
}

/// Cluster API is told to leave out both its waits, in one patch: before the DELETE, or after it where the server took longer
/// to answer than an eject waits.
async fn is_excluded(yard: &Yard) {
    let both = ["exclude-node-draining", "exclude-wait-for-node-volume-detach"];
    let audit = yard.world.tenant.planes().management().audit();
    let calls = audit
        .until(yard.world.mark, "excluded", PATIENCE, |calls| {
            !yard.excluding(calls, &both).accepted().is_empty()
        })
        .await;
    let patches = calls.by(&yard.world.user).on("machines").verb("patch").named(&yard.name);
    assert_eq!(yard.excluding(&calls, &both).len(), patches.len(), "both in one: {patches}");
    let (first, deletion) = (patches.iter().map(|call| call.received).min().unwrap(), yard.deletion().await);
    assert!(first <= deletion.ended + AT_ONCE, "long after the DELETE: {patches}{deletion}");
}

#[tokio::test]
async fn neither_a_stuck_pod_nor_a_budget_delays_an_eject() {
    let yard =
        Yard::lent("eject", json!({"gracefulShutdownTimeout": "10m", "nodeDrainTimeout": "10m"})).await;
    yard.pod("stuck", stuck()).await;
    yard.pod("kept", slow(600)).await;
    yard.budget("keep", "kept").await;
    let killed = ejected_in_time(&yard).await;
    is_excluded(&yard).await;
    // Beside the DELETE, and once more if somebody else has written to the Node at that moment.
    yard.until_node_is_ejected(killed).await;
    // The collector of pods without a Node may be quicker still.
    yard.until_pod("stuck", "hurried", |pod| {
        pod.metadata.deletion_grace_period_seconds.is_some_and(|grace| grace <= 1)
    })
    .await;
    // Kubernetes' own eviction by taint may have come first; what it gave a long grace is hurried.
    let after = yard.until_pod_is_deleted("kept").await.received.duration_since(killed);
    assert!(after < SOON, "{after}");
    assert_eq!(yard.pod_calls().named("kept").verb("delete").accepted().len(), 1, "{}", yard.pod_calls());
    assert!(yard.pod_calls().named("stuck").verb("delete").len() <= 1, "{}", yard.pod_calls());
    yard.until_machine_gone().await;
    let took = Timestamp::now().duration_since(killed);
    eprintln!("eject with a stuck pod and a budget: Machine gone after {:.1} s", took.as_secs_f64());
    assert!(took < SignedDuration::from_mins(1), "of ten: {took}");
    assert!(yard.evictions_by_capi().is_empty() && yard.evictions().is_empty());
    let out = yard.world.until_settled(&yard.name, "Terminated").await;
    assert_eq!(out.data["status"]["lastRun"]["endedBy"], "KillSwitch");
    unstick(&yard, "stuck").await;
    yard.release("keep").await;
}

#[tokio::test]
async fn a_workload_cluster_that_refuses_connections_does_not_delay_an_eject() {
    let (yard, proxy) = Yard::lent_through("eject-cut", json!({})).await;
    yard.pod("web", json!({})).await;
    proxy.cut();
    ejected_in_time(&yard).await;
    yard.until_machine_gone().await;
}

#[tokio::test]
async fn a_workload_cluster_that_never_answers_does_not_delay_an_eject() {
    let (yard, proxy) = Yard::lent_through("eject-hung", json!({})).await;
    yard.pod("web", json!({})).await;
    proxy.hang();
    ejected_in_time(&yard).await;
    is_excluded(&yard).await;
    yard.until_machine_gone().await;
}

#[tokio::test]
async fn a_kill_switch_in_the_middle_of_a_drain_that_hangs_is_acted_on_in_time() {
    let (yard, proxy) = Yard::lent_through("eject-hung-drain", json!({"nodeDrainTimeout": "10m"})).await;
    yard.pod("kept", json!({})).await;
    yard.budget("keep", "kept").await;
    yard.world.edit(&yard.name, json!({"schedule": closed()})).await;
    yard.until("begun", |sm| sm.data["status"]["timers"]["drainStartedAt"].is_string()).await;
    proxy.hang();
    ejected_in_time(&yard).await;
    yard.until_machine_gone().await;
    yard.release("keep").await;
}

#[tokio::test]
async fn an_eject_cuts_a_grace_and_a_drain_short() {
    for (stage, grace) in [("Grace", "10m"), ("Drain", "0s")] {
        let over = json!({"gracefulShutdownTimeout": grace, "nodeDrainTimeout": "10m"});
        let yard = Yard::lent(&format!("eject-in-{}", stage.to_lowercase()), over).await;
        yard.pod("kept", slow(600)).await;
        yard.budget("keep", "kept").await;
        yard.close().await;
        yard.until(stage, |sm| sm.data["status"]["leaving"]["stage"] == stage).await;
        eventually(&yard.world.nodes(), &yard.name, "cordoned", PATIENCE, is_cordoned).await;
        if stage == "Drain" {
            // By then the next eviction is seconds away.
            yard.until_evicted("kept", 5).await;
        }
        let killed = ejected_in_time(&yard).await;
        let hurried = yard.until_pod_is_deleted("kept").await;
        let after = hurried.received.duration_since(killed);
        assert!(after < SOON, "in its {stage}: {after}: {}", yard.pod_calls());
        yard.until_machine_gone().await;
        let out = yard.world.until_settled(&yard.name, "Terminated").await;
        assert!(out.data["status"].get("timers").is_none());
        yard.release("keep").await;
    }
}

#[tokio::test]
async fn an_eject_in_the_middle_of_cluster_apis_drain_ends_it_within_its_round() {
    let yard = Yard::lent("eject-in-deletion", json!({"nodeDrainTimeout": "10m"})).await;
    // Cluster API's drain: it waits for this one.
    let waits = json!({"metadata": {"labels": {"cluster.x-k8s.io/drain": "wait-completed"}}});
    yard.pod("waits", waits).await;
    yard.close().await;
    yard.deletion().await;
    yard.until("drained by Cluster API", |sm| said(sm, "Ready").0 == "NodeDraining").await;
    let killed = yard.kill().await;
    let audit = yard.world.tenant.planes().management().audit();
    let excluding = |calls: &Calls| yard.excluding(calls, &["exclude-node-draining"]).since(killed);
    let calls = audit
        .until(yard.world.mark, "excluded", PATIENCE, |calls| !excluding(calls).accepted().is_empty())
        .await;
    // The first may be given up, where the server takes its time, and is sent again.
    let sent = excluding(&calls).iter().map(|call| call.received).min().unwrap();
    let after = sent.duration_since(yard.edited());
    assert!(after < AT_ONCE, "{after}: {}", excluding(&calls));
    is_excluded(&yard).await;
    eventually(&yard.world.nodes(), &yard.name, "tainted", PATIENCE, is_ejecting).await;
    yard.until_machine_gone().await;
    let took = Timestamp::now().duration_since(killed);
    assert!(took < SignedDuration::from_mins(1), "of ten: {took}");
}

#[tokio::test]
async fn under_a_pause_of_cluster_api_the_node_half_runs_and_a_node_that_stays_is_given_back() {
    let yard = Yard::lent("eject-paused", json!({})).await;
    let machine = yard.machine().await;
    let pause = |paused: bool| Patch::Merge(json!({"spec": {"paused": paused}}));
    let (clusters, cluster) = (yard.world.tenant.clusters(), yard.world.tenant.cluster.clone());
    yard.pod("web", json!({})).await;
    clusters.patch(&cluster, &PatchParams::default(), &pause(true)).await.unwrap();
    yard.until("paused", |sm| said(sm, "Ready").0 == "BlockedByPause").await;
    yard.kill().await;
    eventually(&yard.world.nodes(), &yard.name, "tainted and cordoned", PATIENCE, |node| {
        is_ejecting(node) && is_cordoned(node)
    })
    .await;
    crate::harness::gone(&yard.pods(), "web", PATIENCE).await;
    let on_capi = yard.world.calls().on("machines").writes().only(|call| call.verb != "create");
    assert!(on_capi.is_empty(), "{on_capi}");
    assert_eq!(said(&yard.until("still paused", |_| true).await, "Ready").0, "BlockedByPause");

    yard.world.edit(&yard.name, json!({"killSwitch": false})).await;
    yard.until("not killed", |sm| sm.data["status"]["decision"]["rule"] == "Window").await;
    clusters.patch(&cluster, &PatchParams::default(), &pause(false)).await.unwrap();
    let node = eventually(&yard.world.nodes(), &yard.name, "free again", PATIENCE, |node| {
        !is_ejecting(node) && !is_cordoned(node)
    })
    .await;
    assert!(!node.annotations().contains_key(CORDONED_BY));
    yard.world.until_settled(&yard.name, "Active").await;
    let kept = yard.machine().await;
    assert_eq!((uid(&kept), kept.metadata.deletion_timestamp), (uid(&machine), None));
    // What came after the thaw, the Node's freedom, is in the log by now, and so would be a DELETE before it.
    assert!(!yard.is_deleted(), "{}", yard.world.calls().writes());
}

/// The marks of an eject.
fn marks(node: &Node) -> Vec<&str> {
    let of_ours = |key: &&String| key.as_str() == CORDONED_BY;
    let mut marks: Vec<&str> = node.annotations().keys().filter(of_ours).map(String::as_str).collect();
    marks.extend(is_ejecting(node).then_some("ejecting"));
    marks.extend(is_cordoned(node).then_some("cordoned"));
    marks
}

/// Ejected, with the Node half done; and then the controller loses sight of the Node, which outlives its Machine.
async fn ejected_from_a_node_that_stays(yard: &Yard, proxy: &FaultProxy) -> Node {
    nodes_stay(&yard.world).await;
    yard.world.tenant.behave(Behaviour { hold_finalizer: true, ..Behaviour::default() });
    ejected_in_time(yard).await;
    eventually(&yard.world.nodes(), &yard.name, "marked", PATIENCE, |node| {
        marks(node) == [CORDONED_BY, "ejecting", "cordoned"]
    })
    .await;
    proxy.cut();
    yard.until("out of sight", |sm| said(sm, "WorkloadReachable").0 == "Unreachable").await;
    yard.world.tenant.behave(Behaviour::default());
    yard.until_machine_gone().await;
    yard.world.until_settled(&yard.name, "Terminated").await;
    yard.world.nodes().get(&yard.name).await.unwrap()
}

#[tokio::test]
async fn after_an_eject_the_machine_comes_back_to_its_schedule_and_its_node_loses_all_traces() {
    let (yard, proxy) = Yard::lent_through("eject-and-back", json!({})).await;
    let left = ejected_from_a_node_that_stays(&yard, &proxy).await;
    assert!(marks(&left).len() == 3, "{:?}", marks(&left));
    // As of a host that joins again before its Node object is gone.
    yard.world.edit(&yard.name, json!({"killSwitch": false})).await;
    yard.world.until_settled(&yard.name, "Active").await;
    let taken = yard.world.nodes().get(&yard.name).await.unwrap();
    assert_eq!((taken.uid(), marks(&taken)), (left.uid(), marks(&left)), "the same, and nobody was there");

    proxy.mend();
    let nodes = yard.world.nodes();
    let free = eventually(&nodes, &yard.name, "free", PATIENCE, |node| marks(node).is_empty()).await;
    assert_eq!(free.uid(), left.uid());
    yard.until("lent, in sight of its Node", |sm| {
        is_true(sm, "Ready") && is_true(sm, "WorkloadReachable") && sm.data["status"]["phase"] == "Active"
    })
    .await;
    assert_eq!(yard.world.machines_created(&yard.name), 2);
    let deletes = yard.world.workload_calls().on("nodes").verb("delete");
    assert!(deletes.is_empty(), "{deletes}");
}
