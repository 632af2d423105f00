//! The pods of one Node as a leaving sees them, and what became of the tries to make them go.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

/// No try is put off for longer; what says so was written by a clock that has been put back since.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_mins(1);

/// What is known of the pods on the Node.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Pods {
    /// Nobody asked for them.
    #[default]
    Unasked,
    /// Asked for, and no complete list yet.
    Awaited {
        /// Since when, in this process.
        since: Timestamp,
        /// Why it takes so long, if that is known.
        trouble: Option<String>,
    },
    /// All of them; during an outage what was last known.
    Known(Vec<Pod>),
}

/// What decisions need to know of a pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pod {
    /// Its uid.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its priority; 0 where it has none.
    pub priority: i32,
    /// Kind of its controller.
    pub controller: Option<String>,
    /// The kubelet's picture of a static pod.
    pub is_mirror: bool,
    /// `Succeeded` or `Failed`.
    pub is_finished: bool,
    /// It is being deleted, with so many seconds of grace.
    pub ending: Option<i64>,
    /// What became of the last try to make it go.
    pub tried: Option<Attempt>,
    /// A try that has not been answered yet, however long that takes.
    pub underway: Option<Verb>,
}

/// A try to make a pod go, as far as the next one depends on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// What was asked.
    pub verb: Verb,
    /// What became of it.
    pub outcome: Outcome,
    /// How many there were of that verb and outcome in a row.
    pub tries: u32,
    /// Not again before.
    pub again_at: Timestamp,
}

/// How a pod is made to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// As its budgets allow, and with its own grace.
    Evict,
    /// At once.
    Delete,
}

/// What became of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It goes, or has gone.
    Accepted,
    /// Disruption budgets do not allow it now.
    Refused {
        /// Their names, in the pod's namespace; none: the server did not say.
        budgets: Vec<String>,
    },
    /// It is not for us to ask: a right that we lack, or a webhook that says so.
    Forbidden {
        /// The same text as long as the fault is the same.
        message: String,
    },
    /// Anything else, in words.
    Failed {
        /// The same text as long as the fault is the same.
        message: String,
    },
}

impl Pod {
    /// Neither evicted nor waited for: a DaemonSet would put it back, the kubelet too, and what has ended holds nobody up.
    pub fn stays(&self) -> bool {
        self.is_mirror || self.is_finished || self.controller.as_deref() == Some("DaemonSet")
    }

    /// The last try was refused for good, as far as anybody can say.
    pub fn is_forbidden(&self) -> bool {
        self.tried.as_ref().is_some_and(|tried| matches!(tried.outcome, Outcome::Forbidden { .. }))
    }

    /// Whether another try may be made.
    pub fn is_due(&self, verb: Verb, now: Timestamp) -> bool {
        let is_awaited = match self.underway {
            None => false,
            Some(Verb::Delete) => true,
            // An eject hurries a pod whose eviction hangs at a webhook.
            Some(Verb::Evict) => verb == Verb::Evict,
        };
        !is_awaited && self.again_at(verb, now).is_none()
    }

    /// When another try may be made, if not now. What was asked otherwise puts nothing off: an eject hurries a pod that
    /// a budget keeps from eviction.
    pub fn again_at(&self, verb: Verb, now: Timestamp) -> Option<Timestamp> {
        let at = self.tried.as_ref().filter(|tried| tried.verb == verb)?.again_at;
        (at > now && at.duration_since(now) <= LONGEST_PAUSE).then_some(at)
    }
}
