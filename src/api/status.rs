//! `status` of a ScheduledMachine: what will happen, what happened and why.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::Phase;
use super::instant::Instant;
pub use super::refs::{NodeRef, ObjectRef, PartKind, PartRole};
use super::schema;
use super::taint::AppliedTaint;

/// Most entries of `leaving.blockedBy`; the server refuses a status with more.
pub const MOST_BLOCKERS: usize = 32;

/// Most entries of `reclaim.recent`; of an owner who reclaims more often than that in a day the latest count.
pub const MOST_RECLAIMS: usize = 32;

/// What the controller last saw and decided. Written whole, by the controller alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ScheduledMachineStatus {
    /// The generation this status was computed from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// A summary for people; machines read the conditions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// One line for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::message")]
    pub message: Option<String>,
    /// What windows and exceptions alone say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_schedule: Option<bool>,
    /// Next time the timetable turns to active, within 366 days.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Instant")]
    pub next_activation: Option<Timestamp>,
    /// Next time the timetable turns to inactive, within 366 days.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Instant")]
    pub next_cleanup: Option<Timestamp>,
    /// The next change of the decision if nobody edits anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<NextChange>,
    /// `next` for a printer column: `leaves Mon 07:00 GMT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::line")]
    pub next_text: Option<String>,
    /// When the owner has the machine at the latest, while it is lent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Instant")]
    pub hand_back_by: Option<Timestamp>,
    /// When the machine was last taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Instant")]
    pub last_scheduled_time: Option<Timestamp>,
    /// What should be, and which rule says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<DecisionStatus>,
    /// Instants from which deadlines are computed; they outlive a restart of the controller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timers: Option<Timers>,
    /// While the machine is on its way out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leaving: Option<Leaving>,
    /// The latest time in the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_run: Option<LastRun>,
    /// The latest reclaim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reclaim: Option<ReclaimStatus>,
    /// The Machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine_ref: Option<ObjectRef>,
    /// Its bootstrap object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bootstrap_ref: Option<ObjectRef>,
    /// Its infrastructure object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub infrastructure_ref: Option<ObjectRef>,
    /// Kinds of which an object of this one may exist: noted before the first create, so that neither an edit of a kind
    /// nor a crash between a create and its record leaves anything behind.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::part_kinds")]
    pub part_kinds: Vec<PartKind>,
    /// Its Node, in the workload cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_ref: Option<NodeRef>,
    /// As on the Machine.
    #[serde(rename = "providerID", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::line")]
    pub provider_id: Option<String>,
    /// Taints of the Node that are ours.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::machine::applied_taints")]
    pub applied_node_taints: Vec<AppliedTaint>,
    /// Ready, Scheduled, ReferencesValid and others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// State that a decision asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DesiredState {
    /// In the cluster.
    Active,
    /// With its owner.
    Inactive,
    /// Whatever it is now.
    AsIs,
}

/// How a machine leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Manner {
    /// Grace, drain, deletion.
    Graceful,
    /// At once.
    Eject,
}

/// The rules in their order of precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Rule {
    /// The ScheduledMachine is being deleted.
    Deletion,
    /// Its Cluster is being deleted.
    ClusterDeleting,
    /// `spec.killSwitch`.
    KillSwitch,
    /// The owner took it back.
    Reclaim,
    /// `spec.paused`.
    Paused,
    /// A MachineHold.
    Hold,
    /// `spec.schedule.enabled: false`.
    Disabled,
    /// The schedule cannot be read.
    ScheduleInvalid,
    /// An exception of the schedule.
    Exception,
    /// A window of the schedule.
    Window,
    /// No window is open.
    OutsideWindows,
}

/// What should be, and which rule says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DecisionStatus {
    /// What should be.
    pub state: DesiredState,
    /// The first rule that matched.
    pub rule: Rule,
    /// Since when this state is asked for.
    #[schemars(with = "Instant")]
    pub since: Timestamp,
    /// Since when this rule asks for it.
    #[schemars(with = "Instant")]
    pub rule_since: Timestamp,
    /// Until when, if nobody edits anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Instant")]
    pub until: Option<Timestamp>,
    /// How it leaves, if it leaves.
    pub manner: Manner,
    /// What the rule read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<DecisionSource>,
    /// In words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::line")]
    pub message: Option<String>,
}

/// What a rule read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DecisionSource {
    /// Of the object that decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub kind: Option<String>,
    /// Of the object that decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub name: Option<String>,
    /// Of the object that decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub uid: Option<String>,
    /// `spec.schedule.windows[0]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::line")]
    pub field_path: Option<String>,
}

/// The next change of the decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NextChange {
    /// When.
    #[schemars(with = "Instant")]
    pub at: Timestamp,
    /// To what.
    pub state: DesiredState,
    /// By which rule.
    pub rule: Rule,
    /// What may keep it from happening.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::line")]
    pub blocked_by: Option<String>,
}

/// Instants from which deadlines are computed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Timers {
    /// First object of this run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Instant")]
    pub open_started_at: Option<Timestamp>,
    /// Start of the grace period.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Instant")]
    pub shutdown_started_at: Option<Timestamp>,
    /// From when on the drain's limit counts: the end of the grace. There once the first pod may have been evicted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Instant")]
    pub drain_started_at: Option<Timestamp>,
    /// Since when it is to leave at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Instant")]
    pub eject_started_at: Option<Timestamp>,
    /// The owner asked for it back.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Instant")]
    pub reclaimed_at: Option<Timestamp>,
}

/// How far a leaving has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LeavingStage {
    /// Cordoned, nothing evicted yet.
    Grace,
    /// The Node is being emptied.
    Drain,
    /// The Machine is being deleted.
    Deletion,
    /// Out at once.
    Eject,
}

/// A machine on its way out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Leaving {
    /// When leaving began.
    #[schemars(with = "Instant")]
    pub since: Timestamp,
    /// How far it has come.
    pub stage: LeavingStage,
    /// Until then nothing is evicted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Instant")]
    pub grace_ends_at: Option<Timestamp>,
    /// Then the drain is given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Instant")]
    pub drain_ends_at: Option<Timestamp>,
    /// When the owner has it at the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Instant")]
    pub gone_by: Option<Timestamp>,
    /// What it is waiting for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::blockers")]
    pub blocked_by: Vec<Blocker>,
    /// As of when `blockedBy` is, while the Node is being emptied: it changes with every pod, and is renewed at most
    /// every five seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Instant")]
    pub as_of: Option<Timestamp>,
}

/// Something that a leaving waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Blocker {
    /// Kind.
    #[schemars(schema_with = "schema::word")]
    pub kind: String,
    /// Namespace, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub namespace: Option<String>,
    /// Name.
    #[schemars(schema_with = "schema::word")]
    pub name: String,
    /// Why it blocks.
    #[schemars(schema_with = "schema::line")]
    pub reason: String,
}

/// The latest time in the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LastRun {
    /// Building began.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Instant")]
    pub opened_at: Option<Timestamp>,
    /// The Machine was ready for the first time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Instant")]
    pub ready_at: Option<Timestamp>,
    /// Leaving began.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Instant")]
    pub closed_at: Option<Timestamp>,
    /// Nothing of it was left.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Instant")]
    pub gone_at: Option<Timestamp>,
    /// Name of the Node.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub node: Option<String>,
    /// As on the Machine.
    #[serde(rename = "providerID", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::line")]
    pub provider_id: Option<String>,
    /// The rule that ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<Rule>,
    /// `goneAt` against the promise; 0: in time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late_by_seconds: Option<i64>,
}

/// The latest reclaim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReclaimStatus {
    /// When the owner asked.
    #[schemars(with = "Instant")]
    pub at: Timestamp,
    /// Name of the Node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub node: Option<String>,
    /// What the agent saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::line")]
    pub matched: Option<String>,
    /// The Node's uid and the time written there, for as long as the Node says so: what was answered once is not
    /// answered again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub request: Option<String>,
    /// How many in the last 24 hours.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "last24h")]
    #[schemars(schema_with = "schema::count")]
    pub last_24h: Option<u32>,
    /// When these were, the latest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::instants")]
    pub recent: Vec<Timestamp>,
}
