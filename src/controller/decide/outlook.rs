//! What the clock alone will change: the next decision, the end of the loan, and, looking back, when a change fell due.

use jiff::Timestamp;

use super::judge::{Verdict, is_timeless, judge, newest, rule_of};
use crate::api::machine_hold::{HoldOrigin, HoldState};
use crate::api::status::{DesiredState, NextChange, Rule};
use crate::controller::hold::Hold;
use crate::controller::reclaim;
use crate::controller::snapshot::Snapshot;

/// After this many changes in one outage nobody counts on the exact edge.
const MOST_STEPS: usize = 10_000;

/// What comes if nobody edits anything.
#[derive(Debug, Default)]
pub(super) struct Outlook {
    /// The next change of the decision, or else the next opening that a hold will keep from happening.
    pub(super) next: Option<NextChange>,
    /// When the decision ends.
    pub(super) until: Option<Timestamp>,
    /// When a machine that is lent leaves.
    pub(super) leaves_at: Option<Timestamp>,
}

/// Looks ahead from an instant and its verdict.
pub(super) fn outlook(snapshot: &Snapshot, at: Timestamp, verdict: &Verdict, lent: bool) -> Outlook {
    let mut found = Outlook::default();
    if is_timeless(snapshot) {
        return found;
    }
    let seeks_end = verdict.state != DesiredState::Inactive;
    let mut blocked = None;
    let mut walk = Walk::new(snapshot, snapshot.holds.clone(), at, verdict.clone(), lent);
    for _ in 0..MOST_STEPS {
        if blocked.is_none() && found.next.is_none() {
            blocked = walk.kept_out();
        }
        let Some(change) = walk.step() else { break };
        if !change {
            continue;
        }
        if found.next.is_none() {
            let Verdict { state, rule, .. } = walk.verdict;
            found.next = Some(NextChange { at: walk.at, state, rule, blocked_by: None });
            found.until = Some(walk.at);
        }
        if !seeks_end || walk.verdict.state == DesiredState::Inactive {
            found.leaves_at = seeks_end.then_some(walk.at);
            break;
        }
    }
    found.next = found.next.or(blocked);
    found
}

/// When the state became what it is by the clock alone, if the last pass had foretold a change and that has come. An
/// edge that nobody had announced is as old as we are: a hold or a window edited today may begin last week, and a grace
/// counted from there would be none.
pub(super) fn fell_due(
    snapshot: &Snapshot,
    at: Timestamp,
    verdict: &Verdict,
    lent: bool,
) -> Option<Timestamp> {
    let before = snapshot.status.decision.as_ref()?;
    let foretold = before.until.filter(|until| *until <= at)?;
    let holds: Vec<Hold> = snapshot.holds.iter().map(Hold::since_it_was_made).collect();
    let first = judge(snapshot, &holds, foretold, lent);
    let mut turned_at = (first.state != before.state).then_some(foretold);
    let mut walk = Walk::new(snapshot, holds, foretold, first, lent);
    for _ in 0..MOST_STEPS {
        match walk.next_instant().filter(|next| *next <= at).and_then(|_| walk.step()) {
            Some(true) => turned_at = Some(walk.at),
            Some(false) => {}
            None => break,
        }
    }
    turned_at.filter(|_| walk.verdict.state == verdict.state)
}

/// Steps from one instant at which the verdict may change to the next.
struct Walk<'a> {
    snapshot: &'a Snapshot,
    holds: Vec<Hold>,
    at: Timestamp,
    verdict: Verdict,
    lent: bool,
}

impl<'a> Walk<'a> {
    fn new(snapshot: &'a Snapshot, holds: Vec<Hold>, at: Timestamp, verdict: Verdict, lent: bool) -> Self {
        let lent = stays_lent(verdict.state, lent);
        Self { snapshot, holds, at, verdict, lent }
    }

    /// Goes one step; whether the state changed there. `None`: nothing more comes.
    fn step(&mut self) -> Option<bool> {
        self.at = self.next_instant()?;
        let verdict = judge(self.snapshot, &self.holds, self.at, self.lent);
        let changed = verdict.state != self.verdict.state;
        self.lent = stays_lent(verdict.state, self.lent);
        self.verdict = verdict;
        Some(changed)
    }

    fn next_instant(&self) -> Option<Timestamp> {
        let holds = self.next_hold_edge();
        // While the timetable has no say its edges change nothing.
        let timetable = match self.verdict.rule {
            Rule::Exception | Rule::Window | Rule::OutsideWindows if self.freeze().is_none() => {
                self.snapshot.target.schedule.as_ref().ok().and_then(|schedule| schedule.next_edge(self.at))
            }
            _ => None,
        };
        let promised = self.snapshot.status.next_cleanup.filter(|end| {
            self.verdict.rule == Rule::ScheduleInvalid
                && self.verdict.state == DesiredState::Active
                && *end > self.at
        });
        [holds, timetable.map(|edge| edge.at), promised].into_iter().flatten().min()
    }

    fn next_hold_edge(&self) -> Option<Timestamp> {
        let latch = reclaim::without_hold(self.snapshot).and_then(|latch| latch.until);
        let holds = self.holds.iter().flat_map(|hold| hold.edges_after(self.at));
        holds.chain(latch.filter(|end| *end > self.at)).min()
    }

    /// The hold that lets nothing in, while nothing is in.
    fn freeze(&self) -> Option<&Hold> {
        let decides =
            matches!(self.verdict.rule, Rule::Hold | Rule::Exception | Rule::Window | Rule::OutsideWindows);
        let hold = newest(&self.holds, HoldOrigin::User, self.at).filter(|_| decides && !self.lent)?;
        (hold.state == HoldState::NoNew).then_some(hold)
    }

    /// The next opening, if such a hold will keep it from happening.
    fn kept_out(&self) -> Option<NextChange> {
        let hold = self.freeze()?;
        let schedule = self.snapshot.target.schedule.as_ref().ok()?;
        let first = schedule.next_edge(self.at)?;
        let opening = if first.active { first } else { schedule.next_edge(first.at)? };
        let is_kept_out = hold.is_in_force(opening.at);
        is_kept_out.then(|| NextChange {
            at: opening.at,
            state: DesiredState::Active,
            rule: rule_of(&opening.winner),
            blocked_by: Some(format!("MachineHold {}", hold.name)),
        })
    }
}

fn stays_lent(state: DesiredState, lent: bool) -> bool {
    match state {
        DesiredState::Active => true,
        DesiredState::Inactive => false,
        DesiredState::AsIs => lent,
    }
}
