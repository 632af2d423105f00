//! What is to be done for the agent: its rules first, then the label that brings its pod to the Node, and off in the
//! other order. One write at a time, each checked; what somebody else undoes is told, and done again after a while.

use jiff::{SignedDuration, Timestamp};

use super::{Agents, RulesMap, rules};
use crate::api::condition::types;
use crate::api::names::{RECLAIM_AGENT_ENABLED, agent_object};
use crate::controller::effect::{Effect, NodeEdit};
use crate::controller::snapshot::{Node, Snapshot};
use crate::workload::Reach;

/// What was written is not written again before, if somebody undid it.
const PEACE: SignedDuration = SignedDuration::from_secs(60);

/// A checked write of an agent's rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RulesEdit {
    /// Of the ConfigMap.
    pub name: String,
    /// Uid and resource version of the one that is there.
    pub there: Option<(String, String)>,
    /// The rules.
    pub text: String,
}

/// How the agent stands, as far as it is ours to say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AgentPlan {
    /// Somebody has to know of the agents of the cluster.
    pub asks: bool,
    /// On the ConfigMap.
    pub rules: Option<Effect>,
    /// On the Node; one of several that want to write there.
    pub label: Option<Effect>,
    /// What somebody else has undone or taken, in words.
    pub undone: Option<String>,
    /// Rules and label are there, as they should be.
    pub is_set: bool,
    /// When to try again what was undone.
    pub again_at: Option<Timestamp>,
}

/// Whether the agents of the cluster are to be watched: somebody wants one, or one that nobody wants any more is still
/// there.
pub fn asks(snapshot: &Snapshot) -> bool {
    let is_told = snapshot.status.conditions.iter().any(|said| said.type_ == types::AGENT_READY);
    let is_labelled = snapshot.own_node().is_some_and(is_labelled);
    let has_rules = ours(snapshot).next().is_some();
    let is_wanted = !snapshot.target.commands.is_empty();
    snapshot.cluster.is_some() && (is_wanted || is_told || is_labelled || has_rules)
}

/// While the machine is in.
pub fn follow(snapshot: &Snapshot) -> AgentPlan {
    let plan = AgentPlan { asks: asks(snapshot), ..AgentPlan::default() };
    let node = snapshot.own_node().filter(|node| !node.deleting && snapshot.reach == Reach::Connected);
    let (Some(node), Some(known)) = (node, known(snapshot)) else { return plan };
    if snapshot.target.commands.is_empty() {
        return disarmed(snapshot, node, plan);
    }
    // A Node that is labelled already had been ready.
    if node.is_ready || is_labelled(node) { armed(snapshot, node, known, plan) } else { plan }
}

/// Once the machine is gone: whether there may be rules of ours that a process which has just begun cannot see yet. A
/// cluster that does not let us look is not waited for.
pub fn may_be_left(snapshot: &Snapshot) -> bool {
    let is_troubled = snapshot.agents.as_ref().is_some_and(|agents| agents.trouble.is_some());
    let may_come = matches!(snapshot.reach, Reach::Connected | Reach::Connecting);
    // The run is not closed in the books yet.
    let had_node = snapshot.status.node_ref.is_some();
    // The list of them may be complete before the connection counts as one, and nothing is written until then.
    let may_be_there = known(snapshot).is_none() || ours(snapshot).next().is_some();
    had_node && asks(snapshot) && may_be_there && may_come && !is_troubled
}

/// Once the machine is gone.
pub fn leftovers(snapshot: &Snapshot) -> Vec<Effect> {
    let may_write = snapshot.reach == Reach::Connected;
    ours(snapshot).filter(|_| may_write).map(delete).collect()
}

fn armed(snapshot: &Snapshot, node: &Node, known: &[RulesMap], plan: AgentPlan) -> AgentPlan {
    let (name, text) = (agent_object(&node.name), rules::text(&snapshot.target.commands));
    let there = known.iter().find(|map| map.name == name);
    let is_right = |map: &&RulesMap| {
        map.text.as_ref() == Some(&text) && map.uid_label.as_ref() == Some(&snapshot.object.uid)
    };
    if !there.as_ref().is_some_and(is_right) {
        let written = snapshot.agent_written.rules.as_ref();
        let last = written.filter(|(of, what, _)| *of == name && *what == text).map(|(_, _, at)| *at);
        let undone = format!("somebody changed or deleted the ConfigMap {name}");
        let there = there.map(|map| (map.uid.clone(), map.resource_version.clone()));
        let write = Effect::WriteRules(RulesEdit { name, there, text });
        return at_peace(snapshot, last, undone, AgentPlan { rules: Some(write), ..plan });
    }
    // Of a Node that had another name.
    let stale = ours(snapshot).find(|map| map.name != name).map(delete);
    let plan = AgentPlan { rules: stale, ..plan };
    match node.agent_label.as_deref() {
        Some(RECLAIM_AGENT_ENABLED) => AgentPlan { is_set: true, ..plan },
        Some(other) => {
            let undone = format!(
                "somebody has set the Node's label to {other:?}; take it off, and it is set to enabled"
            );
            AgentPlan { undone: Some(undone), ..plan }
        }
        None => {
            let written = snapshot.agent_written.label.as_ref();
            let last = written.filter(|(of, _)| *of == node.uid).map(|(_, at)| *at);
            let undone = "somebody took the label off the Node".to_owned();
            let label = Some(Effect::LabelNode { node: edit(node), on: true });
            at_peace(snapshot, last, undone, AgentPlan { label, ..plan })
        }
    }
}

/// What was written a moment ago may only not be shown yet, and whoever undid it may mean it.
fn at_peace(snapshot: &Snapshot, last: Option<Timestamp>, undone: String, plan: AgentPlan) -> AgentPlan {
    let again_at = last.and_then(|at| at.checked_add(PEACE).ok()).filter(|at| *at > snapshot.now);
    match again_at {
        None => plan,
        Some(_) => AgentPlan { rules: None, label: None, undone: Some(undone), again_at, ..plan },
    }
}

/// The label first: an agent without rules would only say that it has none.
fn disarmed(snapshot: &Snapshot, node: &Node, plan: AgentPlan) -> AgentPlan {
    let is_labelled = is_labelled(node);
    let label = is_labelled.then(|| Effect::LabelNode { node: edit(node), on: false });
    let rules = ours(snapshot).next().filter(|_| !is_labelled).map(delete);
    AgentPlan { rules, label, ..plan }
}

fn is_labelled(node: &Node) -> bool {
    node.agent_label.as_deref() == Some(RECLAIM_AGENT_ENABLED)
}

fn known(snapshot: &Snapshot) -> Option<&[RulesMap]> {
    snapshot.agents.as_ref().and_then(|agents: &Agents| agents.rules.as_deref())
}

fn ours(snapshot: &Snapshot) -> impl Iterator<Item = &RulesMap> {
    let all = known(snapshot).into_iter().flatten();
    all.filter(move |map| map.uid_label.as_ref() == Some(&snapshot.object.uid))
}

fn delete(map: &RulesMap) -> Effect {
    Effect::DeleteRules { name: map.name.clone(), uid: map.uid.clone() }
}

fn edit(node: &Node) -> NodeEdit {
    NodeEdit {
        name: node.name.clone(),
        uid: node.uid.clone(),
        resource_version: node.resource_version.clone(),
    }
}
