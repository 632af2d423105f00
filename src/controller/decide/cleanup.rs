//! No Machine: what it did not take with it, the look that nothing is left, and how it is when all is done.

use crate::api::condition::Phase;
use crate::api::status::{DesiredState, LeavingStage, Rule, Timers};
use crate::capi::version::Capi;
use crate::controller::agent;
use crate::controller::decide::Plan;
use crate::controller::decide::leave::{self, Clock, edit, going};
use crate::controller::decide::rule::Ruling;
use crate::controller::effect::{Effect, Standing};
use crate::controller::parts;
use crate::controller::snapshot::{Node, Service, Snapshot};
use crate::workload::Reach;

/// No Machine: whatever it did not take with it goes by itself.
pub(super) fn plan(snapshot: &Snapshot, ruling: &Ruling) -> Plan {
    if let Capi::Unspoken(why) = &snapshot.capi
        && may_have_a_machine(snapshot)
    {
        return cannot_look(snapshot, ruling, why);
    }
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
        if let (false, Some(resource)) = (object.deleting, &child.resource) {
            effects.push(Effect::DeleteChild { resource: resource.clone(), uid: object.uid.clone() });
        }
    }
    let clock = Clock::read(snapshot, ruling);
    // Cluster API gives up on a Node object after its limit; a stale one would block the next run.
    let stale = stale_node(snapshot).filter(|_| !is_cluster_deleting(snapshot));
    if let Some(node) = stale {
        effects.extend((!node.deleting).then(|| Effect::DeleteNode(edit(node))));
        if is_waited_for(snapshot, &clock) {
            waiting_for.push(format!("Node {}", node.name));
        }
    }
    let rules = agent::plan::leftovers(snapshot);
    let is_left = stale.is_some() || !rules.is_empty();
    let is_unseen = snapshot.object.deleted_at.is_some() && agent::plan::may_be_left(snapshot);
    if (is_unseen || !rules.is_empty()) && is_waited_for(snapshot, &clock) {
        waiting_for.push("the rules of its agent".to_owned());
    }
    effects.extend(rules);
    if waiting_for.is_empty() {
        let mut plan = gone(snapshot, ruling);
        if is_left {
            // The promise stands while the last step is tried again, or the Node would be waited for anew.
            plan.timers = clock.timers(snapshot);
            plan.leaving = Some(leave::leaving(snapshot, &clock, LeavingStage::Deletion, vec![]));
            plan.effects.splice(0..0, effects);
        }
        return plan;
    }
    let message = format!("waiting for {} to go", waiting_for.join(", "));
    let mut plan = Plan::new(going("WaitingForMachineDeletion", message, ruling), clock.timers(snapshot));
    plan.effects = effects;
    plan.leaving = Some(leave::leaving(snapshot, &clock, LeavingStage::Deletion, vec![]));
    plan
}

/// Its Nodes go with it.
fn is_cluster_deleting(snapshot: &Snapshot) -> bool {
    snapshot.cluster.as_ref().is_some_and(|cluster| cluster.deleting)
}

/// A workload cluster may refuse to let go of a Node for ever (no right to delete it, a webhook, somebody's finalizer).
/// Nothing of ours is bound to it any more, so a deletion waits for it no longer than was promised.
fn is_waited_for(snapshot: &Snapshot, clock: &Clock) -> bool {
    snapshot.object.deleted_at.is_none() || snapshot.now < clock.gone_by
}

/// A Machine that cannot be read may stand all the same: its parts are not taken from under it, and the finalizer stays.
fn may_have_a_machine(snapshot: &Snapshot) -> bool {
    let has_part = snapshot
        .children
        .iter()
        .any(|child| child.object.as_ref().is_some_and(|object| snapshot.owns_child(child, object)));
    has_part || snapshot.status.machine_ref.is_some() || snapshot.object.deleted_at.is_some()
}

fn cannot_look(snapshot: &Snapshot, ruling: &Ruling, why: &str) -> Plan {
    let clock = Clock::read(snapshot, ruling);
    let message = format!("nothing is taken down while Machines cannot be read: {why}");
    let standing = Standing { stalled: true, ..going("ClusterApiNotServed", message, ruling) };
    let mut plan = Plan::new(standing, clock.timers(snapshot));
    plan.leaving = Some(leave::leaving(snapshot, &clock, LeavingStage::Deletion, vec![]));
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
        let children = snapshot.children.iter().filter_map(parts::to_look_at);
        // With the kind Machine itself all Machines are gone.
        let machines = match &snapshot.capi {
            Capi::Served(version) => Some(version.machine()),
            Capi::NotServed(_) | Capi::Unspoken(_) => None,
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
        Rule::Reclaim => (Phase::Disabled, "Reclaimed"),
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
            let when = schedule.local_with_date(next.at);
            match &next.blocked_by {
                None => format!("with its owner ({}); joins {when}", ruling.message),
                Some(blocker) => {
                    format!("with its owner ({}); would join {when} but for {blocker}", ruling.message)
                }
            }
        }
        _ => format!("with its owner ({})", ruling.message),
    };
    let invalid = ruling.rule == Rule::ScheduleInvalid;
    let (phase, reason) = if invalid { (Phase::Error, "SpecInvalid") } else { (phase, reason) };
    Standing { phase, ready: Some(!invalid), reason, message, stalled: invalid }
}

/// The Node of a Machine that is gone.
pub(super) fn stale_node(snapshot: &Snapshot) -> Option<&Node> {
    let node = snapshot.own_node()?;
    (snapshot.own_machine().is_none() && snapshot.reach == Reach::Connected).then_some(node)
}
