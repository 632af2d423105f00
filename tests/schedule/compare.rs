//! The engine beside the naive evaluator, over one stretch of instants: every minute, every edge, both directions, and
//! the same again after a round trip through the normal form.

use std::fmt::Write as _;
use std::ops::Range;

use fivespot::api::schedule as raw;
use fivespot::schedule::{Edge, Schedule, Winner};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::dice::Dice;
use crate::model::{Focus, Model};
use crate::naive::{DAY, Naive, Timeline, Who, timestamp};

/// What has been compared, and the first few of what differed.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) zones: usize,
    pub(crate) transitions: usize,
    pub(crate) schedules: usize,
    pub(crate) instants: usize,
    pub(crate) edges: usize,
    pub(crate) mismatches: usize,
    pub(crate) examples: String,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Tally) {
        self.zones += other.zones;
        self.transitions += other.transitions;
        self.schedules += other.schedules;
        self.instants += other.instants;
        self.edges += other.edges;
        self.mismatches += other.mismatches;
        if self.examples.len() < 4000 {
            self.examples += &other.examples;
        }
    }

    fn mismatch(&mut self, said: &str) {
        self.mismatches += 1;
        if self.examples.len() < 4000 {
            let _ = writeln!(self.examples, "{said}");
        }
    }

    /// Fails on any mismatch, and on a proof that proved nothing.
    pub(crate) fn settle(&self, what: &str) {
        println!(
            "{what}: {} zones, {} transitions, {} schedules, {} instants, {} edges, {} mismatches",
            self.zones, self.transitions, self.schedules, self.instants, self.edges, self.mismatches
        );
        assert_eq!(self.mismatches, 0, "\n{}", self.examples);
        assert!(self.instants > 0 && self.edges > 0, "nothing compared");
    }
}

/// One zone, one stretch of instants, as many schedules as one likes.
pub(crate) struct Bench<'a> {
    name: &'a str,
    /// The instants compared.
    stretch: Range<i64>,
    timeline: Timeline,
}

impl<'a> Bench<'a> {
    pub(crate) fn new(name: &'a str, zone: &TimeZone, stretch: Range<i64>) -> Bench<'a> {
        // Spans last up to a week, and an offset may be a day.
        let timeline = Timeline::walk(zone, stretch.start - 9 * DAY..stretch.end + 2 * DAY);
        Bench { name, stretch, timeline }
    }

    /// A random schedule around `focus`, in both evaluators.
    pub(crate) fn compare(&self, focus: &Focus, seed: u64, tally: &mut Tally) {
        let mut dice = Dice::new(seed);
        let model = focus.model(&mut dice);
        let written = model.written(self.name, &mut dice);
        let label = || format!("{} seed {seed:#x} {}", self.name, serde_json::to_string(&written).unwrap());
        let schedule = match Schedule::parse(&written) {
            Ok(schedule) => schedule,
            Err(faults) => return tally.mismatch(&format!("{}: refused: {faults:?}", label())),
        };
        tally.schedules += 1;
        let answers = self.answers(&model);
        let mut differences = Vec::new();
        verdicts(&schedule, &answers, &mut differences);
        let changes = changes(&answers);
        tally.instants += answers.len();
        tally.edges += changes.len();
        self.edges(&schedule, &changes, &mut dice, &mut differences);
        self.normal_form(&schedule, &mut differences);
        for difference in differences {
            tally.mismatch(&format!("{}: {difference}", label()));
        }
    }

    /// The naive answer at every minute, at every instant where an interval ends, and a second before those.
    fn answers(&self, model: &Model) -> Vec<(i64, bool, Who)> {
        let naive = Naive::new(model, &self.timeline);
        let ends = naive.ends().flat_map(|end| [end - 1, end]).filter(|at| self.stretch.contains(at));
        let mut marks: Vec<i64> = self.stretch.clone().step_by(60).chain(ends).collect();
        marks.sort_unstable();
        marks.dedup();
        marks
            .into_iter()
            .map(|at| (at, naive.answer(at)))
            .map(|(at, (active, who))| (at, active, who))
            .collect()
    }

    /// The engine's edges against the changes of the naive answer, asked from either end, from every change, from the
    /// second before it and from anywhere.
    fn edges(
        &self,
        schedule: &Schedule,
        changes: &[(i64, bool, Who)],
        dice: &mut Dice,
        found: &mut Vec<String>,
    ) {
        let (first, last) = (self.stretch.start, self.stretch.end - 1);
        let mut asked = vec![first, last];
        asked.extend(changes.iter().flat_map(|change| [change.0 - 1, change.0]));
        asked.extend((0..8).map(|_| dice.between(first, last)));
        for at in asked {
            let instant = timestamp(at);
            let (edge, change) = (schedule.next_edge(instant), changes.iter().find(|change| change.0 > at));
            if !agree(edge.as_ref(), change, |edge| edge > last) {
                found.push(format!("next_edge({instant}) is {edge:?}, not {change:?}"));
            }
            let (edge, change) =
                (schedule.previous_edge(instant), changes.iter().rfind(|change| change.0 <= at));
            if !agree(edge.as_ref(), change, |edge| edge <= first) {
                found.push(format!("previous_edge({instant}) is {edge:?}, not {change:?}"));
            }
        }
    }

    /// The normal form reads back as itself and has the same edges.
    fn normal_form(&self, schedule: &Schedule, found: &mut Vec<String>) {
        let form = schedule.normal_form();
        let again = match Schedule::parse(&raw::Schedule::from(&form)) {
            Ok(again) => again,
            Err(faults) => return found.push(format!("normal form {form} refused: {faults:?}")),
        };
        if again.normal_form() != form {
            found.push(format!("normal form {form} became {}", again.normal_form()));
        }
        let mut at = timestamp(self.stretch.start);
        while at < timestamp(self.stretch.end) {
            let known = |schedule: &Schedule| schedule.next_edge(at).map(|edge| (edge.at, edge.active));
            let edge = known(schedule);
            if edge != known(&again) || schedule.is_active(at) != again.is_active(at) {
                found.push(format!("normal form {form} differs after {at}"));
            }
            at = edge.map_or(Timestamp::MAX, |(at, _)| at);
        }
    }
}

/// An edge is the change, winner included; without a change in the stretch the edge lies outside or is none.
fn agree(edge: Option<&Edge>, change: Option<&(i64, bool, Who)>, outside: impl Fn(i64) -> bool) -> bool {
    match (edge, change) {
        (Some(edge), Some((at, active, who))) => {
            edge.at == timestamp(*at) && edge.active == *active && position(&edge.winner) == *who
        }
        (None, Some(_)) => false,
        (Some(edge), None) => outside(edge.at.as_second()),
        (None, None) => true,
    }
}

/// `is_active` at every mark; who decides wherever that changes and every five minutes.
fn verdicts(schedule: &Schedule, answers: &[(i64, bool, Who)], found: &mut Vec<String>) {
    let mut before = None;
    for (at, active, who) in answers {
        let instant = timestamp(*at);
        if schedule.is_active(instant) != *active {
            found.push(format!("is_active({instant}) is not {active}"));
        }
        if before != Some((*active, *who)) || at % 300 == 0 {
            let verdict = schedule.verdict(instant);
            if verdict.active != *active || position(&verdict.winner) != *who {
                found.push(format!("verdict({instant}) is {verdict:?}, not {active} by {who:?}"));
            }
        }
        // To the nanosecond: an opening is closed at the front and open at the back.
        let last = instant - SignedDuration::from_nanos(1);
        if before.is_some_and(|(before, _)| before != *active) && schedule.is_active(last) == *active {
            found.push(format!("is_active({last}) is already {active}"));
        }
        before = Some((*active, *who));
    }
}

/// The first mark of every new answer.
fn changes(answers: &[(i64, bool, Who)]) -> Vec<(i64, bool, Who)> {
    answers.windows(2).filter(|pair| pair[0].1 != pair[1].1).map(|pair| pair[1]).collect()
}

fn position(winner: &Winner) -> Who {
    match winner {
        Winner::Exception { index, .. } => Who::Exception(*index),
        Winner::OutsideWindows => Who::Nobody,
        Winner::Window { path } if path == "spec.schedule.hoursOfDay" => Who::Window(0),
        Winner::Window { path } => {
            let index = path.trim_start_matches("spec.schedule.windows[").trim_end_matches(']');
            Who::Window(index.parse::<usize>().unwrap() + 1)
        }
    }
}
