//! The other evaluator: slow, plain, and without a line of the engine's. All it asks of the time-zone database is the
//! offset in force at an instant. Instants are seconds since 1970 UTC; civil times are seconds as if the zone were UTC.

use std::ops::Range;

use jiff::Timestamp;
use jiff::civil::{Date, date};
use jiff::tz::TimeZone;

use crate::model::{Model, Window};

pub(crate) const MINUTE: i64 = 60;
pub(crate) const DAY: i64 = 86_400;

pub(crate) fn timestamp(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

pub(crate) fn offset(zone: &TimeZone, second: i64) -> i64 {
    i64::from(zone.to_offset(timestamp(second)).seconds())
}

/// The instants of a stretch, with what the local clock adds to each.
pub(crate) struct Timeline {
    /// In order and without holes; each with its one offset.
    runs: Vec<(Range<i64>, i64)>,
}

impl Timeline {
    /// Walks the minutes one by one, and the seconds of each minute in which the offset changes.
    pub(crate) fn walk(zone: &TimeZone, stretch: Range<i64>) -> Timeline {
        let mut runs = Vec::new();
        let (mut start, mut current) = (stretch.start, offset(zone, stretch.start));
        for minute in stretch.clone().step_by(60) {
            if offset(zone, minute) == current {
                continue;
            }
            for second in minute - 59..=minute {
                let now = offset(zone, second);
                if now != current {
                    runs.push((start..second, current));
                    (start, current) = (second, now);
                }
            }
        }
        runs.push((start..stretch.end, current));
        Timeline { runs }
    }

    /// The first instant that reads so; if none does, the first that reads later. Before the stretch: its start. After
    /// it: its end.
    fn instant(&self, civil: i64) -> i64 {
        if let Some((_, offset)) = self.runs.iter().find(|(run, offset)| run.contains(&(civil - offset))) {
            return civil - offset;
        }
        let reads_later = self.runs.iter().find(|(run, offset)| run.start + offset > civil);
        reads_later.map_or_else(|| self.runs.last().unwrap().0.end, |(run, _)| run.start)
    }

    fn dates(&self) -> Range<Date> {
        let civil_date =
            |second: i64| date(1970, 1, 1).saturating_add(jiff::Span::new().days(second.div_euclid(DAY)));
        let (first, last) = (self.runs.first().unwrap(), self.runs.last().unwrap());
        civil_date(first.0.start + first.1 - 8 * DAY)..civil_date(last.0.end + last.1 + 2 * DAY)
    }
}

/// Who decides, by position: exceptions in their list; 0 for `hoursOfDay` and from 1 on for windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Exception(usize),
    Window(usize),
    Nobody,
}

/// A schedule laid out over a stretch: every interval it asks for, as instants.
pub(crate) struct Naive {
    windows: Vec<(Range<i64>, usize)>,
    exceptions: Vec<(Range<i64>, bool)>,
}

impl Naive {
    pub(crate) fn new(model: &Model, timeline: &Timeline) -> Naive {
        let mut windows = Vec::new();
        let Range { start: mut day, end } = timeline.dates();
        while day < end {
            for (from, to, source) in starting_on(model, day) {
                windows.push((timeline.instant(from)..timeline.instant(to), source));
            }
            day = day.tomorrow().unwrap();
        }
        windows.retain(|(interval, _)| !interval.is_empty());
        let exceptions = model.exceptions.iter().map(|exception| {
            let civil = |(date, minute): (Date, i64)| civil(date, minute);
            let to = if exception.from == exception.to {
                (exception.from.0.tomorrow().unwrap(), 0)
            } else {
                exception.to
            };
            (timeline.instant(civil(exception.from))..timeline.instant(civil(to)), exception.active)
        });
        Naive { exceptions: exceptions.collect(), windows }
    }

    pub(crate) fn answer(&self, at: i64) -> (bool, Who) {
        for (index, (interval, active)) in self.exceptions.iter().enumerate().rev() {
            if interval.contains(&at) {
                return (*active, Who::Exception(index));
            }
        }
        let open = self
            .windows
            .iter()
            .filter(|(interval, _)| interval.contains(&at))
            .map(|(_, source)| *source)
            .min();
        open.map_or((false, Who::Nobody), |source| (true, Who::Window(source)))
    }

    /// Every instant at which an interval starts or ends.
    pub(crate) fn ends(&self) -> impl Iterator<Item = i64> {
        let exceptions = self.exceptions.iter().map(|(interval, _)| interval);
        self.windows.iter().map(|(interval, _)| interval).chain(exceptions).flat_map(|i| [i.start, i.end])
    }
}

/// Civil seconds of a minute of a date.
pub(crate) fn civil(day: Date, minute: i64) -> i64 {
    i64::from((day - date(1970, 1, 1)).get_days()) * DAY + minute * MINUTE
}

/// The intervals that belong to a day because they start on it: from, to, source.
fn starting_on(model: &Model, day: Date) -> Vec<(i64, i64, usize)> {
    let weekday = i64::from(day.weekday().to_monday_zero_offset());
    let next = day.tomorrow().unwrap();
    let mut found = Vec::new();
    if let Some((days, hours)) = &model.hours
        && days.iter().any(|range| within(*range, weekday, 7))
    {
        for (first, last) in hours {
            let hour = |day: Date, hour: i64| (civil(day, hour * 60), civil(day, (hour + 1) * 60), 0);
            if first <= last {
                found.extend((*first..=*last).map(|h| hour(day, h)));
            } else {
                found.extend((*first..24).map(|h| hour(day, h)));
                found.extend((0..=*last).map(|h| hour(next, h)));
            }
        }
    }
    for (index, window) in model.windows.iter().enumerate() {
        match window {
            Window::Clock { days, from, to } if days.iter().any(|range| within(*range, weekday, 7)) => {
                let last = if to > from { day } else { next };
                found.push((civil(day, *from), civil(last, *to), index + 1));
            }
            Window::Span { from_day, from, to_day, to } if *from_day == weekday => {
                let start = civil(day, *from);
                // Every end of the two weeks around, `sun 24:00` of the last one included; the first past the start.
                let ends =
                    (-7..=7).map(|days| (weekday + days, start - from * MINUTE + days * DAY + to * MINUTE));
                let end = ends
                    .filter(|(on, end)| on.rem_euclid(7) == *to_day && *end > start)
                    .map(|(_, end)| end)
                    .min();
                found.push((start, end.unwrap(), index + 1));
            }
            _ => {}
        }
    }
    found
}

/// Whether counting on from the first of a range, round the circle, meets `wanted` no later than the last.
fn within((first, last): (i64, i64), wanted: i64, circle: i64) -> bool {
    let mut at = first;
    loop {
        if at == wanted {
            return true;
        }
        if at == last {
            return false;
        }
        at = (at + 1) % circle;
    }
}
