//! What became of the tries to write the holds of reclaims. In memory only: a new process has listed all holds before,
//! and waits out those tries of the one before it that it finds latched.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::core::DynamicObject;
use tokio::time::Instant;

use crate::controller::hold::Hold;
use crate::controller::reclaim::wish::{Tried, Unshown};
use crate::controller::retry::spread;

/// Between tries: a quota, a webhook or a missing right is for a person to mend, who wants to see that it helped.
const REFUSED: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// The server may still be at it: its own limit on a webhook is 30 s. A second try before would make a second hold.
const UNANSWERED: Duration = Duration::from_secs(36);

/// The watch shows a hold within milliseconds; after this it stalls, and the hold itself is asked for.
const SHOWN: Duration = Duration::from_secs(5);

/// Of all objects, by uid; clones are handles to the same.
#[derive(Clone, Debug, Default)]
pub struct HoldTries {
    objects: Arc<Mutex<HashMap<String, Known>>>,
}

#[derive(Debug)]
enum Known {
    Failed { last: Tried, tries: u32 },
    Written { hold: Unshown, uid: String, until: Instant },
}

impl HoldTries {
    /// The last try for an object, if it failed.
    pub fn of(&self, object: &str) -> Option<Tried> {
        match self.lock().get(object) {
            Some(Known::Failed { last, .. }) => Some(last.clone()),
            Some(Known::Written { .. }) | None => None,
        }
    }

    /// Notes a hold that was written, for a reclaim that was asked for at an instant.
    pub fn written(&self, object: &str, hold: &DynamicObject, asked_at: Timestamp) {
        let uid = hold.uid().unwrap_or_default();
        let hold = Unshown { name: hold.name_any(), asked_at, is_overdue: false };
        self.lock().insert(object.to_owned(), Known::Written { hold, uid, until: now() + SHOWN });
    }

    /// The hold that was written and is not among those shown: without it the machine would be taken for one that may
    /// stay. However long the watch stalls, it is not forgotten; see [`HoldTries::gone`].
    pub fn unshown(&self, object: &str, shown: &[Hold]) -> Option<Unshown> {
        let mut objects = self.lock();
        let Some(Known::Written { hold, uid, until }) = objects.get(object) else { return None };
        if shown.iter().any(|seen| seen.uid == *uid) {
            objects.remove(object);
            return None;
        }
        Some(Unshown { is_overdue: now() >= *until, ..hold.clone() })
    }

    /// The hold that was written is no more: somebody deleted it before it was shown.
    pub fn gone(&self, object: &str) {
        self.lock().remove(object);
    }

    /// A latch that another process left: its create may still be at the server.
    pub fn inherited(&self, object: &str, request: &str, now: Timestamp) -> Tried {
        let message =
            "its MachineHold may still be on its way from before a restart; if not, it is written then";
        self.note(object, request, message.to_owned(), false, now)
    }

    /// Notes a failure. `was_answered`: the server said no, so the hold is not there.
    pub fn failed(&self, object: &str, request: &str, message: String, was_answered: bool, now: Timestamp) {
        self.note(object, request, message, was_answered, now);
    }

    fn note(
        &self,
        object: &str,
        request: &str,
        message: String,
        was_answered: bool,
        now: Timestamp,
    ) -> Tried {
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
        objects.insert(object.to_owned(), Known::Failed { last: last.clone(), tries });
        last
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
    fn a_latch_of_the_process_before_is_not_answered_with_a_second_create_while_the_first_may_come() {
        let (tries, now) = (HoldTries::default(), Timestamp::UNIX_EPOCH);
        let unknown = tries.inherited("sm", "a", now);
        assert!(unknown.again_at.duration_since(now).as_secs() > 30, "a webhook may take 30 s");
        assert_eq!(tries.of("sm"), Some(unknown));
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_that_was_written_is_remembered_until_it_is_shown_or_gone() {
        let (tries, asked_at) = (HoldTries::default(), Timestamp::UNIX_EPOCH);
        let stored = |uid: &str| -> DynamicObject {
            serde_json::from_value(serde_json::json!({
                "apiVersion": "5spot.finos.org/v1alpha1", "kind": "MachineHold",
                "metadata": {"namespace": "lab", "name": "h", "uid": uid},
                "spec": {"scheduledMachine": "sm", "state": "Inactive", "reason": "a test"},
            }))
            .unwrap()
        };
        assert_eq!(tries.unshown("sm", &[]), None);
        tries.written("sm", &stored("uid"), asked_at);
        let hold = Unshown { name: "h".to_owned(), asked_at, is_overdue: false };
        assert_eq!(tries.unshown("sm", &[]), Some(hold.clone()));
        assert_eq!((tries.unshown("another", &[]), tries.of("sm")), (None, None));
        // As long as a dead connection goes unnoticed.
        tokio::time::advance(Duration::from_secs(65)).await;
        let other = crate::controller::hold::Entry::read(&stored("other")).content.unwrap().1;
        assert_eq!(tries.unshown("sm", &[other]), Some(Unshown { is_overdue: true, ..hold }));
        let shown = crate::controller::hold::Entry::read(&stored("uid")).content.unwrap().1;
        assert_eq!(tries.unshown("sm", &[shown]), None);
        assert_eq!(tries.unshown("sm", &[]), None, "for good");
        tries.written("sm", &stored("uid"), asked_at);
        tries.gone("sm");
        assert_eq!(tries.unshown("sm", &[]), None);
    }
}
