//! Detectors as the agent runs them: on a thread that has given up all other capabilities.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fivespot::agent::rules::{self, Match, Rules};
use fivespot::detector::{Detector, DetectorError, Event, Health, Kind, Options, Sighting};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

/// How long anything may take on a machine that has other things to do.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What the agent is shipped with.
pub const SHIPPED: CapabilitySet = CapabilitySet::NET_ADMIN;

/// Options for tests: quicker than in service.
pub fn options(kind: Kind) -> Options {
    Options { kind, poll_interval: Duration::from_millis(50), ..Options::default() }
}

/// A detector that listens for what the rules say.
pub struct Listener {
    detector: Detector<Rules>,
    pub seen: Vec<Sighting<Match>>,
    pub healths: Vec<Health>,
    runtime: tokio::runtime::Runtime,
}

/// Opens a detector on a thread with no capabilities but these; its own thread inherits them.
pub fn start(options: Options, allowed: CapabilitySet) -> Result<Detector<Rules>, DetectorError> {
    let open = move || {
        confine(allowed);
        Detector::start(options)
    };
    std::thread::spawn(open).join().unwrap()
}

/// Leaves the calling thread with no more than these of the capabilities it has.
pub fn confine(allowed: CapabilitySet) {
    let has = rustix::thread::capabilities(None).unwrap();
    let kept = has.permitted & allowed;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).unwrap();
}

impl Listener {
    pub fn open(options: Options, text: &str) -> Self {
        Self::over(start(options, SHIPPED).unwrap(), text)
    }

    /// Netlink, or why there is none to test here.
    pub fn netlink(options: Options, text: &str) -> Option<Self> {
        match start(Options { kind: Kind::Netlink, ..options }, SHIPPED) {
            Ok(detector) => Some(Self::over(detector, text)),
            Err(error) => {
                skipped(&format!("the netlink detector: {error}"));
                None
            }
        }
    }

    pub fn over(detector: Detector<Rules>, text: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let listener = Self { detector, seen: Vec::new(), healths: Vec::new(), runtime };
        listener.look_for(text);
        listener
    }

    pub fn look_for(&self, text: &str) {
        let rules = rules::parse(text).unwrap();
        let interval = rules.poll_interval();
        self.detector.look_for(Some(Arc::new(rules)), interval);
    }

    pub fn detector(&self) -> &Detector<Rules> {
        &self.detector
    }

    /// Takes events until it holds of what was seen; panics with all of it after [`PATIENCE`].
    #[track_caller]
    pub fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            let in_time = self.take(deadline);
            assert!(in_time, "not seen in {PATIENCE:?}: {what}; seen {:#?}, {:?}", self.seen, self.healths);
        }
    }

    /// Takes one event; false at the deadline.
    pub fn take(&mut self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let next = async { tokio::time::timeout(left, self.detector.next()).await };
        match self.runtime.block_on(next) {
            Ok(Some(Event::Found(sighting))) if !is_anothers(sighting.pid) => self.seen.push(sighting),
            Ok(Some(Event::Found(_) | Event::Looked)) => {}
            Ok(Some(Event::Health(health))) => self.healths.push(health),
            Ok(None) => panic!("the detector has ended"),
            Err(_) => return false,
        }
        true
    }

    pub fn has_seen(&self, pid: u32) -> bool {
        self.seen.iter().any(|sighting| sighting.pid == pid)
    }

    /// Who matched what.
    pub fn matches(&self) -> BTreeSet<(u32, String)> {
        self.seen.iter().map(|sighting| (sighting.pid, sighting.found.rule.clone())).collect()
    }
}

/// Whether it was started by another run of these tests. Of one that has ended nobody knows.
fn is_anothers(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse::<u32>().ok());
    parent.is_some_and(|parent| parent != std::process::id())
}

pub use crate::skips::skipped;

/// Whether we are root with all that it takes; says so if not.
pub fn is_root(what: &str) -> bool {
    let root = rustix::thread::capabilities(None).unwrap().effective.contains(CapabilitySet::SYS_ADMIN);
    if !root {
        skipped(&format!("{what}: this needs root"));
    }
    root
}
