//! The order in which machines are made when not all may be made at once. No clock, no client, no task.
//!
//! Two things stand in the line: who has asked and waits, and who is known to come (its window opens now, its pass has
//! not begun). Whoever asks gets a turn if there are more free turns than others before it, so that the order at an
//! edge is that of the priorities, whichever pass happens to run first. Who is known to come and does not, or is called
//! and does not, counts no more after a moment: nobody waits for a ghost.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::{SignedDuration, Timestamp};

/// How long a place is kept for somebody who should speak up now. Passes take their timers within milliseconds.
pub const PATIENCE: SignedDuration = SignedDuration::from_secs(1);

/// Namespace and name.
pub type Who = (String, String);

/// Where somebody stands: higher priority first, then by name.
type Place = (Reverse<u8>, String, String);

/// What is answered to whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A turn; it is to be given back by [`Line::give_back`].
    Go,
    /// Others come first.
    Wait {
        /// Since when it has been waiting.
        since: Timestamp,
    },
}

/// Somebody in the line.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The first time it asked; `None`: known to come.
    asked_at: Option<Timestamp>,
    /// When it should have spoken up: at its edge, or when it was called. `None`: it waits to be called.
    called_at: Option<Timestamp>,
}

/// The line before a bounded number of turns.
#[derive(Debug)]
pub struct Line {
    bound: usize,
    out: usize,
    queue: BTreeMap<Place, Entry>,
    places: HashMap<Who, Place>,
    /// Who will come, by the instant.
    coming: BTreeSet<(Timestamp, Who)>,
    /// The same, by who; with the priority.
    arrivals: HashMap<Who, (Timestamp, u8)>,
}

impl Entry {
    /// Whether others stand behind it: it waits, or it was called just now. A clock that was set back ends that too.
    fn counts(self, now: Timestamp) -> bool {
        self.called_at.is_none_or(|at| (SignedDuration::ZERO..PATIENCE).contains(&now.duration_since(at)))
    }
}

impl Line {
    /// `bound` turns at one time, at least one.
    pub fn new(bound: usize) -> Self {
        Self {
            bound: bound.max(1),
            out: 0,
            queue: BTreeMap::new(),
            places: HashMap::new(),
            coming: BTreeSet::new(),
            arrivals: HashMap::new(),
        }
    }

    /// From `at` on a place is kept for it; replaces what was expected of it before.
    pub fn expect(&mut self, who: &Who, priority: u8, at: Timestamp) {
        self.expect_no_more(who);
        self.coming.insert((at, who.clone()));
        self.arrivals.insert(who.clone(), (at, priority));
    }

    /// It asks for a turn.
    pub fn ask(&mut self, who: &Who, priority: u8, now: Timestamp) -> Answer {
        self.arrive(now);
        let since = self.remove(who).and_then(|entry| entry.asked_at).unwrap_or(now);
        let place = (Reverse(priority), who.1.clone(), who.0.clone());
        let free = self.bound.saturating_sub(self.out);
        let before = self.queue.range(..&place).filter(|(_, entry)| entry.counts(now)).take(free).count();
        if before < free {
            self.out += 1;
            return Answer::Go;
        }
        self.put(who, place, Entry { asked_at: Some(since), called_at: None });
        Answer::Wait { since }
    }

    /// A turn is over. Who is to ask now.
    pub fn give_back(&mut self, now: Timestamp) -> Vec<Who> {
        self.out = self.out.saturating_sub(1);
        self.call(now)
    }

    /// It needs no turn, now or later, or is no more. Who is to ask now, if that made room.
    pub fn step_aside(&mut self, who: &Who, now: Timestamp) -> Vec<Who> {
        self.expect_no_more(who);
        if self.remove(who).is_some() { self.call(now) } else { Vec::new() }
    }

    /// Forgets who is no more. Who is to ask now.
    pub fn retain(&mut self, is_there: impl Fn(&Who) -> bool, now: Timestamp) -> Vec<Who> {
        let known = self.places.keys().chain(self.arrivals.keys());
        let gone: Vec<Who> = known.filter(|who| !is_there(who)).cloned().collect();
        for who in gone {
            self.expect_no_more(&who);
            self.remove(&who);
        }
        self.call(now)
    }

    /// How many have a turn.
    pub fn out(&self) -> usize {
        self.out
    }

    /// Calls those at the head for whom there are turns, each once, and sends away who was called and did not come.
    fn call(&mut self, now: Timestamp) -> Vec<Who> {
        self.arrive(now);
        let mut free = self.bound.saturating_sub(self.out);
        let (mut called, mut ghosts) = (Vec::new(), Vec::new());
        for (place, entry) in &mut self.queue {
            if free == 0 {
                break;
            }
            let who = || (place.2.clone(), place.1.clone());
            if !entry.counts(now) {
                ghosts.push(who());
                continue;
            }
            free -= 1;
            if entry.called_at.is_none() {
                entry.called_at = Some(now);
                called.push(who());
            }
        }
        for ghost in ghosts {
            self.remove(&ghost);
        }
        called
    }

    /// Whose instant has come takes its place. Counted from now and not from the instant: after a host was suspended
    /// all come late together.
    fn arrive(&mut self, now: Timestamp) {
        while self.coming.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, who)) = self.coming.pop_first() else { return };
            let Some((_, priority)) = self.arrivals.remove(&who) else { continue };
            if !self.places.contains_key(&who) {
                let place = (Reverse(priority), who.1.clone(), who.0.clone());
                self.put(&who, place, Entry { asked_at: None, called_at: Some(now) });
            }
        }
    }

    fn put(&mut self, who: &Who, place: Place, entry: Entry) {
        self.places.insert(who.clone(), place.clone());
        self.queue.insert(place, entry);
    }

    fn remove(&mut self, who: &Who) -> Option<Entry> {
        let place = self.places.remove(who)?;
        self.queue.remove(&place)
    }

    fn expect_no_more(&mut self, who: &Who) {
        if let Some((at, _)) = self.arrivals.remove(who) {
            self.coming.remove(&(at, who.clone()));
        }
    }
}

#[cfg(test)]
mod tests;
