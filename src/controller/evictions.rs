//! What became of the tries to make pods go, until their objects are at rest again. In memory only: after a restart each
//! pod is tried once more, which its budget counts as any other try.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::controller::retry::spread;
use crate::controller::snapshot::pods::{Attempt, Outcome, Verb};

/// The watch shows an accepted eviction within milliseconds; a pod that it does not show as ending is tried again.
const ACCEPTED: Duration = Duration::from_secs(10);
/// A budget may be free again any moment.
const REFUSED: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));
/// A webhook, a right, an API server in trouble.
const FAILED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

/// Of all objects, by uid; clones are handles to the same.
#[derive(Clone, Debug, Default)]
pub struct Evictions {
    objects: Arc<Mutex<HashMap<String, HashMap<String, Attempt>>>>,
}

impl Evictions {
    /// Notes what became of a try, made at `now` for `object`, with a pod.
    pub fn note(&self, object: &str, pod: &str, verb: Verb, outcome: Outcome, now: Timestamp) {
        let mut objects = self.lock();
        let pods = objects.entry(object.to_owned()).or_default();
        let kind = std::mem::discriminant(&outcome);
        let same = |before: &&Attempt| before.verb == verb && std::mem::discriminant(&before.outcome) == kind;
        let tries = pods.get(pod).filter(same).map_or(1, |before| before.tries.saturating_add(1));
        let pause = match &outcome {
            Outcome::Accepted => ACCEPTED,
            Outcome::Refused { .. } => doubled(REFUSED, tries),
            Outcome::Forbidden { .. } | Outcome::Failed { .. } => doubled(FAILED, tries),
        };
        let pause = SignedDuration::try_from(pause).unwrap_or_default();
        let again_at = now.saturating_add(pause).unwrap_or(now);
        pods.insert(pod.to_owned(), Attempt { verb, outcome, tries, again_at });
    }

    /// The latest try of each pod, by its uid.
    pub fn of(&self, object: &str) -> HashMap<String, Attempt> {
        self.lock().get(object).cloned().unwrap_or_default()
    }

    /// No pod of this object is to go any more.
    pub fn forget(&self, object: &str) {
        self.lock().remove(object);
    }

    /// Forgets objects that are gone, however they went.
    pub fn retain(&self, is_there: impl Fn(&str) -> bool) {
        self.lock().retain(|object, _| is_there(object));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, HashMap<String, Attempt>>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn doubled((first, longest): (Duration, Duration), tries: u32) -> Duration {
    spread(first.saturating_mul(1 << (tries - 1).min(16)).min(longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> Outcome {
        Outcome::Refused { budgets: vec!["web".to_owned()] }
    }

    #[test]
    fn refusals_pause_longer_each_time_up_to_a_bound_and_start_over_with_another_outcome() {
        let (evictions, now) = (Evictions::default(), Timestamp::UNIX_EPOCH);
        let pause = |outcome: Outcome| {
            evictions.note("sm", "pod", Verb::Evict, outcome, now);
            evictions.of("sm")["pod"].again_at.duration_since(now).as_millis()
        };
        let pauses: Vec<i128> = (0..12).map(|_| pause(refused())).collect();
        assert!(pauses[0] <= 625 && pauses[2] > pauses[0], "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= 6250), "{pauses:?}");
        assert_eq!(evictions.of("sm")["pod"].tries, 12);
        assert!(pause(Outcome::Failed { message: String::new() }) <= 1250);
        assert!(pause(refused()) <= 625);
    }

    #[test]
    fn what_is_asked_otherwise_is_a_first_try() {
        let (evictions, now) = (Evictions::default(), Timestamp::UNIX_EPOCH);
        let failed = || Outcome::Failed { message: String::new() };
        for _ in 0..5 {
            evictions.note("sm", "pod", Verb::Evict, failed(), now);
        }
        evictions.note("sm", "pod", Verb::Delete, failed(), now);
        assert_eq!(evictions.of("sm")["pod"].tries, 1);
    }

    #[test]
    fn objects_do_not_share_their_tries_and_are_forgotten() {
        let evictions = Evictions::default();
        evictions.note("a", "pod", Verb::Evict, refused(), Timestamp::UNIX_EPOCH);
        assert!(evictions.of("b").is_empty());
        evictions.retain(|uid| uid != "a");
        assert!(evictions.of("a").is_empty());
        evictions.note("a", "pod", Verb::Evict, refused(), Timestamp::UNIX_EPOCH);
        evictions.forget("a");
        assert!(evictions.of("a").is_empty());
    }
}
