//! Calls whose answer may take longer than a pass waits: one that makes a pod go passes admission webhooks on its way.
//!
//! Such a call is handed to the connection, which sees it to its end; whoever made it may go on meanwhile, and is woken.
//! A cluster that is slow with it is not taken for one that is dead: that is asked apart.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::sleep;

use super::line::{Line, PROMPT, Unanswered};
use super::{Asker, WorkloadNotice};
use crate::leadership::claim::Claim;

/// Admission webhooks may take up to 30 s, and a call that is given up before is undone by nobody.
pub const LONGEST: Duration = Duration::from_secs(35);
/// Such calls at a time to one cluster; others stand in line. Not of those that [`super::Line::call`] counts.
const AT_A_TIME: usize = 32;
/// Between two looks whether the cluster is there at all, while such a call is out.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How lines give their long calls to the connection.
#[derive(Clone)]
pub(super) struct Hand {
    calls: UnboundedSender<BoxFuture<'static, ()>>,
    notices: UnboundedSender<WorkloadNotice>,
    turns: Arc<Semaphore>,
    /// One look at a time, whoever waits.
    look: Arc<Semaphore>,
}

/// The long calls of one connection. They end with it.
pub(super) struct Carrier {
    calls: Mutex<UnboundedReceiver<BoxFuture<'static, ()>>>,
}

impl Carrier {
    pub(super) fn new(notices: UnboundedSender<WorkloadNotice>) -> (Hand, Self) {
        let (calls, handed) = unbounded_channel();
        let (turns, look) = (Arc::new(Semaphore::new(AT_A_TIME)), Arc::new(Semaphore::new(1)));
        (Hand { calls, notices, turns, look }, Self { calls: Mutex::new(handed) })
    }

    /// Sees every call to its end, until dropped.
    pub(super) async fn run(&self) {
        let mut handed = self.calls.lock().await;
        let mut out = FuturesUnordered::new();
        loop {
            tokio::select! {
                Some(call) = handed.recv() => out.push(call),
                Some(()) = out.next() => {}
            }
        }
    }
}

impl Line {
    /// Leaves a call to the connection: it goes on when the pass that made it is over, under the same claim, and ends with
    /// the connection.
    pub fn hand_over(&self, call: impl Future<Output = ()> + Send + 'static) {
        // A connection that is closed makes no calls.
        let _ = self.hand.calls.send(Box::pin(Claim::handed_on(call)));
    }

    /// Has the object look again.
    pub fn wake(&self, asker: Asker) {
        // Nobody listens any more: the process ends.
        let _ = self.hand.notices.send(WorkloadNotice::Answered { asker });
    }

    /// Waits for a turn and for the answer, as [`Line::call`] does, but for longer.
    ///
    /// # Errors
    /// [`Unanswered::Silent`], after [`LONGEST`] from when it was sent.
    pub async fn call_patiently<T>(
        &self,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<kube::Result<T>, Unanswered> {
        // The semaphore is never closed.
        let _turn = self.hand.turns.acquire().await.map_err(|_closed| Unanswered::Busy)?;
        let mut call = pin!(call);
        let answer = tokio::select! {
            biased;
            answer = &mut call => Ok(answer),
            () = sleep(LONGEST) => Err(Unanswered::Silent),
            () = self.look_now_and_then() => Err(Unanswered::Silent),
        };
        self.tell_refusal(&answer);
        answer
    }

    /// Whether anything answers there: a webhook that takes its time says nothing about that.
    async fn look_now_and_then(&self) {
        sleep(PROMPT).await;
        loop {
            if let Ok(_look) = self.hand.look.try_acquire() {
                // Any answer will do, and silence is told by the call itself.
                let _ = self.call(self.client().apiserver_version()).await;
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests read clocks")]
mod tests {
    use futures::future::{join, pending, select};
    use tokio::sync::mpsc;
    use tokio::time::Instant;

    use super::super::line::{Trouble, tests::line_with};
    use super::*;
    use crate::watch::mock::Answer;

    async fn in_ms(ms: u64) -> kube::Result<()> {
        sleep(Duration::from_millis(ms)).await;
        Ok(())
    }

    fn version() -> Answer {
        Answer::Json(
            200,
            serde_json::json!({"major": "1", "minor": "35", "gitVersion": "", "gitCommit": "",
            "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "", "platform": ""}),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_answer_is_waited_for_and_is_no_trouble_while_the_cluster_answers_otherwise() {
        let (line, log) = line_with(|_| version());
        assert!(matches!(line.call_patiently(in_ms(20_000)).await, Ok(Ok(()))));
        assert_eq!(line.trouble(), None);
        assert_eq!(log.count("/version"), 4, "at 0.25, 5.25, 10.25 and 15.25 s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_prompt_answer_costs_no_other_call() {
        let (line, log) = line_with(|_| version());
        assert!(matches!(line.call_patiently(in_ms(200)).await, Ok(Ok(()))));
        assert_eq!(log.count("/version"), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_cluster_is_told_soon_and_the_call_ends() {
        let (line, log) = line_with(|_| Answer::Silence);
        let began = Instant::now();
        let told = async {
            while line.trouble().is_none() {
                sleep(Duration::from_millis(10)).await;
            }
            (line.trouble(), began.elapsed())
        };
        let (answer, told) = join(line.call_patiently(pending::<kube::Result<()>>()), told).await;
        assert_eq!(answer.err(), Some(Unanswered::Silent));
        assert_eq!(told.0, Some(Trouble::Silent));
        assert!(told.1 < Duration::from_secs(2), "{:?}", told.1);
        assert_eq!(began.elapsed(), LONGEST);
        assert!(log.count("/version") > 1);
    }

    #[tokio::test(start_paused = true)]
    async fn few_are_out_at_a_time_and_the_others_have_their_turn() {
        let (line, _log) = line_with(|_| version());
        let began = Instant::now();
        let out = std::cell::Cell::new(0);
        let calls = (0..AT_A_TIME * 3).map(|_| {
            line.call_patiently(async {
                out.set(out.get() + 1);
                assert!(out.get() <= AT_A_TIME);
                in_ms(3000).await?;
                out.set(out.get() - 1);
                Ok(())
            })
        });
        let answers = futures::future::join_all(calls).await;
        assert!(answers.iter().all(Result::is_ok));
        assert_eq!(began.elapsed(), Duration::from_secs(9));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_handed_over_is_carried_on_and_its_end_wakes() {
        let (notices, mut told) = mpsc::unbounded_channel();
        let (hand, carrier) = Carrier::new(notices);
        let (mut line, _log) = line_with(|_| version());
        line.hand = hand;
        let asker = ("lab".to_owned(), "ws-1".to_owned());
        let (waker, who) = (line.clone(), asker.clone());
        line.hand_over(async move {
            sleep(Duration::from_secs(3)).await;
            waker.wake(who);
        });
        let heard = Box::pin(told.recv());
        let futures::future::Either::Right((notice, _)) = select(Box::pin(carrier.run()), heard).await else {
            panic!("ended")
        };
        assert_eq!(notice, Some(WorkloadNotice::Answered { asker }));
    }
}
