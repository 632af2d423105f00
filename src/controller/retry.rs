//! How long to wait after a pass that failed.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::controller::error::Class;

/// Failures in a row, by uid and class. A success, or the object's end, forgets them.
///
/// Each class counts for itself: an API server that comes back may refuse one call before it has read its roles, and
/// that refusal must not wait the minute that twenty unanswered calls before it would have earned.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: Mutex<HashMap<String, Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    conflict: u32,
    transient: u32,
    permanent: u32,
}

impl Backoff {
    /// Counts a failure and says how long to wait.
    pub fn failed(&self, uid: &str, class: Class) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = failures.entry(uid.to_owned()).or_default();
        let (count, first, longest) = match class {
            Class::Conflict => (&mut counts.conflict, Duration::from_millis(50), Duration::from_secs(5)),
            Class::Transient => (&mut counts.transient, Duration::from_millis(250), Duration::from_secs(15)),
            Class::Permanent => (&mut counts.permanent, Duration::from_secs(1), Duration::from_secs(60)),
        };
        *count = count.saturating_add(1);
        // Doubling; 2^16 times the first is beyond every longest.
        let delay = first.saturating_mul(1 << (*count - 1).min(16)).min(longest);
        spread(delay)
    }

    /// The pass went well, or the object is gone.
    pub fn forget(&self, uid: &str) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    /// The API server is back: what failed because it was away says nothing about the next try.
    pub fn forget_all(&self) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
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
        let delays: Vec<Duration> = (0..40).map(|_| backoff.failed("u", Class::Transient)).collect();
        assert!(delays[0] <= Duration::from_millis(313), "{:?}", delays[0]);
        assert!(delays[3] > delays[0] * 4);
        assert!(delays.iter().all(|delay| *delay <= Duration::from_millis(18_750)));
        backoff.forget("u");
        assert!(backoff.failed("u", Class::Transient) <= Duration::from_millis(313));
    }

    #[test]
    fn a_refusal_after_a_long_outage_is_tried_again_soon() {
        let backoff = Backoff::default();
        for _ in 0..20 {
            backoff.failed("u", Class::Transient);
        }
        assert!(backoff.failed("u", Class::Permanent) <= Duration::from_millis(1250));
    }

    #[test]
    fn objects_do_not_share_their_failures() {
        let backoff = Backoff::default();
        for _ in 0..10 {
            backoff.failed("a", Class::Permanent);
        }
        assert!(backoff.failed("b", Class::Permanent) <= Duration::from_millis(1250));
    }
}
