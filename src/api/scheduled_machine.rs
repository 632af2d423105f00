//! `ScheduledMachine`: when a machine belongs to a cluster, and what it is made of.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::schedule::Schedule;
use super::schema::{self, keys, machine};
use super::status::ScheduledMachineStatus;
use super::taint::NodeTaint;

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
    category = "cluster-api",
    doc = "Lends one machine to one cluster by the clock.",
    label("clusterctl.cluster.x-k8s.io", ""),
    label("clusterctl.cluster.x-k8s.io/move", ""),
    selectable = ".spec.clusterName",
    selectable = ".status.phase",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Rule", type_ = "string", json_path = ".status.decision.rule"),
    printcolumn(name = "Enabled", type_ = "boolean", json_path = ".spec.schedule.enabled"),
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.clusterName"),
    printcolumn(name = "Node", type_ = "string", json_path = ".status.nodeRef.name"),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.nextText"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "InSchedule", type_ = "boolean", json_path = ".status.inSchedule", priority = 1),
    printcolumn(name = "Days", type_ = "string", json_path = ".spec.schedule.daysOfWeek", priority = 1),
    printcolumn(name = "Hours", type_ = "string", json_path = ".spec.schedule.hoursOfDay", priority = 1),
    printcolumn(name = "Zone", type_ = "string", json_path = ".spec.schedule.timezone", priority = 1),
    validation = machine::name_rule()
)]
#[serde(rename_all = "camelCase")]
pub struct ScheduledMachineSpec {
    /// The Cluster, in this namespace, that the machine joins. Immutable.
    #[schemars(schema_with = "machine::cluster_name")]
    pub cluster_name: String,
    /// Touch nothing of this machine.
    #[serde(default)]
    pub paused: bool,
    /// `true`: out at once. `false` again: back to the schedule.
    #[serde(default)]
    pub kill_switch: bool,
    /// 0-255; of several machines that open at one edge the higher goes first.
    #[serde(default = "default_priority")]
    #[schemars(schema_with = "machine::priority")]
    pub priority: u8,
    /// When.
    pub schedule: Schedule,
    /// Cordoned, nothing evicted yet; `0s`: none.
    #[serde(default = "five_minutes")]
    #[schemars(schema_with = "machine::duration")]
    pub graceful_shutdown_timeout: String,
    /// Bound on emptying the Node; `0s`: do not drain.
    #[serde(default = "five_minutes")]
    #[schemars(schema_with = "machine::duration")]
    pub node_drain_timeout: String,
    /// Taints that the Node carries while it is lent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "machine::taints")]
    pub node_taints: Vec<NodeTaint>,
    /// The owner's programs; when one starts the machine is given back. None: no agent on the Node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "machine::commands")]
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

/// What follows when the owner took her machine back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reclaim {
    /// `NextWindow`, `Never` or a duration.
    #[serde(default = "next_window")]
    #[schemars(schema_with = "machine::return_after")]
    pub return_after: String,
}

/// One key of a Secret of this namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Of the Secret.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
    /// In its data.
    #[serde(default = "value")]
    #[schemars(schema_with = "machine::secret_key")]
    pub key: String,
}

/// An object of somebody else's kind, written in line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InlineObject {
    /// `group/version`.
    #[schemars(schema_with = "schema::api_version")]
    pub api_version: String,
    /// As served by the cluster.
    #[schemars(schema_with = "schema::kind")]
    pub kind: String,
    /// Labels and annotations, nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<InlineMetadata>,
    /// Passed on as it is.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(schema_with = "machine::any_object")]
    pub spec: Map<String, Value>,
}

/// The part of an in-line object's metadata that is the user's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InlineMetadata {
    /// Added to our own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "keys::inline_labels")]
    pub labels: BTreeMap<String, String>,
    /// Added to our own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "keys::inline_annotations")]
    pub annotations: BTreeMap<String, String>,
}

/// What goes on the Machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MachineTemplate {
    /// Added to our own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "keys::machine_labels")]
    pub labels: BTreeMap<String, String>,
    /// Added to our own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "keys::machine_annotations")]
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
    #[schemars(schema_with = "machine::short_text")]
    pub version: Option<String>,
    /// Failure domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "machine::short_text")]
    pub failure_domain: Option<String>,
    /// At least 1s: Cluster API reads 0 as for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "machine::duration_not_zero")]
    pub node_volume_detach_timeout: Option<String>,
    /// At least 1s: Cluster API reads 0 as for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "machine::duration_not_zero")]
    pub node_deletion_timeout: Option<String>,
    /// Seconds that the Node must be ready before the Machine is available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "machine::seconds")]
    pub min_ready_seconds: Option<i32>,
    /// Conditions of the Machine that must hold before it is ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "machine::readiness_gates")]
    pub readiness_gates: Vec<ReadinessGate>,
}

/// A condition of the Machine that must hold before it is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReadinessGate {
    /// Of the condition.
    #[schemars(schema_with = "machine::condition_type")]
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// As the server hands it out when somebody else's older schema filled in no defaults.
    fn least() -> Value {
        json!({
            "apiVersion": "5spot.finos.org/v1alpha1",
            "kind": "ScheduledMachine",
            "metadata": { "name": "ws-17" },
            "spec": {
                "clusterName": "risk-grid",
                "schedule": {},
                "bootstrapSpec": { "apiVersion": "b.example/v1", "kind": "B" },
                "infrastructureSpec": { "apiVersion": "i.example/v1", "kind": "I" },
            },
        })
    }

    #[test]
    fn what_is_absent_has_its_default() {
        let spec = serde_json::from_value::<ScheduledMachine>(least()).unwrap().spec;
        assert_eq!((spec.paused, spec.kill_switch, spec.priority), (false, false, 50));
        assert_eq!((spec.graceful_shutdown_timeout.as_str(), spec.node_drain_timeout.as_str()), ("5m", "5m"));
        assert_eq!((spec.schedule.enabled, spec.schedule.timezone.as_str()), (true, "UTC"));
        assert!(spec.schedule.windows.is_empty() && spec.schedule.exceptions.is_empty());
        assert!(spec.node_taints.is_empty() && spec.bootstrap_spec.spec.is_empty());
        assert!(spec.kill_if_commands.is_none() && spec.reclaim.is_none() && spec.machine_template.is_none());
        let reclaim: Reclaim = serde_json::from_value(json!({})).unwrap();
        assert_eq!(reclaim.return_after, "NextWindow");
        let secret: SecretKeyRef = serde_json::from_value(json!({ "name": "x" })).unwrap();
        assert_eq!(secret.key, "value");
    }

    #[test]
    fn null_is_absent_wherever_the_schema_keeps_it() {
        let mut object = least();
        for field in ["killIfCommands", "machineTemplate", "reclaim", "kubeconfigSecretRef"] {
            object["spec"][field] = Value::Null;
        }
        object["spec"]["nodeTaints"] = json!([{ "key": "lent", "value": null, "effect": "NoSchedule" }]);
        object["spec"]["infrastructureSpec"]["metadata"] = Value::Null;
        object["status"] = Value::Null;
        let machine: ScheduledMachine = serde_json::from_value(object).unwrap();
        assert_eq!(machine.spec.kill_if_commands, None);
        assert_eq!(machine.spec.machine_template, None);
        assert_eq!(machine.spec.node_taints[0].value, None);
        assert_eq!(machine.status, None);
    }

    #[test]
    fn a_status_of_the_predecessor_is_read() {
        let mut object = least();
        object["status"] = json!({
            "phase": "Active", "message": null, "inSchedule": true, "nextActivation": null,
            "nodeRef": { "apiVersion": "v1", "kind": "Node", "name": "n" },
            "conditions": [{
                "type": "Ready", "status": "True", "reason": "MachineCreated", "message": "created",
                "lastTransitionTime": "2026-04-26T09:00:00.123456789+00:00",
            }],
        });
        let status = serde_json::from_value::<ScheduledMachine>(object).unwrap().status.unwrap();
        assert_eq!(status.conditions[0].observed_generation, None);
        assert_eq!(status.node_ref.unwrap().uid, None);
    }

    #[test]
    fn what_the_user_left_out_is_not_written() {
        let machine: ScheduledMachine = serde_json::from_value(least()).unwrap();
        let written = serde_json::to_value(machine).unwrap();
        for field in ["nodeTaints", "killIfCommands", "reclaim", "kubeconfigSecretRef", "machineTemplate"] {
            assert_eq!(written["spec"].get(field), None, "{field}");
        }
    }
}
