//! The Node is emptied before its Machine goes.

mod budgets;
mod left_to_capi;
mod midway;
mod refused;
mod slow;
pub mod yard;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Binding, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::harness::{eventually, gone};
use crate::world::{PATIENCE, instant};
use yard::{ROUND, Yard, is_cordoned, slow};

/// Seconds from the end of the window to the Machine's end; evictions come before the DELETE, all of them ours.
#[tokio::test]
async fn ten_pods_that_end_in_a_second_go_before_the_machine_and_not_by_cluster_apis_rounds() {
    let over = json!({"nodeDrainTimeout": "5m"});
    let (ours, plain) = (Yard::lent("ten-pods", over.clone()).await, Yard::lent("ten-plain", over).await);
    for yard in [&ours, &plain] {
        for nth in 0..10 {
            yard.pod(&format!("p{nth}"), slow(1)).await;
        }
    }
    let writes = ours.status_writes();
    let closed = ours.close().await;
    ours.until_machine_gone().await;
    let took = Timestamp::now().duration_since(closed);
    let deletion = ours.deletion().await;
    assert!(ours.evictions_by_capi().is_empty(), "{}", ours.evictions_by_capi());
    let evictions = ours.evictions();
    assert_eq!(evictions.accepted().len(), 10, "{evictions}");
    for nth in 0..10 {
        assert_eq!(evictions.named(&format!("p{nth}")).len(), 1, "{evictions}");
    }
    assert!(evictions.iter().all(|call| call.ended < deletion.received), "{evictions}\n{deletion}");
    let drained = deletion.received.duration_since(closed);
    assert!(drained > SignedDuration::from_secs(1), "deleted while pods were ending: {drained}");
    ours.world.until_settled(&ours.name, "Inactive").await;
    let writes = ours.status_writes() - writes;

    // Nobody is there to put it back.
    plain.world.controller.kill();
    let began = Timestamp::now();
    plain.world.tenant.machines().delete(&plain.name, &DeleteParams::default()).await.unwrap();
    plain.until_machine_gone().await;
    let by_capi = Timestamp::now().duration_since(began);
    assert!(took < by_capi, "{took} against {by_capi}");
    eprintln!(
        "ten pods that end in 1 s: {:.1} s from the end of the window to the Machine's end (DELETE after {:.1} s, \
         {writes} status writes), {:.1} s deleted plainly",
        took.as_secs_f64(),
        drained.as_secs_f64(),
        by_capi.as_secs_f64()
    );
    // On a machine that does nothing else: `just drain`.
    if std::env::var_os("DRAIN_FIGURE").is_some() {
        assert!(took < SignedDuration::from_secs(5) && by_capi > ROUND, "{took} against {by_capi}");
    }
}

#[tokio::test]
async fn pods_of_a_daemon_set_mirror_pods_and_finished_ones_are_left_alone_and_not_waited_for() {
    let yard = Yard::lent("left-alone", json!({"nodeDrainTimeout": "5m"})).await;
    let daemon = daemon_pod(&yard).await;
    yard.pod("mirror", json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}})).await;
    yard.pod("finished", json!({})).await;
    let done = Patch::Merge(json!({"status": {"phase": "Succeeded"}}));
    yard.pods().patch_status("finished", &PatchParams::default(), &done).await.unwrap();
    yard.pod("web", json!({})).await;
    let closed = yard.close().await;
    let deletion = yard.deletion().await;
    assert!(deletion.received.duration_since(closed) < ROUND);
    for left in [daemon.as_str(), "mirror", "finished"] {
        let pod = yard.pods().get(left).await.unwrap();
        assert!(pod.metadata.deletion_timestamp.is_none(), "{left}");
        assert!(yard.pod_calls().named(left).is_empty(), "{}", yard.pod_calls());
    }
    assert_eq!(yard.evictions().named("web").accepted().len(), 1);
    yard.until_machine_gone().await;
    // Cluster API would evict what has finished, and wait a round for it.
    assert!(yard.evictions_by_capi().is_empty(), "{}", yard.evictions_by_capi());
    assert!(Timestamp::now().duration_since(closed) < ROUND);
}

async fn daemon_pod(yard: &Yard) -> String {
    let tenant = &yard.world.tenant;
    let sets: Api<DaemonSet> = Api::namespaced(tenant.workload.clone(), &tenant.namespace);
    let set = json!({"metadata": {"name": "agent"}, "spec": {
        "selector": {"matchLabels": {"app": "agent"}},
        "template": {
            "metadata": {"labels": {"app": "agent"}},
            "spec": {"nodeSelector": {"kubernetes.io/hostname": yard.name},
                     "containers": [{"name": "c", "image": "none"}]},
        },
    }});
    sets.create(&PostParams::default(), &serde_json::from_value(set).unwrap()).await.unwrap();
    let mut found = String::new();
    let pods = yard.pods();
    crate::harness::wait::asked_until("a pod of the DaemonSet", PATIENCE, async || {
        let list = pods.list(&kube::api::ListParams::default().labels("app=agent")).await.unwrap();
        found = list.items.first().map(ResourceExt::name_any).unwrap_or_default();
        !found.is_empty()
    })
    .await;
    // There is no scheduler.
    let binding: Binding = serde_json::from_value(json!({
        "metadata": {"name": found},
        "target": {"apiVersion": "v1", "kind": "Node", "name": yard.name},
    }))
    .unwrap();
    let _: serde_json::Value =
        pods.create_subresource("binding", &found, &PostParams::default(), &binding).await.unwrap();
    yard.until_pod(&found, "ready", yard::is_ready).await;
    found
}

#[tokio::test]
async fn a_pod_keeps_its_own_grace_and_one_that_is_ending_is_not_asked_again() {
    let yard = Yard::lent("own-grace", json!({"nodeDrainTimeout": "5m"})).await;
    // Long enough to be seen ending on a machine that has other work.
    let mut long = slow(12);
    crate::world::merge(&mut long, json!({"spec": {"terminationGracePeriodSeconds": 47}}));
    yard.pod("ending", slow(20)).await;
    yard.pod("long", long).await;
    yard.pods().delete("ending", &DeleteParams::default()).await.unwrap();
    yard.close().await;
    let going = |pod: &Pod| pod.metadata.deletion_timestamp.is_some();
    let long = yard.until_pod("long", "ending", going).await;
    assert_eq!(long.metadata.deletion_grace_period_seconds, Some(47));
    gone(&yard.pods(), "ending", PATIENCE).await;
    let ended = Timestamp::now();
    let deletion = yard.deletion().await;
    assert!(deletion.received > ended - SignedDuration::from_secs(1), "both were waited for");
    assert!(yard.evictions().named("ending").is_empty(), "{}", yard.evictions());
    assert_eq!(yard.evictions().named("long").len(), 1, "{}", yard.evictions());
    yard.world.until_settled(&yard.name, "Inactive").await;
}

#[tokio::test]
async fn on_a_node_that_is_not_heard_of_nobody_waits_for_pods_to_end() {
    let yard = Yard::lent("unheard", json!({"nodeDrainTimeout": "5m"})).await;
    yard.pod("web", json!({})).await;
    // Its kubelet dies.
    yard.patch_node(json!({"metadata": {"annotations": {"kwok.x-k8s.io/node": null}}})).await;
    let mut node = yard.world.nodes().get(&yard.name).await.unwrap();
    let conditions = node.status.as_mut().and_then(|status| status.conditions.as_mut()).unwrap();
    let ready = conditions.iter_mut().find(|said| said.type_ == "Ready").unwrap();
    "Unknown".clone_into(&mut ready.status);
    let unheard = Patch::Merge(json!({"status": {"conditions": conditions}}));
    yard.world.nodes().patch_status(&yard.name, &PatchParams::default(), &unheard).await.unwrap();
    let closed = yard.close().await;
    let deletion = yard.deletion().await;
    assert!(deletion.received.duration_since(closed) < ROUND);
    assert_eq!(yard.evictions().named("web").accepted().len(), 1, "asked to go all the same");
    yard.until_machine_gone().await;
    assert!(Timestamp::now().duration_since(closed) < ROUND, "and Cluster API did not wait either");
}

#[tokio::test]
async fn without_a_drain_nobody_evicts_and_cluster_api_leaves_it_out_too() {
    let yard = Yard::lent("no-drain", json!({"nodeDrainTimeout": "0s"})).await;
    yard.pod("web", slow(60)).await;
    let closed = yard.close().await;
    yard.deletion().await;
    eventually(&yard.world.nodes(), &yard.name, "cordoned", PATIENCE, is_cordoned).await;
    yard.until_machine_gone().await;
    assert!(Timestamp::now().duration_since(closed) < ROUND);
    assert!(yard.evictions().is_empty() && yard.evictions_by_capi().is_empty());
}

#[tokio::test]
async fn volumes_are_waited_for_within_their_own_limit() {
    let over =
        json!({"nodeDrainTimeout": "5m", "machineTemplate": {"spec": {"nodeVolumeDetachTimeout": "5s"}}});
    let yard = Yard::lent("volumes", over).await;
    let attachment = json!({"metadata": {"name": format!("{}-volume", yard.name)}, "spec": {
        "attacher": "csi.test", "nodeName": yard.name, "source": {"persistentVolumeName": "never-detached"},
    }});
    let attachments: Api<k8s_openapi::api::storage::v1::VolumeAttachment> =
        Api::all(yard.world.tenant.workload.clone());
    attachments.create(&PostParams::default(), &serde_json::from_value(attachment).unwrap()).await.unwrap();
    let attached = Patch::Merge(json!({"status": {"attached": true}}));
    let name = format!("{}-volume", yard.name);
    attachments.patch_status(&name, &PatchParams::default(), &attached).await.unwrap();
    yard.pod("web", json!({})).await;
    let closed = yard.close().await;
    let waiting = yard
        .until("waiting for volumes", |sm| {
            sm.data["status"]["leaving"]["blockedBy"][0]["reason"]
                .as_str()
                .is_some_and(|reason| reason.starts_with("WaitingForVolumeDetach"))
        })
        .await;
    assert_eq!(waiting.data["status"]["leaving"]["stage"], "Deletion");
    assert!(instant(&waiting, "/status/leaving/goneBy").is_some());
    yard.until_machine_gone().await;
    let took = Timestamp::now().duration_since(closed);
    assert!(took < SignedDuration::from_secs(5) + ROUND + ROUND, "and no longer, but for its rounds: {took}");
    attachments.delete(&name, &DeleteParams::default()).await.unwrap();
}
