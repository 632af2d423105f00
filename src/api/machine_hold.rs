//! `MachineHold`: a person's, or a reclaim's, word over the timetable for a while.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::instant::Instant;

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
    category = "cluster-api"
)]
#[serde(rename_all = "camelCase")]
pub struct MachineHoldSpec {
    /// Name of one ScheduledMachine of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_machine: Option<String>,
    /// Or those whose labels match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// What holds.
    pub state: HoldState,
    /// From when; absent: at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Instant>")]
    pub from: Option<Timestamp>,
    /// Until when; absent: until it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Instant>")]
    pub until: Option<Timestamp>,
    /// Why.
    pub reason: String,
    /// Who made it.
    #[serde(default)]
    pub origin: HoldOrigin,
    /// The reclaim that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
    pub request: Option<String>,
    /// Name of the Node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// What the agent saw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matched: Option<String>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Instant>")]
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
    pub conditions: Vec<Condition>,
}
