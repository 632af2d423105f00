//! What became of a decision's effects, as values for the status.

use crate::api::status::ObjectRef;
use crate::capi::kinds::Role;
use crate::controller::error::{Class, EffectError, PassError};
use crate::controller::reclaim::request::Asked;

/// What became of a decision's effects.
#[derive(Debug, Default)]
pub struct Report {
    /// What was made, or found already made.
    pub made: Vec<(Made, ObjectRef)>,
    /// The first failure on the management side; what came after it was not tried.
    pub failure: Option<Failure>,
    /// A failure on the workload side; delays nothing else.
    pub node_failure: Option<Failure>,
    /// The reclaim whose hold was written, or could not be.
    pub recorded: Option<Recorded>,
    /// How many calls changed something.
    pub done: usize,
}

/// What became of a reclaim's hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The reclaim.
    pub asked: Asked,
    /// Why there is no hold, for people; `None`: there is one.
    pub failure: Option<String>,
}

/// Which of our objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// The Machine.
    Machine,
    /// One of its two parts.
    Child(Role),
}

/// Why an effect failed, ready to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Of the condition.
    pub reason: &'static str,
    /// Of the condition; the same text as long as the fault is the same.
    pub message: String,
    /// What to do about it.
    pub class: Class,
}

impl From<&PassError> for Failure {
    fn from(error: &PassError) -> Self {
        Self { reason: error.reason(), message: error.to_string(), class: error.class() }
    }
}

impl From<&EffectError> for Failure {
    fn from(error: &EffectError) -> Self {
        Self { reason: error.reason(), message: error.to_string(), class: error.class() }
    }
}

impl Report {
    /// The reference to an object that this pass made.
    pub fn made(&self, which: Made) -> Option<&ObjectRef> {
        self.made.iter().find(|(made, _)| *made == which).map(|(_, reference)| reference)
    }
}
