//! Cluster API's Machine and Cluster as decisions know them, read from either version.
//!
//! Pure. Objects of others are read field by field and written by patch, so that fields we do not know survive.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, OwnerReference};
use kube::core::DynamicObject;
use serde_json::Value;

use crate::api::names;
use crate::capi::duration;
use crate::capi::version::Version;

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

impl DeletionLimits {
    /// Reads those of a Machine, or of a patch of one.
    pub fn decode(machine: &Value, version: Version) -> Self {
        let seconds = |name: &str| match version {
            Version::V1Beta2 => {
                machine.pointer(&format!("/spec/deletion/{name}Seconds")).and_then(Value::as_u64)
            }
            Version::V1Beta1 => {
                machine.pointer(&format!("/spec/{name}")).and_then(Value::as_str).and_then(duration::seconds)
            }
        };
        Self {
            drain: seconds("nodeDrainTimeout"),
            volume_detach: seconds("nodeVolumeDetachTimeout"),
            node_deletion: seconds("nodeDeletionTimeout"),
        }
    }
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
    /// Since when it exists.
    pub created_at: Option<Timestamp>,
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
    /// Bounds of its deletion.
    pub limits: DeletionLimits,
    /// Its conditions, in the words of v1beta2.
    pub conditions: Vec<Condition>,
}

impl Machine {
    /// Reads a Machine of that version; whatever is missing or odd reads as absent.
    pub fn decode(object: &DynamicObject, version: Version) -> Self {
        let meta = &object.metadata;
        let text = |pointer: &str| object.data.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        Self {
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
            created_at: meta.creation_timestamp.as_ref().map(|at| at.0),
            deleted_at: meta.deletion_timestamp.as_ref().map(|at| at.0),
            labels: meta.labels.clone().unwrap_or_default(),
            annotations: meta.annotations.clone().unwrap_or_default(),
            owners: meta.owner_references.clone().unwrap_or_default(),
            node: text("/status/nodeRef/name").filter(|name| !name.is_empty()),
            provider_id: text("/spec/providerID").filter(|id| !id.is_empty()),
            limits: DeletionLimits::decode(&object.data, version),
            conditions: conditions(&object.data, version),
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
    /// All its labels.
    pub labels: BTreeMap<String, String>,
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
    /// Reads a Cluster of that version; whatever is missing or odd reads as absent.
    pub fn decode(object: &DynamicObject, version: Version) -> Self {
        let flag = |pointer: &str| object.data.pointer(pointer).and_then(Value::as_bool).unwrap_or(false);
        let (infrastructure_provisioned, control_plane_initialized) = match version {
            Version::V1Beta2 => (
                flag("/status/initialization/infrastructureProvisioned"),
                flag("/status/initialization/controlPlaneInitialized"),
            ),
            // `status.controlPlaneReady` is another thing: it comes and goes.
            Version::V1Beta1 => (
                flag("/status/infrastructureReady"),
                conditions(&object.data, version)
                    .iter()
                    .any(|said| said.type_ == "ControlPlaneInitialized" && said.status == "True"),
            ),
        };
        let labels = object.metadata.labels.as_ref();
        Self {
            uid: object.metadata.uid.clone().unwrap_or_default(),
            labels: object.metadata.labels.clone().unwrap_or_default(),
            deleting: object.metadata.deletion_timestamp.is_some(),
            paused: flag("/spec/paused"),
            infrastructure_provisioned,
            control_plane_initialized,
            watch_filter: labels.and_then(|labels| labels.get(names::LABEL_WATCH_FILTER)).cloned(),
        }
    }
}

/// From 1.9 on Cluster API keeps the conditions of v1beta2 in v1beta1 too; those that have their place there are older,
/// and of another shape.
fn conditions(object: &Value, version: Version) -> Vec<Condition> {
    let pointer = match version {
        Version::V1Beta2 => "/status/conditions",
        Version::V1Beta1 => "/status/v1beta2/conditions",
    };
    let listed = object.pointer(pointer).and_then(Value::as_array);
    // One by one: a condition of a shape we do not know hides no other.
    listed.into_iter().flatten().filter_map(|value| serde_json::from_value(value.clone()).ok()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> DynamicObject {
        serde_json::from_value(value).unwrap()
    }

    fn ready() -> Value {
        json!({"type": "Ready", "status": "True", "reason": "Ready", "message": "",
               "lastTransitionTime": "2026-01-01T00:00:00Z"})
    }

    #[test]
    fn a_machine_without_status_is_neither_ready_nor_on_a_node() {
        for version in Version::ALL {
            let bare = json!({"metadata": {"name": "ws-1", "uid": "u"}, "spec": {}});
            let machine = Machine::decode(&object(bare), version);
            assert_eq!(
                (machine.name.as_str(), machine.uid.as_str(), machine.node.clone()),
                ("ws-1", "u", None)
            );
            assert!(!machine.is_ready());
            assert_eq!(machine.limits, DeletionLimits::default());
        }
    }

    #[test]
    fn an_odd_condition_hides_no_other() {
        let machine = Machine::decode(
            &object(json!({
                "metadata": {"name": "ws-1"},
                "status": {"nodeRef": {"name": "n"}, "conditions": [{"type": 5}, ready()]},
            })),
            Version::V1Beta2,
        );
        assert!(machine.is_ready());
    }

    #[test]
    fn one_machine_reads_the_same_in_both_versions() {
        let metadata = json!({"name": "ws-1", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"});
        let newer = object(json!({
            "metadata": metadata,
            "spec": {
                "providerID": "stub://ws-1",
                "deletion": {"nodeDrainTimeoutSeconds": 90, "nodeVolumeDetachTimeoutSeconds": 60,
                             "nodeDeletionTimeoutSeconds": 3600},
            },
            "status": {"nodeRef": {"name": "n"}, "conditions": [ready()]},
        }));
        let older = object(json!({
            "metadata": metadata,
            "spec": {
                "providerID": "stub://ws-1",
                "nodeDrainTimeout": "1m30s", "nodeVolumeDetachTimeout": "1m0s", "nodeDeletionTimeout": "1h0m0s",
            },
            "status": {
                "nodeRef": {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "x"},
                "conditions": [{"type": "Ready", "status": "False", "severity": "Info",
                                "lastTransitionTime": "2026-01-01T00:00:00Z"}],
                "v1beta2": {"conditions": [ready()]},
            },
        }));
        let read = Machine::decode(&newer, Version::V1Beta2);
        assert_eq!(read, Machine::decode(&older, Version::V1Beta1));
        assert_eq!(
            (read.limits.drain, read.limits.volume_detach, read.limits.node_deletion),
            (Some(90), Some(60), Some(3600))
        );
        assert!(read.is_ready() && read.created_at.is_some());
    }

    #[test]
    fn one_cluster_reads_the_same_in_both_versions() {
        let newer = object(json!({
            "metadata": {"name": "grid", "uid": "c", "labels": {"cluster.x-k8s.io/watch-filter": "blue"}},
            "spec": {"paused": true},
            "status": {"initialization": {"infrastructureProvisioned": true, "controlPlaneInitialized": true}},
        }));
        let mut initialized = ready();
        initialized["type"] = json!("ControlPlaneInitialized");
        let older = object(json!({
            "metadata": {"name": "grid", "uid": "c", "labels": {"cluster.x-k8s.io/watch-filter": "blue"}},
            "spec": {"paused": true},
            "status": {"infrastructureReady": true, "v1beta2": {"conditions": [initialized]}},
        }));
        let read = Cluster::decode(&newer, Version::V1Beta2);
        assert_eq!(read, Cluster::decode(&older, Version::V1Beta1));
        assert!(read.paused && read.infrastructure_provisioned && read.control_plane_initialized);
        assert_eq!(read.watch_filter.as_deref(), Some("blue"));
        // Not the same thing, and not taken for it.
        let ready = object(json!({"metadata": {}, "status": {"controlPlaneReady": true}}));
        assert!(!Cluster::decode(&ready, Version::V1Beta1).control_plane_initialized);
    }
}
