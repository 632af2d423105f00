//! One look: opens the detector, which proves that it hears, looks once at everything that runs, and tells. Writes
//! nothing anywhere.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::timeout;

use crate::agent::error::Error;
use crate::agent::rules::{Match, POLL_INTERVAL, Rules};
use crate::detector::{Detector, DetectorError, Event, FallbackReason, Health, Options, Sighting, Source};

/// For one walk over everything: a hundred thousand processes take a second.
const PATIENCE: Duration = Duration::from_secs(60);

/// What one look has shown, as it is printed.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Look {
    /// The detector works and has looked at everything.
    pub is_healthy: bool,
    /// `netlink` or `poll`; null: none.
    pub detector: Option<&'static str>,
    /// Why it is not netlink, where netlink was wanted.
    pub fallback: Option<&'static str>,
    /// Processes that were looked at, kernel threads included.
    pub processes: usize,
    /// Those that matched.
    pub matches: Vec<Found>,
    /// What is wrong, for people.
    pub error: Option<String>,
}

/// A process that matched.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Its number.
    pub pid: u32,
    /// The kernel's name of it.
    pub name: String,
    /// Who runs it, where that can be read.
    pub uid: Option<u32>,
    /// The rule, as written.
    pub rule: String,
    /// What the rule was compared with.
    pub by: String,
}

/// Looks once by these rules; `None`: nothing can match.
pub async fn look(options: Options, rules: Option<Arc<Rules>>) -> Look {
    let mut detector = match Detector::start(options) {
        Ok(detector) => detector,
        Err(error) => return failed(&error),
    };
    let interval = rules.as_ref().map_or(POLL_INTERVAL, |rules| rules.poll_interval());
    detector.look_for(rules, interval);
    let mut matches = Vec::new();
    let all = timeout(PATIENCE, async {
        loop {
            match detector.next().await {
                Some(Event::Found(sighting)) => matches.push(found(sighting)),
                Some(Event::Health(_)) => {}
                Some(Event::Looked) => return true,
                None => return false,
            }
        }
    });
    let is_whole = all.await.unwrap_or(false);
    matches.sort_by_key(|found| found.pid);
    told(&detector.health(), is_whole, matches)
}

fn failed(error: &DetectorError) -> Look {
    let fallback = match error {
        DetectorError::Netlink(reason) => Some(reason.word()),
        DetectorError::ProcRoot { .. } | DetectorError::Start(_) => None,
    };
    Look { fallback, error: Some(error.to_string()), ..Look::default() }
}

fn told(health: &Health, is_whole: bool, matches: Vec<Found>) -> Look {
    let error = if !is_whole {
        Some(format!("not everything was looked at within {} s", PATIENCE.as_secs()))
    } else if health.source.is_none() {
        Some("nobody listens".to_owned())
    } else if health.blind {
        Some(
            "no process but this one can be seen: set hostPID: true, or give the host's --proc-root"
                .to_owned(),
        )
    } else {
        None
    };
    Look {
        is_healthy: error.is_none(),
        detector: health.source.map(Source::word),
        fallback: health.fallback.map(FallbackReason::word),
        processes: health.processes,
        matches,
        error,
    }
}

fn found(sighting: Sighting<Match>) -> Found {
    let Sighting { pid, found, name, owner, .. } = sighting;
    Found { pid, name, uid: owner, rule: found.rule, by: found.by.to_string() }
}

/// Prints it as one line of JSON. Whoever reads no further has what it wanted.
///
/// # Errors
/// It cannot be written.
pub fn print(look: &Look, mut to: impl Write) -> Result<(), Error> {
    let line = serde_json::to_string(look).map_err(|error| Error::Print(error.into()))?;
    match writeln!(to, "{line}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::Print(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_one_line_with_all_it_has_to_say() {
        let matched = Found { pid: 7, name: "a\nb".into(), uid: None, rule: "a".into(), by: "name".into() };
        let health = Health {
            source: Some(Source::Poll),
            fallback: Some(FallbackReason::Deaf),
            blind: false,
            proof_age: None,
            processes: 9,
            walk_time: Duration::ZERO,
        };
        let mut line = Vec::new();
        print(&told(&health, true, vec![matched]), &mut line).unwrap();
        let expected = concat!(
            r#"{"isHealthy":true,"detector":"poll","fallback":"deaf","processes":9,"#,
            r#""matches":[{"pid":7,"name":"a\nb","uid":null,"rule":"a","by":"name"}],"error":null}"#,
            "\n"
        );
        assert_eq!(String::from_utf8(line).unwrap(), expected);
        let blind = Health { blind: true, ..health.clone() };
        let nobody = Health { source: None, ..health.clone() };
        for look in [told(&blind, true, vec![]), told(&nobody, true, vec![]), told(&health, false, vec![])] {
            assert!(!look.is_healthy && look.error.is_some(), "{look:?}");
        }
    }
}
