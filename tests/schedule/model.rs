//! Schedules as numbers. The naive evaluator reads the numbers, the engine reads the words written from them, so the
//! parser is part of what is proved.

use fivespot::api::schedule::{self as raw, ExceptionState};
use jiff::civil::Date;

use crate::dice::Dice;

/// First and last, both included; the first may be the greater: then the range wraps.
pub(crate) type Range = (i64, i64);

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    /// Ranges of `daysOfWeek` (Monday 0) and of `hoursOfDay`.
    pub(crate) hours: Option<(Vec<Range>, Vec<Range>)>,
    pub(crate) windows: Vec<Window>,
    pub(crate) exceptions: Vec<Exception>,
}

/// Minutes since midnight; `to` up to 1 440.
#[derive(Clone, Debug)]
pub(crate) enum Window {
    Clock { days: Vec<Range>, from: i64, to: i64 },
    Span { from_day: i64, from: i64, to_day: i64, to: i64 },
}

#[derive(Clone, Debug)]
pub(crate) struct Exception {
    pub(crate) from: (Date, i64),
    /// The same as `from` for a whole date.
    pub(crate) to: (Date, i64),
    pub(crate) active: bool,
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

pub(crate) fn day_name(day: i64) -> &'static str {
    DAYS[usize::try_from(day.rem_euclid(7)).unwrap()]
}

fn clock(minute: i64) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

impl Model {
    /// The words a user might have written for it.
    pub(crate) fn written(&self, zone: &str, dice: &mut Dice) -> raw::Schedule {
        let (days, hours) = self.hours.clone().unwrap_or_default();
        raw::Schedule {
            timezone: zone.to_owned(),
            days_of_week: items(&days, dice, |day, _| day_name(day).to_owned()),
            hours_of_day: items(&hours, dice, |hour, dice| {
                if dice.chance(20) { format!("{hour:02}") } else { hour.to_string() }
            }),
            windows: self.windows.iter().map(|window| window.written(dice)).collect(),
            exceptions: self.exceptions.iter().map(Exception::written).collect(),
            ..raw::Schedule::default()
        }
    }
}

impl Window {
    fn written(&self, dice: &mut Dice) -> raw::Window {
        match self {
            Window::Clock { days, from, to } => raw::Window {
                days: items(days, dice, |day, _| day_name(day).to_owned()),
                from: clock(*from),
                to: clock(*to),
            },
            Window::Span { from_day, from, to_day, to } => raw::Window {
                days: Vec::new(),
                from: format!("{} {}", day_name(*from_day), clock(*from)),
                to: format!("{} {}", day_name(*to_day), clock(*to)),
            },
        }
    }
}

impl Exception {
    fn written(&self) -> raw::Exception {
        let minute = |(date, minute): (Date, i64)| format!("{date}T{}", clock(minute));
        let whole = self.from == self.to;
        raw::Exception {
            date: whole.then(|| self.from.0.to_string()),
            from: (!whole).then(|| minute(self.from)),
            to: (!whole).then(|| minute(self.to)),
            state: if self.active { ExceptionState::Active } else { ExceptionState::Inactive },
            reason: None,
        }
    }
}

/// Ranges as list items: some joined by commas, some with blanks, all of which the grammar allows.
fn items(ranges: &[Range], dice: &mut Dice, name: impl Fn(i64, &mut Dice) -> String) -> Vec<String> {
    let mut items: Vec<String> = Vec::new();
    for (first, last) in ranges {
        let blank = if dice.chance(10) { " " } else { "" };
        let mut part = format!("{blank}{}", name(*first, dice));
        if first != last || dice.chance(10) {
            part = format!("{part}{blank}-{blank}{}", name(*last, dice));
        }
        match items.last_mut() {
            Some(item) if dice.chance(50) => *item = format!("{item},{part}"),
            _ => items.push(part),
        }
    }
    items
}

/// A civil moment that random schedules gather around: a date and the minutes of a day between which the clock shifts.
pub(crate) struct Focus {
    pub(crate) date: Date,
    pub(crate) low: i64,
    pub(crate) high: i64,
}

impl Focus {
    fn minute(&self, dice: &mut Dice) -> i64 {
        let middle = i64::midpoint(self.low, self.high);
        let minute = match dice.below(11) {
            0 => self.low,
            1 => self.high,
            2 => middle,
            3 => self.low - 1,
            4 => self.low + 1,
            5 => self.high - 1,
            6 => self.high + 1,
            7 => self.low - dice.below(120),
            8 => self.high + dice.below(120),
            9 => dice.pick(&[0, 1, 1439, 60, 540]),
            _ => dice.below(1440),
        };
        minute.rem_euclid(1440)
    }

    fn day(&self, dice: &mut Dice) -> i64 {
        let today = i64::from(self.date.weekday().to_monday_zero_offset());
        match dice.below(8) {
            0..=3 => today,
            4 | 5 => (today + 6) % 7,
            6 => (today + 1) % 7,
            _ => dice.below(7),
        }
    }

    fn days(&self, dice: &mut Dice) -> Vec<Range> {
        let range = |dice: &mut Dice| {
            let first = self.day(dice);
            (first, if dice.chance(50) { first } else { (first + dice.below(7)) % 7 })
        };
        (0..dice.between(1, 2)).map(|_| range(dice)).collect()
    }

    fn window(&self, dice: &mut Dice) -> Window {
        loop {
            let (from, to) = (self.minute(dice), self.minute(dice));
            let to = if to == 0 && dice.chance(50) { 1440 } else { to };
            if dice.chance(70) && from != to {
                return Window::Clock { days: self.days(dice), from, to };
            }
            let (from_day, to_day) = (self.day(dice), self.day(dice));
            if (from_day * 1440 + from) % 10_080 != (to_day * 1440 + to) % 10_080 {
                return Window::Span { from_day, from, to_day, to };
            }
        }
    }

    fn hours(&self, dice: &mut Dice) -> Vec<Range> {
        let hour = |dice: &mut Dice| {
            if dice.chance(60) { self.minute(dice) / 60 } else { dice.below(24) }
        };
        (0..dice.between(1, 3))
            .map(|_| {
                let first = hour(dice);
                (first, if dice.chance(40) { first } else { hour(dice) })
            })
            .collect()
    }

    fn exception(&self, dice: &mut Dice) -> Exception {
        let date = |dice: &mut Dice| self.date.saturating_add(jiff::Span::new().days(dice.between(-2, 2)));
        let active = dice.chance(50);
        if dice.chance(35) {
            let date = (date(dice), 0);
            return Exception { from: date, to: date, active };
        }
        loop {
            let (one, other) = ((date(dice), self.minute(dice)), (date(dice), self.minute(dice)));
            if one != other {
                return Exception { from: one.min(other), to: one.max(other), active };
            }
        }
    }

    /// A valid schedule with edges where they matter.
    pub(crate) fn model(&self, dice: &mut Dice) -> Model {
        let mut model = Model::default();
        if dice.chance(40) {
            model.hours = Some((self.days(dice), self.hours(dice)));
        }
        let windows = if model.hours.is_some() { dice.below(2) } else { dice.between(1, 3) };
        model.windows = (0..windows).map(|_| self.window(dice)).collect();
        if dice.chance(60) {
            model.exceptions = (0..dice.between(1, 4)).map(|_| self.exception(dice)).collect();
        }
        if dice.chance(5) && model.exceptions.iter().any(|exception| exception.active) {
            (model.hours, model.windows) = (None, Vec::new());
        }
        model
    }
}
