//! The manifests, as an API server takes them.

use std::path::Path;
use std::process::Command;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::desk::{Desk, NAMESPACE, PATIENCE};
use crate::harness::{ControlPlanes, manifests};

/// Memory of a process, in KiB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn it_does_its_work_with_what_its_pod_has() {
    if !nix::unistd::geteuid().is_root() {
        return crate::harness::skips::skipped("an agent in a pod's shoes: this needs root");
    }
    let mut desk = Desk::new().await;
    let program = desk.program();
    desk.list(&program).await;
    let agent = desk.agent_in_a_pods_shoes().start();
    let lease = desk.until_rules(&agent, "ok").await;
    let begin = super::desk::now();
    desk.start(&program);
    desk.until_asked(&agent, begin).await;
    let capabilities = std::fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let effective = capabilities.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim();
    assert_eq!(u64::from_str_radix(effective, 16).unwrap(), 1 << 12, "NET_ADMIN and nothing else");
    let (detector, fallback) = (super::desk::said(&lease, "detector"), super::desk::said(&lease, "fallback"));
    assert!(detector == "netlink" || !fallback.is_empty(), "{detector} without a reason");
    eprintln!("in a pod's shoes: {detector} {fallback}, {} KiB resident", resident(agent.pid()));
}

/// What `kubectl apply -k` would send.
fn kustomized(planes: &ControlPlanes, base: &str) -> Vec<Value> {
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
async fn a_pod_of_the_daemon_set_comes_with_the_label_and_goes_with_it() {
    let desk = Desk::new().await;
    let sets: Api<DaemonSet> = Api::namespaced(desk.admin.clone(), NAMESPACE);
    let set = daemon_set(desk.planes, "agent");
    Box::pin(sets.create(&PostParams::default(), &set)).await.unwrap();
    let labelled = async |value: Value| {
        let label = Patch::Merge(json!({"metadata": {"labels": {"5spot.finos.org/reclaim-agent": value}}}));
        desk.nodes().patch(&desk.node, &PatchParams::default(), &label).await.unwrap();
    };
    labelled(json!("enabled")).await;
    let pods: Api<Pod> = Api::namespaced(desk.admin.clone(), NAMESPACE);
    let of_the_set = kube::api::ListParams::default().labels("app.kubernetes.io/component=reclaim-agent");
    let ours = async || {
        let all = Box::pin(pods.list(&of_the_set)).await.unwrap();
        all.items.into_iter().find(|pod| json!(pod.spec).to_string().contains(&format!("\"{}\"", desk.node)))
    };
    crate::harness::wait::asked_until("a pod", PATIENCE, async || ours().await.is_some()).await;
    let pod = ours().await.unwrap();
    let (name, spec) = (pod.name_any(), pod.spec.unwrap());
    assert_eq!((spec.host_pid, spec.host_network), (Some(true), Some(true)));
    let container = &spec.containers[0];
    let security = container.security_context.as_ref().unwrap();
    let added = security.capabilities.as_ref().unwrap().add.clone().unwrap();
    assert_eq!(added, ["NET_ADMIN"]);
    assert!(!container.resources.as_ref().unwrap().limits.as_ref().unwrap().contains_key("cpu"));
    // There is no scheduler here to do this.
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
        "target": {"apiVersion": "v1", "kind": "Node", "name": desk.node},
    });
    let bound: Value =
        pods.create_subresource("binding", &name, &PostParams::default(), &binding).await.unwrap();
    assert_eq!(bound["status"], "Success");
    labelled(Value::Null).await;
    // There is no kubelet here either, so that it is asked to go and stays.
    let is_going = |pod: &Pod| pod.metadata.deletion_timestamp.is_some();
    Box::pin(crate::harness::eventually(&pods, &name, "asked to go", PATIENCE, is_going)).await;
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
