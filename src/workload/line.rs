//! Calls to one workload cluster: bounded, few at a time, and silence is noticed.
//!
//! Passes wait for their calls. A cluster that swallows calls may hold some of them for a moment, once; then it counts as
//! unreachable, and costs nobody anything, until it answers again.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::timeout;

use super::long::Hand;

/// A call that takes longer was not answered. An eject waits for no workload cluster longer than 2 s, whatever the pass
/// before it was waiting for.
pub const ANSWER: Duration = Duration::from_millis(1200);
/// An answer within this is one of a cluster that is well.
pub(super) const PROMPT: Duration = Duration::from_millis(250);
/// Calls at a time to one cluster.
const AT_A_TIME: usize = 8;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// Not sent: as many calls as may be are out, and the cluster is slow to answer them.
    Busy,
    /// Sent, and not answered within [`ANSWER`]; whether it was done is not known.
    Silent,
}

/// What a call tells of the way it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It was not answered.
    Silent,
    /// The credentials are refused (401); a watch that was opened with them may go on for a while.
    Refused,
}

/// The way to one workload cluster; clones are the same one.
#[derive(Clone)]
pub struct Line {
    client: kube::Client,
    turns: Turns,
    trouble: watch::Sender<Option<Trouble>>,
    pub(super) hand: Hand,
}

/// What all lines to one cluster share, those of former credentials included.
#[derive(Clone)]
pub(super) struct Turns {
    permits: Arc<Semaphore>,
    /// How many calls are out for longer than [`PROMPT`].
    slow: watch::Sender<usize>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { permits: Arc::new(Semaphore::new(AT_A_TIME)), slow: watch::Sender::default() }
    }
}

impl Line {
    /// `trouble` is told when a call meets some.
    pub(super) fn new(
        client: kube::Client,
        turns: Turns,
        trouble: watch::Sender<Option<Trouble>>,
        hand: Hand,
    ) -> Self {
        Self { client, turns, trouble, hand }
    }

    /// To make an `Api` from; its calls belong into [`Line::call`], its watches do not.
    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// Waits for a turn and for the answer.
    ///
    /// # Errors
    /// [`Unanswered`], after [`ANSWER`] at the latest once it is sent.
    pub async fn call<T>(
        &self,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<kube::Result<T>, Unanswered> {
        let _turn = self.turns.next().await?;
        let answer = self.answer(call).await;
        if answer.is_err() {
            self.trouble.send_replace(Some(Trouble::Silent));
        }
        self.tell_refusal(&answer);
        answer
    }

    /// Credentials that are refused are worth nothing for any other call either.
    pub(super) fn tell_refusal<T>(&self, answer: &Result<kube::Result<T>, Unanswered>) {
        if let Ok(Err(kube::Error::Api(status))) = answer
            && status.code == 401
        {
            self.trouble.send_replace(Some(Trouble::Refused));
        }
    }

    async fn answer<T>(&self, call: impl Future<Output = T>) -> Result<T, Unanswered> {
        let mut call = pin!(call);
        if let Ok(answer) = timeout(PROMPT, call.as_mut()).await {
            return Ok(answer);
        }
        let _slow = Slow::count(&self.turns.slow);
        timeout(ANSWER.saturating_sub(PROMPT), call).await.map_err(|_late| Unanswered::Silent)
    }
}

impl Turns {
    /// Turns come fast with a cluster that is well; one that is not keeps nobody waiting in line.
    async fn next(&self) -> Result<SemaphorePermit<'_>, Unanswered> {
        let mut slow = self.slow.subscribe();
        tokio::select! {
            biased;
            // The semaphore is never closed.
            turn = self.permits.acquire() => turn.map_err(|_closed| Unanswered::Busy),
            _ = slow.wait_for(|calls| *calls > 0) => Err(Unanswered::Busy),
        }
    }
}

/// Counts one slow call for as long as it lasts.
struct Slow<'a>(&'a watch::Sender<usize>);

impl<'a> Slow<'a> {
    fn count(calls: &'a watch::Sender<usize>) -> Self {
        calls.send_modify(|calls| *calls += 1);
        Self(calls)
    }
}

impl Drop for Slow<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|calls| *calls -= 1);
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests read clocks")]
pub(super) mod tests {
    use std::future::{pending, ready};

    use futures::future::join_all;
    use tokio::time::{Instant, sleep};

    use super::super::long::Carrier;
    use super::*;
    use crate::watch::mock::{Answer, Log, client};

    fn line() -> Line {
        line_with(|_| Answer::Silence).0
    }

    /// One whose requests are answered so; nobody carries its long calls.
    pub(crate) fn line_with(answer: impl FnMut(&str) -> Answer + Send + 'static) -> (Line, Log) {
        let (client, log) = client(answer);
        let (hand, _carrier) = Carrier::new(tokio::sync::mpsc::unbounded_channel().0);
        (Line::new(client, Turns::default(), watch::Sender::default(), hand), log)
    }

    impl Line {
        pub(in crate::workload) fn trouble(&self) -> Option<Trouble> {
            *self.trouble.borrow()
        }
    }

    fn outcome<T>(answer: Result<kube::Result<T>, Unanswered>) -> Option<Unanswered> {
        answer.err()
    }

    async fn in_ms(ms: u64) -> kube::Result<()> {
        sleep(Duration::from_millis(ms)).await;
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_not_answered_ends_and_is_told() {
        let line = line();
        let began = Instant::now();
        assert_eq!(outcome(line.call(pending::<kube::Result<()>>()).await), Some(Unanswered::Silent));
        assert_eq!(began.elapsed(), ANSWER);
        assert_eq!(*line.trouble.borrow(), Some(Trouble::Silent));
        assert_eq!(outcome(line.call(in_ms(7)).await), None, "and the next one has its turn");
    }

    #[tokio::test(start_paused = true)]
    async fn refused_credentials_are_told_and_other_answers_are_not() {
        let line = line();
        for (code, told) in [(403, None), (409, None), (401, Some(Trouble::Refused))] {
            let status = kube::core::Status { code, ..kube::core::Status::default() };
            let refused: kube::Result<()> = Err(kube::Error::Api(status.boxed()));
            assert_eq!(outcome(line.call(ready(refused)).await), None);
            assert_eq!(*line.trouble.borrow(), told, "{code}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_cluster_holds_few_and_sends_the_others_away_soon() {
        let line = line();
        let began = Instant::now();
        let calls = (0..40).map(|_| async {
            let answer = outcome(line.call(pending::<kube::Result<()>>()).await);
            (answer, began.elapsed())
        });
        let answers = join_all(calls).await;
        let silent = answers.iter().filter(|(answer, _)| *answer == Some(Unanswered::Silent)).count();
        assert_eq!(silent, AT_A_TIME);
        let sent_away = answers.iter().filter(|(answer, _)| *answer == Some(Unanswered::Busy));
        assert!(sent_away.clone().all(|(_, took)| *took <= PROMPT) && sent_away.count() == 40 - AT_A_TIME);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cluster_that_is_well_serves_them_all() {
        let line = line();
        let calls = (0..400).map(|_| line.call(in_ms(20)));
        assert!(join_all(calls).await.into_iter().all(|answer| outcome(answer).is_none()));
    }

    #[tokio::test(start_paused = true)]
    async fn one_slow_answer_sends_nobody_away() {
        let line = line();
        let (slow, others) = tokio::join!(line.call(in_ms(1000)), async {
            sleep(Duration::from_millis(500)).await;
            line.call(in_ms(1)).await
        });
        assert_eq!((outcome(slow), outcome(others)), (None, None));
    }
}
