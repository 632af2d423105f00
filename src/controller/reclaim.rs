//! An owner's reclaim: when the machine may come back, its hold, the latch that stands in for that, and the count.
//!
//! `request` reads what the agent wrote on the Node, `wish` is the hold to be written; both are values only.

pub mod request;
pub mod wish;

use jiff::{SignedDuration, Timestamp};

use crate::api::status::{MOST_RECLAIMS, ReclaimStatus};
use crate::controller::decide::rule::schedule_instant;
use crate::controller::hold::Hold;
use crate::controller::report::{Recorded, Report};
use crate::controller::snapshot::Snapshot;
use crate::controller::target::{ReturnAfter, Target};

/// What `status.reclaim.last24h` counts.
const A_DAY: SignedDuration = SignedDuration::from_hours(24);
/// So often within this span, and somebody should ask the owner what she needs: her program runs on, and the machine
/// goes to and fro. The predecessor's figures.
const OFTEN: usize = 3;
const OFTEN_WITHIN: SignedDuration = SignedDuration::from_mins(10);

/// A reclaim whose hold could not be written, or is not shown yet: it stands in for that.
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

/// The latch, until its hold is there or its time is over. For a hold that was written the process remembers until it is
/// shown: a new process lists all holds before it decides.
pub fn latch(snapshot: &Snapshot) -> Option<Latch> {
    let unshown = || {
        let written = snapshot.hold_written.as_ref()?;
        stand_in(snapshot, written.asked_at, |hold| hold.name == written.name)
    };
    stored_latch(snapshot).or_else(unshown)
}

/// What the status remembers of it.
///
/// Its hold is known by the request that it carries: times do not tell, a clock that was ahead has made the hold of an
/// earlier reclaim look like a later one's.
pub fn stored_latch(snapshot: &Snapshot) -> Option<Latch> {
    let at = snapshot.status.timers.as_ref()?.reclaimed_at?;
    let known = snapshot.status.reclaim.as_ref().filter(|known| known.at == at);
    let request = known.and_then(|known| known.request.as_deref());
    stand_in(snapshot, at, |hold| match request {
        Some(request) => hold.request() == Some(request),
        None => hold.reclaimed_at() == Some(at),
    })
}

fn stand_in(snapshot: &Snapshot, at: Timestamp, is_its: impl Fn(&Hold) -> bool) -> Option<Latch> {
    let has_hold = snapshot.holds.iter().any(is_its);
    let until = return_at(&snapshot.target, at);
    let is_over = until.is_some_and(|until| until <= schedule_instant(snapshot));
    (!has_hold && !is_over).then_some(Latch { at, until })
}

/// A reclaim that has no hold (yet): that of the latch, else the one that has just been asked for.
pub fn without_hold(snapshot: &Snapshot) -> Option<Latch> {
    let asked = || request::news(snapshot).map(|asked| Latch { at: asked.at, until: asked.until });
    latch(snapshot).or_else(asked)
}

/// What this pass did about a reclaim's hold, or what the one before it could neither do nor write down.
pub fn recorded(snapshot: &Snapshot, report: &Report) -> Option<Recorded> {
    let unsaved = || {
        let asked = request::news(snapshot)?;
        let failure = wish::failed(snapshot, &asked.request)?.message.clone();
        Some(Recorded { asked, failure: Some(failure) })
    };
    report.recorded.clone().or_else(unsaved)
}

/// What the status is to remember in place of a hold.
pub fn to_latch(snapshot: &Snapshot, recorded: Option<&Recorded>) -> Option<Timestamp> {
    match recorded {
        Some(Recorded { asked, failure: Some(_) }) => Some(asked.at),
        Some(Recorded { failure: None, .. }) => None,
        None => stored_latch(snapshot).map(|latch| latch.at),
    }
}

/// The latest reclaim, and how many there were in the last day: holds are deleted sooner than that.
pub fn status(snapshot: &Snapshot, recorded: Option<&Recorded>) -> Option<ReclaimStatus> {
    let before = snapshot.status.reclaim.as_ref();
    let unknown = snapshot.holds.iter().filter(|hold| is_unknown(before, hold));
    let latest = unknown.max_by_key(|hold| hold.reclaimed_at());
    let with_hold = snapshot.holds.iter().filter_map(Hold::reclaimed_at);
    let asked = recorded.map(|recorded| &recorded.asked);
    let latched = asked.map(|asked| asked.at).or_else(|| latch(snapshot).map(|latch| latch.at));
    let known = before.into_iter().flat_map(|before| before.recent.iter().copied());
    let mut recent: Vec<Timestamp> =
        known.chain(with_hold).chain(latched).filter(|at| counts_until(*at) > snapshot.now).collect();
    recent.sort_unstable();
    recent.dedup();
    recent.drain(..recent.len().saturating_sub(MOST_RECLAIMS));
    let last_24h = u32::try_from(recent.len()).ok();
    // What is news is later than what was known, whatever the clocks said then.
    let at = latched.or(latest.and_then(Hold::reclaimed_at)).or(before.map(|before| before.at))?;
    let its_hold = latest.filter(|hold| hold.reclaimed_at() == Some(at));
    let (node, matched, request) = match (asked.filter(|asked| asked.at == at), its_hold, before) {
        (Some(asked), _, _) => (Some(asked.node.clone()), asked.matched.clone(), Some(asked.request.clone())),
        (None, Some(hold), _) => {
            let reclaim = hold.reclaim.clone().unwrap_or_default();
            // A person's names no request: the one of that very time would be forgotten, and so be news again.
            let known = before.filter(|before| before.at == at).and_then(|before| before.request.clone());
            (reclaim.node, reclaim.matched, reclaim.request.or(known))
        }
        (None, None, Some(before)) if before.at == at => {
            (before.node.clone(), before.matched.clone(), before.request.clone())
        }
        (None, None, _) => (snapshot.status.node_ref.as_ref().map(|node| node.name.clone()), None, None),
    };
    let is_news = asked.is_some();
    let request = request.filter(|request| is_news || !request::is_over(snapshot, request));
    Some(ReclaimStatus { at, node, matched, request, last_24h, recent })
}

/// A hold of which the status does not tell yet.
fn is_unknown(before: Option<&ReclaimStatus>, hold: &Hold) -> bool {
    let Some(at) = hold.reclaimed_at() else { return false };
    before.is_none_or(|before| {
        let is_same = before.request.as_deref().is_some_and(|request| hold.request() == Some(request));
        !is_same && at > before.at && !before.recent.contains(&at)
    })
}

/// The same, not counted: who is to count and to tell it may not live to do so, and whoever comes after him finds by this
/// that nobody has.
pub fn uncounted(told: ReclaimStatus) -> ReclaimStatus {
    let recent: Vec<Timestamp> = told.recent.iter().copied().filter(|at| *at != told.at).collect();
    ReclaimStatus { last_24h: u32::try_from(recent.len()).ok(), recent, ..told }
}

/// How often the owner asked within the span in which it is often, where the last time is news.
pub fn rapid(before: Option<&ReclaimStatus>, after: Option<&ReclaimStatus>) -> Option<usize> {
    let after = is_new(before, after)?;
    let since = after.at.saturating_sub(OFTEN_WITHIN).unwrap_or(after.at);
    let count = after.recent.iter().filter(|at| **at >= since && **at <= after.at).count();
    (count >= OFTEN).then_some(count)
}

/// The reclaim that a status tells of, and the one before does not or has not counted.
pub fn is_new<'a>(
    before: Option<&ReclaimStatus>,
    after: Option<&'a ReclaimStatus>,
) -> Option<&'a ReclaimStatus> {
    after.filter(|after| {
        let is_counted = after.recent.contains(&after.at);
        before.is_none_or(|before| !before.recent.contains(&after.at) && (is_counted || before.at < after.at))
    })
}

/// When the count is next to go down.
pub fn next_fall(snapshot: &Snapshot) -> Option<Timestamp> {
    status(snapshot, None)?.recent.first().map(|at| counts_until(*at))
}

fn counts_until(at: Timestamp) -> Timestamp {
    at.saturating_add(A_DAY).unwrap_or(at)
}
