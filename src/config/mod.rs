//! What the program runs on: defaults < file < environment < flags, merged and checked once, one struct per role.
//!
//! `keys` spells every setting once, `sources` merges, `check` parses. Nothing else of the program reads the environment
//! or a flag, and nothing secret is a setting.

mod agent;
mod check;
mod controller;
pub mod keys;
mod sources;
#[cfg(test)]
mod tests;

use std::ffi::OsString;

pub use self::agent::{AgentConfig, AgentTask, DetectorChoice};
pub use self::controller::{CONCURRENT_CREATES, ControllerConfig, Election, KNOWN_GROUPS, Shard};
use self::sources::Values;
pub use self::sources::{Given, Source};
use crate::cli::Typed;

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logs {
    /// Filter directives, as `RUST_LOG` has them; they parse.
    pub filter: String,
    /// How log lines look.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}

/// Configuration that cannot be used. Exit status 2.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// One value is wrong.
    #[error("{given}: {fix}")]
    Value {
        /// As given, by whom.
        given: Given,
        /// What would be right.
        fix: String,
    },
    /// Two values do not go together.
    #[error("{} and {}: {fix}", both.0, both.1)]
    Together {
        /// As given, by whom.
        both: Box<(Given, Given)>,
        /// What would be right.
        fix: &'static str,
    },
    /// A setting that has no default was not made.
    #[error("{} is not set; set it, or --{name}", variable_of(name))]
    Missing {
        /// Of the flag.
        name: &'static str,
    },
    /// A variable's value is not text.
    #[error("{variable} is not UTF-8")]
    NotText {
        /// Its name.
        variable: &'static str,
    },
    /// A variable with our prefix that nothing reads: a mistake in its name.
    #[error("{variable} is not a variable of this program; --help lists them")]
    UnknownVariable {
        /// Its name.
        variable: String,
    },
    /// The file cannot be read.
    #[error("{given}: {error}")]
    File {
        /// Its path, by whom.
        given: Given,
        /// The system's word.
        error: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{path} is not TOML: {error}")]
    Toml {
        /// Of the file.
        path: String,
        /// Line, column and what is wrong there.
        error: Box<toml::de::Error>,
    },
    /// The file has a key that nothing reads.
    #[error("{key:?} in {path} is not a key; there are {known}")]
    UnknownKey {
        /// Of the file.
        path: String,
        /// As it stands there.
        key: String,
        /// All there are.
        known: String,
    },
    /// A key of the file has a table, a date or a fraction for its value.
    #[error("{key} in {path}: a text, a whole number, true or false, or a list of texts")]
    NotPlain {
        /// Of the file.
        path: String,
        /// The key.
        key: &'static str,
    },
}

fn variable_of(name: &str) -> &'static str {
    keys::CONTROLLER.iter().chain(&keys::AGENT).find(|key| key.name == name).map_or("", |key| key.variable)
}

/// The controller's configuration.
///
/// # Errors
/// The first fault, with its source and the fix.
pub fn controller(
    typed: &Typed,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<ControllerConfig, ConfigError> {
    ControllerConfig::check(&Values::merge(&keys::CONTROLLER, typed, environment)?)
}

/// The reclaim agent's configuration.
///
/// # Errors
/// The first fault, with its source and the fix.
pub fn agent(
    typed: &Typed,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<AgentConfig, ConfigError> {
    AgentConfig::check(&Values::merge(&keys::AGENT, typed, environment)?, typed)
}
