//! One canonical way to write a schedule down: two schedules that open at the same minutes have the same normal form,
//! and reading it back gives the same verdicts.

use std::fmt;

use serde::Serialize;

use super::Parsed;
use super::exception::Exception;
use super::week::{DAY, Stretch, WEEK};
use super::words::{clock_name, day_name};
use crate::api::schedule as raw;

/// A schedule as `spec.schedule` would say it without redundancy: openings that overlap or touch are one, hours of days
/// are windows, windows of the same clock times share a line, exceptions keep their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NormalForm {
    /// IANA name.
    pub timezone: String,
    /// Disjoint; by their first start in the week.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<raw::Window>,
    /// In the order that decides among them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exceptions: Vec<raw::Exception>,
}

impl From<&NormalForm> for raw::Schedule {
    fn from(form: &NormalForm) -> raw::Schedule {
        raw::Schedule {
            enabled: true,
            timezone: form.timezone.clone(),
            windows: form.windows.clone(),
            exceptions: form.exceptions.clone(),
            ..raw::Schedule::default()
        }
    }
}

/// `mon-fri 09:00-18:00; fri 19:00 - mon 07:00; Inactive 2026-12-28 (year-end freeze); Europe/London`
impl fmt::Display for NormalForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for window in &self.windows {
            match window.days.as_slice() {
                [] => write!(f, "{} - {}; ", window.from, window.to)?,
                days => write!(f, "{} {}-{}; ", days.join(","), window.from, window.to)?,
            }
        }
        for exception in &self.exceptions {
            write!(f, "{:?} ", exception.state)?;
            for word in [&exception.date, &exception.from].into_iter().flatten() {
                f.write_str(word)?;
            }
            if let Some(to) = &exception.to {
                write!(f, " - {to}")?;
            }
            if let Some(reason) = &exception.reason {
                write!(f, " ({reason})")?;
            }
            f.write_str("; ")?;
        }
        f.write_str(&self.timezone)
    }
}

/// The normal form of a schedule.
pub(super) fn form(parsed: &Parsed) -> NormalForm {
    NormalForm {
        timezone: parsed.zone_name.clone(),
        windows: windows(&parsed.week.stretches()),
        exceptions: parsed.exceptions.iter().map(exception).collect(),
    }
}

/// Openings of the same clock times share a window; what outlasts a day is a span.
fn windows(openings: &[Stretch]) -> Vec<raw::Window> {
    if let [Stretch { length: WEEK, .. }] = openings {
        return vec![raw::Window {
            days: vec!["mon-sun".to_owned()],
            from: clock_name(0),
            to: clock_name(DAY),
        }];
    }
    let mut windows: Vec<(u16, u16, Vec<u16>)> = Vec::new();
    for opening in openings {
        let (day, from) = (opening.from / DAY, opening.from % DAY);
        match windows.iter_mut().find(|(start, length, _)| (*start, *length) == (from, opening.length)) {
            Some((_, _, days)) => days.push(day),
            None => windows.push((from, opening.length, vec![day])),
        }
    }
    windows.into_iter().flat_map(|(from, length, days)| window(from, length, &days)).collect()
}

/// One window for all days if clock times can say it, else a span for each.
fn window(from: u16, length: u16, days: &[u16]) -> Vec<raw::Window> {
    let to = from + length;
    if length < DAY || to == DAY {
        let to = if to > DAY { to - DAY } else { to };
        return vec![raw::Window { days: day_ranges(days), from: clock_name(from), to: clock_name(to) }];
    }
    let of_week = |minute: u16| format!("{} {}", day_name(minute / DAY % 7), clock_name(minute % DAY));
    days.iter()
        .map(|day| raw::Window {
            days: Vec::new(),
            from: of_week(day * DAY + from),
            to: of_week(day * DAY + from + length),
        })
        .collect()
}

/// Ascending days as ranges: `mon-wed`, `fri`.
fn day_ranges(days: &[u16]) -> Vec<String> {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for day in days {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *day => *last = *day,
            _ => ranges.push((*day, *day)),
        }
    }
    ranges
        .into_iter()
        .map(|(first, last)| {
            if first == last {
                day_name(first).to_owned()
            } else {
                format!("{}-{}", day_name(first), day_name(last))
            }
        })
        .collect()
}

/// A whole civil day is a `date`, however it was written.
fn exception(exception: &Exception) -> raw::Exception {
    let (from, to) = (exception.from.datetime(), exception.to.datetime());
    let midnight = jiff::civil::Time::midnight();
    let date = from.zip(to).filter(|(from, to)| {
        from.time() == midnight
            && to.time() == midnight
            && from.date().tomorrow().is_ok_and(|next| next == to.date())
    });
    let minute = |datetime: jiff::civil::DateTime| datetime.strftime("%Y-%m-%dT%H:%M").to_string();
    raw::Exception {
        date: date.map(|(from, _)| from.date().to_string()),
        from: from.filter(|_| date.is_none()).map(minute),
        to: to.filter(|_| date.is_none()).map(minute),
        state: exception.state,
        reason: exception.reason.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Schedule;
    use crate::api::schedule as raw;

    fn form(json: &str) -> String {
        let raw: raw::Schedule = serde_json::from_str(json).unwrap();
        Schedule::parse(&raw).unwrap().normal_form().to_string()
    }

    #[test]
    fn ways_to_write_the_same_openings_have_one_normal_form() {
        let written = [
            r#"{"daysOfWeek": ["mon-fri"], "hoursOfDay": ["9-17"]}"#,
            r#"{"daysOfWeek": ["fri,mon,tue", "wed-thu"], "hoursOfDay": ["13-17", "9-12"]}"#,
            r#"{"windows": [{"days": ["mon-fri"], "from": "09:00", "to": "18:00"}]}"#,
            r#"{"windows": [{"days": ["mon-fri"], "from": "09:00", "to": "12:00"}, {"days": ["mon-fri"], "from": "11:00", "to": "18:00"}]}"#,
        ];
        for written in written {
            assert_eq!(form(written), "mon-fri 09:00-18:00; UTC");
        }
    }

    #[test]
    fn nights_that_touch_become_a_span() {
        let week = r#"{"windows": [{"days": ["fri-sun"], "from": "19:00", "to": "07:00"}, {"days": ["sat-sun"], "from": "07:00", "to": "19:00"}]}"#;
        assert_eq!(form(week), "fri 19:00 - mon 07:00; UTC");
    }

    #[test]
    fn a_whole_date_is_written_as_one() {
        let freeze = r#"{"exceptions": [
            {"state": "Active", "from": "2026-12-28T00:00", "to": "2026-12-29T00:00", "reason": "extra batch"},
            {"state": "Inactive", "from": "2026-12-24T18:00", "to": "2027-01-02T08:00"}]}"#;
        let expected = "Active 2026-12-28 (extra batch); Inactive 2026-12-24T18:00 - 2027-01-02T08:00; UTC";
        assert_eq!(form(freeze), expected);
    }
}
