//! Civil time and instants: the only place where one becomes the other.
//!
//! Rule 1 in one picture: the engine reads a clock that never goes back. In a gap it jumps with the local clock; in the
//! second pass of an overlap it waits at the last second of the first pass until local time is past it. On that clock
//! every civil time is reached at most once, so a window is open exactly while the clock is inside it: the earlier of
//! two instants, the first instant after a gap, and no re-opening all follow.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

/// Seconds in a civil minute.
const MINUTE: i64 = 60;
/// Seconds in a civil day; civil days, unlike lived ones, are all alike.
const DAY: i64 = 24 * 60 * MINUTE;
/// Seconds in a civil week.
const WEEK: i64 = 7 * DAY;
/// The first Monday of the count, 1970-01-05T00:00.
const FIRST_MONDAY: i64 = 4 * DAY;

/// A civil date and time, as seconds since 1970-01-01T00:00 on the calendar's own axis, on which no zone ever shifts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Civil(i64);

impl Civil {
    /// `None` within a day of the ends of jiff's calendar (years -9999 and 9999).
    pub(super) fn new(datetime: DateTime) -> Option<Civil> {
        Offset::UTC.to_timestamp(datetime).ok().map(|at| Civil(at.as_second()))
    }

    /// `None` outside of jiff's calendar.
    pub(super) fn datetime(self) -> Option<DateTime> {
        Timestamp::from_second(self.0).ok().map(|at| Offset::UTC.to_datetime(at))
    }

    /// Whole minutes since Monday 00:00, 0 to 10 079.
    pub(super) fn minute_of_week(self) -> u16 {
        let minutes = (self.0 - FIRST_MONDAY).rem_euclid(WEEK) / MINUTE;
        u16::try_from(minutes).unwrap_or(u16::MAX)
    }

    /// The civil minute `minute` (0 to 10 079) of the week this one lies in, or of one `weeks` later.
    pub(super) fn in_week(self, weeks: i64, minute: u16) -> Civil {
        let monday = self.0 - (self.0 - FIRST_MONDAY).rem_euclid(WEEK);
        Civil(monday + weeks * WEEK + i64::from(minute) * MINUTE)
    }
}

/// The one instant a civil minute stands for (rule 1): the only one that reads so, the earlier of two in an overlap, the
/// first instant after a gap. jiff's `compatible` differs in a gap: it carries the minutes over it.
///
/// `None` outside of jiff's calendar.
pub(super) fn instant(zone: &TimeZone, civil: Civil) -> Option<Timestamp> {
    let datetime = civil.datetime()?;
    match zone.to_ambiguous_timestamp(datetime).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(datetime).ok(),
        AmbiguousOffset::Fold { before, .. } => before.to_timestamp(datetime).ok(),
        // Read with the offset of afterwards, a time in the gap lies just before the change that makes the gap.
        AmbiguousOffset::Gap { after, .. } => change_after(zone, after.to_timestamp(datetime).ok()?),
    }
}

/// Where the clock that never goes back stands at an instant, to the second.
///
/// A civil minute `c` is behind us, `instant(c) <= at`, exactly if `c <= reached(at)`.
pub(super) fn reached(zone: &TimeZone, at: Timestamp) -> Civil {
    let offset = zone.to_offset(at);
    let reading = offset.to_datetime(at);
    let civil = Civil(whole_second(at) + i64::from(offset.seconds()));
    match zone.to_ambiguous_timestamp(reading).offset() {
        AmbiguousOffset::Fold { before, after } if offset == after => before
            .to_timestamp(reading)
            .ok()
            .and_then(|first_pass| change_after(zone, first_pass))
            .map_or(civil, |change| Civil(change.as_second() + i64::from(before.seconds()) - 1)),
        _ => civil,
    }
}

/// The next change of the zone's offset strictly after an instant.
fn change_after(zone: &TimeZone, at: Timestamp) -> Option<Timestamp> {
    zone.following(at).next().map(|change| change.timestamp())
}

/// The second an instant lies in; `Timestamp::as_second` rounds towards 1970 instead.
fn whole_second(at: Timestamp) -> i64 {
    at.as_second() - i64::from(at.subsec_nanosecond() < 0)
}
