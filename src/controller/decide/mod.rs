//! From a snapshot to a decision. Total and repeatable: the same snapshot gives the same decision.
//!
//! No clock, no client, no log. One file per concern; [`rule`] says what should be, the others what to do about it.

mod cleanup;
mod drain;
mod eject;
mod held_up;
mod judge;
mod leave;
pub mod node;
mod open;
mod outlook;
mod rivals;
pub mod rule;
mod stranded;
#[cfg(test)]
mod tests;

use jiff::Timestamp;

use crate::api::condition::Phase;
use crate::api::status::{DesiredState, Manner, Rule, Timers};
use crate::controller::agent::{self, plan::AgentPlan};
use crate::controller::effect::{Decision, Effect, Standing, Wake};
use crate::controller::reclaim;
use crate::controller::snapshot::{Child, Snapshot};
use rule::Ruling;

/// What is not shown as we wrote it, a Node or a hold, is looked at again.
const NEXT_SIGHT: jiff::SignedDuration = jiff::SignedDuration::from_secs(1);

/// What one concern wants.
#[derive(Debug)]
struct Plan {
    standing: Standing,
    effects: Vec<Effect>,
    timers: Timers,
    leaving: Option<crate::api::status::Leaving>,
    is_gone: bool,
    pods_of: Option<String>,
    taints: Option<node::TaintPlan>,
    agent: AgentPlan,
    wake: Wake,
}

impl Plan {
    fn new(standing: Standing, timers: Timers) -> Self {
        Self {
            standing,
            effects: Vec::new(),
            timers,
            leaving: None,
            is_gone: false,
            pods_of: None,
            taints: None,
            agent: AgentPlan::default(),
            wake: Wake::never(),
        }
    }
}

/// What was decided on the sight of a Node that we have changed since waits; an eject's word to its pods does not.
fn needs_to_see_the_node(effect: &Effect) -> bool {
    effect.is_on_node() && !matches!(effect, Effect::DeletePod(_))
}

/// Decides.
pub fn decide(snapshot: &Snapshot) -> Decision {
    let ruling = rule::ruling(snapshot);
    let mut plan = plan(snapshot, &ruling);
    if let Some(remedy) = &ruling.remedy {
        let said = &mut plan.standing.message;
        *said = format!("{said}; {remedy}");
    }
    if snapshot.is_node_behind {
        plan.effects.retain(|effect| !needs_to_see_the_node(effect));
        plan.wake = plan.wake.or(snapshot.now.saturating_add(NEXT_SIGHT).ok());
    }
    let latched = reclaim::stored_latch(snapshot).map(|latch| latch.at);
    let retry = write_hold(snapshot, ruling.rule, &mut plan);
    let unshown = snapshot.hold_written.as_ref().and_then(|_| snapshot.now.saturating_add(NEXT_SIGHT).ok());
    Decision {
        standing: plan.standing,
        effects: plan.effects,
        timers: Timers { reclaimed_at: latched, ..plan.timers },
        leaving: plan.leaving,
        is_gone: plan.is_gone,
        pods_of: plan.pods_of,
        taints: plan.taints,
        agent: AgentPlan { asks: agent::plan::asks(snapshot), ..plan.agent },
        wake: plan.wake.or(retry).or(unshown).or(ruling.until).or(rule::next_look(snapshot)),
        ruling,
    }
}

/// Before everything else, and whatever else there is to do. When to try again, if not now.
fn write_hold(snapshot: &Snapshot, rule: Rule, plan: &mut Plan) -> Option<Timestamp> {
    if snapshot.object.is_moving || snapshot.is_capi_paused() {
        return None;
    }
    let (wish, again_at) = reclaim::wish::due(snapshot, rule);
    plan.effects.splice(0..0, wish.map(|wish| Effect::WriteHold(Box::new(wish))));
    again_at
}

fn plan(snapshot: &Snapshot, ruling: &Ruling) -> Plan {
    if snapshot.object.is_moving {
        return let_go(snapshot);
    }
    if let Some(pause) = snapshot.pause() {
        return paused_by_capi(snapshot, ruling, &pause);
    }
    if ruling.state == DesiredState::AsIs {
        let reason = if ruling.rule == Rule::Hold { "Held" } else { "Paused" };
        return frozen(snapshot, reason, &ruling.message);
    }
    // A finalizer can no longer be added to what is being deleted; whatever is left of it goes all the same.
    if !snapshot.object.has_finalizer && snapshot.object.deleted_at.is_none() {
        return first_sight(snapshot);
    }
    match ruling.state {
        DesiredState::Active if leave::is_past_return(snapshot) || stranded::is_torn(snapshot) => {
            leave::plan(snapshot, ruling)
        }
        DesiredState::Active => open::plan(snapshot, ruling),
        DesiredState::Inactive | DesiredState::AsIs => leave::plan(snapshot, ruling),
    }
}

/// Nothing is written in the management cluster; the owner who wants her machine at once gets what the Node can give.
fn paused_by_capi(snapshot: &Snapshot, ruling: &Ruling, pause: &str) -> Plan {
    let message = format!("{pause}: nothing of this machine is changed until that is taken back");
    let mut plan = frozen(snapshot, "BlockedByPause", &message);
    if ruling.manner == Manner::Eject && ruling.state == DesiredState::Inactive {
        eject::node_half(snapshot, &mut plan);
    } else if ruling.state == DesiredState::Active && snapshot.own_node().is_some_and(eject::has_taint) {
        // The eject was called off: only the Node knew of it.
        plan.effects.extend(leave::uncordon(snapshot));
    }
    plan
}

/// The finalizer stands before anything that it guards; what it guards follows with the event of its write.
fn first_sight(snapshot: &Snapshot) -> Plan {
    let standing = Standing {
        phase: Phase::Pending,
        ready: Some(false),
        reason: "Starting",
        message: "seen for the first time".to_owned(),
        stalled: false,
    };
    // Timers stand: somebody may have taken the finalizer off in the middle of a run.
    let mut plan = Plan::new(standing, snapshot.status.timers.clone().unwrap_or_default());
    plan.effects.push(Effect::AddFinalizer);
    plan
}

/// `clusterctl move` deletes the source copy: its objects live on elsewhere, so nothing here may be taken down.
fn let_go(snapshot: &Snapshot) -> Plan {
    let mut plan =
        frozen(snapshot, "BlockedByPause", "clusterctl move is taking this object away: let go, untouched");
    if snapshot.object.deleted_at.is_some() && snapshot.object.has_finalizer {
        plan.effects.push(Effect::RemoveFinalizer { kinds: Vec::new() });
    }
    plan
}

/// Neither in nor out: on its way in, or on its way out.
fn is_half_way(snapshot: &Snapshot) -> bool {
    let Some(machine) = snapshot.own_machine() else {
        let is_ours =
            |child: &Child| child.object.as_ref().is_some_and(|object| snapshot.owns_child(child, object));
        return snapshot.children.iter().any(is_ours);
    };
    let is_cordoned = snapshot.own_node().is_some_and(|node| node.cordoned_by.is_some());
    machine.deleted_at.is_some() || !machine.is_ready() || is_cordoned
}

/// Nothing is touched, and every timer stands still: thawing starts the grace anew.
fn frozen(snapshot: &Snapshot, reason: &'static str, message: &str) -> Plan {
    let ready = match reason {
        "BlockedByPause" => Some(false),
        _ if is_half_way(snapshot) => None,
        _ => Some(true),
    };
    let standing = Standing {
        phase: snapshot.status.phase.unwrap_or(Phase::Pending),
        ready,
        reason,
        message: message.to_owned(),
        stalled: false,
    };
    let before = snapshot.status.timers.clone().unwrap_or_default();
    let timers =
        Timers { shutdown_started_at: None, drain_started_at: None, eject_started_at: None, ..before };
    Plan::new(standing, timers)
}
