//! Who holds a drain up, in words for the status: few lines, and seldom written.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::api::status::{Blocker, LeavingStage, MOST_BLOCKERS};
use crate::controller::decide::leave::{Clock, LONGEST_BLOCKER, local};
use crate::controller::snapshot::Snapshot;
use crate::controller::snapshot::pods::{Outcome, Pod, Pods};
use crate::workload::Reach;

/// Pods come and go by the dozen; what the status says of them is renewed no more often than this.
const REPORT_EVERY: SignedDuration = SignedDuration::from_secs(5);
/// How many lines a message names.
const NAMED: usize = 3;
/// How many pods the line of a budget names.
const PODS_OF_A_BUDGET: usize = 5;

/// What the status is to say.
pub(super) struct Report {
    pub(super) lines: Vec<Blocker>,
    /// When it was true.
    pub(super) as_of: Timestamp,
    /// When it may be renewed, if it has to be.
    pub(super) again_at: Option<Timestamp>,
}

/// Today's lines, or those of the last report while that is young. A drain begins with a report of none: most are over
/// before they need another.
pub(super) fn report(snapshot: &Snapshot, pods: &[&Pod]) -> Report {
    let now = snapshot.now;
    let before = snapshot.status.leaving.as_ref().filter(|leaving| leaving.stage == LeavingStage::Drain);
    let before = before.and_then(|leaving| Some((leaving.blocked_by.clone(), leaving.as_of?)));
    let (said, as_of) = before.unwrap_or_else(|| (Vec::new(), now));
    let lines = lines(snapshot, pods);
    let again_at = as_of.saturating_add(REPORT_EVERY).unwrap_or(now);
    // A report of an instant that is yet to come: the clock was put back.
    let is_young = as_of <= now && now < again_at;
    if lines == said {
        Report { lines, as_of, again_at: None }
    } else if is_young {
        Report { lines: said, as_of, again_at: Some(again_at) }
    } else {
        Report { lines, as_of: now, again_at: None }
    }
}

/// One line for people, of what the report names.
pub(super) fn message(snapshot: &Snapshot, clock: &Clock, lines: &[Blocker]) -> String {
    let until = local(snapshot, clock.drain_ends_at);
    let named: Vec<String> = lines
        .iter()
        .take(NAMED)
        .map(|line| match &line.namespace {
            Some(namespace) => format!("{} {namespace}/{}: {}", line.kind, line.name, line.reason),
            None => format!("{} {}: {}", line.kind, line.name, line.reason),
        })
        .collect();
    let rest = lines.len().saturating_sub(NAMED);
    match (named.is_empty(), rest) {
        (true, _) => format!("emptying the Node, until {until} at the latest"),
        (false, 0) => format!("emptying the Node, until {until} at the latest; {}", named.join("; ")),
        (false, rest) => {
            let named = named.join("; ");
            format!(
                "emptying the Node, until {until} at the latest; {named}; {rest} more in leaving.blockedBy"
            )
        }
    }
}

/// Budgets first, then pods that cannot be asked to go, then those that are going.
fn lines(snapshot: &Snapshot, pods: &[&Pod]) -> Vec<Blocker> {
    let mut ranked: Vec<(u8, Blocker)> = pods.iter().map(|pod| line(pod)).collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    let pod_lines = ranked.into_iter().map(|(_, line)| line);
    let mut all: Vec<Blocker> = cluster(snapshot).into_iter().chain(budgets(pods)).chain(pod_lines).collect();
    if all.len() > MOST_BLOCKERS {
        let more = all.len() - (MOST_BLOCKERS - 1);
        all.truncate(MOST_BLOCKERS - 1);
        all.push(Blocker {
            kind: "Pod".to_owned(),
            namespace: None,
            name: format!("and {more} more"),
            reason: "not listed".to_owned(),
        });
    }
    all
}

/// Where the pods cannot be seen or asked.
fn cluster(snapshot: &Snapshot) -> Option<Blocker> {
    let text = match (&snapshot.pods, &snapshot.reach) {
        (Pods::Awaited { trouble: Some(text), .. }, _)
        | (
            _,
            Reach::Unreachable(text)
            | Reach::Unauthorized(text)
            | Reach::KubeconfigMissing(text)
            | Reach::KubeconfigInvalid(text),
        ) => text,
        (_, Reach::Connected | Reach::Connecting) => return None,
    };
    Some(Blocker {
        kind: "Cluster".to_owned(),
        namespace: Some(snapshot.object.namespace.clone()),
        name: snapshot.target.cluster_name.clone(),
        reason: clipped(text),
    })
}

fn budgets(pods: &[&Pod]) -> Vec<Blocker> {
    let mut kept: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| pod.ending.is_none()) {
        if let Some(Outcome::Refused { budgets }) = pod.tried.as_ref().map(|tried| &tried.outcome) {
            for budget in budgets {
                kept.entry((&pod.namespace, budget)).or_default().push(&pod.name);
            }
        }
    }
    let line = |((namespace, budget), pods): ((&str, &str), Vec<&str>)| {
        let more = pods.len().saturating_sub(PODS_OF_A_BUDGET);
        let named = pods.iter().take(PODS_OF_A_BUDGET).copied().collect::<Vec<_>>().join(", ");
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        Blocker {
            kind: "PodDisruptionBudget".to_owned(),
            namespace: Some(namespace.to_owned()),
            name: budget.to_owned(),
            reason: clipped(&format!("allows no eviction of {named}{more}")),
        }
    };
    kept.into_iter().map(line).collect()
}

/// The first of the pair sorts it: what is stuck comes first.
fn line(pod: &Pod) -> (u8, Blocker) {
    let (rank, reason) = match pod.tried.as_ref().map(|tried| &tried.outcome) {
        _ if pod.ending.is_some() => (2, "is ending".to_owned()),
        Some(Outcome::Refused { budgets }) if budgets.is_empty() => {
            (0, "the API server refuses its eviction for now (429)".to_owned())
        }
        Some(Outcome::Refused { budgets }) => {
            (1, format!("kept by PodDisruptionBudget {}", budgets.join(", ")))
        }
        Some(Outcome::Forbidden { message } | Outcome::Failed { message }) => (0, message.clone()),
        Some(Outcome::Accepted) | None if pod.underway.is_some() => {
            (0, "the API server has not answered to its eviction yet".to_owned())
        }
        Some(Outcome::Accepted) | None => (2, "to be evicted".to_owned()),
    };
    let line = Blocker {
        kind: "Pod".to_owned(),
        namespace: Some(pod.namespace.clone()),
        name: pod.name.clone(),
        reason: clipped(&reason),
    };
    (rank, line)
}

fn clipped(text: &str) -> String {
    text.chars().take(LONGEST_BLOCKER).collect()
}
