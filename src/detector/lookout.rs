//! Asks the judge about processes, leaves out who does not count, and reports each finding once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc::Sender;

use super::health::{Count, Counters, Source};
use super::process::{Judge, Process, Verdict};
use super::procfs::{Live, Proc, Standing};
use super::{Event, Sighting};

/// Of a command line, in reports.
const LINE_TOLD: usize = 512;
/// Processes too young to count that are remembered; beyond that everything is looked at again.
const MOST_YOUNG: usize = 4096;

pub(super) struct Lookout<J: Judge> {
    pub(super) judge: Option<Arc<J>>,
    pub(super) events: Sender<Event<J::Found>>,
    pub(super) counters: Arc<Counters>,
    /// What was said of whom, by number and start.
    told: HashMap<u32, (u64, Vec<J::Found>)>,
    young: Vec<(Instant, u32)>,
    /// There were more of the young than are remembered.
    pub(super) is_crowded: bool,
    /// Nobody takes our events any more.
    pub(super) is_over: bool,
}

impl<J: Judge> Lookout<J> {
    pub(super) fn new(events: Sender<Event<J::Found>>, counters: Arc<Counters>) -> Self {
        let (told, young) = (HashMap::new(), Vec::new());
        Self { judge: None, events, counters, told, young, is_crowded: false, is_over: false }
    }

    /// A process of which the kernel spoke, at a moment of its monotonic clock.
    pub(super) fn spoken_of(&mut self, proc: &Proc, pid: u32, at: u64, now: Instant) {
        if self.judge.is_none() || pid == proc.own() {
            return;
        }
        match proc.look(pid) {
            Some(live) => self.consider(&live, Source::Netlink, Some(at), now),
            None => self.counters.add(Count::Vanished),
        }
    }

    /// A process that is there.
    pub(super) fn consider(&mut self, live: &Live<'_>, source: Source, at: Option<u64>, now: Instant) {
        let Some(judge) = &self.judge else { return };
        let found = match judge.judge(live) {
            Verdict::Nothing => return,
            Verdict::Found(found) => found,
            Verdict::Later(after) => {
                self.is_crowded |= self.young.len() >= MOST_YOUNG;
                if !self.is_crowded {
                    self.young.push((now + after, live.pid()));
                }
                return;
            }
        };
        let start = match live.standing() {
            Standing::Owners(start) => start,
            Standing::Excluded => return self.counters.add(Count::Excluded),
            Standing::Gone => return self.counters.add(Count::Vanished),
        };
        let (known, said) = self.told.entry(live.pid()).or_insert_with(|| (start, Vec::new()));
        if *known != start {
            (*known, *said) = (start, Vec::new());
        }
        if said.contains(&found) {
            return;
        }
        said.push(found.clone());
        self.counters.add(Count::Found);
        let told = Sighting {
            pid: live.pid(),
            found,
            name: String::from_utf8_lossy(live.name()).into_owned(),
            command_line: told(live.command_line()),
            owner: live.owner(),
            source,
            delay: at.and_then(since),
        };
        self.send(Event::Found(told));
    }

    /// Waits while nobody takes them.
    pub(super) fn send(&mut self, event: Event<J::Found>) {
        self.is_over |= self.events.blocking_send(event).is_err();
    }

    /// When the first of the young comes of age.
    pub(super) fn next(&self) -> Option<Instant> {
        self.young.iter().map(|(at, _)| *at).min()
    }

    /// Asks again about those who have come of age.
    pub(super) fn come_of_age(&mut self, proc: &Proc, source: Source, now: Instant) {
        let (due, rest): (Vec<_>, Vec<_>) = self.young.drain(..).partition(|(at, _)| *at <= now);
        self.young = rest;
        for (_, pid) in due {
            match proc.look(pid) {
                Some(live) => self.consider(&live, source, None, now),
                None => self.counters.add(Count::Vanished),
            }
        }
    }

    /// Everything is news again.
    pub(super) fn forget(&mut self) {
        self.told.clear();
        self.young.clear();
    }

    /// Drops what was said of processes that are no more.
    pub(super) fn keep(&mut self, is_there: impl Fn(u32) -> bool) {
        self.told.retain(|pid, _| is_there(*pid));
    }
}

/// A command line for people.
fn told(line: &[u8]) -> String {
    let line = line.get(..LINE_TOLD).unwrap_or(line);
    let text = String::from_utf8_lossy(line).replace('\0', " ");
    text.trim_end().to_owned()
}

/// From a moment of the monotonic clock to now.
fn since(at: u64) -> Option<Duration> {
    let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).ok()?);
    now.checked_sub(Duration::from_nanos(at))
}
