//! Civil time: windows and exceptions in, verdicts and edges out. The only place that knows what a schedule means.
//! The rules are in `docs/time.md`, and by number in comments.
//!
//! It reads no clock and nothing of the host: the instant is an argument, the time zones are those bundled in the
//! release. Whether the machine is *enabled*, held or paused is not its business; that is `controller::decide`.
//!
//! `shape` reads stored JSON, `parse` turns the words of [`crate::api::schedule`] into minutes of the week and dated
//! exceptions, `civil` turns those into instants, `edges` finds the next change, `normal` writes a schedule back in one
//! canonical way.

mod civil;
mod edges;
mod exception;
mod normal;
mod parse;
mod shape;
mod week;
mod words;

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::api::schedule::{self as raw, ExceptionState};
use civil::{Civil, reached};
use exception::Exception;
pub use normal::NormalForm;
use week::Week;

/// How far [`Schedule::next_edge`] and [`Schedule::previous_edge`] look: 366 days of 24 hours.
pub const HORIZON: jiff::SignedDuration = jiff::SignedDuration::from_hours(366 * 24);

/// A schedule without faults. Clones share it.
#[derive(Clone, Debug)]
pub struct Schedule(Arc<Parsed>);

#[derive(Debug)]
struct Parsed {
    zone: TimeZone,
    zone_name: String,
    /// All windows together.
    week: Week,
    /// The same by field, for the question who opened it.
    windows: Vec<Window>,
    /// In the order written; the last that contains an instant decides it.
    exceptions: Vec<Exception>,
}

/// The openings that one field of the spec asks for.
#[derive(Debug)]
struct Window {
    path: String,
    week: Week,
}

/// Something wrong with a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The field, `spec.schedule.windows[1].to`; of a field that is missing, the one that asks for it.
    pub path: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// Who decides an instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Winner {
    /// The exception furthest down the list that contains the instant (rule 7).
    Exception {
        /// Position in `spec.schedule.exceptions`.
        index: usize,
        /// What it makes of the instant.
        state: ExceptionState,
        /// As written.
        reason: Option<String>,
    },
    /// A window is open; of several, `hoursOfDay` or else the first in the list.
    Window {
        /// `spec.schedule.windows[0]` or `spec.schedule.hoursOfDay`.
        path: String,
    },
    /// No exception contains the instant and no window is open.
    OutsideWindows,
}

impl Winner {
    /// The field of the spec that decides; `None` outside of all.
    pub fn field_path(&self) -> Option<String> {
        match self {
            Winner::Exception { index, .. } => Some(format!("spec.schedule.exceptions[{index}]")),
            Winner::Window { path } => Some(path.clone()),
            Winner::OutsideWindows => None,
        }
    }
}

/// What the schedule says about an instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the machine belongs to its cluster, as far as the schedule goes (`status.inSchedule`).
    pub active: bool,
    /// Who says so.
    pub winner: Winner,
}

/// A change of the verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The first instant of the new verdict.
    pub at: Timestamp,
    /// The new verdict.
    pub active: bool,
    /// Who decides from there on.
    pub winner: Winner,
}

impl Schedule {
    /// Reads a schedule as it is stored, whose fields may have any shape. `enabled` is not looked at.
    ///
    /// # Errors
    /// Every fault, never only the first.
    pub fn read(stored: &serde_json::Value) -> Result<Schedule, Vec<Fault>> {
        let (raw, mut faults) = shape::read(stored);
        match Self::parse(&raw) {
            Ok(schedule) if faults.is_empty() => Ok(schedule),
            Ok(_) => Err(faults),
            Err(more) => {
                faults.extend(more);
                Err(faults)
            }
        }
    }

    /// Reads a schedule. `enabled` is not looked at.
    ///
    /// # Errors
    /// Every fault, never only the first.
    pub fn parse(raw: &raw::Schedule) -> Result<Schedule, Vec<Fault>> {
        parse::schedule(raw).map(|parsed| Schedule(Arc::new(parsed)))
    }

    /// Whether the machine belongs to its cluster at an instant. Costs a few look-ups and allocates nothing.
    pub fn is_active(&self, at: Timestamp) -> bool {
        match self.exception(at) {
            Some((_, exception)) => exception.state == ExceptionState::Active,
            None => self.0.week.contains(self.reached(at)),
        }
    }

    /// [`Schedule::is_active`], and who decided it.
    pub fn verdict(&self, at: Timestamp) -> Verdict {
        if let Some((index, exception)) = self.exception(at) {
            let state = exception.state;
            let winner = Winner::Exception { index, state, reason: exception.reason.clone() };
            return Verdict { active: state == ExceptionState::Active, winner };
        }
        let civil = self.reached(at);
        let open = self.0.windows.iter().find(|window| window.week.contains(civil));
        match open {
            Some(window) => Verdict { active: true, winner: Winner::Window { path: window.path.clone() } },
            None => Verdict { active: false, winner: Winner::OutsideWindows },
        }
    }

    /// The next change of the verdict strictly after an instant, within [`HORIZON`].
    pub fn next_edge(&self, after: Timestamp) -> Option<Edge> {
        edges::next(self, after)
    }

    /// The last change of the verdict at or before an instant, within [`HORIZON`]: since when the verdict holds.
    pub fn previous_edge(&self, at: Timestamp) -> Option<Edge> {
        edges::previous(self, at)
    }

    /// The same schedule, written in the one canonical way.
    pub fn normal_form(&self) -> NormalForm {
        normal::form(&self.0)
    }

    /// The zone in which the schedule's times are written.
    pub fn time_zone(&self) -> &TimeZone {
        &self.0.zone
    }

    /// Its IANA name, as written.
    pub fn time_zone_name(&self) -> &str {
        &self.0.zone_name
    }

    /// An instant for people, within the week: `Mon 07:00 GMT`, in the schedule's zone.
    pub fn local(&self, at: Timestamp) -> String {
        let info = self.0.zone.to_offset_info(at);
        format!("{} {}", info.offset().to_datetime(at).strftime("%a %H:%M"), info.abbreviation())
    }

    /// An instant for people, with its date: `Mon 2026-11-02 07:00 GMT`, in the schedule's zone.
    pub fn local_with_date(&self, at: Timestamp) -> String {
        let info = self.0.zone.to_offset_info(at);
        format!("{} {}", info.offset().to_datetime(at).strftime("%a %Y-%m-%d %H:%M"), info.abbreviation())
    }

    /// The exception that decides an instant, with its position.
    fn exception(&self, at: Timestamp) -> Option<(usize, &Exception)> {
        self.0.exceptions.iter().enumerate().rev().find(|(_, exception)| exception.contains(at))
    }

    fn reached(&self, at: Timestamp) -> Civil {
        reached(&self.0.zone, at)
    }
}
