//! Cluster API's Machine and Cluster, v1beta2: what we read of them and what we write.
//!
//! Pure. Objects of others are read field by field and written by patch, so that fields we do not know survive.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, OwnerReference};
use kube::core::{ApiResource, DynamicObject};
use serde_json::{Value, json};

use crate::api::names;

/// The one version we speak for now; served from Cluster API 1.11 on.
pub const VERSION: &str = "v1beta2";

/// `machines.cluster.x-k8s.io`.
pub fn machine_resource() -> ApiResource {
    resource("Machine", "machines")
}

/// `clusters.cluster.x-k8s.io`.
pub fn cluster_resource() -> ApiResource {
    resource("Cluster", "clusters")
}

fn resource(kind: &str, plural: &str) -> ApiResource {
    ApiResource {
        group: names::CAPI_GROUP.to_owned(),
        version: VERSION.to_owned(),
        api_version: format!("{}/{VERSION}", names::CAPI_GROUP),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

/// Bounds of Cluster API's own deletion steps, in seconds; absent or 0 means for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeletionLimits {
    /// Emptying the Node.
    pub drain: Option<u64>,
    /// Waiting for volumes.
    pub volume_detach: Option<u64>,
    /// Deleting the Node object, from the Machine's deletion on.
    pub node_deletion: Option<u64>,
}

/// What decisions need to know of a Machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Machine {
    /// Its name; always that of the ScheduledMachine.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// For checked writes.
    pub resource_version: String,
    /// Since when it is being deleted.
    pub deleted_at: Option<Timestamp>,
    /// All its labels.
    pub labels: BTreeMap<String, String>,
    /// All its annotations.
    pub annotations: BTreeMap<String, String>,
    /// All its owners.
    pub owners: Vec<OwnerReference>,
    /// `status.nodeRef.name`.
    pub node: Option<String>,
    /// `spec.providerID`.
    pub provider_id: Option<String>,
    /// `spec.deletion`.
    pub limits: DeletionLimits,
    /// `status.conditions`.
    pub conditions: Vec<Condition>,
}

impl Machine {
    /// Reads a Machine; whatever is missing or odd reads as absent.
    pub fn decode(object: &DynamicObject) -> Self {
        let meta = &object.metadata;
        let text = |pointer: &str| object.data.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let seconds =
            |name: &str| object.data.pointer(&format!("/spec/deletion/{name}")).and_then(Value::as_u64);
        Self {
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
            deleted_at: meta.deletion_timestamp.as_ref().map(|at| at.0),
            labels: meta.labels.clone().unwrap_or_default(),
            annotations: meta.annotations.clone().unwrap_or_default(),
            owners: meta.owner_references.clone().unwrap_or_default(),
            node: text("/status/nodeRef/name").filter(|name| !name.is_empty()),
            provider_id: text("/spec/providerID").filter(|id| !id.is_empty()),
            limits: DeletionLimits {
                drain: seconds("nodeDrainTimeoutSeconds"),
                volume_detach: seconds("nodeVolumeDetachTimeoutSeconds"),
                node_deletion: seconds("nodeDeletionTimeoutSeconds"),
            },
            conditions: conditions(object),
        }
    }

    /// The condition of that type.
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.type_ == kind)
    }

    /// Its host is in the cluster and healthy, in Cluster API's own words.
    pub fn is_ready(&self) -> bool {
        self.node.is_some() && self.condition("Ready").is_some_and(|ready| ready.status == "True")
    }
}

/// What decisions need to know of a Cluster.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each read from a field of its own")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// Its uid.
    pub uid: String,
    /// It is being deleted.
    pub deleting: bool,
    /// `spec.paused`: nothing of it may be written. (The annotation on a Cluster pauses the Cluster object alone.)
    pub paused: bool,
    /// Its infrastructure is there: most providers do nothing before.
    pub infrastructure_provisioned: bool,
    /// Workers can get their bootstrap data.
    pub control_plane_initialized: bool,
    /// Sharding label that its objects must carry too.
    pub watch_filter: Option<String>,
}

impl Cluster {
    /// Reads a Cluster; whatever is missing or odd reads as absent.
    pub fn decode(object: &DynamicObject) -> Self {
        let flag = |pointer: &str| object.data.pointer(pointer).and_then(Value::as_bool).unwrap_or(false);
        Self {
            uid: object.metadata.uid.clone().unwrap_or_default(),
            deleting: object.metadata.deletion_timestamp.is_some(),
            paused: flag("/spec/paused"),
            infrastructure_provisioned: flag("/status/initialization/infrastructureProvisioned"),
            control_plane_initialized: flag("/status/initialization/controlPlaneInitialized"),
            watch_filter: object
                .metadata
                .labels
                .as_ref()
                .and_then(|l| l.get(names::LABEL_WATCH_FILTER))
                .cloned(),
        }
    }
}

fn conditions(object: &DynamicObject) -> Vec<Condition> {
    let listed = object.data.pointer("/status/conditions").and_then(Value::as_array);
    // One by one: a condition of a shape we do not know hides no other.
    listed.into_iter().flatten().filter_map(|value| serde_json::from_value(value.clone()).ok()).collect()
}

/// A reference as v1beta2 has it: no version, no namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContractRef {
    /// API group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Name, in the Machine's namespace.
    pub name: String,
}

impl ContractRef {
    fn encode(&self) -> Value {
        json!({ "apiGroup": self.group, "kind": self.kind, "name": self.name })
    }
}

/// The part of a Machine's spec that we set at creation.
#[derive(Clone, Debug, PartialEq)]
pub struct MachineSpec {
    /// The Cluster it joins.
    pub cluster_name: String,
    /// Its bootstrap object.
    pub bootstrap: ContractRef,
    /// Its infrastructure object.
    pub infrastructure: ContractRef,
    /// Bounds of its deletion.
    pub limits: DeletionLimits,
    /// Kubernetes version.
    pub version: Option<String>,
    /// Failure domain.
    pub failure_domain: Option<String>,
    /// Seconds ready before available.
    pub min_ready_seconds: Option<i32>,
    /// As Cluster API wants them.
    pub readiness_gates: Vec<Value>,
}

impl MachineSpec {
    /// `spec` of a new Machine.
    pub fn encode(&self) -> Value {
        let mut spec = json!({
            "clusterName": self.cluster_name,
            "bootstrap": { "configRef": self.bootstrap.encode() },
            "infrastructureRef": self.infrastructure.encode(),
            "deletion": encode_limits(&self.limits),
        });
        let mut set = |name: &str, value: Option<Value>| {
            if let (Some(value), Some(fields)) = (value, spec.as_object_mut()) {
                fields.insert(name.to_owned(), value);
            }
        };
        set("version", self.version.clone().map(Value::from));
        set("failureDomain", self.failure_domain.clone().map(Value::from));
        set("minReadySeconds", self.min_ready_seconds.map(Value::from));
        // An empty list is refused (minItems 1).
        set(
            "readinessGates",
            (!self.readiness_gates.is_empty()).then(|| self.readiness_gates.clone().into()),
        );
        spec
    }
}

/// `spec.deletion`, for a create or a merge patch.
pub fn encode_limits(limits: &DeletionLimits) -> Value {
    json!({
        "nodeDrainTimeoutSeconds": limits.drain,
        "nodeVolumeDetachTimeoutSeconds": limits.volume_detach,
        "nodeDeletionTimeoutSeconds": limits.node_deletion,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> DynamicObject {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_machine_without_status_is_neither_ready_nor_on_a_node() {
        let machine = Machine::decode(&object(json!({"metadata": {"name": "ws-1", "uid": "u"}, "spec": {}})));
        assert_eq!((machine.name.as_str(), machine.uid.as_str(), machine.node.clone()), ("ws-1", "u", None));
        assert!(!machine.is_ready());
    }

    #[test]
    fn an_odd_condition_hides_no_other() {
        let ready = json!({"type": "Ready", "status": "True", "reason": "Ready", "message": "",
                           "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let machine = Machine::decode(&object(json!({
            "metadata": {"name": "ws-1"},
            "status": {"nodeRef": {"name": "n"}, "conditions": [{"type": 5}, ready]},
        })));
        assert!(machine.is_ready());
    }

    #[test]
    fn empty_lists_and_absent_fields_are_left_out_of_a_new_machine() {
        let reference =
            |kind: &str| ContractRef { group: "g".into(), kind: kind.into(), name: "ws-1".into() };
        let spec = MachineSpec {
            cluster_name: "grid".into(),
            bootstrap: reference("B"),
            infrastructure: reference("I"),
            limits: DeletionLimits { drain: Some(300), volume_detach: Some(60), node_deletion: Some(960) },
            version: None,
            failure_domain: None,
            min_ready_seconds: None,
            readiness_gates: vec![],
        };
        assert_eq!(
            spec.encode(),
            json!({
                "clusterName": "grid",
                "bootstrap": {"configRef": {"apiGroup": "g", "kind": "B", "name": "ws-1"}},
                "infrastructureRef": {"apiGroup": "g", "kind": "I", "name": "ws-1"},
                "deletion": {"nodeDrainTimeoutSeconds": 300, "nodeVolumeDetachTimeoutSeconds": 60,
                             "nodeDeletionTimeoutSeconds": 960},
            })
        );
    }
}
