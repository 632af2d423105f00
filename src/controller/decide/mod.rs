//! From a snapshot to a decision. Total and repeatable: the same snapshot gives the same decision.
//!
//! No clock, no client, no log. One file per concern; [`rule`] says what should be, the others what to do about it.

mod leave;
mod open;
pub mod rule;

use crate::api::condition::Phase;
use crate::api::status::{DesiredState, Timers};
use crate::controller::effect::{Decision, Effect, Standing, Wake};
use crate::controller::snapshot::Snapshot;
use rule::Ruling;

/// What one concern wants.
#[derive(Debug)]
struct Plan {
    standing: Standing,
    effects: Vec<Effect>,
    timers: Timers,
    leaving: Option<crate::api::status::Leaving>,
    is_gone: bool,
    wake: Wake,
}

impl Plan {
    fn new(standing: Standing, timers: Timers) -> Self {
        Self { standing, effects: Vec::new(), timers, leaving: None, is_gone: false, wake: Wake::never() }
    }
}

/// Decides.
pub fn decide(snapshot: &Snapshot) -> Decision {
    let ruling = rule::ruling(snapshot);
    let plan = plan(snapshot, &ruling);
    let next_edge = ruling.next.as_ref().map(|next| next.at);
    Decision {
        standing: plan.standing,
        effects: plan.effects,
        timers: plan.timers,
        leaving: plan.leaving,
        is_gone: plan.is_gone,
        wake: plan.wake.or(next_edge).or(timetable_edge(snapshot)),
        ruling,
    }
}

/// `inSchedule`, `nextActivation` and `nextCleanup` follow the timetable under every rule, also while disabled.
fn timetable_edge(snapshot: &Snapshot) -> Option<jiff::Timestamp> {
    let schedule = snapshot.target.schedule.as_ref().ok()?;
    schedule.next_edge(snapshot.now).map(|edge| edge.at)
}

fn plan(snapshot: &Snapshot, ruling: &Ruling) -> Plan {
    if snapshot.object.is_moving {
        return let_go(snapshot);
    }
    if snapshot.is_capi_paused() {
        return frozen(
            snapshot,
            "BlockedByPause",
            "Cluster API is paused here: nothing is written until it is resumed",
        );
    }
    if ruling.state == DesiredState::AsIs {
        return frozen(snapshot, "Paused", &ruling.message);
    }
    if !snapshot.object.has_finalizer {
        return first_sight(snapshot, ruling);
    }
    match ruling.state {
        DesiredState::Active => open::plan(snapshot, ruling),
        DesiredState::Inactive | DesiredState::AsIs => leave::plan(snapshot, ruling),
    }
}

/// The finalizer stands before anything that it guards; what it guards follows with the event of its write.
fn first_sight(snapshot: &Snapshot, ruling: &Ruling) -> Plan {
    if snapshot.object.deleted_at.is_some() {
        // Never ours, or already released: a finalizer can no longer be added.
        let mut plan = Plan::new(leave::settled(snapshot, ruling), Timers::default());
        plan.is_gone = true;
        return plan;
    }
    let standing = Standing {
        phase: Phase::Pending,
        ready: Some(false),
        reason: "Starting",
        message: "seen for the first time".to_owned(),
        stalled: false,
    };
    let mut plan = Plan::new(standing, Timers::default());
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

/// Nothing is touched, and every timer stands still: thawing starts the grace anew.
fn frozen(snapshot: &Snapshot, reason: &'static str, message: &str) -> Plan {
    let held = snapshot.own_machine().is_some_and(|machine| machine.deleted_at.is_some());
    let ready = match reason {
        "BlockedByPause" => Some(false),
        // Frozen half way: neither in nor out.
        _ if held => None,
        _ => Some(true),
    };
    let standing = Standing {
        phase: snapshot.status.phase.unwrap_or(Phase::Pending),
        ready,
        reason,
        message: message.to_owned(),
        stalled: false,
    };
    let timers = Timers { shutdown_started_at: None, ..snapshot.status.timers.clone().unwrap_or_default() };
    Plan::new(standing, timers)
}
