//! What is wrong with the rules is counted and shown, whatever it is.

use super::desk::{Desk, LogOnPanic, PATIENCE};
use crate::harness::controller::{Setup, get};
use crate::harness::wait::answered_until;
use crate::harness::{Controller, ports};

/// An agent with its ports.
struct Shown {
    agent: Controller,
    metrics: u16,
    health: u16,
}

impl Shown {
    fn start(setup: Setup) -> Self {
        let (metrics, health) = (ports::free(), ports::free());
        let setup = setup.env("METRICS_PORT", &metrics.to_string()).env("HEALTH_PORT", &health.to_string());
        Self { agent: setup.start(), metrics, health }
    }

    /// How often each was counted: no TOML, an unknown key, no such value, no such right.
    async fn counted(&self) -> Option<[u64; 4]> {
        let (_, page) = get(self.metrics, "/metrics").await?;
        let of = |cause: &str| {
            let series = format!("fivespot_agent_rules_faults_total{{cause=\"{cause}\"}} ");
            let value = page.lines().find_map(|line| line.strip_prefix(&series));
            value.unwrap_or_else(|| panic!("no {series}in {page}")).parse().unwrap()
        };
        Some(["syntax", "key", "value", "unreadable"].map(of))
    }

    /// Waits until it was counted so, and until it is ready or says these words of why it is not.
    async fn until(&self, counts: [u64; 4], unready: Option<&str>) {
        let _log = LogOnPanic(&self.agent);
        answered_until(&format!("{counts:?}, {unready:?}"), PATIENCE, async || {
            let counted = self.counted().await;
            let said = get(self.health, "/readyz").await;
            let is_so = said.as_ref().is_some_and(|(code, body)| match unready {
                None => *code == 200,
                Some(words) => *code == 503 && body.contains(words),
            });
            if counted == Some(counts) && is_so { Ok(()) } else { Err(format!("{counted:?} {said:?}")) }
        })
        .await;
    }
}

#[tokio::test]
async fn every_fault_of_the_rules_is_counted_and_shown() {
    let desk = Desk::new().await;
    let shown = Shown::start(desk.agent());
    shown.until([0; 4], None).await;
    desk.put_rules("match_commands = [").await;
    shown.until([1, 0, 0, 0], Some("rules: none are in force; line 1")).await;
    desk.put_rules("match_comands = []").await;
    shown.until([1, 1, 0, 0], Some("match_comands: there is no such key")).await;
    desk.list(&desk.program()).await;
    shown.until([1, 1, 0, 0], None).await;
    desk.put_rules("poll_interval_ms = 0").await;
    shown.until([1, 1, 1, 0], Some("rules: those before hold; line 1: poll_interval_ms")).await;
    desk.until_rules(&shown.agent, "those before hold; line 1: poll_interval_ms").await;
    // Read again and again, it stays one fault; two in one text are two.
    desk.put_rules("poll_interval_ms = 0\nno = 1").await;
    shown.until([1, 2, 2, 0], Some("line 2: no: there is no such key")).await;
    desk.drop_rules().await;
    shown.until([1, 2, 2, 0], None).await;
}

#[tokio::test]
async fn rules_that_may_not_be_read_are_counted_and_shown() {
    let desk = Desk::new().await;
    let nobody = desk.planes.workload().issue_kubeconfig("nobody-in-particular", &[]);
    let shown = Shown::start(desk.agent_with(&nobody));
    shown.until([0, 0, 0, 1], Some("the ConfigMap cannot be read")).await;
    let (_, status) = get(shown.health, "/health/status").await.unwrap();
    assert!(status.contains("cannot list resource"), "{status}");
}
