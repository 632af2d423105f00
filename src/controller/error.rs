//! What can go wrong in a pass, by step, and what to do about it.

use kube::core::Status;

use crate::telemetry::metrics::Fault;
use crate::watch::Outage;

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Try again, later each time.
    Transient,
    /// What was read is old: look again at once.
    Conflict,
    /// The same call will fail the same way until somebody changes something; tried again, slowly.
    Permanent,
}

/// Why one effect failed.
#[derive(Debug, thiserror::Error)]
pub enum EffectError {
    /// Creating an object.
    #[error("creating {what} was refused: {}", words(source))]
    Create {
        /// Kind and name.
        what: String,
        /// The server's word.
        source: Box<kube::Error>,
    },
    /// An object of our name that is not ours.
    #[error("{what} exists already and is not ours; delete or rename it, or rename this ScheduledMachine")]
    NameTaken {
        /// Kind and name.
        what: String,
    },
    /// Changing an object.
    #[error("changing {what} failed: {}", words(source))]
    Patch {
        /// Kind and name.
        what: String,
        /// The server's word.
        source: Box<kube::Error>,
    },
    /// Deleting an object.
    #[error("deleting {what} failed: {}", words(source))]
    Delete {
        /// Kind and name.
        what: String,
        /// The server's word.
        source: Box<kube::Error>,
    },
    /// Looking whether anything is left.
    #[error("looking for what is left of {what} failed: {}", words(source))]
    Look {
        /// Kind.
        what: String,
        /// The server's word.
        source: Box<kube::Error>,
    },
    /// Something of ours is still there.
    #[error("{what} still exists")]
    Left {
        /// Kind and name.
        what: String,
    },
    /// A kind of which something may be left cannot be looked at.
    #[error(
        "whether any {what} is left cannot be seen: {definition} exists and is not served in the version that was used; \
         serve it again, or delete the definition"
    )]
    Unserved {
        /// Kind.
        what: String,
        /// Name of its definition.
        definition: String,
    },
    /// No answer in time; whether it was done is not known.
    #[error("{what}: no answer from the API server within {seconds} s")]
    Timeout {
        /// Which call.
        what: &'static str,
        /// The bound.
        seconds: u64,
    },
    /// A patch cannot be written down; a mistake in a type.
    #[error("the patch does not fit JSON: {0}")]
    Encode(#[source] serde_json::Error),
    /// No answer from the workload cluster in time; whether it was done is not known.
    #[error("{what}: the workload cluster did not answer in time")]
    Silent {
        /// Which call.
        what: &'static str,
    },
    /// Too many calls are out to a workload cluster that is slow; this one was not sent.
    #[error("{what}: the workload cluster is slow to answer the calls before this one")]
    Busy {
        /// Which call.
        what: &'static str,
    },
    /// The workload cluster cannot be reached now.
    #[error("{what}: no connection to the workload cluster")]
    NotConnected {
        /// Which call.
        what: &'static str,
    },
}

impl EffectError {
    /// Reason of the condition that shows it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Create { .. } => "CreateFailed",
            Self::NameTaken { .. } => "NameTaken",
            Self::Patch { .. } | Self::Encode(_) => "UpdateFailed",
            Self::Delete { .. } => "DeleteFailed",
            Self::Look { .. } | Self::Left { .. } | Self::Unserved { .. } => "WaitingForMachineDeletion",
            Self::Timeout { .. } | Self::Silent { .. } => "ApiTimeout",
            Self::Busy { .. } => "ApiBusy",
            Self::NotConnected { .. } => "NotConnected",
        }
    }

    /// For metrics.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Create { source, .. }
            | Self::Patch { source, .. }
            | Self::Delete { source, .. }
            | Self::Look { source, .. } => fault(source),
            Self::NameTaken { .. } => Fault::ReferenceValidation,
            Self::Left { .. } | Self::Unserved { .. } => Fault::Capi,
            Self::Timeout { .. } | Self::Silent { .. } | Self::Busy { .. } => Fault::Timeout,
            Self::NotConnected { .. } => Fault::KubeApi,
            Self::Encode(_) => Fault::Other,
        }
    }

    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Create { source, .. }
            | Self::Patch { source, .. }
            | Self::Delete { source, .. }
            | Self::Look { source, .. } => class(source),
            Self::NameTaken { .. } | Self::Encode(_) => Class::Permanent,
            Self::Left { .. }
            | Self::Unserved { .. }
            | Self::Timeout { .. }
            | Self::Silent { .. }
            | Self::NotConnected { .. } => Class::Transient,
            // Nothing has gone wrong yet.
            Self::Busy { .. } => Class::Conflict,
        }
    }
}

/// In the words of `fivespot_errors_total`.
fn fault(error: &kube::Error) -> Fault {
    if is_not_found(error) { Fault::NotFound } else { Fault::KubeApi }
}

/// The server's status code decides.
pub fn class(error: &kube::Error) -> Class {
    match error {
        kube::Error::Api(status) => match status.code {
            409 => Class::Conflict,
            400 | 401 | 403 | 404 | 405 | 413 | 422 => Class::Permanent,
            _ => Class::Transient,
        },
        _ => Class::Transient,
    }
}

/// A pass that could not end.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// An effect failed; the status says so.
    #[error(transparent)]
    Effect(#[from] EffectError),
    /// The status could not be written.
    #[error("writing the status failed: {}", words(.0))]
    Status(#[source] Box<kube::Error>),
    /// The object could not be read live before something that cannot be taken back.
    #[error("reading the ScheduledMachine before a destructive step failed: {}", words(.0))]
    Confirm(#[source] Box<kube::Error>),
    /// Whether the Machine is really gone could not be seen.
    #[error("looking for the Machine failed: {}", words(.0))]
    Look(#[source] Box<kube::Error>),
    /// Whether a part of the Machine is really gone could not be seen.
    #[error("looking for a part of the Machine failed: {}", words(.0))]
    LookForPart(#[source] Box<kube::Error>),
    /// The status cannot be written down; a mistake in a type.
    #[error("the status does not fit JSON: {0}")]
    Encode(#[source] serde_json::Error),
    /// A hold that has served its time could not be deleted.
    #[error("deleting the hold of a reclaim that is over failed: {}", words(.0))]
    Dispose(#[source] Box<kube::Error>),
    /// The cache was behind.
    #[error("the object changed while it was being worked on; looking again")]
    Stale,
    /// The server did not answer.
    #[error("{0}: no answer from the API server in time")]
    Timeout(&'static str),
}

impl PassError {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Effect(error) => error.class(),
            Self::Status(source)
            | Self::Confirm(source)
            | Self::Look(source)
            | Self::LookForPart(source)
            | Self::Dispose(source) => class(source),
            Self::Stale => Class::Conflict,
            Self::Timeout(_) => Class::Transient,
            Self::Encode(_) => Class::Permanent,
        }
    }

    /// Reason of the condition that shows it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Effect(error) => error.reason(),
            Self::Confirm(_) | Self::Look(_) | Self::LookForPart(_) => "ReadFailed",
            Self::Dispose(_) => "DeleteFailed",
            Self::Status(_) | Self::Encode(_) | Self::Stale | Self::Timeout(_) => "UpdateFailed",
        }
    }

    /// For metrics.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Effect(error) => error.fault(),
            Self::Status(source)
            | Self::Confirm(source)
            | Self::Look(source)
            | Self::LookForPart(source)
            | Self::Dispose(source) => fault(source),
            Self::Timeout(_) => Fault::Timeout,
            Self::Stale | Self::Encode(_) => Fault::Other,
        }
    }

    /// For logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Effect(_) => "effect",
            Self::Status(_) => "status",
            Self::Confirm(_) => "confirm",
            Self::Look(_) | Self::LookForPart(_) => "look",
            Self::Dispose(_) => "dispose",
            Self::Stale => "stale",
            Self::Encode(_) => "encode",
            Self::Timeout(_) => "timeout",
        }
    }
}

/// How much of a server's message is kept.
const LONGEST_ANSWER: usize = 512;

/// An error for people: the server's own words, or what became of the call. No debug output, and nothing that is
/// another with every try, like the ports of a connection: it stands in a condition.
pub fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => {
            let message: String = status.message.chars().take(LONGEST_ANSWER).collect();
            format!("{message} ({})", status.code)
        }
        other => Outage::from(other).message,
    }
}

/// The server says the object is not there.
pub fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_not_found())
}

/// The server says that there is no such collection: in plain text, without the reason that a missing object has.
pub fn is_unserved(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// The server says the name is taken. (A *conflict* is something else: what was read is old.)
pub fn is_already_exists(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if is_taken(status))
}

fn is_taken(status: &Status) -> bool {
    status.code == 409 && status.reason == "AlreadyExists"
}
