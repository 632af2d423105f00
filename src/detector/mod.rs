//! Sees the owner's programs start. Knows processes and the kernel, and nothing of Kubernetes.
//!
//! Two sources, one stream of events: the kernel's proc connector, which says at once what starts, and walks over the
//! proc file system, which need nothing and miss what is short. Which processes are of interest a [`Judge`] says; both
//! sources ask the same one, so what is found does not depend on who looked.

mod cgroup;
#[cfg(target_os = "linux")]
mod connector;
mod ears;
mod engine;
mod health;
mod lookout;
mod process;
mod procfs;
mod stat;
mod walk;
mod wire;

use std::io::{PipeWriter, Write};
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;

use self::engine::{Engine, Shared, State};
pub use self::health::{Count, Counters, FallbackReason, Health, Source};
pub use self::process::{Judge, Process, Verdict};

/// Events that may wait to be taken; then the detectors wait too.
const BACKLOG: usize = 1024;

/// Which source to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Netlink where it hears; else poll, with the reason, and a try to come back every now and then.
    #[default]
    Auto,
    /// Netlink or nothing.
    Netlink,
    /// Poll.
    Poll,
}

/// Not a kind of detector.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no detector: auto, netlink or poll")]
pub struct NoKind(String);

impl std::str::FromStr for Kind {
    type Err = NoKind;

    fn from_str(word: &str) -> Result<Self, NoKind> {
        match word {
            "auto" => Ok(Self::Auto),
            "netlink" => Ok(Self::Netlink),
            "poll" => Ok(Self::Poll),
            other => Err(NoKind(other.to_owned())),
        }
    }
}

/// How to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Which source.
    pub kind: Kind,
    /// Where the proc file system of the host is mounted.
    pub proc_root: PathBuf,
    /// From walk to walk of the poll detector. Longer by itself where a walk takes a fifth of it.
    pub poll_interval: Duration,
    /// From walk to walk while netlink hears: what it might have missed after all.
    pub safety_interval: Duration,
    /// From one proof that netlink hears to the next.
    pub heartbeat_interval: Duration,
    /// From giving netlink up to the first try to come back; doubled with each, up to five minutes.
    pub return_after: Duration,
    /// Bytes of the kernel's memory for events that wait to be heard: 832 for each of them, and twice this is had.
    pub receive_buffer: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            kind: Kind::Auto,
            proc_root: PathBuf::from("/proc"),
            poll_interval: Duration::from_millis(250),
            safety_interval: Duration::from_secs(10),
            heartbeat_interval: Duration::from_secs(2),
            return_after: Duration::from_secs(10),
            // Five seconds of two thousand programs a second; the system's default would hold 256 events.
            receive_buffer: 4 * 1024 * 1024,
        }
    }
}

/// A process of interest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting<F> {
    /// Its number.
    pub pid: u32,
    /// What the judge said.
    pub found: F,
    /// The kernel's name of it; what is not UTF-8 replaced.
    pub name: String,
    /// Its arguments, blanks between them, at most 512 bytes; what is not UTF-8 replaced.
    pub command_line: String,
    /// Who runs it, where that could be read.
    pub owner: Option<u32>,
    /// Who saw it.
    pub source: Source,
    /// From the kernel's own stamp on the event to the verdict; `None` where a walk found it.
    pub delay: Option<Duration>,
}

/// What the detectors have to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<F> {
    /// A process of interest is there. Once per process and verdict, until everything is asked for again.
    Found(Sighting<F>),
    /// The source, the reason for it, or whether anything can be seen has changed.
    Health(Health),
    /// Everything that runs has been looked at since that was last ordered, and what was found has been told.
    Looked,
}

/// Why the detectors could not begin, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum DetectorError {
    /// The proc file system cannot be read.
    #[error("processes cannot be listed in {path}: {source}")]
    ProcRoot {
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Netlink was asked for and does not hear.
    #[error("the netlink detector hears nothing ({0}): {advice}; or choose the detector auto or poll", advice = .0.advice())]
    Netlink(FallbackReason),
    /// The system refused a thread or a pipe.
    #[error("the detector could not be started: {0}")]
    Start(#[source] std::io::Error),
}

/// What is asked of the running detectors.
enum Order<J> {
    /// Judge by this from now on, and look at everything that runs; `None`: look at nothing.
    Judge(Option<Arc<J>>, Duration),
    /// Look at everything that runs and report it, known or not.
    Everything,
}

/// Running detectors. They end when this is dropped.
pub struct Detector<J: Judge> {
    events: mpsc::Receiver<Event<J::Found>>,
    orders: std::sync::mpsc::Sender<Order<J>>,
    /// Its end wakes the thread for the last time.
    wake: Option<PipeWriter>,
    monitor: Monitor,
    thread: Option<JoinHandle<()>>,
}

/// Looks at running detectors from anywhere; of such as have ended it shows the last.
#[derive(Clone, Debug)]
pub struct Monitor {
    state: Arc<Mutex<State>>,
    counters: Arc<Counters>,
    turns: Arc<AtomicU64>,
}

impl Monitor {
    fn new() -> Self {
        Self { state: Arc::new(Mutex::new(State::new())), counters: Arc::default(), turns: Arc::default() }
    }

    /// How the detectors fare now.
    pub fn health(&self) -> Health {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).now()
    }

    /// What was counted since the start.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Grows at least every five seconds for as long as the detectors' thread is not stuck.
    pub fn turns(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.turns)
    }
}

impl<J: Judge> Detector<J> {
    /// Opens the sources and begins to listen; nothing is of interest until [`Self::look_for`] says what is.
    ///
    /// Returns once the source is known: within milliseconds, and before the first walk. The first event is the health.
    ///
    /// # Errors
    /// Processes cannot be listed, or netlink alone was asked for and does not hear.
    pub fn start(options: Options) -> Result<Self, DetectorError> {
        #[cfg(target_os = "linux")]
        let opener = connector::Connector::open;
        #[cfg(not(target_os = "linux"))]
        let opener = ears::none;
        Self::start_with(options, opener)
    }

    fn start_with(options: Options, opener: ears::Opener) -> Result<Self, DetectorError> {
        let (events, taken) = mpsc::channel(BACKLOG);
        let (orders, obeyed) = std::sync::mpsc::channel();
        let (woken, wake) = std::io::pipe().map_err(DetectorError::Start)?;
        let monitor = Monitor::new();
        let shared = Shared { events, orders: obeyed, wake: woken, monitor: monitor.clone() };
        let (ready, outcome) = std::sync::mpsc::sync_channel(1);
        let run = move || match Engine::open(options, opener, shared) {
            Ok(engine) => {
                // Somebody waits for it: the next line but three.
                ready.send(Ok(())).ok();
                engine.run();
            }
            Err(error) => drop(ready.send(Err(error))),
        };
        let thread = std::thread::Builder::new().name("5spot-detector".to_owned()).spawn(run);
        let thread = Some(thread.map_err(DetectorError::Start)?);
        let ended = || DetectorError::Start(std::io::Error::other("its thread ended at once"));
        outcome.recv().map_err(|_| ended())??;
        Ok(Self { events: taken, orders, wake: Some(wake), monitor, thread })
    }

    /// The next event; `None` when the detectors have ended. Keep reading: they wait when nobody does.
    ///
    /// Safe to drop half way.
    pub async fn next(&mut self) -> Option<Event<J::Found>> {
        self.events.recv().await
    }

    /// Changes what is looked for. Everything that runs is looked at anew, and what is of interest is reported even if
    /// it was before. `None` looks for nothing.
    pub fn look_for(&self, judge: Option<Arc<J>>, poll_interval: Duration) {
        self.order(Order::Judge(judge, poll_interval));
    }

    /// Looks at everything that runs, and reports what is of interest even if it was before.
    pub fn look_again(&self) {
        self.order(Order::Everything);
    }

    /// How the detectors fare now.
    pub fn health(&self) -> Health {
        self.monitor.health()
    }

    /// What was counted since the start.
    pub fn counters(&self) -> Arc<Counters> {
        self.monitor.counters()
    }

    /// For whoever looks on while somebody else takes the events.
    pub fn monitor(&self) -> Monitor {
        self.monitor.clone()
    }

    fn order(&self, order: Order<J>) {
        // Detectors that have ended say so by the end of their events.
        if self.orders.send(order).is_ok()
            && let Some(wake) = &mut self.wake.as_ref()
        {
            wake.write_all(&[1]).ok();
        }
    }
}

impl<J: Judge> Drop for Detector<J> {
    fn drop(&mut self) {
        // A thread that waits for its events to be taken, and one that waits for news: both go on, and end.
        self.events.close();
        while self.events.try_recv().is_ok() {}
        self.wake = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the detector's thread ended by a fault of its own");
        }
    }
}

#[cfg(test)]
impl<J: Judge> Detector<J> {
    /// A detector that a test plays.
    pub(crate) fn scripted() -> (mpsc::Sender<Event<J::Found>>, Self) {
        let (script, events) = mpsc::channel(16);
        let (orders, _) = std::sync::mpsc::channel();
        (script, Self { events, orders, wake: None, monitor: Monitor::new(), thread: None })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, PipeWriter};
    use std::os::fd::{AsFd, BorrowedFd};
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::agent::rules;

    /// Ears that hear while the test says so, and cannot be had again while it does not.
    struct Played {
        silent: PipeReader,
        _open: PipeWriter,
    }

    static HEARS: AtomicBool = AtomicBool::new(true);

    impl ears::Ears for Played {
        fn fd(&self) -> BorrowedFd<'_> {
            self.silent.as_fd()
        }
        fn hear(&mut self) -> Option<wire::Heard> {
            None
        }
        fn has_more(&self) -> bool {
            false
        }
        fn beat(&mut self) -> bool {
            HEARS.load(Ordering::SeqCst)
        }
    }

    fn played(_: usize) -> Result<Box<dyn ears::Ears>, FallbackReason> {
        if !HEARS.load(Ordering::SeqCst) {
            return Err(FallbackReason::Deaf);
        }
        let (silent, open) = std::io::pipe().unwrap();
        Ok(Box::new(Played { silent, _open: open }))
    }

    async fn source(detector: &mut Detector<rules::Rules>) -> (Option<Source>, Option<FallbackReason>) {
        loop {
            if let Some(Event::Health(health)) = detector.next().await {
                return (health.source, health.fallback);
            }
        }
    }

    #[tokio::test]
    async fn who_goes_deaf_is_given_up_for_polling_and_comes_back() {
        let quick = Duration::from_millis(5);
        let options = Options { heartbeat_interval: quick, return_after: quick, ..Options::default() };
        let mut detector = Detector::start_with(options.clone(), played).unwrap();
        assert_eq!(source(&mut detector).await, (Some(Source::Netlink), None));
        HEARS.store(false, Ordering::SeqCst);
        assert_eq!(source(&mut detector).await, (Some(Source::Poll), Some(FallbackReason::Deaf)));
        let alone = Options { kind: Kind::Netlink, ..options };
        let refused = Detector::<rules::Rules>::start_with(alone.clone(), played).err().unwrap();
        assert!(matches!(refused, DetectorError::Netlink(FallbackReason::Deaf)), "{refused}");
        HEARS.store(true, Ordering::SeqCst);
        assert_eq!(source(&mut detector).await, (Some(Source::Netlink), None));
        let counts = [Count::Deaf, Count::Fallback, Count::Return].map(|count| detector.counters().of(count));
        assert_eq!(counts, [1, 1, 1]);
        // Who may use nothing else has no source until it hears again.
        let mut detector = Detector::start_with(alone, played).unwrap();
        assert_eq!(source(&mut detector).await, (Some(Source::Netlink), None));
        HEARS.store(false, Ordering::SeqCst);
        assert_eq!(source(&mut detector).await, (None, Some(FallbackReason::Deaf)));
        HEARS.store(true, Ordering::SeqCst);
        assert_eq!(source(&mut detector).await, (Some(Source::Netlink), None));
    }

    #[tokio::test]
    async fn events_come_in_order_and_end_with_the_detectors() {
        let (script, mut detector) = Detector::<rules::Rules>::scripted();
        let rules = rules::parse("match_commands = [\"java\"]").unwrap();
        detector.look_for(Some(Arc::new(rules)), rules::POLL_INTERVAL);
        let health = detector.health();
        script.send(Event::Health(health.clone())).await.unwrap();
        drop(script);
        assert_eq!(detector.next().await, Some(Event::Health(health)));
        assert_eq!(detector.next().await, None);
    }

    #[test]
    fn a_kind_is_one_of_three_words() {
        let kinds = ["auto", "netlink", "poll"].map(|word| word.parse::<Kind>().unwrap());
        assert_eq!(kinds, [Kind::Auto, Kind::Netlink, Kind::Poll]);
        let error = "Netlink".parse::<Kind>().unwrap_err();
        assert_eq!(error.to_string(), "\"Netlink\" is no detector: auto, netlink or poll");
    }
}
