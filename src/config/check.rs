//! What a text may be: one parser for each kind of value, and the words that say what would be right.

use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use crate::config::sources::{Given, Source, Values};
use crate::config::{ConfigError, LogFormat, Logs};

/// kube reports every failed call by itself, again and again, some with what they could not read; each outage has one
/// line of ours. Whoever names these targets gets them.
const QUIET: &str = "kube_client=off,kube_runtime=error";

impl Values {
    /// The value of a key, parsed; `None`: unset.
    pub(super) fn read<T>(
        &self,
        name: &'static str,
        fix: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<(T, Given)>, ConfigError> {
        let Some(given) = self.given(name) else { return Ok(None) };
        match parse(&given.text) {
            Some(value) => Ok(Some((value, given))),
            None => Err(ConfigError::Value { given, fix: fix.to_owned() }),
        }
    }

    /// The same of a key that has a default.
    pub(super) fn must<T>(
        &self,
        name: &'static str,
        fix: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<(T, Given), ConfigError> {
        self.read(name, fix, parse)?.ok_or(ConfigError::Missing { name })
    }

    pub(super) fn switch(&self, name: &'static str) -> Result<(bool, Given), ConfigError> {
        self.must(name, "true or false (1 or 0)", switch)
    }

    pub(super) fn number(
        &self,
        name: &'static str,
        least: u16,
        most: u16,
    ) -> Result<(u16, Given), ConfigError> {
        let fix = format!("a whole number from {least} to {most}");
        self.must(name, &fix, |text| number(text).filter(|n| (least..=most).contains(n)))
    }

    pub(super) fn seconds(&self, name: &'static str, least: u16) -> Result<(Duration, Given), ConfigError> {
        let fix = format!("a whole number of seconds from {least} to 3600");
        let seconds = |text: &str| number(text).filter(|n| (least..=3600).contains(n));
        let (seconds, given) = self.must(name, &fix, seconds)?;
        Ok((Duration::from_secs(seconds.into()), given))
    }

    /// Both ports, where they are set: not 0, and not the same.
    pub(super) fn ports(&self) -> Result<(Option<NonZeroU16>, Option<NonZeroU16>), ConfigError> {
        let metrics = self.port("metrics-port")?;
        let health = self.port("health-port")?;
        if let (Some((one, first)), Some((other, second))) = (&metrics, &health)
            && one == other
        {
            return Err(ConfigError::Together {
                both: (first.clone(), second.clone()).into(),
                fix: "metrics and health need a port each",
            });
        }
        Ok((metrics.map(|(port, _)| port), health.map(|(port, _)| port)))
    }

    fn port(&self, name: &'static str) -> Result<Option<(NonZeroU16, Given)>, ConfigError> {
        let mut fix = "a port from 1 to 65535".to_owned();
        // `METRICS_PORT` is also what the kubelet calls the port of a Service that is named `metrics`.
        if let Some(Given { text, source: Source::Variable(variable) }) = self.given(name)
            && text.contains("://")
        {
            let service = variable.trim_end_matches("_PORT").to_ascii_lowercase();
            fix = format!(
                "{fix}; Kubernetes sets this variable for a Service named {service:?}: rename that, \
                 or set enableServiceLinks: false in the pod"
            );
        }
        self.read(name, &fix, |text| NonZeroU16::new(number(text)?))
    }

    pub(super) fn path(&self, name: &'static str) -> Result<PathBuf, ConfigError> {
        let absolute = |text: &str| Some(PathBuf::from(text)).filter(|path| path.is_absolute());
        Ok(self.must(name, "an absolute path", absolute)?.0)
    }

    pub(super) fn logs(&self) -> Result<Logs, ConfigError> {
        let format = |text: &str| match text {
            _ if text.eq_ignore_ascii_case("json") => Some(LogFormat::Json),
            _ if text.eq_ignore_ascii_case("text") => Some(LogFormat::Text),
            _ => None,
        };
        let (format, _) = self.must("log-format", "json or text", format)?;
        let (verbose, _) = self.switch("verbose")?;
        let directives = |text: &str| {
            let whole = format!("{QUIET},{text}");
            (!text.is_empty() && EnvFilter::builder().parse(&whole).is_ok()).then_some(whole)
        };
        let fix = "a level (trace, debug, info, warn, error), or directives like info,fivespot=debug";
        let (filter, given) = self.must("log-filter", fix, directives)?;
        let is_default = matches!(given.source, Source::Default(_));
        let filter = if verbose && is_default { format!("{filter},fivespot=debug") } else { filter };
        Ok(Logs { filter, format })
    }
}

/// Any case.
fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// Digits alone: `+9` is not how anybody writes a port.
fn number(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// A name of one part, as namespaces have it (RFC 1123 label).
pub(super) fn is_label(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(is_inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A name with dots, as most objects have it (RFC 1123 subdomain).
pub(super) fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

/// What [`is_label`] asks for.
pub(super) const LABEL: &str = "at most 63 of a-z, 0-9 and -, beginning and ending with a letter or digit";
/// What [`is_subdomain`] asks for.
pub(super) const SUBDOMAIN: &str =
    "at most 253 of a-z, 0-9, - and ., each part beginning and ending with a letter or digit";
