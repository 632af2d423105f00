//! What the program runs on: defaults < environment < flags, merged and checked once.

use figment::providers::{Env, Serialized};
use figment::value::UncasedStr;
use figment::{Figment, Profile};
use serde::{Deserialize, Serialize};

use crate::cli::ControllerArgs;

/// Groups that bootstrap and infrastructure objects may be of without further configuration.
pub const KNOWN_GROUPS: [&str; 3] =
    ["bootstrap.cluster.x-k8s.io", "infrastructure.cluster.x-k8s.io", "k0smotron.io"];

/// Machines made at one time, unless configured. Of sixty at one edge, on two cores, the last was made after 2.1 to 3.0 s with
/// 4, 1.8 to 2.5 s with 12 and 1.7 to 2.1 s with 48; the first after 0.08, 0.1 and 0.3 s. So twelve costs the last little and
/// gives the first what it asked for, and an edge of this many waits for nobody.
pub const CONCURRENT_CREATES: u16 = 12;
/// More would be no bound.
const MOST_CONCURRENT_CREATES: u16 = 1000;

/// Each key with its variable.
const VARIABLES: [(&str, &str); 6] = [
    ("RUST_LOG", "log"),
    ("RUST_LOG_FORMAT", "log_format"),
    ("WATCH_NAMESPACE", "watch_namespace"),
    ("ALLOWED_API_GROUPS", "allowed_api_groups"),
    ("MAX_CONCURRENT_CREATES", "max_concurrent_creates"),
    ("POD_NAME", "pod_name"),
];

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}

/// What the controller runs on, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerConfig {
    /// Filter directives, as `RUST_LOG` has them.
    pub log: String,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Watch this namespace only.
    pub watch_namespace: Option<String>,
    /// API groups that bootstrap and infrastructure objects may be of.
    pub allowed_groups: Vec<String>,
    /// Machines made at one time; of those that wait the highest `priority` goes first.
    pub concurrent_creates: u16,
    /// Name in our Events.
    pub instance: String,
}

/// A value that cannot be used. Exit status 2.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Sources could not be read.
    #[error("configuration: {0}")]
    Sources(#[source] Box<figment::Error>),
    /// One value is wrong.
    #[error("{source_name}={value:?}: {fix}")]
    Value {
        /// Flag or variable.
        source_name: &'static str,
        /// As given.
        value: String,
        /// What would be right.
        fix: &'static str,
    },
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Raw {
    #[serde(deserialize_with = "text")]
    log: Option<String>,
    #[serde(deserialize_with = "text")]
    log_format: Option<String>,
    #[serde(deserialize_with = "text")]
    watch_namespace: Option<String>,
    #[serde(deserialize_with = "text")]
    allowed_api_groups: Option<String>,
    #[serde(deserialize_with = "text")]
    max_concurrent_creates: Option<String>,
    #[serde(deserialize_with = "text")]
    pod_name: Option<String>,
    verbose: bool,
}

/// The environment has no types: `POD_NAME=5` is a number to figment. An empty variable counts as unset.
fn text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let value = Option::<serde_json::Value>::deserialize(deserializer)?;
    let text = value.filter(|value| !value.is_null()).map(|value| match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    });
    Ok(text.filter(|text| !text.is_empty()))
}

/// Merges the sources of the controller's configuration and checks every value.
///
/// # Errors
/// The first value that cannot be used, with its source and the fix.
pub fn controller(typed: &ControllerArgs) -> Result<ControllerConfig, ConfigError> {
    let variables = VARIABLES.iter().map(|(variable, _)| *variable).collect::<Vec<_>>();
    let environment = Env::raw().only(&variables).map(|variable| {
        let known = VARIABLES.iter().find(|(name, _)| variable == *name);
        known.map_or(variable, |(_, key)| UncasedStr::new(key)).into()
    });
    from(&Figment::new().merge(environment).merge(Serialized::from(typed, Profile::Default)))
}

fn from(sources: &Figment) -> Result<ControllerConfig, ConfigError> {
    let raw: Raw = sources.extract().map_err(|error| ConfigError::Sources(error.into()))?;
    let log_format = match raw.log_format.as_deref() {
        None => LogFormat::default(),
        Some(text) if text.eq_ignore_ascii_case("json") => LogFormat::Json,
        Some(text) if text.eq_ignore_ascii_case("text") => LogFormat::Text,
        Some(other) => {
            let value = other.to_owned();
            return Err(ConfigError::Value {
                source_name: "--log-format (RUST_LOG_FORMAT)",
                value,
                fix: "json or text",
            });
        }
    };
    let extra = raw.allowed_api_groups.unwrap_or_default();
    let extra = extra.split(',').map(str::trim).filter(|group| !group.is_empty());
    // kube reports every failed call by itself, again and again; each outage has one line of ours.
    let quiet = "kube_client=off,kube_runtime=error";
    let default_log = format!("info,{quiet}{}", if raw.verbose { ",fivespot=debug" } else { "" });
    Ok(ControllerConfig {
        log: raw.log.unwrap_or(default_log),
        log_format,
        watch_namespace: raw.watch_namespace,
        concurrent_creates: concurrent_creates(raw.max_concurrent_creates)?,
        allowed_groups: KNOWN_GROUPS.into_iter().chain(extra).map(str::to_owned).collect(),
        instance: raw.pod_name.unwrap_or_else(|| "5spot-controller".to_owned()),
    })
}

fn concurrent_creates(text: Option<String>) -> Result<u16, ConfigError> {
    let Some(text) = text else { return Ok(CONCURRENT_CREATES) };
    match text.parse() {
        Ok(count) if (1..=MOST_CONCURRENT_CREATES).contains(&count) => Ok(count),
        _ => Err(ConfigError::Value {
            source_name: "--max-concurrent-creates (MAX_CONCURRENT_CREATES)",
            value: text,
            fix: "a whole number from 1 to 1000",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)], typed: &ControllerArgs) -> Result<ControllerConfig, ConfigError> {
        let environment = variables.iter().fold(Figment::new(), |figment, (name, value)| {
            let key = VARIABLES.iter().find(|(variable, _)| variable == name).unwrap().1;
            figment.merge(Serialized::default(key, value))
        });
        from(&environment.merge(Serialized::from(typed, Profile::Default)))
    }

    #[test]
    fn a_flag_wins_over_a_variable_and_a_variable_over_the_default() {
        let typed = ControllerArgs { log_format: Some("json".into()), ..ControllerArgs::default() };
        let variables = [("RUST_LOG_FORMAT", "text"), ("WATCH_NAMESPACE", "machines")];
        let config = read(&variables, &typed).unwrap();
        assert_eq!(
            (config.log_format, config.watch_namespace.as_deref()),
            (LogFormat::Json, Some("machines"))
        );
        assert_eq!(read(&variables, &ControllerArgs::default()).unwrap().log_format, LogFormat::Text);
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
        let config = read(&[("WATCH_NAMESPACE", ""), ("POD_NAME", "")], &ControllerArgs::default()).unwrap();
        assert_eq!((config.watch_namespace, config.instance.as_str()), (None, "5spot-controller"));
    }

    #[test]
    fn a_wrong_value_names_its_source_and_the_fix() {
        let error = read(&[("RUST_LOG_FORMAT", "xml")], &ControllerArgs::default()).unwrap_err();
        assert_eq!(error.to_string(), "--log-format (RUST_LOG_FORMAT)=\"xml\": json or text");
    }

    #[test]
    fn the_bound_on_creates_is_a_positive_number() {
        let read = |text: &str| read(&[("MAX_CONCURRENT_CREATES", text)], &ControllerArgs::default());
        assert_eq!(read("2").unwrap().concurrent_creates, 2);
        assert_eq!(read("").unwrap().concurrent_creates, CONCURRENT_CREATES);
        for wrong in ["0", "-1", "many", "1001", "70000"] {
            let error = read(wrong).unwrap_err().to_string();
            let expected = format!(
                "--max-concurrent-creates (MAX_CONCURRENT_CREATES)={wrong:?}: a whole number from 1 to 1000"
            );
            assert_eq!(error, expected);
        }
    }

    #[test]
    fn further_groups_are_added_to_the_known_ones() {
        let config =
            read(&[("ALLOWED_API_GROUPS", "a.example, b.example,")], &ControllerArgs::default()).unwrap();
        assert_eq!(config.allowed_groups[3..], ["a.example", "b.example"]);
    }
}
