//! The manifests, as an API server takes them.

use std::path::Path;
use std::process::Command;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::desk::{Desk, NAMESPACE, PATIENCE};
use crate::harness::{ControlPlanes, manifests};

/// What `kubectl apply -k` would send.
fn kustomized(planes: &ControlPlanes, base: &str) -> Vec<serde_json::Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests").join(base);
    let output = Command::new(&planes.binaries().kubectl).arg("kustomize").arg(path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    manifests::documents(&String::from_utf8(output.stdout).unwrap()).unwrap()
}

fn daemon_set(planes: &ControlPlanes, base: &str) -> DaemonSet {
    let found = kustomized(planes, base).into_iter().find(|object| object["kind"] == "DaemonSet");
    serde_json::from_value(found.unwrap()).unwrap()
}

#[tokio::test]
async fn a_pod_of_the_daemon_set_comes_with_the_label() {
    let desk = Desk::new().await;
    let sets: Api<DaemonSet> = Api::namespaced(desk.admin.clone(), NAMESPACE);
    let set = daemon_set(desk.planes, "agent");
    Box::pin(sets.create(&PostParams::default(), &set)).await.unwrap();
    let label = Patch::Merge(json!({"metadata": {"labels": {"5spot.finos.org/reclaim-agent": "enabled"}}}));
    desk.nodes().patch(&desk.node, &PatchParams::default(), &label).await.unwrap();
    let pods: Api<Pod> = Api::namespaced(desk.admin.clone(), NAMESPACE);
    let of_the_set = kube::api::ListParams::default().labels("app.kubernetes.io/component=reclaim-agent");
    let ours = async || {
        let all = Box::pin(pods.list(&of_the_set)).await.unwrap();
        all.items.into_iter().find(|pod| json!(pod.spec).to_string().contains(&format!("\"{}\"", desk.node)))
    };
    crate::harness::wait::asked_until("a pod", PATIENCE, async || ours().await.is_some()).await;
    let spec = ours().await.unwrap().spec.unwrap();
    assert_eq!((spec.host_pid, spec.host_network), (Some(true), Some(true)));
    let container = &spec.containers[0];
    let security = container.security_context.as_ref().unwrap();
    let added = security.capabilities.as_ref().unwrap().add.clone().unwrap();
    assert_eq!(added, ["NET_ADMIN"]);
    assert!(!container.resources.as_ref().unwrap().limits.as_ref().unwrap().contains_key("cpu"));
    Box::pin(sets.delete(&set.name_any(), &kube::api::DeleteParams::default())).await.unwrap();
}

#[tokio::test]
async fn the_overlay_for_polling_has_neither_capabilities_nor_the_hosts_network() {
    let desk = Desk::new().await;
    let mut set = daemon_set(desk.planes, "agent-poll");
    set.metadata.name = Some("polling".to_owned());
    let sets: Api<DaemonSet> = Api::namespaced(desk.admin.clone(), NAMESPACE);
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let taken = Box::pin(sets.create(&dry_run, &set)).await.unwrap();
    let spec = taken.spec.unwrap().template.spec.unwrap();
    assert_eq!((spec.host_pid, spec.host_network), (Some(true), None));
    let container = &spec.containers[0];
    let capabilities = container.security_context.as_ref().unwrap().capabilities.as_ref().unwrap();
    assert_eq!(
        (capabilities.add.as_ref(), capabilities.drop.as_deref()),
        (None, Some(&["ALL".to_owned()][..]))
    );
    let detector = container.env.as_ref().unwrap().iter().find(|env| env.name == "RECLAIM_DETECTOR").unwrap();
    assert_eq!(detector.value.as_deref(), Some("poll"));
}
