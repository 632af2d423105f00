//! Which programs are the owner's: her rules, and what they say of a process. Pure.
//!
//! A name in the rules is compared with each name that a process goes by: the kernel's, its first argument's and its
//! executable's. The kernel cuts its name to 15 bytes; see [`Rules::matches`] for what that means to longer ones.

mod names;
mod read;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use memchr::memmem::Finder;

use self::names::Names;
pub use self::read::{Fault, Faults, Flaw, parse};
use crate::detector::{Judge, Process, Verdict};

/// From walk to walk of the poll detector, unless the rules say otherwise.
pub const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// The owner's rules, ready for use.
#[derive(Clone, Debug)]
pub struct Rules {
    commands: Names,
    substrings: Vec<Substring>,
    ignored: Names,
    owners: Vec<u32>,
    min_age: Duration,
    poll_interval: Duration,
}

#[derive(Clone, Debug)]
struct Substring {
    text: String,
    finder: Finder<'static>,
}

impl Substring {
    fn new(text: String) -> Self {
        Self { finder: Finder::new(text.as_bytes()).into_owned(), text }
    }
}

/// What of a process a rule was compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The kernel's name.
    Name,
    /// The first argument, or the file name at its end.
    Argument,
    /// The executable, or the file name at its end.
    Executable,
    /// All arguments with blanks between.
    CommandLine,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "name",
            Self::Argument => "first argument",
            Self::Executable => "executable",
            Self::CommandLine => "command line",
        })
    }
}

/// The rule that a process matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// As it stands in the rules.
    pub rule: String,
    /// What it was compared with.
    pub by: By,
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} by {}", self.rule, self.by)
    }
}

impl Rules {
    /// From walk to walk of the poll detector.
    pub fn poll_interval(&self) -> Duration {
        self.poll_interval
    }

    /// Nothing can match.
    pub fn is_inert(&self) -> bool {
        self.commands.is_empty() && self.substrings.is_empty()
    }

    /// The first rule that a process matches: the owner's commands in their three forms, then the substrings.
    ///
    /// A command of more than 15 bytes matches the kernel's cut name if nothing else the process goes by (first argument,
    /// script, executable) begins in the same way and ends differently.
    ///
    /// The age is not looked at: see [`Judge::judge`].
    pub fn matches<P: Process + ?Sized>(&self, process: &P) -> Option<Match> {
        let found = self.commands.find(process).or_else(|| self.command_line(process))?;
        if self.ignored.find(process).is_some() {
            return None;
        }
        let is_owners = |owner| self.owners.contains(&owner);
        (self.owners.is_empty() || process.owner().is_some_and(is_owners)).then_some(found)
    }

    fn command_line<P: Process + ?Sized>(&self, process: &P) -> Option<Match> {
        if self.substrings.is_empty() {
            return None;
        }
        let line = spaced(process.command_line());
        let rule = self.substrings.iter().find(|rule| rule.finder.find(&line).is_some())?;
        Some(Match { rule: rule.text.clone(), by: By::CommandLine })
    }
}

impl Judge for Rules {
    type Found = Match;

    fn judge(&self, process: &dyn Process) -> Verdict<Match> {
        let Some(found) = self.matches(process) else { return Verdict::Nothing };
        if self.min_age.is_zero() {
            return Verdict::Found(found);
        }
        match process.age() {
            None => Verdict::Nothing,
            Some(age) if age >= self.min_age => Verdict::Found(found),
            Some(age) => Verdict::Later(self.min_age.saturating_sub(age)),
        }
    }
}

/// Arguments with blanks between.
fn spaced(line: &[u8]) -> Vec<u8> {
    let end = line.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    line.iter().take(end).map(|byte| if *byte == 0 { b' ' } else { *byte }).collect()
}
