//! An exception: two instants, and what holds between them (rule 7). Its dates are absolute and its zone is known, so
//! the instants are found once, when the schedule is read.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::civil::{Civil, instant};
use crate::api::schedule::ExceptionState;

/// A dated stretch that overrules the windows.
#[derive(Clone, Debug)]
pub(super) struct Exception {
    pub(super) state: ExceptionState,
    pub(super) reason: Option<String>,
    /// As written; a `date` is its own midnight to the next.
    pub(super) from: Civil,
    /// Exclusive.
    pub(super) to: Civil,
    /// The first instant it decides.
    pub(super) starts_at: Timestamp,
    /// The first instant it no longer decides; not after `starts_at` if all of it lies in a gap.
    pub(super) ends_at: Timestamp,
}

impl Exception {
    /// `None` at the ends of the calendar, where a civil time has no instant.
    pub(super) fn new(
        zone: &TimeZone,
        (from, to): (Civil, Civil),
        state: ExceptionState,
        reason: Option<String>,
    ) -> Option<Exception> {
        let (starts_at, ends_at) = (instant(zone, from)?, instant(zone, to)?);
        Some(Exception { state, reason, from, to, starts_at, ends_at })
    }

    pub(super) fn contains(&self, at: Timestamp) -> bool {
        self.starts_at <= at && at < self.ends_at
    }
}
