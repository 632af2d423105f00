//! `MachineHold`: a person's, or a reclaim's, word over the timetable for a while.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::instant::Instant;
use super::schema::{self, hold};

/// Overrules the timetable of one ScheduledMachine, or of those a selector finds, for a while.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "5spot.finos.org",
    version = "v1alpha1",
    kind = "MachineHold",
    plural = "machineholds",
    namespaced,
    status = "MachineHoldStatus",
    shortname = "mh",
    category = "cluster-api",
    doc = "Overrules the timetable of one ScheduledMachine, or of those a selector finds, for a while.",
    label("clusterctl.cluster.x-k8s.io", ""),
    label("clusterctl.cluster.x-k8s.io/move", ""),
    selectable = ".spec.scheduledMachine",
    selectable = ".spec.origin",
    printcolumn(name = "State", type_ = "string", json_path = ".spec.state"),
    printcolumn(name = "Machine", type_ = "string", json_path = ".spec.scheduledMachine"),
    printcolumn(name = "From", type_ = "string", json_path = ".spec.from"),
    printcolumn(name = "Until", type_ = "string", json_path = ".spec.until"),
    printcolumn(
        name = "InForce",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"InForce\")].status"
    ),
    printcolumn(name = "Reason", type_ = "string", json_path = ".spec.reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Origin", type_ = "string", json_path = ".spec.origin", priority = 1),
    printcolumn(name = "Matches", type_ = "integer", json_path = ".status.matches", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = hold::spec)]
pub struct MachineHoldSpec {
    /// Name of one ScheduledMachine of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::short_name")]
    pub scheduled_machine: Option<String>,
    /// Or those whose labels match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "hold::selector")]
    pub selector: Option<LabelSelector>,
    /// What holds.
    pub state: HoldState,
    /// From when; absent: at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Instant")]
    pub from: Option<Timestamp>,
    /// Until when; absent: until it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Instant")]
    pub until: Option<Timestamp>,
    /// Why.
    #[schemars(schema_with = "hold::reason")]
    pub reason: String,
    /// Who made it.
    #[serde(default)]
    pub origin: HoldOrigin,
    /// The reclaim that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "HoldReclaim")]
    pub reclaim: Option<HoldReclaim>,
}

/// What a hold asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HoldState {
    /// In the cluster.
    Active,
    /// With its owner.
    Inactive,
    /// No create, delete, cordon or evict.
    AsIs,
    /// May leave, may not join.
    NoNew,
}

/// Who made a hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HoldOrigin {
    /// A person, or a person's tool.
    #[default]
    User,
    /// The controller, for an owner.
    Reclaim,
}

/// The reclaim that made a hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HoldReclaim {
    /// Node uid and request time: each reclaim makes exactly one hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub request: Option<String>,
    /// Name of the Node.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub node: Option<String>,
    /// What the agent saw.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::line")]
    pub matched: Option<String>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Instant")]
    pub requested_at: Option<Timestamp>,
}

/// What became of a hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MachineHoldStatus {
    /// The generation this status was computed from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How many ScheduledMachines it covers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matches: Option<i64>,
    /// InForce and Expired.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_absent_or_null_has_its_default() {
        let spec = json!({
            "scheduledMachine": "ws-17", "state": "AsIs", "reason": "release", "from": null, "selector": null,
        });
        let spec: MachineHoldSpec = serde_json::from_value(spec).unwrap();
        assert_eq!((spec.origin, spec.from, spec.until), (HoldOrigin::User, None, None));
        assert!(spec.selector.is_none() && spec.reclaim.is_none());
    }

    #[test]
    fn instants_of_any_zone_are_read() {
        for text in ["2026-12-24T18:00:00+01:00", "2026-12-24T17:00:00Z", "2026-12-24t17:00:00.000z"] {
            let spec = json!({ "scheduledMachine": "x", "state": "NoNew", "reason": "r", "until": text });
            let spec: MachineHoldSpec = serde_json::from_value(spec).unwrap();
            assert_eq!(
                spec.until.map(|until| until.to_string()).as_deref(),
                Some("2026-12-24T17:00:00Z"),
                "{text}"
            );
        }
    }
}
