//! What keeps the agent from working, by step.

use std::time::Duration;

use crate::agent::identity::IdentityError;
use crate::detector::DetectorError;
use crate::watch::Outage;

/// Why the agent ends. Exit status 1.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no way to the cluster: neither a pod's credentials nor a kubeconfig.
    #[error("no way to the cluster: {0}")]
    Kubeconfig(#[source] Box<kube::config::InferConfigError>),
    /// The client cannot be made of what was found.
    #[error("no client for the cluster: {0}")]
    Client(#[source] Box<kube::Error>),
    /// The detectors could not begin.
    #[error(transparent)]
    Detector(#[from] DetectorError),
    /// The system refused a signal handler or a thread.
    #[error("the agent could not be started: {0}")]
    Start(#[source] std::io::Error),
    /// Something that should have run for ever did not.
    #[error(transparent)]
    TaskEnd(#[from] crate::runtime::TaskEnd),
    /// The ConfigMap could not be read for one look.
    #[error("the rules cannot be read from ConfigMap {name}: {why}")]
    Rules {
        /// Its name.
        name: String,
        /// In words that stay the same.
        why: Outage,
    },
    /// The result could not be told.
    #[error("the result cannot be printed: {0}")]
    Print(#[source] std::io::Error),
}

/// What is done to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Reading our Node.
    Look,
    /// Putting the request on it.
    Ask,
    /// Renewing our Lease.
    Renew,
}

impl Step {
    fn words(self) -> &'static str {
        match self {
            Self::Look => "the Node cannot be read",
            Self::Ask => "the owner's request cannot be put on the Node",
            Self::Renew => "the Lease cannot be renewed",
        }
    }
}

/// Why nothing was written. Its words stay the same while the cause does.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// This host is not that Node, or nobody can tell.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Wrong name, or the machine has left.
    #[error("there is no Node {0}: is NODE_NAME right, and is the machine still a part of this cluster?")]
    NoNode(String),
    /// The API server has refused, or was not reached.
    #[error("{}: {why}", step.words())]
    Call {
        /// What was tried.
        step: Step,
        /// In words that stay the same.
        why: Outage,
    },
    /// There was no answer in time.
    #[error("{}: no answer within {} s", step.words(), limit.as_secs())]
    Late {
        /// What was tried.
        step: Step,
        /// How long was waited.
        limit: Duration,
    },
}

/// Tells of trouble when it begins, when it becomes another one, and when it is over.
#[derive(Debug, Default)]
pub struct Trouble {
    told: Option<String>,
    tries: u32,
}

impl Trouble {
    /// One more attempt has failed.
    pub fn failed(&mut self, error: &ReportError) {
        self.tries += 1;
        let words = error.to_string();
        if self.told.as_ref() != Some(&words) {
            tracing::warn!(error = words, "nothing is written; it is tried again and again");
            self.told = Some(words);
        }
    }

    /// It works; how often it had not.
    pub fn over(&mut self) -> u32 {
        if self.told.take().is_some() {
            tracing::info!(failed_attempts = self.tries, "the cluster is told again");
        }
        std::mem::take(&mut self.tries)
    }
}
