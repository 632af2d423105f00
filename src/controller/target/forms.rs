//! Names, keys and bounds of what is passed on to others. An object stored under an older schema may hold anything, and
//! what admission would refuse today must not reach an API server by our hands.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{fault, field};
use crate::api::scheduled_machine::{MachineTemplateSpec, SecretKeyRef};
use crate::api::syntax;
use crate::schedule::Fault;

/// Most labels, and most annotations, of one template.
const MOST_ENTRIES: usize = 64;
/// Most of the owner's programs, and the longest of their names in characters.
const MOST_COMMANDS: usize = 100;
const LONGEST_COMMAND: usize = 256;
/// Longest of Cluster API's own words.
const LONGEST_WORD: usize = 256;

/// Where labels and annotations have their place.
pub(super) fn texts(
    path: &str,
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (kind, map) in [("labels", labels), ("annotations", annotations)] {
        if map.len() > MOST_ENTRIES {
            faults.push(fault(format!("{path}.{kind}"), format!("must have at most {MOST_ENTRIES} entries")));
        }
        for key in map.keys().filter(|key| !syntax::is_qualified_name(key)) {
            let message = "the key must be a qualified name like example.com/pool";
            faults.push(fault(format!("{path}.{kind}[{key:?}]"), message));
        }
    }
    for (key, value) in labels.iter().filter(|(_, value)| !syntax::is_label_value(value)) {
        let message =
            format!("{value:?} must be empty or letters, digits, '-', '_' and '.', at most 63 of them");
        faults.push(fault(format!("{path}.labels[{key:?}]"), message));
    }
    faults
}

/// The kind of an in-line object.
pub(super) fn type_meta(path: &str, api_version: &str, kind: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    if !syntax::is_api_version(api_version) {
        let message =
            format!("{api_version:?} must be group/version, like bootstrap.cluster.x-k8s.io/v1beta2");
        faults.push(fault(format!("{path}.apiVersion"), message));
    }
    if kind.is_empty() {
        faults.push(fault(format!("{path}.kind"), "is required"));
    } else if !syntax::is_kind(kind) {
        let message = format!("{kind:?} must be a kind as the cluster serves it, like RemoteMachine");
        faults.push(fault(format!("{path}.kind"), message));
    }
    faults
}

/// Fields of the Machine.
pub(super) fn machine(spec: &MachineTemplateSpec) -> Vec<Fault> {
    let path = "spec.machineTemplate.spec";
    let mut faults = Vec::new();
    for (name, word) in [("version", &spec.version), ("failureDomain", &spec.failure_domain)] {
        let is_bad = |word: &String| word.is_empty() || word.chars().count() > LONGEST_WORD;
        if word.as_ref().is_some_and(is_bad) {
            faults.push(fault(format!("{path}.{name}"), format!("must have 1 to {LONGEST_WORD} characters")));
        }
    }
    if spec.min_ready_seconds.is_some_and(i32::is_negative) {
        faults.push(fault(format!("{path}.minReadySeconds"), "must be 0 or more"));
    }
    for (place, gate) in spec.readiness_gates.iter().enumerate() {
        let path = format!("{path}.readinessGates[{place}]");
        if !syntax::is_condition_type(&gate.condition_type) {
            let message =
                format!("{:?} must be the type of a condition, like NodeHealthy", gate.condition_type);
            faults.push(fault(format!("{path}.conditionType"), message));
        }
        if spec.readiness_gates[..place].iter().any(|other| other.condition_type == gate.condition_type) {
            faults.push(fault(path, "has the condition of one before it; keep one"));
        }
    }
    faults
}

/// The Cluster's name; one that is missing is another's to say.
pub(super) fn cluster_name(name: &str) -> Option<Fault> {
    let is_bad = !name.is_empty() && !syntax::is_cluster_name(name);
    let message = "must be the name of a Cluster: letters, digits, '-', '_' and '.', at most 63 of them";
    is_bad.then(|| fault("spec.clusterName", message))
}

/// Where the kubeconfig is.
pub(super) fn secret_ref(reference: &SecretKeyRef) -> Vec<Fault> {
    let mut faults = Vec::new();
    if !syntax::is_object_name(&reference.name) {
        let message = format!("{:?} must be the name of a Secret, like risk-grid-kubeconfig", reference.name);
        faults.push(fault("spec.kubeconfigSecretRef.name", message));
    }
    if !syntax::is_secret_key(&reference.key) {
        let message = format!("{:?} must be a key of a Secret, like value", reference.key);
        faults.push(fault("spec.kubeconfigSecretRef.key", message));
    }
    faults
}

/// The owner's programs.
pub(super) fn commands(spec: &Value) -> Vec<Fault> {
    let mut faults = Vec::new();
    let commands: Vec<String> = field(spec, "killIfCommands", "spec", &mut faults).unwrap_or_default();
    if commands.len() > MOST_COMMANDS {
        faults.push(fault("spec.killIfCommands", format!("must have at most {MOST_COMMANDS} entries")));
    }
    for (place, command) in commands.iter().enumerate() {
        if command.is_empty() || command.chars().count() > LONGEST_COMMAND {
            let message = format!("must have 1 to {LONGEST_COMMAND} characters");
            faults.push(fault(format!("spec.killIfCommands[{place}]"), message));
        }
    }
    faults
}
