//! What is read of a spec, good and bad.

use super::*;
use serde_json::json;

fn good() -> Value {
    json!({
        "clusterName": "grid",
        "schedule": {"timezone": "Europe/London", "daysOfWeek": ["mon-fri"], "hoursOfDay": ["9-17"]},
        "bootstrapSpec": {"apiVersion": "bootstrap.cluster.x-k8s.io/v1", "kind": "StubConfig", "spec": {}},
        "infrastructureSpec": {"apiVersion": "infrastructure.cluster.x-k8s.io/v1", "kind": "StubMachine", "spec": {}},
    })
}

fn paths(target: &Target) -> Vec<String> {
    target.faults().into_iter().map(|fault| fault.path).collect()
}

#[test]
fn defaults_are_the_predecessors() {
    let target = Target::read(&good());
    assert!(target.faults().is_empty(), "{:?}", target.faults());
    assert!(target.enabled && !target.paused && !target.kill_switch);
    assert_eq!((target.grace.as_secs(), target.drain.as_secs(), target.priority), (300, 300, 50));
    assert_eq!(target.kubeconfig.name, "grid-kubeconfig");
}

#[test]
fn every_fault_is_reported_and_the_kill_switch_is_still_read() {
    let target = Target::read(&json!({
        "killSwitch": true, "gracefulShutdownTimeout": "soon", "nodeDrainTimeout": 5,
        "schedule": "always", "bootstrapSpec": {"apiVersion": "v1", "kind": "", "spec": {}},
    }));
    assert!(target.kill_switch);
    assert_eq!(
        paths(&target),
        [
            "spec.gracefulShutdownTimeout",
            "spec.nodeDrainTimeout",
            "spec.schedule",
            "spec.clusterName",
            "spec.bootstrapSpec.apiVersion",
            "spec.bootstrapSpec.kind",
            "spec.infrastructureSpec",
        ]
    );
    assert_eq!(target.grace.as_secs(), 300, "a safe stand-in");
}

#[test]
fn a_machine_template_that_cannot_be_read_blocks_opening() {
    let mut spec = good();
    spec["machineTemplate"] = json!({"labels": "team=grid"});
    let target = Target::read(&spec);
    assert_eq!(paths(&target), ["spec.machineTemplate"]);
    assert!(target.templates.is_err(), "or the Machine would lack what the user asked for");
}

#[test]
fn a_limit_is_never_zero_for_cluster_api() {
    let mut spec = good();
    spec["nodeDrainTimeout"] = json!("0s");
    spec["machineTemplate"] = json!({"spec": {"nodeVolumeDetachTimeout": "0s", "nodeDeletionTimeout": "7m"}});
    let target = Target::read(&spec);
    assert_eq!(target.limits, Limits { drain: 1, volume_detach: 60, node_deletion: 420 });
    assert_eq!(paths(&target), ["spec.machineTemplate.spec.nodeVolumeDetachTimeout"]);
}

#[test]
fn the_kubeconfig_is_found_without_the_rest() {
    let of = |spec: Value| (Target::kubeconfig_of(&spec), Target::read(&spec).kubeconfig);
    let (alone, read) = of(json!({"clusterName": "grid", "kubeconfigSecretRef": {"name": "x"}}));
    assert_eq!((alone.name.as_str(), alone.key.as_str()), ("x", "value"));
    assert_eq!(alone, read);
    let (alone, read) = of(json!({"clusterName": "grid", "kubeconfigSecretRef": null}));
    assert_eq!(alone.name, "grid-kubeconfig");
    assert_eq!(alone, read);
}

#[test]
fn a_kubeconfig_reference_that_cannot_be_read_is_not_the_clusters_own() {
    for unreadable in [json!("x"), json!({"key": "value"}), json!({"name": 7}), json!(7)] {
        let mut spec = good();
        spec["kubeconfigSecretRef"] = unreadable.clone();
        let target = Target::read(&spec);
        assert_eq!(target.kubeconfig.name, "", "{unreadable}");
        assert_eq!(Target::kubeconfig_of(&spec), target.kubeconfig);
        assert_eq!(paths(&target), ["spec.kubeconfigSecretRef"], "{unreadable}");
    }
}

#[test]
fn sub_domains_are_refused_in_line_and_work_on_the_machine() {
    let mut spec = good();
    let labels = json!({"app.kubernetes.io/name": "worker"});
    spec["machineTemplate"] = json!({
        "labels": labels, "annotations": {"machine.cluster.x-k8s.io/exclude-node-draining": ""},
    });
    spec["bootstrapSpec"]["metadata"] = json!({"labels": labels});
    assert_eq!(
        paths(&Target::read(&spec)),
        [
            r#"spec.bootstrapSpec.metadata.labels["app.kubernetes.io/name"]"#,
            r#"spec.machineTemplate.annotations["machine.cluster.x-k8s.io/exclude-node-draining"]"#,
        ]
    );
}
