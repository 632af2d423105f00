//! Which rule wins: the state that should be, the manner of leaving, and since when.
//!
//! One precedence, in the order of [`Rule`]; the first that matches decides. Reclaim and Hold have no source yet.

use jiff::{SignedDuration, Timestamp};

use crate::api::status::{DecisionSource, DesiredState, Manner, NextChange, Rule};
use crate::controller::snapshot::Snapshot;
use crate::schedule::{Edge, Schedule, Winner};

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
    /// Since when this state is asked for: the edge itself where the timetable decides.
    pub since: Timestamp,
    /// Since when this rule asks for it.
    pub rule_since: Timestamp,
    /// The next change, if nobody edits anything.
    pub next: Option<NextChange>,
    /// What the rule read.
    pub source: Option<DecisionSource>,
    /// Why, in words.
    pub message: String,
}

impl Ruling {
    /// An instant to come, for people: with its date where a weekday says too little. Counted from the start of the
    /// state and not from *now*, because the text stands in the status, and time passing is no change.
    pub fn when(&self, schedule: &Schedule, at: Timestamp) -> String {
        let is_far = at.duration_since(self.since) > WEEKDAYS_SUFFICE;
        if is_far { schedule.local_with_date(at) } else { schedule.local(at) }
    }
}

/// A rule that matched, before its *since* is known.
struct Match {
    state: DesiredState,
    rule: Rule,
    since: Timestamp,
    next: Option<NextChange>,
    field_path: Option<String>,
    message: String,
}

/// The instant by which the timetable is read: *now*, unless the clock was set back a little.
pub fn schedule_instant(snapshot: &Snapshot) -> Timestamp {
    let acted_at = snapshot.status.decision.as_ref().map(|decision| decision.since);
    match acted_at {
        Some(since) if since > snapshot.now && since.duration_since(snapshot.now) <= CLOCK_STEP_TOLERATED => {
            since
        }
        _ => snapshot.now,
    }
}

/// Applies the rules in their order.
pub fn ruling(snapshot: &Snapshot) -> Ruling {
    let matched = by_object(snapshot).unwrap_or_else(|| by_timetable(snapshot));
    let manner = if snapshot.target.kill_switch { Manner::Eject } else { Manner::Graceful };
    let before = snapshot.status.decision.as_ref();
    let since = before.filter(|d| d.state == matched.state).map_or(matched.since, |d| d.since);
    let rule_since = before.filter(|d| d.rule == matched.rule).map_or(matched.since, |d| d.rule_since);
    let source = matched.field_path.map(|path| DecisionSource {
        kind: Some("ScheduledMachine".to_owned()),
        name: Some(snapshot.object.name.clone()),
        uid: Some(snapshot.object.uid.clone()),
        field_path: Some(path),
    });
    Ruling {
        state: matched.state,
        rule: matched.rule,
        manner,
        since,
        rule_since,
        next: matched.next,
        source,
        message: matched.message,
    }
}

/// Everything above the timetable.
fn by_object(snapshot: &Snapshot) -> Option<Match> {
    let target = &snapshot.target;
    let (state, rule, since, path, message) = if let Some(at) = snapshot.object.deleted_at {
        (DesiredState::Inactive, Rule::Deletion, at, None, "the ScheduledMachine is being deleted".to_owned())
    } else if snapshot.cluster.as_ref().is_some_and(|cluster| cluster.deleting) {
        let message = format!("Cluster {} is being deleted", target.cluster_name);
        (DesiredState::Inactive, Rule::ClusterDeleting, snapshot.now, None, message)
    } else if target.kill_switch {
        let message =
            "the kill switch is on; set spec.killSwitch to false to return to the schedule".to_owned();
        (DesiredState::Inactive, Rule::KillSwitch, snapshot.now, Some("spec.killSwitch"), message)
    } else if target.paused {
        let message = "spec.paused is true: nothing is touched".to_owned();
        (DesiredState::AsIs, Rule::Paused, snapshot.now, Some("spec.paused"), message)
    } else if !target.enabled {
        let message = "spec.schedule.enabled is false".to_owned();
        (DesiredState::Inactive, Rule::Disabled, snapshot.now, Some("spec.schedule.enabled"), message)
    } else {
        return None;
    };
    Some(Match { state, rule, since, next: None, field_path: path.map(str::to_owned), message })
}

fn by_timetable(snapshot: &Snapshot) -> Match {
    match &snapshot.target.schedule {
        Ok(schedule) => by_schedule(snapshot, schedule),
        Err(_) => without_schedule(snapshot),
    }
}

fn by_schedule(snapshot: &Snapshot, schedule: &Schedule) -> Match {
    let at = schedule_instant(snapshot);
    let verdict = schedule.verdict(at);
    let next = schedule.next_edge(at).map(|edge| next_change(&edge));
    let message = match &verdict.winner {
        Winner::Exception { index, reason: Some(reason), .. } => format!("exception {index}: {reason}"),
        Winner::Exception { index, .. } => format!("exception {index}"),
        Winner::Window { path } => format!("{path} is open"),
        Winner::OutsideWindows => "no window is open".to_owned(),
    };
    Match {
        state: state(verdict.active),
        rule: rule(&verdict.winner),
        since: acted_since(snapshot, schedule, at),
        next,
        field_path: verdict.winner.field_path(),
        message,
    }
}

/// The edge, where nothing but the clock changed; *now*, where the spec was edited: the edge of an edited timetable may
/// lie days back, and a grace counted from there would be no grace at all.
fn acted_since(snapshot: &Snapshot, schedule: &Schedule, at: Timestamp) -> Timestamp {
    // Back from another rule (a kill switch, say): the edge may be old as well.
    let timetable_before = snapshot.status.decision.as_ref().is_some_and(|decision| {
        matches!(decision.rule, Rule::Exception | Rule::Window | Rule::OutsideWindows)
    });
    // Only the rule changes (an exception begins within an open window): no edge of the verdict stands for that.
    let verdict = state(schedule.is_active(at));
    let turned = snapshot.status.decision.as_ref().is_some_and(|decision| decision.state != verdict);
    let edge = schedule.previous_edge(at).map(|edge| edge.at);
    match edge {
        Some(edge) if is_unedited(snapshot) && timetable_before && turned => edge,
        _ => snapshot.now,
    }
}

fn is_unedited(snapshot: &Snapshot) -> bool {
    snapshot.status.observed_generation == Some(snapshot.object.generation)
}

/// Nobody can say what the timetable wants. It opens nothing; what is lent leaves at the end last promised.
fn without_schedule(snapshot: &Snapshot) -> Match {
    let promised = snapshot.status.next_cleanup;
    let is_lent = snapshot.own_machine().is_some_and(|machine| machine.deleted_at.is_none());
    let status = &snapshot.status;
    let was_active = status.decision.as_ref().is_some_and(|decision| match decision.state {
        DesiredState::Active => true,
        DesiredState::Inactive => false,
        // Lent when the pause began, unless it was on its way out.
        DesiredState::AsIs => status.last_run.as_ref().is_some_and(|run| run.closed_at.is_none()),
    });
    let is_over = promised.is_some_and(|end| end <= snapshot.now);
    let (active, since) = match promised {
        _ if !(is_lent && was_active) => (false, snapshot.now),
        // Known for garbage before the end came: the end is the edge. Else the edit is news, and so is the grace.
        Some(end) if is_over => (false, if is_unedited(snapshot) { end } else { snapshot.now }),
        _ => (true, snapshot.now),
    };
    let next = promised.filter(|_| active).map(|at| NextChange {
        at,
        state: DesiredState::Inactive,
        rule: Rule::ScheduleInvalid,
        blocked_by: None,
    });
    let message = match (active, &next) {
        (true, Some(_)) => "the schedule cannot be read; the machine leaves at the end last promised",
        (true, None) => "the schedule cannot be read and no end was promised; the machine stays",
        (false, _) => "the schedule cannot be read; the machine does not join",
    };
    Match {
        state: state(active),
        rule: Rule::ScheduleInvalid,
        since,
        next,
        field_path: Some("spec.schedule".to_owned()),
        message: message.to_owned(),
    }
}

fn next_change(edge: &Edge) -> NextChange {
    NextChange { at: edge.at, state: state(edge.active), rule: rule(&edge.winner), blocked_by: None }
}

fn state(active: bool) -> DesiredState {
    if active { DesiredState::Active } else { DesiredState::Inactive }
}

fn rule(winner: &Winner) -> Rule {
    match winner {
        Winner::Exception { .. } => Rule::Exception,
        Winner::Window { .. } => Rule::Window,
        Winner::OutsideWindows => Rule::OutsideWindows,
    }
}
