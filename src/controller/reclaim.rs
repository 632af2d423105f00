//! An owner's reclaim: when the machine may come back, the latch that stands in for its hold, and the count.

use jiff::{SignedDuration, Timestamp};

use crate::api::status::{MOST_RECLAIMS, ReclaimStatus};
use crate::controller::decide::rule::schedule_instant;
use crate::controller::hold::Hold;
use crate::controller::snapshot::Snapshot;
use crate::controller::target::{ReturnAfter, Target};

/// What `status.reclaim.last24h` counts.
const A_DAY: SignedDuration = SignedDuration::from_hours(24);

/// A reclaim whose hold could not be written: the status alone remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latch {
    /// When the owner asked, to the millisecond that its hold will carry in `requestedAt`.
    pub at: Timestamp,
    /// When the machine may come back; `None`: when somebody says so.
    pub until: Option<Timestamp>,
}

/// When a machine that was reclaimed at an instant may come back; `None`: when somebody says so.
pub fn return_at(target: &Target, at: Timestamp) -> Option<Timestamp> {
    match target.return_after {
        ReturnAfter::Never => None,
        ReturnAfter::After(span) => at.checked_add(span.as_signed()).ok(),
        ReturnAfter::NextWindow => {
            let schedule = target.schedule.as_ref().ok()?;
            let edge = schedule.next_edge(at)?;
            if edge.active { Some(edge.at) } else { schedule.next_edge(edge.at).map(|edge| edge.at) }
        }
    }
}

/// The latch, until its hold is there or its time is over.
pub fn latch(snapshot: &Snapshot) -> Option<Latch> {
    let at = snapshot.status.timers.as_ref()?.reclaimed_at?;
    let has_hold = snapshot.holds.iter().any(|hold| hold.reclaimed_at().is_some_and(|asked| asked >= at));
    let until = return_at(&snapshot.target, at);
    let is_over = until.is_some_and(|until| until <= schedule_instant(snapshot));
    (!has_hold && !is_over).then_some(Latch { at, until })
}

/// The latest reclaim, and how many there were in the last day: holds are deleted sooner than that.
pub fn status(snapshot: &Snapshot) -> Option<ReclaimStatus> {
    let before = snapshot.status.reclaim.as_ref();
    let latest =
        snapshot.holds.iter().filter(|hold| hold.reclaimed_at().is_some()).max_by_key(|h| h.reclaimed_at());
    let with_hold = snapshot.holds.iter().filter_map(Hold::reclaimed_at);
    let latched = latch(snapshot).map(|latch| latch.at);
    let known = before.into_iter().flat_map(|before| before.recent.iter().copied());
    let mut recent: Vec<Timestamp> =
        known.chain(with_hold).chain(latched).filter(|at| counts_until(*at) > snapshot.now).collect();
    recent.sort_unstable();
    recent.dedup();
    recent.drain(..recent.len().saturating_sub(MOST_RECLAIMS));
    let last_24h = u32::try_from(recent.len()).ok();
    let newest = [latest.and_then(Hold::reclaimed_at), latched, before.map(|before| before.at)];
    let at = newest.into_iter().flatten().max()?;
    let (node, matched) = match (latest.filter(|hold| hold.reclaimed_at() == Some(at)), before) {
        (Some(hold), _) => {
            let reclaim = hold.reclaim.clone().unwrap_or_default();
            (reclaim.node, reclaim.matched)
        }
        (None, Some(before)) if before.at == at => (before.node.clone(), before.matched.clone()),
        (None, _) => (snapshot.status.node_ref.as_ref().map(|node| node.name.clone()), None),
    };
    Some(ReclaimStatus { at, node, matched, last_24h, recent })
}

/// When the count is next to go down.
pub fn next_fall(snapshot: &Snapshot) -> Option<Timestamp> {
    status(snapshot)?.recent.first().map(|at| counts_until(*at))
}

fn counts_until(at: Timestamp) -> Timestamp {
    at.saturating_add(A_DAY).unwrap_or(at)
}
