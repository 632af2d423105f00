//! How the API server that we live by has answered lately. Told by the layer that counts calls.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// One that restarts is away for a few seconds; whoever reads readiness need not hear of that.
const FORGIVEN: Duration = Duration::from_secs(10);
/// Every watch is opened anew at least every 65 s, so that a server which is there answers as often, at rest too.
const SILENCE: Duration = Duration::from_secs(90);

/// The latest answers; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    state: Arc<Mutex<State>>,
    /// What is watched, and cannot be at the moment.
    unwatched: Arc<Mutex<BTreeSet<&'static str>>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    last: Option<Instant>,
    failing_since: Option<Instant>,
}

impl Answers {
    /// It said something that it can stand by.
    pub fn answered(&self) {
        *self.lock() = State { last: Some(now()), failing_since: None };
    }

    /// It did not answer, or with an error of its own.
    pub fn failed(&self) {
        self.lock().failing_since.get_or_insert_with(now);
    }

    /// A watch of this resource was opened, or could not be.
    pub fn watched(&self, resource: &'static str, is_open: bool) {
        let mut unwatched = self.unwatched.lock().unwrap_or_else(PoisonError::into_inner);
        if is_open {
            unwatched.remove(resource);
        } else {
            unwatched.insert(resource);
        }
    }

    /// Every watch that was opened last is open: what the caches show is not older than what is on its way.
    pub fn are_watches_open(&self) -> bool {
        self.unwatched.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// How long ago the last answer came; `None`: there was none.
    pub fn age(&self) -> Option<Duration> {
        self.lock().last.map(|at| now().saturating_duration_since(at))
    }

    /// For readiness: it answers.
    ///
    /// # Errors
    /// In words, since when it does not.
    pub fn lately(&self) -> Result<(), String> {
        let State { last, failing_since } = *self.lock();
        let ago = |at: Instant| now().saturating_duration_since(at);
        match (last.map(ago), failing_since.map(ago)) {
            (None, _) => Err("the API server has not answered yet".to_owned()),
            (Some(_), Some(failing)) if failing > FORGIVEN => {
                Err(format!("the API server has not answered for {} s", failing.as_secs()))
            }
            (Some(last), _) if last > SILENCE => {
                Err(format!("nothing was heard of the API server for {} s", last.as_secs()))
            }
            (Some(_), _) => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(clippy::disallowed_methods, reason = "measures silence; no decision depends on it")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(last: Option<u64>, failing: Option<u64>) -> Answers {
        let ago = |seconds: u64| now().checked_sub(Duration::from_secs(seconds)).unwrap();
        let state = State { last: last.map(ago), failing_since: failing.map(ago) };
        Answers { state: Arc::new(Mutex::new(state)), ..Answers::default() }
    }

    #[test]
    fn a_short_failure_is_forgiven_and_a_long_one_or_silence_is_not() {
        for (last, failing, well) in [
            (None, None, false),
            (None, Some(1), false),
            (Some(70), None, true),
            (Some(95), None, false),
            (Some(5), Some(4), true),
            (Some(20), Some(15), false),
        ] {
            let answers = answers(last, failing);
            assert_eq!(answers.lately().is_ok(), well, "{last:?} {failing:?}: {:?}", answers.lately());
        }
    }

    #[test]
    fn watches_are_open_once_each_that_failed_was_opened_again() {
        let answers = Answers::default();
        answers.watched("machines", false);
        answers.watched("machineholds", false);
        answers.watched("machines", true);
        assert!(!answers.are_watches_open());
        answers.watched("machineholds", true);
        assert!(answers.are_watches_open());
    }

    #[test]
    fn an_answer_ends_a_failure_and_failures_in_a_row_count_from_the_first() {
        let answers = answers(Some(30), Some(25));
        answers.failed();
        assert_eq!(answers.lately(), Err("the API server has not answered for 25 s".to_owned()));
        answers.answered();
        assert_eq!(answers.lately(), Ok(()));
        assert!(answers.age().is_some_and(|age| age < Duration::from_secs(1)));
    }
}
