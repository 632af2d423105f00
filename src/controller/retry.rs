//! How long to wait after a pass that failed.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::controller::error::Class;
use crate::controller::report::Failure;

/// An error that comes over and over is told again after this.
const TELL_AGAIN: Duration = Duration::from_secs(10 * 60);

/// Failures in a row, by uid and class. A success, or the object's end, forgets them.
///
/// Each class counts for itself: an API server that comes back may refuse one call before it has read its roles, and
/// that refusal must not wait the minute that twenty unanswered calls before it would have earned.
///
/// Our own status write wakes the object at once, and so does every event around it. So the delay is held here and not
/// only in the queue: the *same* attempt is not made again before its time, however often the object wakes.
#[derive(Debug, Default)]
pub struct Backoff {
    objects: Mutex<HashMap<String, Failures>>,
}

#[derive(Debug, Default)]
struct Failures {
    conflict: u32,
    transient: u32,
    permanent: u32,
    /// What was tried last.
    attempt: String,
    /// Until when the same is not tried again.
    held_until: Option<Instant>,
    /// Nothing but the workload side failed, and how.
    on_node: Option<Failure>,
    /// What was told last.
    told: Option<Told>,
}

#[derive(Debug)]
struct Told {
    error: String,
    at: Instant,
    /// How often it has come again since.
    repeats: u32,
}

impl Backoff {
    /// How much longer this attempt has to wait. Another one goes ahead: somebody, or the clock, changed something.
    pub fn held(&self, uid: &str, attempt: &str) -> Option<Duration> {
        let objects = self.lock();
        let failures = objects.get(uid).filter(|failures| failures.attempt == attempt)?;
        let left = failures.held_until?.saturating_duration_since(now());
        (!left.is_zero()).then_some(left)
    }

    /// Counts the failure of an attempt and says how long to wait.
    pub fn failed(&self, uid: &str, attempt: &str, class: Class) -> Duration {
        let mut objects = self.lock();
        let failures = objects.entry(uid.to_owned()).or_default();
        let (count, first, longest) = match class {
            Class::Conflict => (&mut failures.conflict, Duration::from_millis(50), Duration::from_secs(5)),
            Class::Transient => {
                (&mut failures.transient, Duration::from_millis(250), Duration::from_secs(15))
            }
            Class::Permanent => (&mut failures.permanent, Duration::from_secs(1), Duration::from_secs(60)),
        };
        *count = count.saturating_add(1);
        // Doubling; 2^16 times the first is beyond every longest.
        let delay = spread(first.saturating_mul(1 << (*count - 1).min(16)).min(longest));
        attempt.clone_into(&mut failures.attempt);
        failures.held_until = Some(now() + delay);
        failures.on_node = None;
        delay
    }

    /// The same where the management side went well: only what goes to the Node has to wait.
    pub fn failed_on_node(&self, uid: &str, attempt: &str, failure: &Failure) -> Duration {
        let delay = self.failed(uid, attempt, failure.class);
        self.lock().entry(uid.to_owned()).or_default().on_node = Some(failure.clone());
        delay
    }

    /// Whether calls for it have failed to be answered, and none has gone well since.
    pub fn is_failing(&self, uid: &str) -> bool {
        self.lock().get(uid).is_some_and(|failures| failures.transient > 0)
    }

    /// What failed on the workload side, if nothing else did.
    pub fn node_failure(&self, uid: &str) -> Option<Failure> {
        self.lock().get(uid)?.on_node.clone()
    }

    /// Whether a failure is to be told now: for the first time, or because the last time was [`TELL_AGAIN`] ago. How often
    /// it has come since it was told last, this time included.
    pub fn news(&self, uid: &str, error: &str) -> Option<u32> {
        let mut objects = self.lock();
        let told = &mut objects.entry(uid.to_owned()).or_default().told;
        let times = match told {
            Some(told) if told.error == error => {
                told.repeats += 1;
                if now().duration_since(told.at) < TELL_AGAIN {
                    return None;
                }
                told.repeats
            }
            _ => 1,
        };
        *told = Some(Told { error: error.to_owned(), at: now(), repeats: 0 });
        Some(times)
    }

    /// The pass went well, or the object is gone.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    /// The API server is back: what failed because it was away says nothing about the next try.
    pub fn forget_all(&self) {
        self.lock().clear();
    }

    /// Forgets objects that are gone, however they went.
    pub fn retain(&self, is_there: impl Fn(&str) -> bool) {
        self.lock().retain(|uid, _| is_there(uid));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Failures>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(clippy::disallowed_methods, reason = "bounds a wait; no decision depends on it")]
fn now() -> Instant {
    Instant::now()
}

/// 75 to 125 %, so that what failed together does not come back together.
pub fn spread(delay: Duration) -> Duration {
    delay.mul_f64(rand::random_range(0.75..1.25))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_bound_and_start_over_after_a_success() {
        let backoff = Backoff::default();
        let delays: Vec<Duration> =
            (0..40).map(|_| backoff.failed("u", "create", Class::Transient)).collect();
        assert!(delays[0] <= Duration::from_millis(313), "{:?}", delays[0]);
        assert!(delays[3] > delays[0] * 4);
        assert!(delays.iter().all(|delay| *delay <= Duration::from_millis(18_750)));
        backoff.forget("u");
        assert!(backoff.failed("u", "create", Class::Transient) <= Duration::from_millis(313));
    }

    #[test]
    fn a_refusal_after_a_long_outage_is_tried_again_soon() {
        let backoff = Backoff::default();
        for _ in 0..20 {
            backoff.failed("u", "create", Class::Transient);
        }
        assert!(backoff.failed("u", "create", Class::Permanent) <= Duration::from_millis(1250));
    }

    #[test]
    fn objects_do_not_share_their_failures() {
        let backoff = Backoff::default();
        for _ in 0..10 {
            backoff.failed("a", "create", Class::Permanent);
        }
        assert!(backoff.failed("b", "create", Class::Permanent) <= Duration::from_millis(1250));
    }

    #[test]
    fn the_same_attempt_waits_out_its_delay_and_another_goes_ahead() {
        let backoff = Backoff::default();
        assert_eq!(backoff.held("u", "create"), None);
        let delay = backoff.failed("u", "create", Class::Permanent);
        assert!(backoff.held("u", "create").is_some_and(|left| left <= delay));
        assert_eq!(backoff.held("u", "delete"), None);
        assert_eq!(backoff.held("v", "create"), None);
        backoff.retain(|uid| uid != "u");
        assert_eq!(backoff.held("u", "create"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_is_told_once_and_again_after_a_while_with_how_often_it_came() {
        let backoff = Backoff::default();
        assert_eq!(backoff.news("u", "refused"), Some(1));
        assert_eq!(backoff.news("u", "refused"), None);
        assert_eq!(backoff.news("v", "refused"), Some(1), "of another object");
        tokio::time::advance(TELL_AGAIN).await;
        assert_eq!(backoff.news("u", "refused"), Some(2));
        assert_eq!(backoff.news("u", "refused"), None);
        assert_eq!(backoff.news("u", "not there"), Some(1), "another error");
        assert_eq!(backoff.news("u", "refused"), Some(1), "and back");
        backoff.forget("u");
        assert_eq!(backoff.news("u", "refused"), Some(1), "after a success");
    }

    #[test]
    fn a_failure_on_the_node_is_remembered_until_something_else_fails() {
        let backoff = Backoff::default();
        let failure =
            Failure { reason: "UpdateFailed", message: "forbidden".to_owned(), class: Class::Permanent };
        backoff.failed_on_node("u", "taint", &failure);
        assert!(backoff.held("u", "taint").is_some());
        assert_eq!(backoff.node_failure("u"), Some(failure));
        backoff.failed("u", "create", Class::Permanent);
        assert_eq!(backoff.node_failure("u"), None);
    }
}
