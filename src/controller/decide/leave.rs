//! The machine should be with its owner. Which step it is at, and what all steps share: the clock, the words, the DELETE.
//!
//! Grace, then [`drain`], then the Machine's deletion, then [`cleanup`]; [`eject`] goes past the first two at any time.

use jiff::{SignedDuration, Timestamp};

use crate::api::condition::{Phase, types};
use crate::api::status::{Blocker, DesiredState, Leaving, LeavingStage, Manner, Rule, Timers};
use crate::capi::machine::Machine;
use crate::controller::agent;
use crate::controller::build;
use crate::controller::decide::rule::Ruling;
use crate::controller::decide::{Plan, cleanup, drain, eject, stranded};
use crate::controller::effect::{Effect, NodeEdit, Standing, Wake};
use crate::controller::snapshot::{Node, Snapshot};
use crate::controller::target::DELETION_ALLOWANCE;
use crate::workload::Reach;

/// A server refuses the whole status for one line that is longer than 1,024 characters.
pub(super) const LONGEST_BLOCKER: usize = 1000;

/// A stored start that lies further ahead than this was written by a clock that has been put right since.
const CLOCK_STEP_TOLERATED: SignedDuration = SignedDuration::from_mins(5);

pub(super) fn plan(snapshot: &Snapshot, ruling: &Ruling) -> Plan {
    let mut plan = match snapshot.own_machine() {
        None => cleanup::plan(snapshot, ruling),
        Some(machine) if ruling.manner == Manner::Eject => eject::plan(snapshot, ruling, machine),
        Some(machine) if machine.deleted_at.is_some() => wait_for_deletion(snapshot, ruling, machine),
        Some(machine) => take_out(snapshot, ruling, machine),
    };
    if ruling.state == DesiredState::Active {
        let what = &plan.standing.message;
        plan.standing.message =
            format!("the window is open again; what has begun completes, and a new Machine follows: {what}");
    }
    let relabel = snapshot.own_machine().and_then(|machine| build::machine_relabel(snapshot, machine));
    plan.effects.splice(0..0, relabel);
    if let Some(machine) = snapshot.own_machine().filter(|machine| machine.deleted_at.is_some()) {
        let clock = Clock::read(snapshot, ruling);
        plan.standing.message.extend(stranded::way_out(snapshot, &clock));
        plan.effects.extend(stranded::end(snapshot, machine, &clock));
    }
    follow_agent(snapshot, ruling, &mut plan);
    let promised = plan.leaving.as_ref().and_then(|leaving| leaving.gone_by);
    // Once it is over, `HandBackOverdue` says so.
    if let Some(by) = promised.filter(|by| *by > snapshot.now) {
        plan.standing.message = format!("{}; back by {}", plan.standing.message, local(snapshot, by));
    }
    // At the promised instant `HandBackOverdue` appears, even if nothing moves.
    plan.wake = plan.wake.or(promised.filter(|by| *by > snapshot.now));
    plan
}

/// Until the machine is gone its owner may want it sooner: what she puts on her list counts at once, and what she takes off
/// no more. An eject is what she would get.
fn follow_agent(snapshot: &Snapshot, ruling: &Ruling, plan: &mut Plan) {
    if snapshot.own_machine().is_none() || ruling.manner == Manner::Eject {
        return;
    }
    let agent = agent::plan::follow(snapshot);
    plan.effects.extend(agent.rules.clone());
    // One write to the Node in a pass: the next one needs the version that this one makes.
    let is_free = !plan.effects.iter().any(Effect::edits_node);
    plan.effects.extend(agent.label.clone().filter(|_| is_free));
    plan.wake = plan.wake.or(agent.again_at);
    plan.agent = agent;
}

/// The window is open again, but pods have been evicted: this leaving completes, and a new Machine follows. What was
/// frozen meanwhile begins anew, and can be called off again.
pub(super) fn is_past_return(snapshot: &Snapshot) -> bool {
    let is_here = snapshot.own_machine().is_some_and(|machine| machine.deleted_at.is_none());
    let has_begun = snapshot.status.timers.as_ref().is_some_and(|timers| timers.drain_started_at.is_some());
    is_here && has_begun
}

/// Where leaving is timed from, and how long each step may take.
pub(super) struct Clock {
    pub(super) since: Timestamp,
    /// Since when it is to leave at once, if it is.
    ejecting_since: Option<Timestamp>,
    pub(super) grace_ends_at: Timestamp,
    pub(super) drain_ends_at: Timestamp,
    pub(super) gone_by: Timestamp,
}

impl Clock {
    pub(super) fn read(snapshot: &Snapshot, ruling: &Ruling) -> Self {
        let since = started_at(snapshot, ruling);
        let after = |at: Timestamp, span: SignedDuration| at.saturating_add(span).unwrap_or(at);
        if ruling.manner == Manner::Eject || ruling.rule == Rule::ClusterDeleting {
            // From then on, not from the leaving: a kill switch late in a grace is not late itself.
            let ejecting_since = ejecting_since(snapshot, ruling);
            let at_once = ejecting_since.unwrap_or(ruling.rule_since).max(since);
            let gone_by = after(at_once, DELETION_ALLOWANCE);
            return Self { since, ejecting_since, grace_ends_at: since, drain_ends_at: since, gone_by };
        }
        let target = &snapshot.target;
        let timers = snapshot.status.timers.as_ref();
        let grace_ends_at = match timers.and_then(|timers| timers.drain_started_at) {
            // What has begun is not undone by an edit of the grace.
            Some(at) if is_credible(at, snapshot.now) => at,
            Some(_) => after(since, target.grace.as_signed()).min(snapshot.now),
            None => after(since, target.grace.as_signed()),
        };
        let drain_ends_at = after(grace_ends_at, target.drain.as_signed());
        // Cluster API waits for volumes before it turns to the host.
        let gone_by = after(after(drain_ends_at, target.volume_span()), DELETION_ALLOWANCE);
        Self { since, ejecting_since: None, grace_ends_at, drain_ends_at, gone_by }
    }

    /// As they are to be stored.
    pub(super) fn timers(&self, snapshot: &Snapshot) -> Timers {
        let before = snapshot.status.timers.clone().unwrap_or_default();
        Timers { shutdown_started_at: Some(self.since), eject_started_at: self.ejecting_since, ..before }
    }
}

/// The stored instant; else now, unless its rule asks for nothing but that. A kill switch in the middle of a deletion
/// changes how the machine leaves, not the rule by which it does.
fn ejecting_since(snapshot: &Snapshot, ruling: &Ruling) -> Option<Timestamp> {
    let stored = snapshot.status.timers.as_ref().and_then(|timers| timers.eject_started_at);
    let begins = match ruling.rule {
        Rule::KillSwitch | Rule::Reclaim => ruling.rule_since,
        Rule::Deletion
        | Rule::ClusterDeleting
        | Rule::Disabled
        | Rule::Hold
        | Rule::Paused
        | Rule::ScheduleInvalid
        | Rule::Exception
        | Rule::Window
        | Rule::OutsideWindows => snapshot.now,
    };
    let since = stored.filter(|at| is_credible(*at, snapshot.now)).unwrap_or(begins);
    (ruling.manner == Manner::Eject).then_some(since)
}

fn is_credible(at: Timestamp, now: Timestamp) -> bool {
    at.duration_since(now) <= CLOCK_STEP_TOLERATED
}

/// The stored start; else the edge. Where it was decided before and no start is stored, the start was frozen away by a
/// pause, and the thaw begins it anew; so it does where the edge itself fell into the pause.
fn started_at(snapshot: &Snapshot, ruling: &Ruling) -> Timestamp {
    let status = &snapshot.status;
    let decided = status.decision.as_ref().is_some_and(|decision| decision.state == DesiredState::Inactive);
    let thawed = status.conditions.iter().any(|said| {
        said.type_ == types::READY && matches!(said.reason.as_str(), "BlockedByPause" | "Paused" | "Held")
    });
    let stored = status.timers.as_ref().and_then(|timers| timers.shutdown_started_at);
    let credible = stored.filter(|at| is_credible(*at, snapshot.now));
    // In an open window nothing but its deletion says when it began to leave: somebody else asked for that.
    let deleted_at = snapshot.own_machine().and_then(|machine| machine.deleted_at);
    let begins = match ruling.state {
        DesiredState::Active => deleted_at.unwrap_or(snapshot.now),
        DesiredState::Inactive | DesiredState::AsIs if decided || thawed => snapshot.now,
        DesiredState::Inactive | DesiredState::AsIs => ruling.since,
    };
    credible.unwrap_or(begins)
}

pub(super) fn leaving(
    snapshot: &Snapshot,
    clock: &Clock,
    stage: LeavingStage,
    blocked_by: Vec<Blocker>,
) -> Leaving {
    let is_graceful = stage != LeavingStage::Eject;
    let drains = is_graceful && !snapshot.target.drain.is_zero();
    Leaving {
        since: clock.since,
        stage,
        grace_ends_at: is_graceful.then_some(clock.grace_ends_at),
        drain_ends_at: drains.then_some(clock.drain_ends_at),
        gone_by: Some(clock.gone_by),
        blocked_by,
        as_of: None,
    }
}

fn take_out(snapshot: &Snapshot, ruling: &Ruling, machine: &Machine) -> Plan {
    let clock = Clock::read(snapshot, ruling);
    // Cluster API drains no Node of a Cluster that is being deleted, and the Node's pods go with the cluster.
    if ruling.rule == Rule::ClusterDeleting {
        return delete(snapshot, ruling, machine, &clock, Backstop::Drains);
    }
    // Grace is for what runs on the Node; without one there is nothing to be graceful to.
    let in_grace = may_have_node(snapshot, machine) && snapshot.now < clock.grace_ends_at;
    if in_grace { grace(snapshot, ruling, &clock) } else { drain::plan(snapshot, ruling, machine, &clock) }
}

/// It names one, or may have one that it does not name: `clusterctl move` leaves the Machine's status behind, and until
/// Cluster API has filled it in again a Machine with a host looks like one that nobody ever joined with.
pub(super) fn may_have_node(snapshot: &Snapshot, machine: &Machine) -> bool {
    let is_unread = machine.conditions.is_empty() || snapshot.reach == Reach::Connecting;
    let has_host = machine.provider_id.is_some();
    machine.node.is_some() || (has_host && (is_unread || !snapshot.rivals.is_empty()))
}

fn grace(snapshot: &Snapshot, ruling: &Ruling, clock: &Clock) -> Plan {
    let from = local(snapshot, clock.grace_ends_at);
    let cordoned = if snapshot.own_node().is_some() && snapshot.reach == Reach::Connected {
        "cordoned"
    } else {
        "not cordoned, its Node cannot be reached"
    };
    let message = format!("{}: {cordoned}; leaves from {from}", ruling.message);
    let mut plan = Plan::new(going("GracePeriodActive", message, ruling), clock.timers(snapshot));
    plan.effects.extend(hold_off(snapshot));
    plan.leaving = Some(leaving(snapshot, clock, LeavingStage::Grace, vec![]));
    plan.wake = Wake::at(clock.grace_ends_at);
    plan
}

/// What Cluster API is to do about the Node's pods once the Machine is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backstop {
    /// Drain it, within its own limit.
    Drains,
    /// Nothing: the time for it is over, or nothing that is left is to be waited for.
    LeftOut,
}

pub(super) fn delete(
    snapshot: &Snapshot,
    ruling: &Ruling,
    machine: &Machine,
    clock: &Clock,
    backstop: Backstop,
) -> Plan {
    let message = match ruling.state {
        DesiredState::Active => "deleting the Machine".to_owned(),
        DesiredState::Inactive | DesiredState::AsIs => format!("{}: deleting the Machine", ruling.message),
    };
    let mut plan = Plan::new(going("WaitingForMachineDeletion", message, ruling), clock.timers(snapshot));
    // Cluster API reads a drain limit of 0 as for ever; leaving the drain out is said by annotation.
    let no_drain = backstop == Backstop::LeftOut;
    plan.effects.extend(build::machine_farewell(snapshot, machine, no_drain, false));
    plan.effects.push(Effect::DeleteMachine { uid: machine.uid.clone() });
    // Cluster API cordons only what it drains.
    plan.effects.extend(hold_off(snapshot).filter(|_| no_drain));
    plan.leaving = Some(leaving(snapshot, clock, LeavingStage::Deletion, vec![]));
    plan
}

fn wait_for_deletion(snapshot: &Snapshot, ruling: &Ruling, machine: &Machine) -> Plan {
    let clock = Clock::read(snapshot, ruling);
    let said = Deleting::read(snapshot, machine);
    let stage = if said.reason == "NodeDraining" { LeavingStage::Drain } else { LeavingStage::Deletion };
    let mut plan = Plan::new(going(said.reason, said.message, ruling), clock.timers(snapshot));
    let may_drain = !said.is_past_drain && machine.node.is_some() && ruling.rule != Rule::ClusterDeleting;
    // Cluster API counts its limit from its own start: what was spent before would be paid again.
    let is_over = may_drain && snapshot.now >= clock.drain_ends_at;
    plan.effects.extend(build::machine_farewell(snapshot, machine, is_over, false));
    plan.wake = Wake::never().or(Some(clock.drain_ends_at).filter(|_| may_drain && !is_over));
    plan.leaving = Some(leaving(snapshot, &clock, stage, said.blockers));
    plan
}

/// What Cluster API says about a Machine that is going.
pub(super) struct Deleting {
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) blockers: Vec<Blocker>,
    /// Whatever is left of its deletion, it is no drain.
    pub(super) is_past_drain: bool,
}

/// Reasons of Cluster API's condition `Deleting` after its drain.
const PAST_THE_DRAIN: [&str; 6] = [
    "WaitingForVolumeDetach",
    "WaitingForPreTerminateHook",
    "WaitingForInfrastructureDeletion",
    "WaitingForBootstrapDeletion",
    "DeletingNode",
    "DeletionCompleted",
];

impl Deleting {
    pub(super) fn read(snapshot: &Snapshot, machine: &Machine) -> Self {
        let deleting = machine.condition("Deleting").filter(|condition| condition.status == "True");
        let detail =
            deleting.map(|c| c.message.split_whitespace().collect::<Vec<_>>().join(" ")).unwrap_or_default();
        let reason = match deleting.map(|condition| condition.reason.as_str()) {
            Some("DrainingNode") => "NodeDraining",
            _ => "WaitingForMachineDeletion",
        };
        let is_past_drain =
            deleting.is_some_and(|condition| PAST_THE_DRAIN.contains(&condition.reason.as_str()));
        let blocker = deleting.filter(|_| !detail.is_empty()).map(|condition| Blocker {
            kind: "Machine".to_owned(),
            namespace: Some(snapshot.object.namespace.clone()),
            name: machine.name.clone(),
            reason: format!("{}: {detail}", condition.reason).chars().take(LONGEST_BLOCKER).collect(),
        });
        let message = match detail.as_str() {
            "" => "waiting for Cluster API to delete the Machine".to_owned(),
            text => text.to_owned(),
        };
        let message = match stranded::why(snapshot) {
            Some(why) => format!("{message}; {why}"),
            None => message,
        };
        Self { reason, message, blockers: blocker.into_iter().collect(), is_past_drain }
    }
}

pub(super) fn going(reason: &'static str, message: String, ruling: &Ruling) -> Standing {
    let phase = if ruling.manner == Manner::Eject { Phase::EmergencyRemove } else { Phase::ShuttingDown };
    Standing { phase, ready: Some(false), reason, message, stalled: false }
}

/// No new pods, and what an eject that was called off left behind is taken back. An admin's cordon stays the admin's: a
/// Node that is unschedulable already is left as it is.
pub(super) fn hold_off(snapshot: &Snapshot) -> impl Iterator<Item = Effect> + use<> {
    let effect = reachable_node(snapshot).and_then(|node| {
        let called_off = eject::without_taint(node).map(|taints| Effect::Uncordon {
            node: edit(node),
            lifts: false,
            taints: Some(taints),
        });
        called_off.or_else(|| (!node.unschedulable).then(|| Effect::Cordon(edit(node))))
    });
    effect.into_iter()
}

/// What leaving did to a Node that stays after all: only what we did, and only while we can reach it. The record of a
/// cordon counts whatever uid it names: nobody else writes it, and `clusterctl move` makes the object anew.
pub(super) fn uncordon(snapshot: &Snapshot) -> Option<Effect> {
    let node = reachable_node(snapshot)?;
    let lifts = node.cordoned_by.is_some();
    let taints = eject::without_taint(node);
    (lifts || taints.is_some()).then(|| Effect::Uncordon { node: edit(node), lifts, taints })
}

/// Provably ours, there, and to be written to.
pub(super) fn reachable_node(snapshot: &Snapshot) -> Option<&Node> {
    let is_connected = snapshot.reach == Reach::Connected;
    snapshot.own_node().filter(|node| is_connected && !node.deleting)
}

pub(super) fn edit(node: &Node) -> NodeEdit {
    NodeEdit {
        name: node.name.clone(),
        uid: node.uid.clone(),
        resource_version: node.resource_version.clone(),
    }
}

pub(super) fn local(snapshot: &Snapshot, at: Timestamp) -> String {
    match &snapshot.target.schedule {
        Ok(schedule) => schedule.local(at),
        Err(_) => at.to_string(),
    }
}
