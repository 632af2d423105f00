//! The words of a schedule: days, hours, clock times, dates. Each function reads one word and says, when it cannot, what
//! is wrong and what would be right. Which field the word stood in is the business of `parse`.

use jiff::civil::{Date, DateTime, Time};

use super::week::DAY;

/// Monday first.
const DAY_NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// An edge of a window as written: `19:00` or `fri 19:00`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EdgeWord {
    /// From Monday, 0.
    pub(super) day: Option<u16>,
    /// Since midnight, 0 to 1 440 (`24:00`).
    pub(super) minute: u16,
}

/// The name of a day, Monday being 0.
pub(super) fn day_name(day: u16) -> &'static str {
    DAY_NAMES.iter().cycle().nth(usize::from(day)).copied().unwrap_or_default()
}

/// Minutes of a day as `HH:MM`.
pub(super) fn clock_name(minute: u16) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

/// One comma part of a list of days: `mon`, `mon-fri`, `fri-mon`. Days count from Monday, 0.
///
/// Blanks around names are let pass: the predecessor's parser did.
pub(super) fn day_part(part: &str) -> Result<Vec<u16>, String> {
    let day = |word: &str| {
        DAY_NAMES.into_iter().zip(0..).find(|(name, _)| *name == word.trim()).map(|(_, day)| day)
    };
    let range = match part.split_once('-') {
        Some((first, last)) => day(first).zip(day(last)),
        None => day(part).map(|day| (day, day)),
    };
    let (first, last) =
        range.ok_or_else(|| format!("{} is no day: write mon, mon-fri, fri-mon or mon,wed", quoted(part)))?;
    Ok((0..=(last + 7 - first) % 7).map(|days| (first + days) % 7).collect())
}

/// One comma part of a list of hours, as its first and last hour: `9`, `9-17`, `22-6`.
///
/// Blanks and leading zeros are let pass: the predecessor's parser did.
pub(super) fn hour_part(part: &str) -> Result<(u16, u16), String> {
    let hour = |word: &str| {
        let word = word.trim();
        if word.len() <= 2 { number(word).filter(|hour| *hour < 24) } else { None }
    };
    let range = match part.split_once('-') {
        Some((first, last)) => hour(first).zip(hour(last)),
        None => hour(part).map(|hour| (hour, hour)),
    };
    range.ok_or_else(|| format!("{} is no hour from 0 to 23: write 9, 9-17, 22-6 or 8,12-14", quoted(part)))
}

/// An edge of a window, two digits each: `19:00` or `fri 19:00`.
pub(super) fn edge(word: &str) -> Result<EdgeWord, String> {
    let read = match word.split_once(' ') {
        Some((name, time)) => {
            day(name).zip(clock(time)).map(|(day, minute)| EdgeWord { day: Some(day), minute })
        }
        None => clock(word).map(|minute| EdgeWord { day: None, minute }),
    };
    read.ok_or_else(|| {
        format!("{} is no time: write 19:00, or fri 19:00 for a span of the week", quoted(word))
    })
}

/// `2026-12-28`.
pub(super) fn date(word: &str) -> Result<Date, String> {
    calendar_date(word).ok_or_else(|| format!("{} is no date: write 2026-12-28", quoted(word)))
}

/// `2026-12-24T18:00`.
pub(super) fn date_time(word: &str) -> Result<DateTime, String> {
    let read = word.split_once('T').and_then(|(date, time)| {
        let minute = clock(time).filter(|minute| *minute < DAY)?;
        let (hour, minute) = (i8::try_from(minute / 60).ok()?, i8::try_from(minute % 60).ok()?);
        Some(calendar_date(date)?.to_datetime(Time::new(hour, minute, 0, 0).ok()?))
    });
    read.ok_or_else(|| format!("{} is no date and time: write 2026-12-24T18:00", quoted(word)))
}

fn day(word: &str) -> Option<u16> {
    DAY_NAMES.into_iter().zip(0..).find(|(name, _)| *name == word).map(|(_, day)| day)
}

/// Minutes since midnight of `HH:MM`, up to `24:00`.
fn clock(word: &str) -> Option<u16> {
    let (hour, minute) =
        word.split_once(':').filter(|(hour, minute)| hour.len() == 2 && minute.len() == 2)?;
    let minutes = number(hour)? * 60 + number(minute).filter(|minute| *minute < 60)?;
    (minutes <= DAY).then_some(minutes)
}

fn calendar_date(word: &str) -> Option<Date> {
    let (year, rest) = word.split_once('-').filter(|(year, _)| year.len() == 4)?;
    let (month, day) = rest.split_once('-').filter(|(month, day)| month.len() == 2 && day.len() == 2)?;
    let (year, month, day) = (number(year)?, number(month)?, number(day)?);
    Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()
}

/// ASCII digits and nothing else; `str::parse` would take a sign.
fn number(word: &str) -> Option<u16> {
    word.bytes().all(|byte| byte.is_ascii_digit()).then(|| word.parse().ok()).flatten()
}

/// What was written, fit for a status message: escaped, and cut where nobody would read on.
pub(super) fn quoted(word: &str) -> String {
    const SHOWN: usize = 40;
    let cut: String = word.chars().take(SHOWN).collect();
    if cut.len() == word.len() { format!("{word:?}") } else { format!("{cut:?}…") }
}
