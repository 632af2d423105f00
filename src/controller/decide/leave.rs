//! The machine should be with its owner: grace, then deletion, then a look that nothing is left.

use jiff::{SignedDuration, Timestamp};

use crate::api::condition::{Phase, types};
use crate::api::status::{Blocker, DesiredState, Leaving, LeavingStage, Manner, Rule, Timers};
use crate::capi::machine::Machine;
use crate::capi::version::Capi;
use crate::controller::build;
use crate::controller::decide::Plan;
use crate::controller::decide::rule::Ruling;
use crate::controller::effect::{Effect, NodeEdit, Standing, Wake};
use crate::controller::snapshot::{Node, Service, Snapshot};
use crate::controller::target::DELETION_ALLOWANCE;
use crate::workload::Reach;

/// A server refuses the whole status for one line that is longer than 1,024 characters.
const LONGEST_BLOCKER: usize = 1000;

pub(super) fn plan(snapshot: &Snapshot, ruling: &Ruling) -> Plan {
    let mut plan = match snapshot.own_machine() {
        Some(machine) if machine.deleted_at.is_some() => wait_for_deletion(snapshot, ruling, machine),
        Some(machine) => take_out(snapshot, ruling, machine),
        None => clear_up(snapshot, ruling),
    };
    let relabel = snapshot.own_machine().and_then(|machine| build::machine_relabel(snapshot, machine));
    plan.effects.splice(0..0, relabel);
    // At the promised instant `HandBackOverdue` appears, even if nothing moves.
    let promised = plan.leaving.as_ref().and_then(|leaving| leaving.gone_by);
    plan.wake = plan.wake.or(promised.filter(|by| *by > snapshot.now));
    plan
}

/// A stored start that lies further ahead than this was written by a clock that has been put right since.
const CLOCK_STEP_TOLERATED: SignedDuration = SignedDuration::from_mins(5);

/// Where leaving is timed from, and how long each step may take.
struct Clock {
    since: Timestamp,
    grace_ends_at: Timestamp,
    gone_by: Timestamp,
}

fn clock(snapshot: &Snapshot, ruling: &Ruling) -> Clock {
    let since = started_at(snapshot, ruling);
    let no_grace = ruling.manner == Manner::Eject || ruling.rule == Rule::ClusterDeleting;
    let plus = |span: SignedDuration| since.saturating_add(span).unwrap_or(since);
    if no_grace {
        // From the rule on, not from the leaving: a kill switch late in a grace is not late itself.
        let at_once = ruling.rule_since.max(since);
        let gone_by = at_once.saturating_add(DELETION_ALLOWANCE).unwrap_or(at_once);
        return Clock { since, grace_ends_at: since, gone_by };
    }
    let target = &snapshot.target;
    Clock { since, grace_ends_at: plus(target.grace.as_signed()), gone_by: plus(target.hand_back_span()) }
}

/// The stored start; else the edge. Where it was decided before and no start is stored, the start was frozen away by a
/// pause, and the thaw begins it anew; so it does where the edge itself fell into the pause.
fn started_at(snapshot: &Snapshot, ruling: &Ruling) -> Timestamp {
    let status = &snapshot.status;
    let decided = status.decision.as_ref().is_some_and(|decision| decision.state == DesiredState::Inactive);
    let thawed = status.conditions.iter().any(|said| {
        said.type_ == types::READY && matches!(said.reason.as_str(), "BlockedByPause" | "Paused")
    });
    let stored = status.timers.as_ref().and_then(|timers| timers.shutdown_started_at);
    let credible = stored.filter(|at| at.duration_since(snapshot.now) <= CLOCK_STEP_TOLERATED);
    credible.unwrap_or(if decided || thawed { snapshot.now } else { ruling.since })
}

fn timers(snapshot: &Snapshot, since: Timestamp) -> Timers {
    let before = snapshot.status.timers.clone().unwrap_or_default();
    Timers { shutdown_started_at: Some(since), ..before }
}

fn leaving(snapshot: &Snapshot, clock: &Clock, stage: LeavingStage, blocked_by: Vec<Blocker>) -> Leaving {
    let drain = snapshot.target.drain;
    let drain_ends_at = (stage != LeavingStage::Eject && !drain.is_zero())
        .then(|| clock.grace_ends_at.saturating_add(drain.as_signed()).unwrap_or(clock.grace_ends_at));
    Leaving {
        since: clock.since,
        stage,
        grace_ends_at: (stage != LeavingStage::Eject).then_some(clock.grace_ends_at),
        drain_ends_at,
        gone_by: Some(clock.gone_by),
        blocked_by,
    }
}

fn take_out(snapshot: &Snapshot, ruling: &Ruling, machine: &Machine) -> Plan {
    let clock = clock(snapshot, ruling);
    // Grace is for what runs on the Node; without one there is nothing to be graceful to.
    let in_grace = machine.node.is_some() && snapshot.now < clock.grace_ends_at;
    if in_grace { grace(snapshot, ruling, &clock) } else { delete(snapshot, ruling, machine, &clock) }
}

fn grace(snapshot: &Snapshot, ruling: &Ruling, clock: &Clock) -> Plan {
    let (from, by) = (local(snapshot, clock.grace_ends_at), local(snapshot, clock.gone_by));
    let cordoned = if snapshot.own_node().is_some() && snapshot.reach == Reach::Connected {
        "cordoned"
    } else {
        "not cordoned, its Node cannot be reached"
    };
    let message = format!("{}: {cordoned}; leaves from {from}, back by {by}", ruling.message);
    let mut plan = Plan::new(going("GracePeriodActive", message, ruling), timers(snapshot, clock.since));
    plan.effects.extend(cordon(snapshot));
    plan.leaving = Some(leaving(snapshot, clock, LeavingStage::Grace, vec![]));
    plan.wake = Wake::at(clock.grace_ends_at);
    plan
}

fn delete(snapshot: &Snapshot, ruling: &Ruling, machine: &Machine, clock: &Clock) -> Plan {
    let eject = ruling.manner == Manner::Eject;
    let message = format!("{}: deleting the Machine", ruling.message);
    let mut plan =
        Plan::new(going("WaitingForMachineDeletion", message, ruling), timers(snapshot, clock.since));
    // Cluster API reads a drain limit of 0 as for ever; leaving the drain out is said by annotation.
    let no_drain = eject || snapshot.target.drain.is_zero();
    plan.effects.extend(build::machine_farewell(snapshot, machine, no_drain, eject));
    plan.effects.push(Effect::DeleteMachine { uid: machine.uid.clone() });
    // Cluster API cordons only what it drains. After the DELETE: a workload cluster that hangs must not delay it.
    plan.effects.extend(cordon(snapshot).filter(|_| no_drain));
    let stage = if eject { LeavingStage::Eject } else { LeavingStage::Deletion };
    plan.leaving = Some(leaving(snapshot, clock, stage, vec![]));
    plan
}

fn wait_for_deletion(snapshot: &Snapshot, ruling: &Ruling, machine: &Machine) -> Plan {
    let clock = clock(snapshot, ruling);
    let deleting = machine.condition("Deleting").filter(|condition| condition.status == "True");
    let detail =
        deleting.map(|c| c.message.split_whitespace().collect::<Vec<_>>().join(" ")).unwrap_or_default();
    let reason = match deleting.map(|condition| condition.reason.as_str()) {
        Some("DrainingNode") => "NodeDraining",
        _ => "WaitingForMachineDeletion",
    };
    let message = match detail.as_str() {
        "" => "waiting for Cluster API to delete the Machine".to_owned(),
        text => text.to_owned(),
    };
    let blockers = deleting.filter(|_| !detail.is_empty()).map(|condition| Blocker {
        kind: "Machine".to_owned(),
        namespace: Some(snapshot.object.namespace.clone()),
        name: machine.name.clone(),
        reason: format!("{}: {detail}", condition.reason).chars().take(LONGEST_BLOCKER).collect(),
    });
    let mut plan = Plan::new(going(reason, message, ruling), timers(snapshot, clock.since));
    let eject = ruling.manner == Manner::Eject;
    let stage = match (eject, reason) {
        (true, _) => LeavingStage::Eject,
        (false, "NodeDraining") => LeavingStage::Drain,
        (false, _) => LeavingStage::Deletion,
    };
    // A kill switch in the middle of a drain: noticed by Cluster API within its 20 s round.
    plan.effects.extend(build::machine_farewell(snapshot, machine, eject, eject));
    plan.effects.extend(cordon(snapshot).filter(|_| eject));
    plan.leaving = Some(leaving(snapshot, &clock, stage, blockers.into_iter().collect()));
    plan
}

/// No Machine: whatever it did not take with it goes by itself.
fn clear_up(snapshot: &Snapshot, ruling: &Ruling) -> Plan {
    let mut effects = Vec::new();
    let mut waiting_for = Vec::new();
    for child in &snapshot.children {
        let Some(object) = child.object.as_ref().filter(|object| snapshot.owns_child(child, object)) else {
            // Not known is not gone: forgotten now, it would never be found again.
            if child.service.is_unknown() && snapshot.remembers(child) {
                waiting_for.push(format!("{} {} (not looked up yet)", child.kind, snapshot.object.name));
            }
            continue;
        };
        waiting_for.push(format!("{} {}", child.kind, snapshot.object.name));
        if let (false, Service::Served(resource)) = (object.deleting, &child.service) {
            effects.push(Effect::DeleteChild { resource: resource.clone(), uid: object.uid.clone() });
        }
    }
    // Cluster API gives up on a Node object after its limit; a stale one would block the next run.
    if let Some(node) = stale_node(snapshot).filter(|_| ruling.rule != Rule::ClusterDeleting) {
        waiting_for.push(format!("Node {}", node.name));
        effects.extend((!node.deleting).then(|| Effect::DeleteNode(edit(node))));
    }
    if waiting_for.is_empty() {
        return gone(snapshot, ruling);
    }
    let clock = clock(snapshot, ruling);
    let message = format!("waiting for {} to go", waiting_for.join(", "));
    let mut plan =
        Plan::new(going("WaitingForMachineDeletion", message, ruling), timers(snapshot, clock.since));
    plan.effects = effects;
    plan.leaving = Some(leaving(snapshot, &clock, LeavingStage::Deletion, vec![]));
    plan
}

fn gone(snapshot: &Snapshot, ruling: &Ruling) -> Plan {
    let mut plan = Plan::new(settled(snapshot, ruling), Timers::default());
    plan.is_gone = true;
    if snapshot.object.deleted_at.is_none() || !snapshot.object.has_finalizer {
        return plan;
    }
    let looking: Vec<String> = snapshot
        .children
        .iter()
        .filter(|child| child.service.is_unknown())
        .map(|child| match &child.service {
            Service::Unreachable(text) => format!("{} ({text})", child.kind),
            _ => child.kind.clone(),
        })
        .collect();
    if looking.is_empty() {
        let children = snapshot.children.iter().filter_map(|child| match &child.service {
            Service::Served(resource) => Some(resource.clone()),
            // A kind that is gone has no objects; one that we may not touch we did not make.
            Service::Resolving | Service::NotServed(_) | Service::NotAllowed(_) | Service::Unreachable(_) => {
                None
            }
        });
        // With the kind Machine itself all Machines are gone.
        let machines = match &snapshot.capi {
            Capi::Served(version) => Some(version.machine()),
            Capi::NotServed(_) => None,
        };
        let kinds = machines.into_iter().chain(children).collect();
        plan.effects.push(Effect::RemoveFinalizer { kinds });
    } else {
        let message = format!("looking whether any {} is left", looking.join(" or "));
        plan.standing = going("WaitingForMachineDeletion", message, ruling);
        plan.is_gone = false;
    }
    plan
}

/// With its owner, and nothing left to do.
pub(super) fn settled(snapshot: &Snapshot, ruling: &Ruling) -> Standing {
    let (phase, reason) = match ruling.rule {
        Rule::KillSwitch => (Phase::Terminated, "Terminated"),
        Rule::Disabled => (Phase::Disabled, "Disabled"),
        Rule::Reclaim => (Phase::Inactive, "Reclaimed"),
        Rule::Hold => (Phase::Inactive, "Held"),
        Rule::Paused => (Phase::Inactive, "Paused"),
        Rule::Deletion
        | Rule::ClusterDeleting
        | Rule::ScheduleInvalid
        | Rule::Exception
        | Rule::Window
        | Rule::OutsideWindows => (Phase::Inactive, "Inactive"),
    };
    let message = match (&snapshot.target.schedule, &ruling.next) {
        (Ok(schedule), Some(next)) if next.state == DesiredState::Active => {
            format!("with its owner ({}); joins {}", ruling.message, schedule.local_with_date(next.at))
        }
        _ => format!("with its owner ({})", ruling.message),
    };
    let invalid = ruling.rule == Rule::ScheduleInvalid;
    let (phase, reason) = if invalid { (Phase::Error, "SpecInvalid") } else { (phase, reason) };
    Standing { phase, ready: Some(!invalid), reason, message, stalled: invalid }
}

fn going(reason: &'static str, message: String, ruling: &Ruling) -> Standing {
    let phase = if ruling.manner == Manner::Eject { Phase::EmergencyRemove } else { Phase::ShuttingDown };
    Standing { phase, ready: Some(false), reason, message, stalled: false }
}

/// An admin's cordon stays the admin's: a Node that is unschedulable already is left as it is.
fn cordon(snapshot: &Snapshot) -> impl Iterator<Item = Effect> + use<> {
    let node = snapshot
        .own_node()
        .filter(|node| snapshot.reach == Reach::Connected && !node.unschedulable && !node.deleting);
    node.map(|node| Effect::Cordon(edit(node))).into_iter()
}

/// Only what we cordoned, and only while we can reach it.
pub(super) fn uncordon(snapshot: &Snapshot) -> Option<Effect> {
    let node = snapshot.own_node()?;
    let ours = node.cordoned_by.as_ref() == Some(&snapshot.object.uid);
    (ours && snapshot.reach == Reach::Connected).then(|| Effect::Uncordon(edit(node)))
}

/// The Node of a Machine that is gone.
pub(super) fn stale_node(snapshot: &Snapshot) -> Option<&Node> {
    let node = snapshot.own_node()?;
    (snapshot.own_machine().is_none() && snapshot.reach == Reach::Connected).then_some(node)
}

pub(super) fn edit(node: &Node) -> NodeEdit {
    NodeEdit {
        name: node.name.clone(),
        uid: node.uid.clone(),
        resource_version: node.resource_version.clone(),
    }
}

fn local(snapshot: &Snapshot, at: Timestamp) -> String {
    match &snapshot.target.schedule {
        Ok(schedule) => schedule.local(at),
        Err(_) => at.to_string(),
    }
}
