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

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> TimeZone {
        jiff::tz::TimeZoneDatabase::bundled().get(name).unwrap()
    }

    fn civil(text: &str) -> Civil {
        Civil::new(text.parse().unwrap()).unwrap()
    }

    fn assert_instant(name: &str, minute: &str, expected: &str) {
        assert_eq!(
            instant(&zone(name), civil(minute)),
            Some(expected.parse().unwrap()),
            "{minute} in {name}"
        );
    }

    #[test]
    fn an_ordinary_minute_is_its_only_instant() {
        assert_instant("Europe/London", "2026-10-24T19:00", "2026-10-24T18:00:00Z");
        assert_instant("Asia/Kathmandu", "2026-10-24T05:45", "2026-10-24T00:00:00Z");
    }

    #[test]
    fn a_minute_in_an_overlap_is_the_earlier_of_two_instants() {
        assert_instant("Europe/London", "2026-10-25T01:30", "2026-10-25T00:30:00Z");
        // Half an hour only.
        assert_instant("Australia/Lord_Howe", "2026-04-05T01:45", "2026-04-04T14:45:00Z");
    }

    #[test]
    fn every_minute_of_a_gap_is_the_first_instant_after_it() {
        for minute in ["2027-03-28T01:00", "2027-03-28T01:30", "2027-03-28T01:59", "2027-03-28T02:00"] {
            assert_instant("Europe/London", minute, "2027-03-28T01:00:00Z");
        }
        assert_instant("Africa/Cairo", "2026-04-24T00:30", "2026-04-23T22:00:00Z");
        assert_instant("Pacific/Apia", "2011-12-30T12:00", "2011-12-30T10:00:00Z");
    }

    #[test]
    fn the_clock_jumps_over_a_gap_and_waits_through_the_second_pass_of_an_overlap() {
        let london = zone("Europe/London");
        let shows = |at: &str| reached(&london, at.parse().unwrap());
        assert_eq!(shows("2027-03-28T00:59:59.9Z"), civil("2027-03-28T00:59:59"));
        assert_eq!(shows("2027-03-28T01:00:00Z"), civil("2027-03-28T02:00"));
        assert_eq!(shows("2026-10-25T00:59:59.9Z"), civil("2026-10-25T01:59:59"));
        assert_eq!(shows("2026-10-25T01:00:00Z"), civil("2026-10-25T01:59:59"));
        assert_eq!(shows("2026-10-25T01:59:59Z"), civil("2026-10-25T01:59:59"));
        assert_eq!(shows("2026-10-25T02:00:00Z"), civil("2026-10-25T02:00"));
    }

    #[test]
    fn seconds_before_1970_are_counted_downwards() {
        let shows = |at: &str| reached(&TimeZone::UTC, at.parse().unwrap());
        assert_eq!(shows("1969-12-31T23:59:59.5Z"), civil("1969-12-31T23:59:59"));
        assert_eq!(shows("1969-12-31T23:59:59Z"), civil("1969-12-31T23:59:59"));
    }

    #[test]
    fn the_week_starts_on_monday() {
        assert_eq!(civil("2026-11-02T00:00:59").minute_of_week(), 0);
        assert_eq!(civil("2026-11-01T23:59").minute_of_week(), 10_079);
        assert_eq!(civil("2026-11-04T12:00").in_week(0, 0), civil("2026-11-02T00:00"));
        assert_eq!(civil("2026-11-04T12:00").in_week(-1, 10_079), civil("2026-11-01T23:59"));
        assert_eq!(civil("1969-12-31T12:00").in_week(1, 60), civil("1970-01-05T01:00"));
    }

    #[test]
    fn the_ends_of_the_calendar_have_no_instant() {
        assert_eq!(Civil::new(DateTime::MAX), None);
        assert_eq!(reached(&zone("Asia/Tokyo"), Timestamp::MAX).in_week(1, 0).datetime(), None);
    }
}
