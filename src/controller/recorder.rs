//! Events are posted beside the passes: one that the server keeps hanging delays no owner, and one that it refuses for a
//! moment comes later.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, stream};
use k8s_openapi::api::events::v1::Event;
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::api::names;
use crate::controller::error::{Class, class, is_already_exists, words};
use crate::controller::retry::spread;
use crate::leadership::claim::Claim;
use crate::runtime::Tasks;

/// Bound on a call.
const CALL: Duration = Duration::from_secs(10);
/// Between tries, in seconds: a rollout of the API server, or of a webhook, is over by then.
const PAUSES: [u64; 6] = [1, 2, 4, 8, 16, 32];
/// Events that wait at the same time, at most.
const MOST: usize = 1024;
/// Posted at the same time.
const AT_ONCE: usize = 16;
/// What is lost in the same words is told again after this.
const TOLD_AGAIN: Duration = Duration::from_secs(600);

/// Takes Events; clones are the same.
#[derive(Clone, Debug)]
pub struct Recorder {
    queue: mpsc::Sender<Untold>,
    waiting: watch::Sender<usize>,
    losses: Losses,
}

/// One Event on its way.
#[derive(Debug)]
struct Untold {
    event: Event,
    /// The right to write of the pass that it is of.
    claim: Option<Claim>,
}

/// What could not be recorded: told in the log, once while it is the same.
#[derive(Clone, Debug, Default)]
struct Losses(Arc<Mutex<Option<(String, Instant)>>>);

impl Recorder {
    /// Adds the task that posts.
    pub fn start(client: Client, tasks: &mut Tasks) -> Self {
        let (queue, received) = mpsc::channel(MOST);
        let (waiting, losses) = (watch::Sender::new(0), Losses::default());
        let poster = Poster { waiting: waiting.clone(), losses: losses.clone() };
        let events = stream::unfold(received, |mut received| async move {
            let untold = received.recv().await?;
            Some((untold, received))
        });
        let task = events.for_each_concurrent(AT_ONCE, move |untold| {
            let (client, poster) = (client.clone(), poster.clone());
            async move {
                poster.post(&client, untold).await;
                poster.waiting.send_modify(|waiting| *waiting -= 1);
            }
        });
        tasks.spawn("Events", task);
        Self { queue, waiting, losses }
    }

    /// To be posted as soon as possible, under the claim of whoever asks. With too many waiting already it is lost, and the
    /// log says so.
    pub fn tell(&self, event: Event) {
        self.waiting.send_modify(|waiting| *waiting += 1);
        let untold = Untold { event, claim: Claim::current() };
        if let Err(error) = self.queue.try_send(untold) {
            self.waiting.send_modify(|waiting| *waiting -= 1);
            self.losses.tell(&error.to_string());
        }
    }

    /// Waits until all are posted or lost, at most for so long.
    pub async fn flush(&self, patience: Duration) {
        let mut waiting = self.waiting.subscribe();
        let empty = waiting.wait_for(|waiting| *waiting == 0);
        if tokio::time::timeout(patience, empty).await.is_err() {
            tracing::warn!("Events are left that were not posted in time");
        }
    }
}

#[derive(Clone)]
struct Poster {
    waiting: watch::Sender<usize>,
    losses: Losses,
}

impl Poster {
    /// The name is the Event's own, so that a try whose answer was lost makes no second one.
    async fn post(&self, client: &Client, untold: Untold) {
        let Untold { event, claim } = untold;
        let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(client.clone(), namespace);
        let params =
            PostParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let mut pauses = PAUSES.iter();
        loop {
            let call = tokio::time::timeout(CALL, api.create(&params, &event));
            let answer = match &claim {
                // Whoever leads now tells of what it does itself.
                Some(claim) if !claim.holds() => return,
                Some(claim) => claim.cover(call).await,
                None => call.await,
            };
            let why = match answer {
                Ok(Ok(_)) => return,
                Ok(Err(error)) if is_already_exists(&error) => return,
                Ok(Err(error)) if class(&error) == Class::Permanent => {
                    return self.losses.tell(&words(&error));
                }
                Ok(Err(error)) => words(&error),
                Err(_late) => format!("no answer within {} s", CALL.as_secs()),
            };
            let Some(pause) = pauses.next() else { return self.losses.tell(&why) };
            tokio::time::sleep(spread(Duration::from_secs(*pause))).await;
        }
    }
}

impl Losses {
    fn tell(&self, why: &str) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_some_and(|(known, at)| known == why && at.elapsed() < TOLD_AGAIN) {
            tracing::debug!(why, "Event not recorded, as before");
            return;
        }
        tracing::warn!(why, "Event not recorded; the status of the object says the same");
        #[expect(
            clippy::disallowed_methods,
            reason = "bounds what the log repeats; no decision depends on it"
        )]
        let now = Instant::now();
        *last = Some((why.to_owned(), now));
    }
}
