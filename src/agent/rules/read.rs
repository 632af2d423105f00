//! `reclaim.toml` → [`Rules`]; every fault with its line and key.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{POLL_INTERVAL, Rules};

/// Entries of one list: what `spec.killIfCommands` allows.
const MOST_ENTRIES: usize = 100;
/// Characters of one entry.
const LONGEST_ENTRY: usize = 256;
/// A day, which is the longest of all of 5spot's durations.
const LONGEST_MILLIS: u64 = 24 * 60 * 60 * 1000;

/// What kind of thing is wrong with the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flaw {
    /// The text is no TOML.
    Syntax,
    /// There is no such key.
    Key,
    /// There is no such value: of another type, empty, zero, too long, too many.
    Value,
}

/// One thing that is wrong with the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What kind of thing it is.
    pub flaw: Flaw,
    /// Counts from 1.
    pub line: usize,
    /// The key; empty where the text is no TOML.
    pub field: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

/// All that is wrong with the rules; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: Vec<String> = self.0.iter().map(Fault::to_string).collect();
        f.write_str(&faults.join("; "))
    }
}

/// Reads rules.
///
/// # Errors
/// Everything that is wrong with them, in the order of the lines.
pub fn parse(text: &str) -> Result<Rules, Faults> {
    let (table, broken) = DeTable::parse_recoverable(text);
    let mut reading = Reading { text, faults: Vec::new() };
    for error in broken {
        reading.note(Flaw::Syntax, error.span().unwrap_or_default(), "", error.message().to_owned());
    }
    let mut raw = Raw::default();
    if reading.faults.is_empty() {
        for (key, value) in table.get_ref() {
            reading.entry(key, value, &mut raw);
        }
    }
    if reading.faults.is_empty() {
        return Ok(Rules::new(raw));
    }
    reading.faults.sort_by_key(|fault| fault.line);
    Err(Faults(reading.faults))
}

/// The keys, as written.
#[derive(Debug, Default)]
pub(super) struct Raw {
    pub(super) commands: Vec<String>,
    pub(super) substrings: Vec<String>,
    pub(super) ignored: Vec<String>,
    pub(super) owners: Vec<u32>,
    pub(super) min_age: Duration,
    pub(super) poll_interval: Option<Duration>,
}

struct Reading<'t> {
    text: &'t str,
    faults: Vec<Fault>,
}

impl Reading<'_> {
    fn entry(&mut self, key: &Spanned<impl AsRef<str>>, value: &Spanned<DeValue<'_>>, into: &mut Raw) {
        match key.get_ref().as_ref() {
            "match_commands" => into.commands = self.words("match_commands", value),
            "match_argv_substrings" => into.substrings = self.words("match_argv_substrings", value),
            "ignore_commands" => into.ignored = self.words("ignore_commands", value),
            "match_uids" => into.owners = self.uids(value),
            "min_age_ms" => into.min_age = self.millis("min_age_ms", value, 0).unwrap_or_default(),
            "poll_interval_ms" => into.poll_interval = self.millis("poll_interval_ms", value, 1),
            other => {
                let keys = "match_commands, match_argv_substrings, ignore_commands, match_uids, min_age_ms and poll_interval_ms";
                self.note(Flaw::Key, key.span(), other, format!("there is no such key; there are {keys}"));
            }
        }
    }

    fn list<'v, 'i>(&mut self, field: &str, value: &'v Spanned<DeValue<'i>>) -> &'v [Spanned<DeValue<'i>>] {
        let Some(list) = value.get_ref().as_array() else {
            let found = value.get_ref().type_str();
            self.fault(value.span(), field, format!("has to be a list in brackets, not {found}"));
            return &[];
        };
        if list.len() > MOST_ENTRIES {
            self.fault(
                value.span(),
                field,
                format!("has {} entries; at most {MOST_ENTRIES} are allowed", list.len()),
            );
        }
        list
    }

    fn words(&mut self, field: &str, value: &Spanned<DeValue<'_>>) -> Vec<String> {
        let mut words = Vec::new();
        for (index, entry) in self.list(field, value).iter().enumerate() {
            let field = format!("{field}[{index}]");
            match entry.get_ref().as_str() {
                None => {
                    let found = entry.get_ref().type_str();
                    self.fault(entry.span(), &field, format!("has to be text in quotes, not {found}"));
                }
                Some("") => self.fault(entry.span(), &field, "is empty, which would match everything".into()),
                Some(word) if word.contains('\0') => {
                    self.fault(entry.span(), &field, "holds a NUL, which no name and no argument can".into());
                }
                Some(word) if word.chars().count() > LONGEST_ENTRY => {
                    let message = format!("has more than {LONGEST_ENTRY} characters");
                    self.fault(entry.span(), &field, message);
                }
                Some(word) => words.push(word.to_owned()),
            }
        }
        words
    }

    fn uids(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<u32> {
        let mut uids = Vec::new();
        for (index, entry) in self.list("match_uids", value).iter().enumerate() {
            match whole(entry).and_then(|number| u32::try_from(number).ok()).filter(|uid| *uid != u32::MAX) {
                Some(uid) => uids.push(uid),
                None => self.fault(
                    entry.span(),
                    &format!("match_uids[{index}]"),
                    "has to be a user's number, without quotes".into(),
                ),
            }
        }
        uids
    }

    fn millis(&mut self, field: &str, value: &Spanned<DeValue<'_>>, least: u64) -> Option<Duration> {
        let millis = whole(value).filter(|millis| (least..=LONGEST_MILLIS).contains(millis));
        if millis.is_none() {
            let message =
                format!("has to be a whole number of milliseconds from {least} to {LONGEST_MILLIS}");
            self.fault(value.span(), field, message);
        }
        millis.map(Duration::from_millis)
    }

    fn fault(&mut self, at: Range<usize>, field: &str, message: String) {
        self.note(Flaw::Value, at, field, message);
    }

    fn note(&mut self, flaw: Flaw, at: Range<usize>, field: &str, message: String) {
        let before = self.text.as_bytes().get(..at.start).unwrap_or_default();
        let line = 1 + memchr::memchr_iter(b'\n', before).count();
        self.faults.push(Fault { flaw, line, field: field.to_owned(), message });
    }
}

fn whole(value: &Spanned<DeValue<'_>>) -> Option<u64> {
    let number = value.get_ref().as_integer()?;
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

impl Rules {
    fn new(raw: Raw) -> Self {
        let poll_interval = raw.poll_interval.unwrap_or(POLL_INTERVAL);
        Self {
            commands: super::Names::new(raw.commands),
            substrings: raw.substrings.into_iter().map(super::Substring::new).collect(),
            ignored: super::Names::new(raw.ignored),
            owners: raw.owners,
            min_age: raw.min_age,
            poll_interval,
        }
    }
}
