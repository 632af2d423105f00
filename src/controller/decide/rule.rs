//! Which rule wins: the state that should be, the manner of leaving, and since when.
//!
//! One precedence, in the order of [`Rule`]; the first that matches decides. `judge` says what it is at an instant,
//! `outlook` what the clock will make of it.

use jiff::{SignedDuration, Timestamp};

use super::judge::{self, judge};
use super::outlook::{fell_due, outlook};
use crate::api::machine_hold::HoldOrigin;
use crate::api::status::{DecisionSource, DesiredState, Manner, NextChange, Rule};
use crate::capi::version::Capi;
use crate::controller::reclaim;
use crate::controller::snapshot::Snapshot;
use crate::schedule::Schedule;

/// A clock that was set back by no more than this does not undo an edge that was already acted on.
const CLOCK_STEP_TOLERATED: SignedDuration = SignedDuration::from_mins(5);

/// Within a week a weekday is enough, with a day to spare.
const WEEKDAYS_SUFFICE: SignedDuration = SignedDuration::from_hours(6 * 24);

/// The rule that won.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// What should be.
    pub state: DesiredState,
    /// The first rule that matched.
    pub rule: Rule,
    /// How it leaves, if it leaves.
    pub manner: Manner,
    /// Since when this state is asked for: the edge itself where the clock decided.
    pub since: Timestamp,
    /// Since when this rule asks for it.
    pub rule_since: Timestamp,
    /// The next change, if nobody edits anything; or an opening that something will keep from happening.
    pub next: Option<NextChange>,
    /// When this state ends, if nobody edits anything.
    pub until: Option<Timestamp>,
    /// When a machine that is in leaves, if nobody edits anything.
    pub leaves_at: Option<Timestamp>,
    /// What the rule read.
    pub source: Option<DecisionSource>,
    /// Why, in words.
    pub message: String,
    /// What a person types to end it, where that is not plain.
    pub remedy: Option<String>,
}

impl Ruling {
    /// An instant to come, for people: with its date where a weekday says too little. Counted from the start of the
    /// state and not from *now*, because the text stands in the status, and time passing is no change.
    pub fn when(&self, schedule: &Schedule, at: Timestamp) -> String {
        let is_far = at.duration_since(self.since) > WEEKDAYS_SUFFICE;
        if is_far { schedule.local_with_date(at) } else { schedule.local(at) }
    }
}

/// The instant by which timetable and holds are read: *now*, unless the clock was set back a little.
pub fn schedule_instant(snapshot: &Snapshot) -> Timestamp {
    let acted_at = snapshot.status.decision.as_ref().map(|decision| decision.since);
    match acted_at {
        Some(since) if since > snapshot.now && since.duration_since(snapshot.now) <= CLOCK_STEP_TOLERATED => {
            since
        }
        _ => snapshot.now,
    }
}

/// What windows and exceptions alone say. Of a timetable that cannot be read: whether the opening that it had promised
/// an end is still going on; what has to leave meanwhile does not come back for it.
pub fn in_schedule(snapshot: &Snapshot, ruling: &Ruling) -> bool {
    let at = schedule_instant(snapshot);
    match &snapshot.target.schedule {
        Ok(schedule) => schedule.is_active(at),
        Err(_) => {
            ruling.state != DesiredState::Inactive && judge::keeps_promise(snapshot, at, is_lent(snapshot))
        }
    }
}

/// When something that is written in the status changes by the clock, whatever is decided.
pub fn next_look(snapshot: &Snapshot) -> Option<Timestamp> {
    let at = schedule_instant(snapshot);
    let timetable = snapshot.target.schedule.as_ref().ok().and_then(|schedule| schedule.next_edge(at));
    let holds = snapshot.holds.iter().flat_map(|hold| hold.edges_after(at));
    let latch = reclaim::without_hold(snapshot).and_then(|latch| latch.until);
    let clock = timetable.map(|edge| edge.at).into_iter().chain(holds).chain(latch);
    // Counted by the clock as it is: nobody acts on it.
    clock.chain(reclaim::next_fall(snapshot)).min()
}

/// Applies the rules in their order.
pub fn ruling(snapshot: &Snapshot) -> Ruling {
    let (at, lent) = (schedule_instant(snapshot), is_lent(snapshot));
    let verdict = judge(snapshot, &snapshot.holds, at, lent);
    let is_reclaimed = judge::newest(&snapshot.holds, HoldOrigin::Reclaim, at).is_some()
        || reclaim::without_hold(snapshot).is_some();
    let manner = if snapshot.target.kill_switch || is_reclaimed { Manner::Eject } else { Manner::Graceful };
    let began = match (verdict.rule, snapshot.object.deleted_at) {
        (Rule::Deletion, Some(at)) => at,
        (Rule::Deletion | Rule::ClusterDeleting | Rule::KillSwitch, _) => snapshot.now,
        _ if is_unedited(snapshot) => fell_due(snapshot, at, &verdict, lent).unwrap_or(snapshot.now),
        _ => snapshot.now,
    };
    let before = snapshot.status.decision.as_ref();
    let since = before.filter(|d| d.state == verdict.state).map_or(began, |d| d.since);
    let turned = before.is_none_or(|d| d.state != verdict.state);
    let rule_began = if turned || verdict.rule == Rule::Deletion { began } else { snapshot.now };
    let rule_since = before.filter(|d| d.rule == verdict.rule).map_or(rule_began, |d| d.rule_since);
    let ahead = outlook(snapshot, at, &verdict, lent);
    // The clock goes on, but nothing is done about it.
    let pause = snapshot.pause();
    let next = ahead.next.map(|next| match &pause {
        Some(pause) => NextChange { blocked_by: Some(pause.clone()), ..next },
        None => next,
    });
    Ruling {
        state: verdict.state,
        rule: verdict.rule,
        manner,
        since,
        rule_since,
        next,
        until: ahead.until,
        leaves_at: ahead.leaves_at.filter(|_| pause.is_none()),
        source: verdict.source,
        message: verdict.message,
        remedy: verdict.remedy,
    }
}

/// In the cluster or on its way there. A machine counts from the moment its Machine exists, for then it is taken from
/// its owner, and no more from its deletion on: what follows it would be a new one. One that cannot be read now is what
/// it was when it could.
fn is_lent(snapshot: &Snapshot) -> bool {
    let status = &snapshot.status;
    match snapshot.capi {
        Capi::Unspoken(_) => status.machine_ref.is_some() && status.leaving.is_none(),
        Capi::Served(_) | Capi::NotServed(_) => {
            snapshot.own_machine().is_some_and(|machine| machine.deleted_at.is_none())
        }
    }
}

fn is_unedited(snapshot: &Snapshot) -> bool {
    snapshot.status.observed_generation == Some(snapshot.object.generation)
}
