//! What the controller counts and measures: names, labels, and from where to where each goes.
//!
//! What a pass brought about reaches this as a [`Measure`], read off the status that it wrote: so it counts once, however
//! often the pass was tried, and a restart counts nothing twice.

use std::time::Instant;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;

use super::measure::{DrainEnd, Edge, EjectEnd, Fault, Measure, Path, Stage};
use super::{Buckets, Counters, Histograms, Registry, counter, counters, histogram, histograms};
use crate::api::condition::Phase;

/// A pass waits for calls: from one look at the caches to several calls that time out.
const PASS: Buckets =
    Buckets(&[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0]);
/// The predecessor's.
const EJECT: Buckets = Buckets(&[0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0]);
/// The promise is 100 ms; what is late may be so by an outage.
const LAG: Buckets =
    Buckets(&[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0]);
/// Hosts take their time to start, and graces and drains theirs.
const MINUTES: Buckets =
    Buckets(&[5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1200.0, 1800.0, 3600.0, 7200.0]);
/// An owner waits.
const RECLAIM: Buckets =
    Buckets(&[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0]);

/// The controller's metrics; clones are the same ones.
#[derive(Clone, Debug)]
pub struct ControllerMetrics {
    is_leader: Gauge,
    shards: Gauge,
    shards_held: Gauge,
    passes: Passes,
    leavings: Leavings,
    promises: Promises,
}

/// Passes, and what they met.
#[derive(Clone, Debug)]
struct Passes {
    ended: Counters<2>,
    duration: Histograms<1>,
    evaluations: Counters<1>,
    kill_switch: Counter,
    faults: Counters<1>,
}

/// Machines on their way out.
#[derive(Clone, Debug)]
struct Leavings {
    drains: Counters<1>,
    evictions: Counters<1>,
    finalizer_timeouts: Counter,
    ejects: Histograms<1>,
    reclaims: Counter,
    rapid_reclaims: Counter,
}

/// What was promised, against what happened.
#[derive(Clone, Debug)]
struct Promises {
    edge_lag: Histograms<1>,
    ready: Histogram,
    hand_back: Histograms<1>,
    reclaim_stage: Histograms<1>,
}

/// What became of an eviction that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// The server took it.
    Accepted,
    /// A budget allows none now.
    Refused,
    /// Anything else, or no answer.
    Failed,
}

impl Eviction {
    const ALL: [Self; 3] = [Self::Accepted, Self::Refused, Self::Failed];

    const fn word(self) -> &'static str {
        match self {
            Self::Accepted => "success",
            Self::Refused => "refused",
            Self::Failed => "failure",
        }
    }
}

/// A pass that is under way. One that is abandoned at the end of the process counts nowhere.
#[derive(Debug)]
pub struct PassTimer {
    metrics: ControllerMetrics,
    phase: Phase,
    began: Instant,
}

impl ControllerMetrics {
    /// All of them, at zero, and `fivespot_controller_info` of this instance. What is counted from the caches at each
    /// scrape is registered by whoever has them.
    pub fn register(registry: &mut Registry, version: &'static str, instance_id: &str) -> Self {
        let info = vec![("version", version.to_owned()), ("instance_id", instance_id.to_owned())];
        registry.register(
            "fivespot_controller",
            "Always 1; the version, and which instance",
            Info::new(info),
        );
        let is_leader = Gauge::default();
        let help = "1 while this replica may act, on whatever share of the objects; always 1 without leader election";
        registry.register("fivespot_is_leader", help, is_leader.clone());
        let (shards, shards_held) = (Gauge::default(), Gauge::default());
        let help = "Into how many parts all objects are shared out; 1 where one replica acts on all";
        registry.register("fivespot_shards", help, shards.clone());
        let help = "On how many of them this replica acts now";
        registry.register("fivespot_shards_held", help, shards_held.clone());
        Self {
            is_leader,
            shards,
            shards_held,
            passes: Passes::register(registry),
            leavings: Leavings::register(registry),
            promises: Promises::register(registry),
        }
    }

    /// On how many of how many shards this replica may act; on one of them at least, it leads.
    pub fn set_shards(&self, held: usize, of: usize) {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.is_leader.set((held > 0).into());
        self.shards.set(number(of));
        self.shards_held.set(number(held));
    }

    /// A pass begins, in that phase of its object.
    pub fn begin(&self, phase: Phase) -> PassTimer {
        #[expect(clippy::disallowed_methods, reason = "measures a pass; no decision depends on it")]
        let began = Instant::now();
        PassTimer { metrics: self.clone(), phase, began }
    }

    /// A timetable was read.
    pub fn evaluated(&self, is_active: bool) {
        let result = if is_active { "active" } else { "inactive" };
        self.passes.evaluations.get_or_create(&[("result", result)]).inc();
    }

    /// An eviction was answered, or given up.
    pub fn evicted(&self, outcome: Eviction) {
        self.leavings.evictions.get_or_create(&[("result", outcome.word())]).inc();
    }

    /// Something was brought about.
    pub fn count(&self, measure: Measure) {
        let Self { passes, leavings, promises, .. } = self;
        match measure {
            Measure::KillSwitch => _ = passes.kill_switch.inc(),
            Measure::Fault(fault) => _ = passes.faults.get_or_create(&[("error_type", fault.word())]).inc(),
            Measure::Drain(end) => _ = leavings.drains.get_or_create(&[("result", end.word())]).inc(),
            Measure::FinalizerTimeout => _ = leavings.finalizer_timeouts.inc(),
            Measure::Eject(end, took) => {
                leavings.ejects.get_or_create(&[("outcome", end.word())]).observe(took);
            }
            Measure::Reclaim => _ = leavings.reclaims.inc(),
            Measure::RapidReclaim => _ = leavings.rapid_reclaims.inc(),
            Measure::EdgeLag(edge, lag) => {
                promises.edge_lag.get_or_create(&[("edge", edge.word())]).observe(lag);
            }
            Measure::Ready(took) => promises.ready.observe(took),
            Measure::HandBack(path, took) => {
                promises.hand_back.get_or_create(&[("path", path.word())]).observe(took);
            }
            Measure::ReclaimStage(stage, took) => {
                promises.reclaim_stage.get_or_create(&[("stage", stage.word())]).observe(took);
            }
        }
    }
}

impl PassTimer {
    /// It did what there was to do, or has to look again.
    pub fn ended(self) {
        self.count("success");
    }

    /// It could not.
    pub fn failed(self, fault: Fault) {
        self.count("failure");
        self.metrics.count(Measure::Fault(fault));
    }

    fn count(&self, result: &'static str) {
        let phase = ("phase", self.phase.name());
        let passes = &self.metrics.passes;
        passes.ended.get_or_create(&[phase, ("result", result)]).inc();
        passes.duration.get_or_create(&[phase]).observe(self.began.elapsed().as_secs_f64());
    }
}

impl Passes {
    fn register(registry: &mut Registry) -> Self {
        let phases = || Phase::ALL.into_iter().map(|phase| ("phase", phase.name()));
        let results = |phase| ["success", "failure"].map(|result: &'static str| [phase, ("result", result)]);
        Self {
            ended: counters(
                registry,
                "fivespot_reconciliations_total",
                "Passes over ScheduledMachines that ended, by the phase in which they began. One that has to look \
                 again, because what it had read was old, is no failure",
                phases().flat_map(results),
            ),
            duration: histograms(
                registry,
                "fivespot_reconciliation_duration_seconds",
                "From the start of a pass to its end, the wait for its calls included, by the phase in which it began",
                PASS,
                phases().map(|phase| [phase]),
            ),
            evaluations: counters(
                registry,
                "fivespot_schedule_evaluations_total",
                "Timetables that passes have read, by what windows and exceptions said at that instant",
                ["active", "inactive"].map(|result| [("result", result)]),
            ),
            kill_switch: counter(
                registry,
                "fivespot_kill_switch_activations_total",
                "Times that a kill switch began to rule an object",
            ),
            faults: counters(
                registry,
                "fivespot_errors_total",
                "Passes that failed, and faults that were found in specs and kubeconfigs, by what was wrong",
                Fault::ALL.map(|fault| [("error_type", fault.word())]),
            ),
        }
    }
}

impl Leavings {
    fn register(registry: &mut Registry) -> Self {
        Self {
            drains: counters(
                registry,
                "fivespot_node_drains_total",
                "Nodes that were emptied for a leaving, by how that ended: no pod left (success), its limit over \
                 before (timeout), overtaken by an eject (ejected)",
                DrainEnd::ALL.map(|end| [("result", end.word())]),
            ),
            evictions: counters(
                registry,
                "fivespot_pod_evictions_total",
                "Evictions asked for, by the answer: accepted (success), refused by a budget (refused), anything else \
                 or none (failure). One that was refused is asked for again, and counts again",
                Eviction::ALL.map(|outcome| [("result", outcome.word())]),
            ),
            finalizer_timeouts: counter(
                registry,
                "fivespot_finalizer_cleanup_timeouts_total",
                "ScheduledMachines being deleted whose machine was not gone by the promised instant. Their finalizer \
                 stays until it is",
            ),
            ejects: histograms(
                registry,
                "fivespot_emergency_drain_duration_seconds",
                "From the start of an eject until nothing of the machine was left, by its outcome: in time (success), \
                 later than promised (timeout), or at last without its workload cluster (error)",
                EJECT,
                EjectEnd::ALL.map(|end| [("outcome", end.word())]),
            ),
            reclaims: counter(
                registry,
                "fivespot_emergency_reclaims_total",
                "Times that an owner asked for her machine back and was heard",
            ),
            rapid_reclaims: counter(
                registry,
                "fivespot_rapid_re_reclaims_total",
                "Reclaims that were at least the third of their machine within ten minutes",
            ),
        }
    }
}

impl Promises {
    fn register(registry: &mut Registry) -> Self {
        Self {
            edge_lag: histograms(
                registry,
                "fivespot_edge_lag_seconds",
                "open: from the instant since which the decision is Active (the edge itself, where the clock decided) \
                 until the first Machine of that opening was made. close: from the instant since which it is Inactive \
                 until the first act of the leaving was done. An edit counts from when it was seen, a deletion not at \
                 all",
                LAG,
                Edge::ALL.map(|edge| [("edge", edge.word())]),
            ),
            ready: histogram(
                registry,
                "fivespot_ready_after_edge_seconds",
                "From the instant since which the decision is Active until the Machine was ready, of machines whose \
                 making began within ten minutes of it",
                MINUTES,
            ),
            hand_back: histograms(
                registry,
                "fivespot_handback_seconds",
                "From the start of a leaving until nothing of the machine was left, grace and drain included, by how it \
                 left in the end",
                MINUTES,
                Path::ALL.map(|path| [("path", path.word())]),
            ),
            reclaim_stage: histograms(
                registry,
                "fivespot_reclaim_stage_seconds",
                "From an owner's request, by the clock of her machine, to the pass that saw it (observe), to the DELETE \
                 of the Machine (delete), and until nothing of it was left (gone)",
                RECLAIM,
                Stage::ALL.map(|stage| [("stage", stage.word())]),
            ),
        }
    }
}
