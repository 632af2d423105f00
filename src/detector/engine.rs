//! The thread that listens, walks and asks.
//!
//! One thread for both sources: what the kernel says is looked at where it arrives, and the event that proves our hearing is
//! caused by the thread that hears it. Subscribed first and walked then, so that nothing slips between.

use std::io::{PipeReader, Read};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::mpsc::Sender;

use super::ears::{Ears, Opener};
use super::health::{Count, FallbackReason, Health, Source};
use super::lookout::Lookout;
use super::process::Judge;
use super::procfs::Proc;
use super::walk::Walk;
use super::wire::{Heard, Said};
use super::{DetectorError, Event, Kind, Monitor, Options, Order};

/// The longest time from one try to come back to netlink to the next.
const LONGEST_RETURN: Duration = Duration::from_secs(300);
/// A walk takes at most this part of the time.
const WALK_SHARE: u32 = 5;
/// At least this lies between a walk and one that a loss asks for.
const LOSS_PAUSE: Duration = Duration::from_secs(1);
/// The longest wait for anything: whoever watches over this thread can tell waiting from being stuck.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Events looked at before orders and timers have their turn.
const BATCH: usize = 512;

/// What is known of the sources, and when they were last proven to work.
#[derive(Debug)]
pub(super) struct State {
    health: Health,
    proof: Option<Instant>,
    told: Option<(Option<Source>, Option<FallbackReason>, bool)>,
}

impl State {
    pub(super) fn new() -> Self {
        let health = Health {
            source: None,
            fallback: None,
            blind: false,
            proof_age: None,
            processes: 0,
            walk_time: Duration::ZERO,
        };
        Self { health, proof: None, told: None }
    }

    /// How the detectors fare now.
    pub(super) fn now(&self) -> Health {
        let proof_age = self.proof.map(|proof| now().saturating_duration_since(proof));
        Health { proof_age, ..self.health.clone() }
    }
}

/// What the thread shares with its handle.
pub(super) struct Shared<J: Judge> {
    pub(super) events: Sender<Event<J::Found>>,
    pub(super) orders: Receiver<Order<J>>,
    pub(super) wake: PipeReader,
    pub(super) monitor: Monitor,
}

pub(super) struct Engine<J: Judge> {
    options: Options,
    proc: Proc,
    walk: Walk,
    opener: Opener,
    ears: Option<Box<dyn Ears>>,
    lookout: Lookout<J>,
    orders: Receiver<Order<J>>,
    wake: PipeReader,
    state: Arc<Mutex<State>>,
    turns: Arc<AtomicU64>,
    /// Whoever ordered a look at everything is to be told of its end.
    owes_look: bool,
    next_walk: Instant,
    is_thorough: bool,
    last_walk: Instant,
    next_beat: Instant,
    /// When to try netlink again, and how long to wait after that.
    next_return: Option<(Instant, Duration)>,
}

#[expect(clippy::disallowed_methods, reason = "the detectors are an edge: they are all about when")]
pub(super) fn now() -> Instant {
    Instant::now()
}

impl<J: Judge> Engine<J> {
    /// Opens the sources, on the thread that is to run them.
    pub(super) fn open(options: Options, opener: Opener, shared: Shared<J>) -> Result<Self, DetectorError> {
        let proc = Proc::open(&options.proc_root)?;
        let walk = Walk::new(&proc).map_err(|errno| DetectorError::ProcRoot {
            path: options.proc_root.clone(),
            source: errno.into(),
        })?;
        let begin = now();
        let mut engine = Self {
            lookout: Lookout::new(shared.events, shared.monitor.counters),
            orders: shared.orders,
            wake: shared.wake,
            state: shared.monitor.state,
            turns: shared.monitor.turns,
            owes_look: false,
            opener,
            ears: None,
            next_walk: begin,
            is_thorough: true,
            last_walk: begin,
            next_beat: begin,
            next_return: None,
            options,
            proc,
            walk,
        };
        match engine.options.kind {
            Kind::Poll => engine.become_known(Some(Source::Poll), None),
            Kind::Auto | Kind::Netlink => engine.listen().or_else(|reason| {
                if engine.options.kind == Kind::Netlink {
                    return Err(DetectorError::Netlink(reason));
                }
                engine.give_up(reason);
                Ok(())
            })?,
        }
        Ok(engine)
    }

    /// Until the handle is gone.
    pub(super) fn run(mut self) {
        while !self.lookout.is_over {
            self.turns.fetch_add(1, Ordering::Relaxed);
            if !self.wait() || !self.obey() {
                return;
            }
            self.timers();
            self.hear();
        }
    }

    /// Until there is something to do; false when the handle is gone.
    fn wait(&mut self) -> bool {
        let returns = self.next_return.map(|(at, _)| at);
        let beat = self.ears.as_ref().map(|_| self.next_beat);
        let due = [Some(self.next_walk), returns, beat, self.lookout.next()].into_iter().flatten().min();
        let more = self.ears.as_ref().is_some_and(|ears| ears.has_more());
        let due = due.filter(|_| !more);
        let left = due.map_or(Duration::ZERO, |due| due.saturating_duration_since(now())).min(LONGEST_WAIT);
        // Rounded up, lest the last millisecond be spent awake.
        let millis = i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
        let mut fds = vec![PollFd::new(self.wake.as_fd(), PollFlags::POLLIN)];
        fds.extend(self.ears.as_ref().map(|ears| PollFd::new(ears.fd(), PollFlags::POLLIN)));
        // An interrupted wait is a short one.
        if poll(&mut fds, PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)).is_err() {
            return true;
        }
        let called = fds.first().and_then(PollFd::revents).is_some_and(|events| !events.is_empty());
        !called || self.wake.read(&mut [0; 64]).is_ok_and(|count| count > 0)
    }

    /// False when the handle is gone.
    fn obey(&mut self) -> bool {
        loop {
            match self.orders.try_recv() {
                Ok(Order::Judge(judge, poll_interval)) => {
                    self.lookout.judge = judge;
                    self.options.poll_interval = poll_interval;
                    self.all_anew();
                }
                Ok(Order::Everything) => self.all_anew(),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn all_anew(&mut self) {
        self.walk.forget();
        self.lookout.forget();
        self.next_walk = now();
        self.owes_look = true;
    }

    fn hear(&mut self) {
        for _ in 0..BATCH {
            let Some(heard) = self.ears.as_mut().and_then(|ears| ears.hear()) else { return };
            let counters = Arc::clone(&self.lookout.counters);
            match heard {
                Heard::Said(Said::Exec { pid, at }) => {
                    counters.add(Count::Exec);
                    self.lookout.spoken_of(&self.proc, pid, at, now());
                }
                // Names of threads other than the first are not names of processes.
                Heard::Said(Said::Comm { thread, pid, at, .. }) if thread == pid => {
                    counters.add(Count::Rename);
                    self.lookout.spoken_of(&self.proc, pid, at, now());
                }
                Heard::Said(_) => counters.add(Count::Other),
                Heard::Foreign => counters.add(Count::Foreign),
                Heard::Lost => {
                    counters.add(Count::Lost);
                    self.is_thorough = true;
                    self.next_walk = self.next_walk.min(self.last_walk + LOSS_PAUSE);
                }
            }
            if self.lookout.is_over {
                return;
            }
        }
    }

    fn timers(&mut self) {
        let now = now();
        if self.ears.is_some() && self.next_beat <= now {
            self.prove();
        }
        if self.next_return.is_some_and(|(at, _)| at <= now) {
            self.come_back();
        }
        if self.lookout.next().is_some_and(|at| at <= now) {
            self.lookout.come_of_age(&self.proc, self.source(), now);
        }
        if self.next_walk <= now {
            self.walk();
        }
    }

    fn source(&self) -> Source {
        if self.ears.is_some() { Source::Netlink } else { Source::Poll }
    }

    /// Causes an event and hears it; or a fresh socket does; or netlink is given up.
    fn prove(&mut self) {
        self.next_beat = now() + self.options.heartbeat_interval;
        if self.ears.as_mut().is_some_and(|ears| ears.beat()) {
            self.lookout.counters.add(Count::Heartbeat);
            self.proven();
            return;
        }
        self.lookout.counters.add(Count::Deaf);
        self.ears = None;
        if let Err(reason) = self.listen() {
            self.give_up(reason);
        }
    }

    /// Opens the connector; what it may have missed until now is walked for.
    fn listen(&mut self) -> Result<(), FallbackReason> {
        self.ears = Some((self.opener)(self.options.receive_buffer)?);
        self.lookout.counters.add(Count::Heartbeat);
        // Counted before it is told: whoever hears of it may look.
        if self.next_return.is_some() {
            self.lookout.counters.add(Count::Return);
        }
        self.next_beat = now() + self.options.heartbeat_interval;
        (self.next_return, self.next_walk, self.is_thorough) = (None, now(), true);
        self.proven();
        self.become_known(Some(Source::Netlink), None);
        Ok(())
    }

    fn give_up(&mut self, reason: FallbackReason) {
        self.ears = None;
        let wait = self.options.return_after;
        self.next_return = Some((now() + wait, wait));
        self.next_walk = now();
        self.lookout.counters.add(Count::Fallback);
        tracing::warn!(
            reason = reason.word(),
            advice = reason.advice(),
            "the netlink detector does not hear"
        );
        let source = (self.options.kind == Kind::Auto).then_some(Source::Poll);
        self.become_known(source, Some(reason));
    }

    fn come_back(&mut self) {
        match self.listen() {
            Ok(()) => tracing::info!("the netlink detector hears again"),
            Err(reason) => {
                let wait = self.next_return.map_or(LONGEST_RETURN, |(_, wait)| wait * 2).min(LONGEST_RETURN);
                self.next_return = Some((now() + wait, wait));
                let source = self.with_state(|state| state.health.source);
                self.become_known(source, Some(reason));
            }
        }
    }

    fn walk(&mut self) {
        let (begin, source) = (now(), self.source());
        let thorough = std::mem::take(&mut self.is_thorough);
        let lookout = &mut self.lookout;
        if std::mem::take(&mut lookout.is_crowded) {
            self.walk.forget();
        }
        let walked = self.walk.walk(&self.proc, thorough, |live| lookout.consider(live, source, None, begin));
        let end = now();
        let took = end - begin;
        // Without ears this is how news comes; without a judge there is none to come.
        let interval = if self.ears.is_none() && self.lookout.judge.is_some() {
            self.options.poll_interval.max(took * WALK_SHARE)
        } else {
            self.options.safety_interval.max(took * WALK_SHARE)
        };
        (self.last_walk, self.next_walk) = (end, begin + interval);
        match walked {
            Ok(processes) => self.walked(processes, took),
            Err(error) => {
                tracing::warn!(%error, "processes cannot be listed");
                let fallback = self.with_state(|state| state.health.fallback);
                let source = self.ears.as_ref().map(|_| Source::Netlink);
                self.become_known(source, fallback);
            }
        }
    }

    fn walked(&mut self, processes: usize, took: Duration) {
        self.lookout.counters.add(Count::Walk);
        let walk = &self.walk;
        self.lookout.keep(|pid| walk.knows(pid));
        let others = processes > usize::from(self.walk.knows(self.proc.own()));
        let fallback = self.with_state(|state| {
            (state.health.processes, state.health.walk_time) = (processes, took);
            state.health.blind = !others;
            state.health.fallback
        });
        if self.ears.is_none() {
            self.proven();
        }
        let works = self.ears.is_some() || self.options.kind != Kind::Netlink;
        self.become_known(works.then(|| self.source()), fallback);
        if std::mem::take(&mut self.owes_look) {
            self.lookout.send(Event::Looked);
        }
    }

    fn proven(&mut self) {
        self.with_state(|state| state.proof = Some(now()));
    }

    /// Tells of a change, if it is one.
    fn become_known(&mut self, source: Option<Source>, fallback: Option<FallbackReason>) {
        let told = self.with_state(|state| {
            (state.health.source, state.health.fallback) = (source, fallback);
            let now = (source, fallback, state.health.blind);
            (state.told.replace(now) != Some(now)).then(|| state.now())
        });
        if let Some(health) = told {
            self.lookout.send(Event::Health(health));
        }
    }

    fn with_state<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        with(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
