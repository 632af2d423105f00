//! From the words of the spec to minutes of the week and instants, naming every fault by its field (rule 10).

use jiff::tz::{TimeZone, TimeZoneDatabase};

use super::civil::Civil;
use super::exception::Exception;
use super::week::{DAY, Stretch, WEEK, Week};
use super::words::{self, EdgeWord};
use super::{Fault, Parsed, Window};
use crate::api::schedule as raw;

/// The faults found so far.
#[derive(Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, path: &str, message: impl Into<String>) {
        self.0.push(Fault { path: path.to_owned(), message: message.into() });
    }

    /// The value, or `None` and a fault at `path`.
    fn keep<T>(&mut self, path: &str, read: Result<T, String>) -> Option<T> {
        read.map_err(|message| self.add(path, message)).ok()
    }
}

/// Reads a whole schedule.
pub(super) fn schedule(raw: &raw::Schedule) -> Result<Parsed, Vec<Fault>> {
    let mut faults = Faults::default();
    let zone = faults.keep("spec.schedule.timezone", zone(&raw.timezone));
    let mut openings = Vec::new();
    if let Some(stretches) = hours_of_day(raw, &mut faults) {
        openings.push(("spec.schedule.hoursOfDay".to_owned(), stretches));
    }
    for (index, window) in raw.windows.iter().enumerate() {
        let path = format!("spec.schedule.windows[{index}]");
        let stretches = stretches(&path, window, &mut faults);
        openings.push((path, stretches));
    }
    // Without a zone the words of the exceptions are still looked at; UTC stands in until the faults are returned.
    let utc = TimeZone::UTC;
    let mut exceptions = Vec::new();
    for (index, exception) in raw.exceptions.iter().enumerate() {
        let path = format!("spec.schedule.exceptions[{index}]");
        exceptions.extend(self::exception(&path, exception, zone.as_ref().unwrap_or(&utc), &mut faults));
    }
    let opens = !openings.is_empty() || raw.exceptions.iter().any(|e| e.state == raw::ExceptionState::Active);
    if !opens {
        faults.add(
            "spec.schedule",
            "never opens: add daysOfWeek and hoursOfDay, windows, or an Active exception",
        );
    }
    match zone {
        Some(zone) if faults.0.is_empty() => {
            let all: Vec<Stretch> = openings.iter().flat_map(|(_, stretches)| stretches.clone()).collect();
            let windows =
                openings.into_iter().map(|(path, stretches)| Window { path, week: Week::union(&stretches) });
            let windows = windows.collect();
            Ok(Parsed { zone, zone_name: raw.timezone.clone(), week: Week::union(&all), windows, exceptions })
        }
        _ => Err(faults.0),
    }
}

/// A zone of the bundled database, under its exact name (rule 8); jiff alone would let `europe/london` pass.
fn zone(name: &str) -> Result<TimeZone, String> {
    let database = TimeZoneDatabase::bundled();
    let shown = words::quoted(name);
    let Ok(zone) = database.get(name) else {
        return Err(format!(
            "{shown} is no time zone of this release: write an IANA name such as Europe/London"
        ));
    };
    match database.available().find(|known| known.as_str().eq_ignore_ascii_case(name)) {
        Some(known) if known.as_str() == name => Ok(zone),
        Some(known) => Err(format!("{shown} is spelled {:?}", known.as_str())),
        None => Err(format!("{shown} stands for no zone: write an IANA name such as Europe/London")),
    }
}

/// `daysOfWeek` times `hoursOfDay`, each comma part by itself (rule 3); `None` if neither is there. Hours count from the
/// start of the day, those of a part that wraps go on past 24; each once, however often a long list repeats it.
fn hours_of_day(raw: &raw::Schedule, faults: &mut Faults) -> Option<Vec<Stretch>> {
    const DAYS: &str = "spec.schedule.daysOfWeek";
    const HOURS: &str = "spec.schedule.hoursOfDay";
    match (raw.days_of_week.is_empty(), raw.hours_of_day.is_empty()) {
        (true, true) => return None,
        (false, true) => faults.add(DAYS, "needs hoursOfDay beside it, such as [\"9-17\"]"),
        (true, false) => faults.add(HOURS, "needs daysOfWeek beside it, such as [mon-fri]"),
        (false, false) => {}
    }
    let days = days(DAYS, &raw.days_of_week, faults);
    let mut hours = Vec::new();
    for (path, part) in parts(HOURS, &raw.hours_of_day) {
        let Some((first, last)) = faults.keep(&path, words::hour_part(part)) else { continue };
        hours.extend(first..=if first <= last { last } else { 24 + last });
    }
    hours.sort_unstable();
    hours.dedup();
    let starts = days.iter().flat_map(|day| hours.iter().map(move |hour| day * DAY + hour * 60));
    Some(starts.map(|start| Stretch { from: start % WEEK, length: 60 }).collect())
}

/// Lists of days in any of their spellings, as days from Monday; each once, however often a long list repeats it.
fn days(path: &str, items: &[String], faults: &mut Faults) -> Vec<u16> {
    let mut days = Vec::new();
    for (path, part) in parts(path, items) {
        days.extend(faults.keep(&path, words::day_part(part)).unwrap_or_default());
    }
    days.sort_unstable();
    days.dedup();
    days
}

/// The comma parts of all items of a list, each with the path of its item.
fn parts<'a>(path: &'a str, items: &'a [String]) -> impl Iterator<Item = (String, &'a str)> {
    items
        .iter()
        .enumerate()
        .flat_map(move |(index, item)| item.split(',').map(move |part| (format!("{path}[{index}]"), part)))
}

/// One of `windows`: clock times on days, or a span of the week (rule 4).
fn stretches(path: &str, window: &raw::Window, faults: &mut Faults) -> Vec<Stretch> {
    let (from_path, to_path) = (format!("{path}.from"), format!("{path}.to"));
    let days = days(&format!("{path}.days"), &window.days, faults);
    let from = faults.keep(&from_path, words::edge(&window.from).and_then(not_midnight_after));
    let to = faults.keep(&to_path, words::edge(&window.to));
    let Some((from, to)) = from.zip(to) else { return Vec::new() };
    match (from.day, to.day) {
        (None, None) => {
            if window.days.is_empty() {
                faults.add(path, "clock times need days: write days: [mon-fri], or a weekday on both ends");
            }
            if from.minute == to.minute {
                faults.add(&to_path, "equals from: write from: \"00:00\", to: \"24:00\" for whole days");
            }
            let overnight = if to.minute > from.minute { 0 } else { DAY };
            let length = overnight + to.minute - from.minute;
            days.into_iter().map(|day| Stretch { from: day * DAY + from.minute, length }).collect()
        }
        (Some(from_day), Some(to_day)) => {
            if !window.days.is_empty() {
                faults.add(&format!("{path}.days"), "a span has its weekdays in from and to: leave days out");
            }
            let (from, to) = (from_day * DAY + from.minute, to_day * DAY + to.minute);
            let length = (WEEK + to - from) % WEEK;
            if length == 0 {
                let whole = "write days: [mon-sun], from: \"00:00\", to: \"24:00\" for the whole week";
                faults.add(&to_path, format!("is the same minute of the week as from: {whole}"));
            }
            vec![Stretch { from, length }]
        }
        _ => {
            faults.add(path, "has a weekday on one end only: write it on both, or on neither and give days");
            Vec::new()
        }
    }
}

/// `24:00` ends a day; the same minute as a start is `00:00` of the next.
fn not_midnight_after(edge: EdgeWord) -> Result<EdgeWord, String> {
    if edge.minute < DAY {
        Ok(edge)
    } else {
        Err("24:00 can only end a window: write 00:00 and the next day".to_owned())
    }
}

/// One of `exceptions`: a `date`, or `from` and `to` (rule 7).
fn exception(path: &str, raw: &raw::Exception, zone: &TimeZone, faults: &mut Faults) -> Option<Exception> {
    let (date_path, from_path, to_path) =
        (format!("{path}.date"), format!("{path}.from"), format!("{path}.to"));
    let date = raw.date.as_deref().map(|date| faults.keep(&date_path, words::date(date)));
    let from = raw.from.as_deref().map(|from| faults.keep(&from_path, words::date_time(from)));
    let to = raw.to.as_deref().map(|to| faults.keep(&to_path, words::date_time(to)));
    let (from, to) = match (date, from, to) {
        (Some(date), None, None) => {
            let date = date?;
            let next = faults.keep(&date_path, date.tomorrow().map_err(|_| "is out of range".to_owned()))?;
            (date.to_datetime(jiff::civil::Time::midnight()), next.to_datetime(jiff::civil::Time::midnight()))
        }
        (Some(_), _, _) => {
            faults.add(&date_path, "stands alone: give either date, or from and to");
            return None;
        }
        (None, Some(from), Some(to)) => from.zip(to)?,
        (None, Some(_), None) => {
            faults.add(&from_path, "needs to beside it");
            return None;
        }
        (None, None, Some(_)) => {
            faults.add(&to_path, "needs from beside it");
            return None;
        }
        (None, None, None) => {
            faults.add(path, "says not when: give either date, or from and to");
            return None;
        }
    };
    if from >= to {
        faults.add(&to_path, "must be after from");
        return None;
    }
    let stretch = Civil::new(from).zip(Civil::new(to));
    let exception = stretch.and_then(|stretch| Exception::new(zone, stretch, raw.state, raw.reason.clone()));
    faults.keep(path, exception.ok_or_else(|| "is out of range".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_of_hours_costs_no_more_than_the_hours_it_names() {
        let pairs = (0..24).flat_map(|first| (0..24).map(move |last| format!("{first}-{last}")));
        let raw = raw::Schedule {
            days_of_week: vec!["mon-sun".to_owned(); 32],
            hours_of_day: pairs.collect(),
            ..raw::Schedule::default()
        };
        let stretches = hours_of_day(&raw, &mut Faults::default()).unwrap();
        assert_eq!(stretches.len(), 7 * 47, "from 00:00 to 23:00 of the next day");
        assert!(stretches.iter().all(|stretch| stretch.from < WEEK && stretch.length == 60));
    }
}
