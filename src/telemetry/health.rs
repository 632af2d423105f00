//! Whether the process is alive and ready, as others see it.
//!
//! Alive: every task ticks, and no pass lasts for ever. Never whether somebody else answers: a restart would mend nothing.
//! Ready: what the role waits for is there, and what it lives by answers.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};

/// A name for people.
pub type Name = Cow<'static, str>;
/// Says what is wrong, if something is.
type Check = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// How often a task shows that it is polled.
const TICK: Duration = Duration::from_secs(2);
/// A task that shows nothing for this long is stuck: on a machine that is overcommitted ticks come late, not this late.
const STUCK: Duration = Duration::from_secs(30);

/// Health of this process; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Inner>);

#[derive(Default)]
struct Inner {
    pulses: Mutex<Pulses>,
    checks: Mutex<Vec<(Name, Check)>>,
}

#[derive(Default)]
struct Pulses {
    next: u64,
    known: BTreeMap<u64, Known>,
}

struct Known {
    name: Name,
    limit: Duration,
    last: Instant,
}

/// Something that must not stand still: until this is dropped it has to beat.
#[derive(Debug)]
pub struct Pulse {
    health: Health,
    id: u64,
}

/// Something that stands still, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// Of the task or the pass.
    pub name: String,
    /// Since its last sign.
    pub age: Duration,
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: no sign of life for {} s", self.name, self.age.as_secs())
    }
}

impl Health {
    /// From now on this has to beat within every `limit`.
    pub fn pulse(&self, name: impl Into<Name>, limit: Duration) -> Pulse {
        let mut pulses = self.pulses();
        let id = pulses.next;
        pulses.next += 1;
        pulses.known.insert(id, Known { name: name.into(), limit, last: now() });
        Pulse { health: self.clone(), id }
    }

    /// A task that shows that it is polled. What blocks its thread inside the task, or the whole runtime, stops that;
    /// waiting does not.
    pub async fn watched<T>(self, name: impl Into<Name>, task: impl Future<Output = T>) -> T {
        self.watched_closely(name, task, TICK, STUCK).await
    }

    /// The same with other times.
    pub async fn watched_closely<T>(
        self,
        name: impl Into<Name>,
        task: impl Future<Output = T>,
        tick: Duration,
        limit: Duration,
    ) -> T {
        let pulse = self.pulse(name, limit);
        let mut task = pin!(task);
        let mut ticks = interval(tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                output = &mut task => return output,
                _ = ticks.tick() => pulse.beat(),
            }
        }
    }

    /// Ready only while this is so. Asked at each look, so it has to answer at once.
    pub fn needs(
        &self,
        name: impl Into<Name>,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) {
        self.checks().push((name.into(), Box::new(check)));
    }

    /// Ready only once this has come; until then `why` is told.
    pub fn awaits(&self, name: impl Into<Name>, why: &'static str) -> Awaited {
        let awaited = Awaited::default();
        let came = awaited.clone();
        self.needs(name, move || if came.0.load(Ordering::Relaxed) { Ok(()) } else { Err(why.to_owned()) });
        awaited
    }

    /// What stands still.
    pub fn stuck(&self) -> Vec<Stuck> {
        let now = now();
        let age = |known: &Known| now.saturating_duration_since(known.last);
        let pulses = self.pulses();
        let late = pulses.known.values().filter(|known| age(known) > known.limit);
        late.map(|known| Stuck { name: known.name.to_string(), age: age(known) }).collect()
    }

    /// What is missing, with its name, to be ready.
    pub fn missing(&self) -> Vec<String> {
        let checks = self.checks();
        let failed = |(name, check): &(Name, Check)| check().err().map(|why| format!("{name}: {why}"));
        checks.iter().filter_map(failed).collect()
    }

    fn pulses(&self) -> MutexGuard<'_, Pulses> {
        self.0.pulses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn checks(&self) -> MutexGuard<'_, Vec<(Name, Check)>> {
        self.0.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something that has to come once.
#[derive(Clone, Debug, Default)]
pub struct Awaited(Arc<AtomicBool>);

impl Awaited {
    /// It is there.
    pub fn came(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Pulse {
    /// A sign of life.
    pub fn beat(&self) {
        if let Some(known) = self.health.pulses().known.get_mut(&self.id) {
            known.last = now();
        }
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.health.pulses().known.remove(&self.id);
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").finish_non_exhaustive()
    }
}

#[expect(clippy::disallowed_methods, reason = "measures standstill; no decision depends on it")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    const SOON: Duration = Duration::from_millis(300);

    fn names(stuck: &[Stuck]) -> Vec<&str> {
        stuck.iter().map(|stuck| stuck.name.as_str()).collect()
    }

    /// Looks until it is so; a deadline, not a wait.
    fn until(what: &str, is_so: impl Fn() -> bool) {
        let began = now();
        while !is_so() {
            assert!(began.elapsed() < Duration::from_secs(30), "{what}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_task_that_blocks_its_thread_is_named_and_one_that_waits_is_not() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let health = Health::default();
        let (release, blocked) = mpsc::channel::<()>();
        let watched = |name: &'static str| {
            let health = health.clone();
            move |task| health.watched_closely(name, task, SOON / 10, SOON)
        };
        let waits: std::pin::Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(pending());
        runtime.spawn(watched("waits")(waits));
        let blocks: std::pin::Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
            blocked.recv().unwrap();
            pending::<()>().await;
        });
        runtime.spawn(watched("blocks")(blocks));
        until("the blocked one is seen", || names(&health.stuck()) == ["blocks"]);
        release.send(()).unwrap();
        until("it goes on", || health.stuck().is_empty());
        runtime.shutdown_background();
    }

    #[test]
    fn what_has_ended_is_not_stuck() {
        let health = Health::default();
        let pulse = health.pulse("pass over lab/ws-1", Duration::ZERO);
        thread::sleep(Duration::from_millis(2));
        assert_eq!(names(&health.stuck()), ["pass over lab/ws-1"]);
        drop(pulse);
        assert_eq!(health.stuck(), []);
    }

    #[test]
    fn it_is_ready_when_nothing_is_missing() {
        let health = Health::default();
        health.needs("caches", || Err("not complete".to_owned()));
        health.needs("API server", || Ok(()));
        assert_eq!(health.missing(), ["caches: not complete"]);
    }
}
