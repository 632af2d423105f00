//! Time, passes, and the pause after one that failed: what `retry` and the queue do.

use jiff::{SignedDuration, Timestamp};

use super::model::World;
use super::shell::Pass;
use crate::controller::effect::Wake;

/// Seconds until what failed is tried again; the same try, however often the object wakes meanwhile.
const PAUSE: i64 = 5;

/// A try that failed.
#[derive(Clone, Debug)]
pub(super) struct Held {
    attempt: String,
    until: Timestamp,
}

impl World {
    /// Lets time go by, with passes when something calls for one.
    pub(super) fn run(&mut self, seconds: i64) {
        let end = self.after(seconds);
        let mut spins = 0;
        loop {
            let due = self.wake.is_some_and(|at| at <= self.real) && self.down_until <= self.real;
            if due && self.exists {
                self.wake = None;
                let pass = self.pass();
                spins += 1;
                assert!(spins < 60, "passes without end at {}: {:#}", self.real, self.status);
                if pass == Pass::Moved {
                    self.wake = Some(self.real);
                }
                continue;
            }
            let wake = self.wake.filter(|_| self.exists).map(|at| at.max(self.down_until));
            let next = [wake, self.next_event()].into_iter().flatten().min();
            let Some(next) = next.filter(|at| *at <= end) else { break };
            self.timetable_is_fresh(next);
            if next > self.real {
                (self.real, spins) = (next, 0);
            }
            self.sample();
            self.happen();
        }
        self.timetable_is_fresh(end);
        self.real = end;
        self.sample();
    }

    /// The same try, too soon: nothing is done, and the pass comes back.
    pub(super) fn is_held(&mut self, attempt: &str, wake: Wake) -> bool {
        let held = self.held.as_ref().filter(|held| held.attempt == attempt && held.until > self.real);
        let Some(until) = held.map(|held| held.until) else { return false };
        self.wake_at_the_latest(until, wake);
        true
    }

    /// Wakes are watched all the same: the status that was written, for one, wakes its object at once.
    pub(super) fn failed(&mut self, attempt: String, wake: Wake, has_written: bool) -> Pass {
        let until = self.after(PAUSE);
        self.held = Some(Held { attempt, until });
        self.wake_at_the_latest(until, wake);
        if has_written { Pass::Moved } else { Pass::Failed }
    }

    fn wake_at_the_latest(&mut self, until: Timestamp, wake: Wake) {
        let left = wake.after(self.wall()).filter(|left| !left.is_zero());
        let at = left.map(|left| self.real + SignedDuration::try_from(left).unwrap());
        self.wake = Some(at.map_or(until, |at| at.min(until)));
        // The list of pods comes of itself.
        if self.lists_come() {
            self.wake = Some(self.real);
        }
    }
}
