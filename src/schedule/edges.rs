//! The next and the previous change of the verdict, by stepping from one instant at which it *may* change to the next.
//!
//! While an exception decides, only an exception's edge can change anything, so a freeze of a month is one step. While
//! none does, the edges of the merged windows count too. An edge that changes nothing (a window wholly in a gap, an
//! Active exception inside an open window) is stepped over, not reported (rule 5). Every step is checked to be one, so
//! that not even a broken zone could keep the reconciler here for ever.

use jiff::{SignedDuration, Timestamp};

use super::civil::instant;
use super::{Edge, HORIZON, Schedule};

/// The first change strictly after an instant.
pub(super) fn next(schedule: &Schedule, after: Timestamp) -> Option<Edge> {
    let last = after.checked_add(HORIZON).unwrap_or(Timestamp::MAX);
    let before = schedule.is_active(after);
    let mut at = after;
    loop {
        at = step_forward(schedule, at).filter(|step| at < *step && *step <= last)?;
        if schedule.is_active(at) != before {
            return Some(edge(schedule, at));
        }
    }
}

/// The last change at or before an instant.
pub(super) fn previous(schedule: &Schedule, at: Timestamp) -> Option<Edge> {
    let first = at.checked_sub(HORIZON).unwrap_or(Timestamp::MIN);
    let active = schedule.is_active(at);
    let mut up_to = at;
    loop {
        let start = step_back(schedule, up_to).filter(|start| first <= *start && *start <= up_to)?;
        // Edges are whole seconds, so nothing changes between this instant and the edge.
        up_to = start.checked_sub(SignedDuration::from_nanos(1)).ok()?;
        if schedule.is_active(up_to) != active {
            return Some(edge(schedule, start));
        }
    }
}

fn edge(schedule: &Schedule, at: Timestamp) -> Edge {
    let verdict = schedule.verdict(at);
    Edge { at, active: verdict.active, winner: verdict.winner }
}

/// The first instant after `at` at which the verdict may differ from that at `at`.
fn step_forward(schedule: &Schedule, at: Timestamp) -> Option<Timestamp> {
    let edges = exception_edges(schedule).filter(|edge| *edge > at).min();
    if schedule.exception(at).is_some() {
        return edges;
    }
    let toggle = schedule.0.week.next_toggle(schedule.reached(at));
    // Not yet reached at `at`, therefore later.
    let window = toggle.and_then(|civil| instant(&schedule.0.zone, civil));
    [edges, window].into_iter().flatten().min()
}

/// The first instant from which on the verdict has been that at `at` for sure.
fn step_back(schedule: &Schedule, at: Timestamp) -> Option<Timestamp> {
    let edges = exception_edges(schedule).filter(|edge| *edge <= at).max();
    if schedule.exception(at).is_some() {
        return edges;
    }
    let toggle = schedule.0.week.last_toggle(schedule.reached(at));
    let window = toggle.and_then(|civil| instant(&schedule.0.zone, civil));
    [edges, window].into_iter().flatten().max()
}

fn exception_edges(schedule: &Schedule) -> impl Iterator<Item = Timestamp> {
    schedule.0.exceptions.iter().flat_map(|exception| [exception.starts_at, exception.ends_at])
}
