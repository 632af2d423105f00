//! The reclaim agent on the lent Node, as values: what it is given, and what it says of itself.
//!
//! `rules` writes her programs down for it, `plan` says what is to be done, `said` what to say of it, `writes` remembers
//! what was written last. The agent itself is another program; the two meet in the workload cluster and nowhere else.

pub mod plan;
pub mod rules;
pub mod said;
pub mod writes;

use jiff::Timestamp;

/// What of the agents of a workload cluster concerns one object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Agents {
    /// The `ConfigMap`s of that Node's name and those with our uid; `None`: not known yet.
    pub rules: Option<Vec<RulesMap>>,
    /// The sign of life of that Node's agent; `None`: none, or not known yet.
    pub beat: Option<Sign>,
    /// The Leases are known.
    pub is_heard: bool,
    /// Why one of the two is not known, or old.
    pub trouble: Option<String>,
}

/// A ConfigMap with our labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RulesMap {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// For checked writes.
    pub resource_version: String,
    /// Uid of the ScheduledMachine.
    pub uid_label: Option<String>,
    /// What stands under the rules' key.
    pub text: Option<String>,
}

/// What an agent says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sign {
    /// How it learns of programs.
    pub detector: String,
    /// Why in no better way.
    pub fallback: Option<String>,
    /// What it says of its rules.
    pub rules: String,
    /// When it will count as silent if it is not heard again.
    pub silent_at: Timestamp,
    /// It was heard of, and not only found.
    pub is_alive: bool,
}

/// What was written last, in this process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// When the label was put on the Node of this uid.
    pub label: Option<(String, Timestamp)>,
    /// When these rules were written into the ConfigMap of this name.
    pub rules: Option<(String, String, Timestamp)>,
}
