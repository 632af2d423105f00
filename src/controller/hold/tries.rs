//! What became of the tries to write the holds of reclaims. In memory only: a new process tries each once at once, and has
//! listed all holds before.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::controller::hold::Hold;
use crate::controller::reclaim::wish::Tried;
use crate::controller::retry::spread;

/// Between tries: a quota, a webhook or a missing right is for a person to mend, who wants to see that it helped.
const REFUSED: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// The server may still be at it: its own limit on a webhook is 30 s. A second try before would make a second hold.
const UNANSWERED: Duration = Duration::from_secs(36);

/// The watch shows a hold within milliseconds; after this it is broken, and waiting would not mend it.
const SHOWN: Duration = Duration::from_secs(5);

/// Of all objects, by uid; clones are handles to the same.
#[derive(Clone, Debug, Default)]
pub struct HoldTries {
    objects: Arc<Mutex<HashMap<String, Known>>>,
}

#[derive(Debug)]
enum Known {
    Failed {
        last: Tried,
        tries: u32,
    },
    /// Uid of the hold, and until when it is waited for.
    Written {
        hold: String,
        until: Instant,
    },
}

impl HoldTries {
    /// The last try for an object, if it failed.
    pub fn of(&self, object: &str) -> Option<Tried> {
        match self.lock().get(object) {
            Some(Known::Failed { last, .. }) => Some(last.clone()),
            Some(Known::Written { .. }) | None => None,
        }
    }

    /// Notes a hold that was written.
    pub fn written(&self, object: &str, hold: String) {
        let until = now() + SHOWN;
        self.lock().insert(object.to_owned(), Known::Written { hold, until });
    }

    /// A hold was written that is not among those shown: without it the machine would be taken for one that may stay.
    pub fn awaits(&self, object: &str, shown: &[Hold]) -> bool {
        let mut objects = self.lock();
        let Some(Known::Written { hold, until }) = objects.get(object) else { return false };
        let waits = now() < *until && !shown.iter().any(|seen| seen.uid == *hold);
        if !waits {
            objects.remove(object);
        }
        waits
    }

    /// Notes a failure. `was_answered`: the server said no, so the hold is not there.
    pub fn failed(&self, object: &str, request: &str, message: String, was_answered: bool, now: Timestamp) {
        let mut objects = self.lock();
        let tries = match objects.get(object) {
            Some(Known::Failed { last, tries }) if last.request == request => tries.saturating_add(1),
            Some(Known::Failed { .. } | Known::Written { .. }) | None => 1,
        };
        let (first, longest) = REFUSED;
        let doubled = first.saturating_mul(1 << (tries - 1).min(16)).min(longest);
        let pause = if was_answered { spread(doubled) } else { UNANSWERED };
        let again_at = now.saturating_add(SignedDuration::try_from(pause).unwrap_or_default()).unwrap_or(now);
        let last = Tried { request: request.to_owned(), message, again_at };
        objects.insert(object.to_owned(), Known::Failed { last, tries });
    }

    /// Forgets objects that are gone, however they went.
    pub fn retain(&self, is_there: impl Fn(&str) -> bool) {
        self.lock().retain(|object, _| is_there(object));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(clippy::disallowed_methods, reason = "bounds a wait; no decision depends on it")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_tried_again_ever_more_slowly_and_silence_is_waited_out() {
        let (tries, now) = (HoldTries::default(), Timestamp::UNIX_EPOCH);
        let after = |request: &str, was_answered: bool| {
            tries.failed("sm", request, "refused".to_owned(), was_answered, now);
            tries.of("sm").unwrap().again_at.duration_since(now).as_secs_f64()
        };
        let pauses: Vec<f64> = (0..10).map(|_| after("a", true)).collect();
        assert!(pauses[0] <= 2.5 && pauses[3] > pauses[0] * 3.0, "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= 75.0), "{pauses:?}");
        assert!(after("a", false) > 35.0, "the server's own limit on a webhook is 30 s");
        assert!(after("b", true) <= 2.5, "another reclaim");
    }

    #[test]
    fn a_hold_that_was_written_is_waited_for_until_it_is_shown() {
        let tries = HoldTries::default();
        assert!(!tries.awaits("sm", &[]));
        tries.written("sm", "uid".to_owned());
        assert!(tries.awaits("sm", &[]));
        assert!(!tries.awaits("another", &[]));
        assert_eq!(tries.of("sm"), None);
    }
}
