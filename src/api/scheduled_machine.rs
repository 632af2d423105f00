//! `ScheduledMachine`: when a machine belongs to a cluster, and what it is made of.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::schedule::Schedule;
use super::status::ScheduledMachineStatus;

/// Lends one machine to one cluster by the clock.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "5spot.finos.org",
    version = "v1alpha1",
    kind = "ScheduledMachine",
    plural = "scheduledmachines",
    namespaced,
    status = "ScheduledMachineStatus",
    shortname = "sm",
    category = "cluster-api"
)]
#[serde(rename_all = "camelCase")]
pub struct ScheduledMachineSpec {
    /// The Cluster, in this namespace, that the machine joins. Immutable.
    pub cluster_name: String,
    /// Touch nothing of this machine.
    #[serde(default)]
    pub paused: bool,
    /// `true`: out at once. `false` again: back to the schedule.
    #[serde(default)]
    pub kill_switch: bool,
    /// 0-255; of several machines that open at one edge the higher goes first.
    #[serde(default = "default_priority")]
    pub priority: u8,
    /// When.
    pub schedule: Schedule,
    /// Cordoned, nothing evicted yet; `0s`: none.
    #[serde(default = "five_minutes")]
    pub graceful_shutdown_timeout: String,
    /// Bound on emptying the Node; `0s`: do not drain.
    #[serde(default = "five_minutes")]
    pub node_drain_timeout: String,
    /// Taints that the Node carries while it is lent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub node_taints: Vec<NodeTaint>,
    /// The owner's programs; when one starts the machine is given back. None: no agent on the Node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill_if_commands: Option<Vec<String>>,
    /// What follows a reclaim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reclaim: Option<Reclaim>,
    /// Kubeconfig of the workload cluster; default: Secret `<clusterName>-kubeconfig`, key `value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig_secret_ref: Option<SecretKeyRef>,
    /// The bootstrap object, made anew each time the machine is taken.
    pub bootstrap_spec: InlineObject,
    /// The infrastructure object, made anew each time the machine is taken.
    pub infrastructure_spec: InlineObject,
    /// What goes on the Machine besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_template: Option<MachineTemplate>,
}

/// A taint; `key` and `effect` are its identity.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeTaint {
    /// A qualified name.
    pub key: String,
    /// May be edited while the taint is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What it does to pods.
    pub effect: TaintEffect,
}

/// What a taint does to pods that do not tolerate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum TaintEffect {
    /// New ones stay away.
    NoSchedule,
    /// New ones stay away where they can.
    PreferNoSchedule,
    /// Running ones leave too.
    NoExecute,
}

/// What follows when the owner took her machine back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reclaim {
    /// `NextWindow`, `Never` or a duration.
    #[serde(default = "next_window")]
    pub return_after: String,
}

/// One key of a Secret of this namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Of the Secret.
    pub name: String,
    /// In its data.
    #[serde(default = "value")]
    pub key: String,
}

/// An object of somebody else's kind, written in line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InlineObject {
    /// `group/version`.
    pub api_version: String,
    /// As served by the cluster.
    pub kind: String,
    /// Labels and annotations, nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<InlineMetadata>,
    /// Passed on as it is.
    #[serde(default)]
    pub spec: Map<String, Value>,
}

/// The part of an in-line object's metadata that is the user's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InlineMetadata {
    /// Added to our own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Added to our own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What goes on the Machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MachineTemplate {
    /// Added to our own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Added to our own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Fields of the Machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<MachineTemplateSpec>,
}

/// Fields of the Machine that a user may set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MachineTemplateSpec {
    /// Kubernetes version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Failure domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_domain: Option<String>,
    /// At least 1s: Cluster API reads 0 as for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_volume_detach_timeout: Option<String>,
    /// At least 1s: Cluster API reads 0 as for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_deletion_timeout: Option<String>,
    /// Seconds that the Node must be ready before the Machine is available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_ready_seconds: Option<i32>,
    /// Conditions of the Machine that must hold before it is ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub readiness_gates: Vec<ReadinessGate>,
}

/// A condition of the Machine that must hold before it is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReadinessGate {
    /// Of the condition.
    pub condition_type: String,
    /// Whether True is good or bad.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub polarity: Option<Polarity>,
}

/// Whether a condition that is True is good or bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Polarity {
    /// True is good.
    Positive,
    /// True is bad.
    Negative,
}

fn default_priority() -> u8 {
    50
}

fn five_minutes() -> String {
    "5m".to_owned()
}

fn next_window() -> String {
    "NextWindow".to_owned()
}

fn value() -> String {
    "value".to_owned()
}
