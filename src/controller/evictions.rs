//! What became of the tries to make pods go, until their objects are at rest again. In memory only: after a restart each
//! pod is tried once more, which its budget counts as any other try.
//!
//! A try may take longer than a pass: it is noted when it is made, and as long as it is out no second one is.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::oneshot;

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
    objects: Arc<Mutex<HashMap<String, Pods>>>,
}

/// Of one object, by uid of the pod.
type Pods = HashMap<String, Known>;

/// What is known of the tries with one pod.
#[derive(Debug, Default)]
struct Known {
    last: Option<Attempt>,
    underway: Option<Sent>,
}

/// A try that has not been answered. Forgotten, it tells the call to end.
#[derive(Debug)]
struct Sent {
    verb: Verb,
    id: u64,
    _forgotten: oneshot::Sender<Infallible>,
}

/// A try on its way. However it ends, another may be made afterwards, and none before.
#[derive(Debug)]
pub struct Underway {
    evictions: Evictions,
    object: String,
    pod: String,
    verb: Verb,
    id: u64,
    forgotten: oneshot::Receiver<Infallible>,
}

impl Evictions {
    /// Notes that a try is about to be made for `object`, with a pod. One that is out for the same pod is given up.
    pub fn begin(&self, object: &str, pod: &str, verb: Verb) -> Underway {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        let (sender, forgotten) = oneshot::channel();
        let mut objects = self.lock();
        let known = objects.entry(object.to_owned()).or_default().entry(pod.to_owned()).or_default();
        known.underway = Some(Sent { verb, id, _forgotten: sender });
        let (object, pod) = (object.to_owned(), pod.to_owned());
        Underway { evictions: self.clone(), object, pod, verb, id, forgotten }
    }

    /// The latest answered try with each pod, and what is out for an answer, by the pod's uid.
    pub fn of(&self, object: &str) -> HashMap<String, (Option<Attempt>, Option<Verb>)> {
        let objects = self.lock();
        let seen = |(pod, known): (&String, &Known)| {
            (pod.clone(), (known.last.clone(), known.underway.as_ref().map(|sent| sent.verb)))
        };
        objects.get(object).into_iter().flatten().map(seen).collect()
    }

    /// No pod of this object is to go any more: calls that are out for it are given up.
    pub fn forget(&self, object: &str) {
        self.lock().remove(object);
    }

    /// Forgets objects that are gone, however they went.
    pub fn retain(&self, is_there: impl Fn(&str) -> bool) {
        self.lock().retain(|object, _| is_there(object));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Pods>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Underway {
    /// The answer of its call; `None` when nobody wants it any more, and the call is given up.
    pub async fn answer<T>(&mut self, call: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            _ = &mut self.forgotten => None,
            answer = call => Some(answer),
        }
    }

    /// Notes what became of it at `now`, if anybody still wants to know.
    pub fn end(self, outcome: Outcome, now: Timestamp) {
        let mut objects = self.evictions.lock();
        let Some(known) = self.own(&mut objects) else { return };
        let kind = std::mem::discriminant(&outcome);
        let same =
            |before: &&Attempt| before.verb == self.verb && std::mem::discriminant(&before.outcome) == kind;
        let tries = known.last.as_ref().filter(same).map_or(1, |before| before.tries.saturating_add(1));
        let pause = match &outcome {
            Outcome::Accepted => ACCEPTED,
            Outcome::Refused { .. } => doubled(REFUSED, tries),
            Outcome::Forbidden { .. } | Outcome::Failed { .. } => doubled(FAILED, tries),
        };
        let pause = SignedDuration::try_from(pause).unwrap_or_default();
        let again_at = now.saturating_add(pause).unwrap_or(now);
        *known = Known { last: Some(Attempt { verb: self.verb, outcome, tries, again_at }), underway: None };
    }

    /// What is known of its pod, while this is the try that is out.
    fn own<'a>(&self, objects: &'a mut HashMap<String, Pods>) -> Option<&'a mut Known> {
        let known = objects.get_mut(&self.object)?.get_mut(&self.pod)?;
        let is_own = known.underway.as_ref().is_some_and(|sent| sent.id == self.id);
        is_own.then_some(known)
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        let mut objects = self.evictions.lock();
        if let Some(known) = self.own(&mut objects) {
            known.underway = None;
        }
    }
}

fn doubled((first, longest): (Duration, Duration), tries: u32) -> Duration {
    spread(first.saturating_mul(1 << (tries - 1).min(16)).min(longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(evictions: &Evictions, object: &str, verb: Verb, outcome: Outcome) -> Attempt {
        evictions.begin(object, "pod", verb).end(outcome, Timestamp::UNIX_EPOCH);
        evictions.of(object)["pod"].0.clone().unwrap()
    }

    fn refused() -> Outcome {
        Outcome::Refused { budgets: vec!["web".to_owned()] }
    }

    #[test]
    fn refusals_pause_longer_each_time_up_to_a_bound_and_start_over_with_another_outcome() {
        let evictions = Evictions::default();
        let pause = |outcome: Outcome| {
            let tried = note(&evictions, "sm", Verb::Evict, outcome);
            tried.again_at.duration_since(Timestamp::UNIX_EPOCH).as_millis()
        };
        let pauses: Vec<i128> = (0..12).map(|_| pause(refused())).collect();
        assert!(pauses[0] <= 625 && pauses[2] > pauses[0], "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= 6250), "{pauses:?}");
        assert_eq!(evictions.of("sm")["pod"].0.as_ref().unwrap().tries, 12);
        assert!(pause(Outcome::Failed { message: String::new() }) <= 1250);
        assert!(pause(refused()) <= 625);
    }

    #[test]
    fn what_is_asked_otherwise_is_a_first_try() {
        let evictions = Evictions::default();
        let failed = || Outcome::Failed { message: String::new() };
        for _ in 0..5 {
            note(&evictions, "sm", Verb::Evict, failed());
        }
        assert_eq!(note(&evictions, "sm", Verb::Delete, failed()).tries, 1);
    }

    #[test]
    fn objects_do_not_share_their_tries_and_are_forgotten() {
        let evictions = Evictions::default();
        note(&evictions, "a", Verb::Evict, refused());
        assert!(evictions.of("b").is_empty());
        evictions.retain(|uid| uid != "a");
        assert!(evictions.of("a").is_empty());
        note(&evictions, "a", Verb::Evict, refused());
        evictions.forget("a");
        assert!(evictions.of("a").is_empty());
    }

    #[test]
    fn a_try_is_out_until_its_answer_or_its_end_and_the_last_answer_stands_meanwhile() {
        let evictions = Evictions::default();
        note(&evictions, "sm", Verb::Evict, refused());
        let out = evictions.begin("sm", "pod", Verb::Evict);
        let (last, underway) = evictions.of("sm").remove("pod").unwrap();
        assert_eq!((last.map(|last| last.outcome), underway), (Some(refused()), Some(Verb::Evict)));
        // Its connection was closed.
        drop(out);
        assert_eq!(evictions.of("sm")["pod"].1, None);
        evictions.begin("sm", "pod", Verb::Evict).end(Outcome::Accepted, Timestamp::UNIX_EPOCH);
        let (last, underway) = evictions.of("sm").remove("pod").unwrap();
        assert_eq!((last.map(|last| last.outcome), underway), (Some(Outcome::Accepted), None));
    }

    #[tokio::test]
    async fn a_call_that_nobody_wants_any_more_is_given_up_and_tells_nothing() {
        let evictions = Evictions::default();
        let mut forgotten = evictions.begin("sm", "pod", Verb::Evict);
        evictions.forget("sm");
        assert_eq!(forgotten.answer(std::future::pending::<()>()).await, None);
        let mut hurried = evictions.begin("sm", "pod", Verb::Evict);
        let _delete = evictions.begin("sm", "pod", Verb::Delete);
        assert_eq!(hurried.answer(std::future::pending::<()>()).await, None);
        hurried.end(refused(), Timestamp::UNIX_EPOCH);
        forgotten.end(refused(), Timestamp::UNIX_EPOCH);
        assert_eq!(evictions.of("sm")["pod"], (None, Some(Verb::Delete)), "another is out");
    }
}
