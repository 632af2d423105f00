//! What we write of a Machine, in either version.
//!
//! Pure. For a create or a merge patch, never for a replacement: a server that has both versions keeps in an annotation
//! what the older one cannot say, and a replacement would lose it.

use serde_json::{Map, Value, json};

use crate::capi::duration;
use crate::capi::machine::DeletionLimits;
use crate::capi::version::Version;

/// A reference from a Machine to one of its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContractRef {
    /// `group/version`; v1beta2 keeps the group alone.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Name, in the Machine's namespace.
    pub name: String,
    /// The Machine's namespace; v1beta2 has no place for it.
    pub namespace: String,
}

impl ContractRef {
    fn encode(&self, version: Version) -> Value {
        let Self { api_version, kind, name, namespace } = self;
        match version {
            Version::V1Beta2 => {
                let group = api_version.split_once('/').map_or("", |(group, _)| group);
                json!({ "apiGroup": group, "kind": kind, "name": name })
            }
            Version::V1Beta1 => {
                json!({ "apiVersion": api_version, "kind": kind, "name": name, "namespace": namespace })
            }
        }
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
    /// Seconds ready before available; left out in v1beta1, which has no such field.
    pub min_ready_seconds: Option<i32>,
    /// As Cluster API wants them.
    pub readiness_gates: Vec<Value>,
}

impl MachineSpec {
    /// `spec` of a new Machine.
    pub fn encode(&self, version: Version) -> Value {
        let mut spec = encode_limits(&self.limits, version);
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                spec.insert(name.to_owned(), value);
            }
        };
        set("clusterName", Some(json!(self.cluster_name)));
        set("bootstrap", Some(json!({ "configRef": self.bootstrap.encode(version) })));
        set("infrastructureRef", Some(self.infrastructure.encode(version)));
        set("version", self.version.clone().map(Value::from));
        set("failureDomain", self.failure_domain.clone().map(Value::from));
        let min_ready_seconds = self.min_ready_seconds.filter(|_| has_min_ready_seconds(version));
        set("minReadySeconds", min_ready_seconds.map(Value::from));
        // An empty list is refused (minItems 1).
        let gates = Some(&self.readiness_gates).filter(|gates| !gates.is_empty());
        set("readinessGates", gates.map(|gates| gates.clone().into()));
        Value::Object(spec)
    }
}

/// Whether a Machine can say how long it must be ready before it counts.
pub fn has_min_ready_seconds(version: Version) -> bool {
    match version {
        Version::V1Beta2 => true,
        Version::V1Beta1 => false,
    }
}

/// The fields of `spec` that bound the deletion.
pub fn encode_limits(limits: &DeletionLimits, version: Version) -> Map<String, Value> {
    let named = [
        ("nodeDrainTimeout", limits.drain),
        ("nodeVolumeDetachTimeout", limits.volume_detach),
        ("nodeDeletionTimeout", limits.node_deletion),
    ];
    match version {
        Version::V1Beta2 => {
            let seconds: Map<String, Value> =
                named.into_iter().map(|(name, seconds)| (format!("{name}Seconds"), json!(seconds))).collect();
            Map::from_iter([("deletion".to_owned(), Value::Object(seconds))])
        }
        Version::V1Beta1 => named
            .into_iter()
            .map(|(name, seconds)| (name.to_owned(), json!(seconds.map(duration::text))))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> MachineSpec {
        let reference = |kind: &str| ContractRef {
            api_version: "g/v1".into(),
            kind: kind.into(),
            name: "ws-1".into(),
            namespace: "lab".into(),
        };
        MachineSpec {
            cluster_name: "grid".into(),
            bootstrap: reference("B"),
            infrastructure: reference("I"),
            limits: DeletionLimits { drain: Some(300), volume_detach: Some(60), node_deletion: Some(960) },
            version: None,
            failure_domain: None,
            min_ready_seconds: None,
            readiness_gates: vec![],
        }
    }

    #[test]
    fn empty_lists_and_absent_fields_are_left_out_of_a_new_machine() {
        assert_eq!(
            spec().encode(Version::V1Beta2),
            json!({
                "clusterName": "grid",
                "bootstrap": {"configRef": {"apiGroup": "g", "kind": "B", "name": "ws-1"}},
                "infrastructureRef": {"apiGroup": "g", "kind": "I", "name": "ws-1"},
                "deletion": {"nodeDrainTimeoutSeconds": 300, "nodeVolumeDetachTimeoutSeconds": 60,
                             "nodeDeletionTimeoutSeconds": 960},
            })
        );
        assert_eq!(
            spec().encode(Version::V1Beta1),
            json!({
                "clusterName": "grid",
                "bootstrap": {"configRef": {"apiVersion": "g/v1", "kind": "B", "name": "ws-1", "namespace": "lab"}},
                "infrastructureRef": {"apiVersion": "g/v1", "kind": "I", "name": "ws-1", "namespace": "lab"},
                "nodeDrainTimeout": "300s", "nodeVolumeDetachTimeout": "60s", "nodeDeletionTimeout": "960s",
            })
        );
    }

    #[test]
    fn what_both_versions_have_is_written_alike_and_what_one_lacks_is_left_out() {
        let full = MachineSpec {
            version: Some("v1.33.0".into()),
            failure_domain: Some("rack-2".into()),
            min_ready_seconds: Some(30),
            readiness_gates: vec![json!({"conditionType": "Burned"})],
            ..spec()
        };
        let (newer, older) = (full.encode(Version::V1Beta2), full.encode(Version::V1Beta1));
        for field in ["version", "failureDomain", "readinessGates", "clusterName"] {
            assert_eq!(newer[field], older[field], "{field}");
            assert!(!newer[field].is_null(), "{field}");
        }
        assert_eq!((&newer["minReadySeconds"], &older["minReadySeconds"]), (&json!(30), &Value::Null));
    }
}
