//! The Node is emptied before the Machine is deleted: Cluster API looks at a drain of its own every 20 s, and no event
//! shortens that. Work across passes: each looks at the pods as they are, asks some of them to go, and comes back.

use jiff::{SignedDuration, Timestamp};

use crate::api::names::LABEL_POD_DRAIN;
use crate::api::status::{Leaving, LeavingStage};
use crate::capi::machine::Machine;
use crate::controller::decide::eject::pod_edit;
use crate::controller::decide::leave::{
    Backstop, Clock, delete, going, hold_off, leaving, may_have_node, reachable_node,
};
use crate::controller::decide::rule::Ruling;
use crate::controller::decide::{Plan, held_up};
use crate::controller::effect::{Effect, Wake};
use crate::controller::snapshot::pods::{Pod, Pods, Verb};
use crate::controller::snapshot::{Node, Snapshot};
use crate::workload::Reach;

/// Pods asked to go at the same time.
const AT_ONCE: usize = 16;
/// How long the pods may take to be seen at all. After that the drain is Cluster API's: its limit is the same, and its
/// way to the workload cluster may be another.
const PATIENCE: SignedDuration = SignedDuration::from_secs(10);

/// After asking for the pods.
const NEXT_LOOK: SignedDuration = SignedDuration::from_secs(1);

/// How far the Node is.
enum Step<'a> {
    /// The time for it has passed, or there was none.
    Over,
    /// The order in which its pods go is Cluster API's business, or there is no Node of ours to empty.
    HandOver,
    /// Its pods are not known yet.
    Await {
        /// To be looked at again then, if nothing happens before.
        until: Option<Timestamp>,
    },
    /// Nothing is left to wait for.
    Empty {
        /// There are pods that Cluster API would wait for all the same.
        left: bool,
    },
    /// These are to go.
    Emptying(&'a Node, Vec<&'a Pod>),
}

pub(super) fn plan(snapshot: &Snapshot, ruling: &Ruling, machine: &Machine, clock: &Clock) -> Plan {
    let delete = |backstop: Backstop| {
        let mut plan = delete(snapshot, ruling, machine, clock, backstop);
        // Where the DELETE is refused the next pass must see what this one saw, or it would take itself for another
        // step, one that may be tried at once.
        if snapshot.pods != Pods::Unasked {
            plan.pods_of.clone_from(&machine.node);
        }
        plan
    };
    match step(snapshot, machine, clock) {
        Step::Over | Step::Empty { left: true } => delete(Backstop::LeftOut),
        Step::HandOver | Step::Empty { left: false } => delete(Backstop::Drains),
        Step::Await { until } => {
            let mut plan = emptying(snapshot, ruling, machine, clock, &[]);
            plan.wake = plan.wake.or(until);
            plan
        }
        Step::Emptying(node, pods) => {
            let mut plan = emptying(snapshot, ruling, machine, clock, &pods);
            evict(snapshot, clock, node, &pods, &mut plan);
            plan
        }
    }
}

fn step<'a>(snapshot: &'a Snapshot, machine: &Machine, clock: &Clock) -> Step<'a> {
    if !may_have_node(snapshot, machine) {
        return Step::HandOver;
    }
    if snapshot.target.drain.is_zero() || snapshot.now >= clock.drain_ends_at {
        return Step::Over;
    }
    if machine.node.is_none() {
        // The event of its name wakes us.
        return Step::Await { until: None };
    }
    let node = match snapshot.own_node() {
        Some(node) => Some(node),
        // Gone, or not provably ours: nobody's pods are evicted by us there.
        None if snapshot.reach == Reach::Connected => return Step::HandOver,
        None => None,
    };
    let (pods, node) = match (&snapshot.pods, node) {
        // Asked for by this decision; if no event tells what became of it, the next look does.
        (Pods::Unasked, _) => return Step::Await { until: snapshot.now.saturating_add(NEXT_LOOK).ok() },
        (Pods::Known(pods), Some(node)) => (pods, node),
        (Pods::Awaited { since, .. }, _) => return in_patience(*since, snapshot.now),
        // The Nodes are not listed yet: after a restart the two lists come in any order.
        (Pods::Known(_), None) => return in_patience(tried_since(snapshot, clock), snapshot.now),
    };
    let to_go: Vec<&Pod> = pods.iter().filter(|pod| is_waited_for(pod, node)).collect();
    if is_ordered_by_capi(snapshot, machine, &to_go) {
        return Step::HandOver;
    }
    // Cluster API may have other rights and another way; all that can be lost is what is left of the limit.
    let is_patient = patient_until(tried_since(snapshot, clock), snapshot.now).is_some();
    if !is_patient && cannot_act(snapshot, node, &to_go) {
        return Step::HandOver;
    }
    if to_go.is_empty() {
        let left = pods.iter().any(|pod| pod.is_finished || (!pod.stays() && pod.ending.is_some()));
        return Step::Empty { left };
    }
    Step::Emptying(node, to_go)
}

/// Until when; `None`: no longer. Since an instant that is yet to come: the clock was put back.
fn patient_until(since: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let until = since.saturating_add(PATIENCE).unwrap_or(since);
    (since <= now && now < until).then_some(until)
}

/// What is not seen yet is waited for, and not for long.
fn in_patience<'a>(since: Timestamp, now: Timestamp) -> Step<'a> {
    let until = patient_until(since, now);
    if until.is_some() { Step::Await { until } } else { Step::HandOver }
}

/// Since when this process could have acted.
fn tried_since(snapshot: &Snapshot, clock: &Clock) -> Timestamp {
    snapshot.pods_asked_at.map_or(snapshot.now, |at| at.max(clock.grace_ends_at))
}

/// The pods are known, and nothing can be done about them.
fn cannot_act(snapshot: &Snapshot, node: &Node, to_go: &[&Pod]) -> bool {
    let is_away = !matches!(snapshot.reach, Reach::Connected | Reach::Connecting);
    let timers = snapshot.status.timers.as_ref();
    let has_begun = timers.is_some_and(|timers| timers.drain_started_at.is_some());
    // A cordon that somebody lifts in the middle is put back; one that never came is refused, or its Node is going.
    let takes_pods = !node.unschedulable && !has_begun;
    let mut asked = to_go.iter().filter(|pod| pod.ending.is_none()).peekable();
    let is_forbidden = asked.peek().is_some() && asked.all(|pod| pod.is_forbidden());
    is_away || takes_pods || is_forbidden
}

/// Nobody on a Node that is not heard of tells that a pod has ended.
fn is_waited_for(pod: &Pod, node: &Node) -> bool {
    let is_lost = node.is_unreachable && pod.ending.is_some();
    !pod.stays() && !is_lost
}

fn is_ordered_by_capi(snapshot: &Snapshot, machine: &Machine, pods: &[&Pod]) -> bool {
    if pods.is_empty() {
        return false;
    }
    let is_labelled = pods.iter().any(|pod| pod.labels.contains_key(LABEL_POD_DRAIN));
    let Some(rules) = &snapshot.drain_rules else { return true };
    let is_ruled = rules.iter().any(|rule| {
        rule.is_for(machine, snapshot.cluster.as_ref()) && pods.iter().any(|pod| rule.may_select(&pod.labels))
    });
    is_labelled || is_ruled
}

/// How many more may be asked to go in that way: tries that were not answered yet count.
pub(super) fn places<'a>(pods: impl IntoIterator<Item = &'a Pod>, verb: Verb) -> usize {
    let awaited = pods.into_iter().filter(|pod| pod.underway == Some(verb)).count();
    AT_ONCE.saturating_sub(awaited)
}

/// What all passes of a drain share; `pods`: those that it waits for.
fn emptying(snapshot: &Snapshot, ruling: &Ruling, machine: &Machine, clock: &Clock, pods: &[&Pod]) -> Plan {
    let report = held_up::report(snapshot, pods);
    let message = held_up::message(snapshot, clock, &report.lines);
    let mut plan = Plan::new(going("NodeDraining", message, ruling), clock.timers(snapshot));
    plan.effects.extend(hold_off(snapshot));
    let leaving = leaving(snapshot, clock, LeavingStage::Drain, report.lines);
    plan.leaving = Some(Leaving { as_of: Some(report.as_of), ..leaving });
    plan.pods_of.clone_from(&machine.node);
    let patience = patient_until(tried_since(snapshot, clock), snapshot.now);
    plan.wake = Wake::at(clock.drain_ends_at).or(report.again_at).or(patience);
    plan
}

/// That eviction begins is on record before it does: from then on the leaving cannot be called off. And not before the
/// Node takes no new pods: the first evicted would come straight back.
fn evict(snapshot: &Snapshot, clock: &Clock, node: &Node, pods: &[&Pod], plan: &mut Plan) {
    if reachable_node(snapshot).is_none() || !node.unschedulable {
        return;
    }
    let mut to_go: Vec<&Pod> = pods.iter().copied().filter(|pod| pod.ending.is_none()).collect();
    if to_go.is_empty() {
        return;
    }
    let is_on_record =
        snapshot.status.timers.as_ref().is_some_and(|timers| timers.drain_started_at.is_some());
    if !is_on_record {
        plan.timers.drain_started_at = Some(clock.grace_ends_at);
        plan.wake = Wake::at(snapshot.now);
        return;
    }
    let again_at = to_go.iter().filter_map(|pod| pod.again_at(Verb::Evict, snapshot.now)).min();
    let free = places(to_go.iter().copied(), Verb::Evict);
    to_go.retain(|pod| pod.is_due(Verb::Evict, snapshot.now));
    // The least important first, as a kubelet does that shuts down.
    to_go.sort_by_key(|pod| pod.priority);
    to_go.truncate(free);
    plan.effects.extend(to_go.iter().map(|pod| Effect::Evict(pod_edit(pod))));
    // What became of the tries decides when to come back; an answer that takes long comes of itself.
    plan.wake = if to_go.is_empty() { plan.wake.or(again_at) } else { Wake::at(snapshot.now) };
}
