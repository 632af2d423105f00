//! `AgentReady`: whether somebody on the Node would hear the owner.

use super::Sign;
use super::plan::AgentPlan;
use crate::api::names::{AGENT_NAMESPACE, AGENT_RULES_OK};
use crate::controller::reclaim::request::one_line;
use crate::controller::report::Failure;
use crate::controller::snapshot::Snapshot;

/// How much of an agent's own words is kept.
const LONGEST_WORDS: usize = 300;

/// Whether it hears, why, and in words.
pub type Word = (bool, &'static str, String);

/// What there is to say while an agent is wanted; `None`: its Lease is being looked for.
pub fn word(snapshot: &Snapshot, plan: &AgentPlan, failure: Option<&Failure>) -> Option<Word> {
    let knows_leases = snapshot.agents.as_ref().is_some_and(|agents| agents.is_heard);
    in_the_way(snapshot, plan, failure).or_else(|| knows_leases.then(|| heard(snapshot)))
}

/// Why there can be no agent yet, or none that looks for the right programs.
fn in_the_way(snapshot: &Snapshot, plan: &AgentPlan, failure: Option<&Failure>) -> Option<Word> {
    let agents = snapshot.agents.as_ref();
    if let Some(trouble) = agents.and_then(|agents| agents.trouble.as_ref()) {
        let message = format!(
            "ConfigMaps or Leases of namespace {AGENT_NAMESPACE} cannot be watched: {trouble}; apply manifests/workload there"
        );
        return Some((false, "NotReadable", message));
    }
    let wants_to_write = plan.rules.is_some() || plan.label.is_some();
    if let Some(failure) = failure.filter(|_| wants_to_write) {
        let reason = if failure.reason == "NameTaken" { "NameTaken" } else { "PatchFailed" };
        return Some((false, reason, failure.message.clone()));
    }
    if let Some(undone) = &plan.undone {
        return Some((false, "Undone", undone.clone()));
    }
    let message = "its rules and its label follow when the Node is Ready";
    (!plan.is_set).then(|| (false, "NodeNotReady", message.to_owned()))
}

fn heard(snapshot: &Snapshot) -> Word {
    let Some(sign) = snapshot.agents.as_ref().and_then(|agents| agents.beat.as_ref()) else {
        let message = format!(
            "no agent has reported from the Node: see that the DaemonSet of manifests/agent is in namespace {AGENT_NAMESPACE} there, and what the events of its pod say"
        );
        return (false, "NotInstalled", message);
    };
    let was_silent = snapshot.status.conditions.iter().any(|said| said.reason == "NotReporting");
    if snapshot.now >= sign.silent_at || (was_silent && !sign.is_alive) {
        let message = "the agent renews its Lease no more: see its pod on the Node".to_owned();
        return (false, "NotReporting", message);
    }
    if sign.rules != AGENT_RULES_OK {
        return (false, "RulesNotInForce", format!("the agent says: {}", words(&sign.rules)));
    }
    how(sign)
}

fn how(sign: &Sign) -> Word {
    let why = sign.fallback.as_deref().map(words);
    match (sign.detector.as_str(), why) {
        ("netlink", _) => {
            (true, "Netlink", "the kernel tells the agent of every program that starts".to_owned())
        }
        ("poll", Some(why)) => (
            true,
            "Polling",
            format!("the agent looks for programs at intervals, and is not told of them: {why}"),
        ),
        ("poll", None) => {
            (true, "Polling", "the agent looks for programs at intervals, as it is set to".to_owned())
        }
        (_, why) => {
            let why = why.unwrap_or_else(|| "it does not say why".to_owned());
            (false, "NotWatching", format!("the agent runs and cannot see programs: {why}"))
        }
    }
}

fn words(text: &str) -> String {
    one_line(text, LONGEST_WORDS)
}
