//! Tasks that are joined, signals, ordered shutdown.
//!
//! No task is detached: the end of any of them, wanted or not, ends the process, so that nothing can be half alive.

use std::borrow::Cow;
use std::future::Future;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;

use crate::telemetry::health::Health;

/// Between the first signal and the end: what is in flight may finish or is abandoned.
pub const SHUTDOWN: Duration = Duration::from_secs(5);

/// What outlives the others at the end, to let go what others wait for, may take so long.
pub const LETTING_GO: Duration = Duration::from_secs(2);

/// Everything that runs beside `main`. Each task shows that it is polled.
pub struct Tasks {
    set: JoinSet<Cow<'static, str>>,
    /// These go on until all others have ended.
    lasting: JoinSet<Cow<'static, str>>,
    health: Health,
}

/// A task that should have run for ever did not.
#[derive(Debug, thiserror::Error)]
pub enum TaskEnd {
    /// It came back.
    #[error("the task {0:?} ended; a controller that is only half alive is worse than one that restarts")]
    Ended(String),
    /// It panicked.
    #[error("a task panicked: {0}")]
    Panicked(String),
}

impl Tasks {
    /// None yet.
    pub fn new(health: Health) -> Self {
        Self { set: JoinSet::new(), lasting: JoinSet::new(), health }
    }

    /// Adds a task that is to run until shutdown.
    pub fn spawn(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let name = name.into();
        self.set.spawn(watched(&self.health, name, task));
    }

    /// Adds one that is to run until all others have ended.
    pub fn spawn_lasting(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let name = name.into();
        self.lasting.spawn(watched(&self.health, name, task));
    }

    /// Waits for the first end of any task.
    pub async fn first_end(&mut self) -> TaskEnd {
        let end = tokio::select! {
            Some(end) = self.set.join_next() => end,
            Some(end) = self.lasting.join_next() => end,
            else => return TaskEnd::Ended("all".to_owned()),
        };
        match end {
            Ok(name) => TaskEnd::Ended(name.into_owned()),
            Err(error) => TaskEnd::Panicked(error.to_string()),
        }
    }

    /// Waits until the task of that name has ended, at most [`SHUTDOWN`]; then stops all others, and when nothing is done
    /// any more tells those that last, by `all_ended`, and waits for them, at most [`LETTING_GO`].
    pub async fn wind_down(mut self, last: &str, all_ended: impl FnOnce()) {
        let ended = async {
            while let Some(end) = self.set.join_next().await {
                if end.is_ok_and(|name| name == last) {
                    break;
                }
            }
        };
        if tokio::time::timeout(SHUTDOWN, ended).await.is_err() {
            tracing::warn!(seconds = SHUTDOWN.as_secs(), "abandoned what was still in flight");
        }
        self.set.shutdown().await;
        all_ended();
        let let_go = async { while self.lasting.join_next().await.is_some() {} };
        if tokio::time::timeout(LETTING_GO, let_go).await.is_err() {
            tracing::warn!(seconds = LETTING_GO.as_secs(), "not everything could be let go");
        }
        self.lasting.shutdown().await;
    }
}

fn watched(
    health: &Health,
    name: Cow<'static, str>,
    task: impl Future<Output = ()> + Send + 'static,
) -> impl Future<Output = Cow<'static, str>> + Send + 'static {
    let watched = health.clone().watched(name.clone(), task);
    async move {
        watched.await;
        name
    }
}

/// SIGTERM and SIGINT, from when it was made on: none is lost between two waits.
pub struct StopSignals {
    term: Signal,
    int: Signal,
}

impl StopSignals {
    /// Takes both over. As the first process of a container, which ignores what it does not handle, one is deaf before.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    /// The next of them.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}
