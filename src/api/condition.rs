//! Phases, condition types and reasons: the words that tools wait for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A summary for people, derived last; machines read the conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// On its way in.
    Pending,
    /// In the cluster.
    Active,
    /// On its way out.
    ShuttingDown,
    /// With its owner, by the schedule.
    Inactive,
    /// With its owner, by `enabled: false` or because she took it back.
    Disabled,
    /// Being ejected.
    EmergencyRemove,
    /// Out by the kill switch.
    Terminated,
    /// Something stands in the way that needs a person.
    Error,
}

impl Phase {
    /// All there are.
    pub const ALL: [Self; 8] = [
        Self::Pending,
        Self::Active,
        Self::ShuttingDown,
        Self::Inactive,
        Self::Disabled,
        Self::EmergencyRemove,
        Self::Terminated,
        Self::Error,
    ];

    /// As it stands in the status.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Active => "Active",
            Self::ShuttingDown => "ShuttingDown",
            Self::Inactive => "Inactive",
            Self::Disabled => "Disabled",
            Self::EmergencyRemove => "EmergencyRemove",
            Self::Terminated => "Terminated",
            Self::Error => "Error",
        }
    }
}

/// Condition types.
pub mod types {
    /// Reality matches the decision, also when that is off.
    pub const READY: &str = "Ready";
    /// The decision is Active.
    pub const SCHEDULED: &str = "Scheduled";
    /// Spec sound, kinds served and allowed, Cluster exists, nothing foreign in our way.
    pub const REFERENCES_VALID: &str = "ReferencesValid";
    /// The workload API server answered lately.
    pub const WORKLOAD_REACHABLE: &str = "WorkloadReachable";
    /// The Machine was built from today's templates.
    pub const TEMPLATE_CURRENT: &str = "TemplateCurrent";
    /// The taints asked for are on the Node.
    pub const NODE_TAINTED: &str = "NodeTainted";
    /// An agent on the Node would hear the owner.
    pub const AGENT_READY: &str = "AgentReady";
    /// The Machine's own words.
    pub const MACHINE_READY: &str = "MachineReady";
    /// Present only while something is under way (kstatus).
    pub const RECONCILING: &str = "Reconciling";
    /// Present only while a person is needed (kstatus).
    pub const STALLED: &str = "Stalled";
    /// Of a hold: it counts now, and covers something.
    pub const IN_FORCE: &str = "InForce";
    /// Of a hold: its end has come.
    pub const EXPIRED: &str = "Expired";
    /// Present only while the owner's machine is late.
    pub const HAND_BACK_OVERDUE: &str = "HandBackOverdue";
}
