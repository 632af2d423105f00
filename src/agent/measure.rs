//! What the agent shows on its ports, read at each scrape from what it runs on: nothing to keep in step.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::agent::lease::Said;
use crate::agent::rules::Flaw;
use crate::detector::{Count, FallbackReason, Monitor, Source};
use crate::telemetry::health::Health;
use crate::telemetry::metrics::{Buckets, Counters, Histograms, Registry, counters, histograms};

/// Netlink tells of a program within a millisecond or a few; a request is written at once, or when the API server is back.
const STAGES: Buckets =
    Buckets(&[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0]);

/// The agent's part of a reclaim, in time; the controller measures on from there.
#[derive(Clone, Debug)]
pub struct Stages(Histograms<1>);

impl Stages {
    /// Its series are there from now on.
    pub fn register(registry: &mut Registry) -> Self {
        Self(histograms(
            registry,
            "fivespot_reclaim_stage_seconds",
            "From the kernel's stamp on a program's start to the verdict on it (detect; netlink alone), and from there until \
             the request stood on the Node (annotate)",
            STAGES,
            ["detect", "annotate"].map(|stage| [("stage", stage)]),
        ))
    }

    /// The kernel's event of it came so long before the verdict.
    pub fn detected(&self, took: Duration) {
        self.0.get_or_create(&[("stage", "detect")]).observe(took.as_secs_f64());
    }

    /// The request stood on the Node so long after the verdict.
    pub fn annotated(&self, took: Duration) {
        self.0.get_or_create(&[("stage", "annotate")]).observe(took.as_secs_f64());
    }
}

/// How often the rules were at fault, by what was wrong.
#[derive(Clone, Debug)]
pub struct RuleFaults(Counters<1>);

/// For a ConfigMap that cannot be read.
const UNREADABLE: &str = "unreadable";

fn word(flaw: Flaw) -> &'static str {
    match flaw {
        Flaw::Syntax => "syntax",
        Flaw::Key => "key",
        Flaw::Value => "value",
    }
}

impl RuleFaults {
    /// Its series are there from now on.
    pub fn register(registry: &mut Registry) -> Self {
        let causes = [word(Flaw::Syntax), word(Flaw::Key), word(Flaw::Value), UNREADABLE];
        Self(counters(
            registry,
            "fivespot_agent_rules_faults_total",
            "Texts of rules that were at fault, by what was wrong with them: no TOML (syntax), an unknown key, a value that \
             is none; one text may count under several. Under unreadable: times that the ConfigMap began to be unreadable",
            causes.map(|cause| [("cause", cause)]),
        ))
    }

    /// A text was read and has these faults.
    pub fn read(&self, flaws: impl Iterator<Item = Flaw>) {
        flaws.for_each(|flaw| self.count(word(flaw)));
    }

    /// The ConfigMap cannot be read any more.
    pub fn unreadable(&self) {
        self.count(UNREADABLE);
    }

    fn count(&self, cause: &'static str) {
        self.0.get_or_create(&[("cause", cause)]).inc();
    }
}

/// What is shown.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Name of the Node.
    pub node: String,
    /// Of the detectors.
    pub monitor: Monitor,
    /// Of the rules, among others.
    pub said: watch::Receiver<Said>,
}

impl Shown {
    /// Shows the metrics at each scrape from now on.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(self.clone()));
    }

    /// Ready while it sees, and while its rules can be read; no rules are no fault.
    pub fn needs(&self, health: &Health) {
        let (monitor, said) = (self.monitor.clone(), self.said.clone());
        health.needs("detector", move || {
            let seen = monitor.health();
            match (seen.source, seen.fallback) {
                _ if seen.blind => Err("no process but this one can be seen".to_owned()),
                (None, reason) => Err(reason.map_or("nobody listens", FallbackReason::advice).to_owned()),
                (Some(_), _) => Ok(()),
            }
        });
        let rules = move || said.borrow().rules_at_fault().map_or(Ok(()), |fault| Err(fault.to_owned()));
        health.needs("rules", rules);
    }

    /// For `/health/status`.
    pub fn status(&self) -> Value {
        let health = self.monitor.health();
        json!({
            "node": self.node,
            "detector": health.source.map(Source::word),
            "fallback": health.fallback.map(|reason| json!({"reason": reason.word(), "advice": reason.advice()})),
            "heartbeatAgeSeconds": health.proof_age.map(|age| age.as_secs_f64()),
            "processes": health.processes,
            "walkMilliseconds": health.walk_time.as_secs_f64() * 1000.0,
            "rules": self.said.borrow().rules(),
        })
    }
}

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (counters, health) = (self.monitor.counters(), self.monitor.health());
        let help = "What the detectors have heard and done, by type; docs/agent.md says what each counts.";
        let kind = MetricType::Counter;
        let mut events = encoder.encode_descriptor("fivespot_agent_events", help, None, kind)?;
        for (word, count) in counters.all() {
            ConstCounter::new(count).encode(events.encode_family(&[("type", word)])?)?;
        }
        let help = "Processes that matched a rule and were reported.";
        let matches = encoder.encode_descriptor("fivespot_agent_matches", help, None, kind)?;
        ConstCounter::new(counters.of(Count::Found)).encode(matches)?;
        let help = "Always 1; who tells of programs, and why it is not netlink.";
        let kind = MetricType::Gauge;
        let mut info = encoder.encode_descriptor("fivespot_agent_detector_info", help, None, kind)?;
        let labels = [
            ("detector", health.source.map_or("none", Source::word)),
            ("fallback", health.fallback.map_or("", FallbackReason::word)),
        ];
        ConstGauge::new(1_i64).encode(info.encode_family(&labels)?)?;
        let help = "Since the detector was last proven to work; infinite before the first time.";
        let age = encoder.encode_descriptor("fivespot_agent_heartbeat_age_seconds", help, None, kind)?;
        ConstGauge::new(health.proof_age.map_or(f64::INFINITY, |age| age.as_secs_f64())).encode(age)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::book::Book;
    use crate::agent::rules::Rules;
    use crate::detector::{Detector, Kind, Options};

    #[test]
    fn rules_at_fault_and_detectors_that_see_nothing_are_not_ready() {
        let options = Options { kind: Kind::Poll, ..Options::default() };
        let detector = Detector::<Rules>::start(options).unwrap();
        let monitor = detector.monitor();
        let walked = std::iter::from_fn(|| {
            std::thread::sleep(Duration::from_millis(5));
            Some(monitor.health().processes)
        });
        assert!(walked.take(2000).any(|processes| processes > 0), "{:?}", monitor.health());
        let mut book = Book::new();
        let (say, said) = watch::channel(Said::new(&monitor.health(), &book));
        let health = Health::default();
        let shown = Shown { node: "ws-17".to_owned(), monitor: monitor.clone(), said };
        shown.needs(&health);
        assert_eq!(health.missing(), Vec::<String>::new(), "rules that were not read yet are no fault");
        for (text, is_faulty) in
            [(Some("no = 1"), true), (None, false), (Some("no = 1"), true), (Some(""), false)]
        {
            book.take("ws-17", text);
            say.send_replace(Said::new(&monitor.health(), &book));
            let missing = health.missing();
            assert_eq!(
                missing.iter().any(|why| why.starts_with("rules: none are in force; line 1")),
                is_faulty
            );
            assert_eq!(missing.is_empty(), !is_faulty, "{missing:?}");
        }
        assert_eq!(shown.status()["rules"], "ok");
        let mut registry = Registry::default();
        shown.register(&mut registry);
        let page = crate::telemetry::metrics::text(&registry).unwrap();
        assert!(page.contains("fivespot_agent_detector_info{detector=\"poll\",fallback=\"\"} 1"), "{page}");
    }
}
