//! The controller: one pass per object and reason, from what is seen to what is done.
//!
//! `watch` turns events into keys, `reconcile` runs the pass: `observe` builds a `snapshot`, `decide` makes a decision
//! of it, `apply` performs the effects, `status` says how things stand. This file only wires.

pub mod about;
pub mod agent;
pub mod apply;
pub mod attempt;
pub mod build;
pub mod census;
pub mod conditions;
pub mod confirm;
pub mod decide;
pub mod drain_rules;
pub mod effect;
pub mod error;
pub mod events;
pub mod evictions;
pub mod expect;
pub mod hold;
pub mod lost_part;
pub mod measure;
pub mod observe;
pub mod parts;
pub mod reclaim;
pub mod reconcile;
pub mod recorder;
pub mod report;
pub mod retry;
pub mod snapshot;
pub mod status;
mod succession;
pub mod target;
mod tell;
pub mod turn;
pub mod watch;

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, Stream, StreamExt, stream};
use kube::Client;
use kube::core::{ApiResource, DynamicObject};
use kube::runtime::controller::Config;
use kube::runtime::reflector::store::Writer;
use kube::runtime::{Controller, watcher};
use tokio::sync::mpsc;

use crate::capi::core::{Core, CoreNotice};
use crate::capi::kinds::Kinds;
use crate::leadership::duties::Duties;
use crate::runtime::Tasks;
use crate::telemetry::answers::Answers;
use crate::telemetry::health::{Awaited, Health, Pulse};
use crate::telemetry::metrics::{Calls, ControllerMetrics};
use crate::watch::{Notice, follow};
use crate::workload::Workloads;
use drain_rules::DrainRules;
use hold::index::Holds;
use hold::machine_hold_resource;
use observe::World;
use reconcile::Context;
use recorder::Recorder;
use turn::Turns;
use watch::{Key, Waker, collection, scheduled_machine_resource};

/// Passes beyond those that may make machines: however many of these wait for an answer, a kill switch or the end of a
/// window finds a place. Enough for a whole workload cluster that accepts calls and does not answer them: each of its
/// passes waits a second or so. A pass waits on the network, not on a processor; the API server's own fairness does the
/// rest.
const OTHER_PASSES: u16 = 128;
/// How often workload connections that nobody uses any more are closed. Cache only.
const TIDY: Duration = Duration::from_secs(60);
/// How often the queue of passes shows that it asks for keys.
const ASKS: Duration = Duration::from_secs(2);
/// At shutdown the last Events may take so long.
const LAST_EVENTS: Duration = Duration::from_secs(1);
/// A queue that shows nothing for so long is stuck. It asks for none while all places are taken, by passes that wait for an
/// API server, say.
const STALLED: Duration = Duration::from_secs(120);

/// What the controller runs on.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Watch this namespace only.
    pub namespace: Option<String>,
    /// API groups that bootstrap and infrastructure objects may be of.
    pub allowed_groups: Vec<String>,
    /// Machines made at one time.
    pub concurrent_creates: u16,
    /// Name in our Events.
    pub instance: String,
}

/// What the controller tells of itself with.
#[derive(Clone, Debug)]
pub struct Instruments {
    /// What passes count into.
    pub metrics: ControllerMetrics,
    /// Where calls to workload clusters are counted; the client given to [`start`] has its own.
    pub calls: Calls,
    /// Alive, and ready.
    pub health: Health,
    /// How the management cluster answers that client.
    pub answers: Answers,
}

/// Adds everything that the controller does to `tasks`; it writes for those objects alone that `duties` let it act on.
/// `stop` ends the intake of new passes. Returns the caches, to be looked at.
pub fn start(
    client: Client,
    settings: &Settings,
    instruments: Instruments,
    duties: Duties,
    tasks: &mut Tasks,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) -> World {
    let Instruments { metrics, calls, health, answers } = instruments;
    let (keys, received) = mpsc::unbounded_channel();
    let (hold_keys, hold_received) = mpsc::unbounded_channel();
    let objects = Writer::new(scheduled_machine_resource());
    let holds = Holds::default();
    let waker = Waker::new(keys, hold_keys, objects.as_reader(), holds.clone());

    let (kind_notices, kinds_changed) = mpsc::unbounded_channel();
    let (kinds, kinds_actor) =
        Kinds::new(client.clone(), settings.namespace.clone(), settings.allowed_groups.clone(), kind_notices);
    let (workload_notices, workloads_changed) = mpsc::unbounded_channel();
    let (workloads, workloads_actor) = Workloads::new(client.clone(), workload_notices, calls);
    tasks.spawn("kinds", kinds_actor);
    tasks.spawn("workload clusters", workloads_actor);
    let wake = waker.clone();
    hand_on(tasks, "kind notices", kinds_changed, move |notice| wake.kind(&notice));
    let wake = waker.clone();
    hand_on(tasks, "workload notices", workloads_changed, move |notice| wake.workload(&notice));

    let backoff = Arc::new(retry::Backoff::default());
    let turns = Turns::new(usize::from(settings.concurrent_creates), waker.clone());
    let watches = Watches { client: &client, settings, waker: &waker, backoff: &backoff };
    let core = watches.follow_core(tasks);
    let (wake, namespace) = (waker.clone(), settings.namespace.clone());
    let (drain_rules, drain_rules_task) =
        DrainRules::new(client.clone(), namespace, core.clone(), move |rule| wake.drain_rule(rule));
    tasks.spawn("watch of machinedrainrules", drain_rules_task);
    let (stored_holds, scheduled_machines) = (Writer::new(machine_hold_resource()), objects.as_reader());
    let memory = observe::Memory::default();
    let world = World { scheduled_machines, core, holds, kinds, workloads, drain_rules, memory };
    watches.spawn(tasks, &scheduled_machine_resource(), objects, watcher::Config::default(), Waker::object);
    let hold_context = Arc::new(hold::pass::Context {
        client: client.clone(),
        stored: stored_holds.as_reader(),
        holds: world.holds.clone(),
        scheduled_machines: world.scheduled_machines.clone(),
        expectations: expect::Expectations::default(),
        backoff: backoff.clone(),
        duties: duties.clone(),
    });
    watches.spawn_holds(tasks, stored_holds);
    let (complete, changes) = (Complete::awaited(&health), duties.changes());
    let context = Arc::new(Context {
        recorder: Recorder::start(client.clone(), tasks),
        client,
        world: world.clone(),
        expectations: expect::Expectations::default(),
        backoff,
        turns,
        instance: settings.instance.clone(),
        metrics,
        health,
        duties,
        answers,
    });
    let stop = stop.shared();
    tasks.spawn("succession", succession::follow(context.clone(), waker, changes));
    tasks.spawn("tidy", tidy(context.clone(), hold_context.clone()));
    tasks.spawn("passes over holds", hold_passes(hold_context, hold_received, stop.clone()));
    let concurrency = settings.concurrent_creates.saturating_add(OTHER_PASSES);
    tasks.spawn("passes", passes(context, complete, concurrency, received, stop));
    world
}

/// The caches that decisions begin with.
struct Complete {
    scheduled_machines: Awaited,
    core: Awaited,
    drain_rules: Awaited,
    holds: Awaited,
}

impl Complete {
    fn awaited(health: &Health) -> Self {
        let awaits = |name: &'static str| health.awaits(name, "not listed yet");
        Self {
            scheduled_machines: awaits("cache of scheduledmachines"),
            core: health.awaits("Cluster API", "not known yet which version is served, or not listed yet"),
            drain_rules: awaits("cache of machinedrainrules"),
            holds: awaits("cache of machineholds"),
        }
    }

    /// False: there will be none.
    async fn of(&self, world: &World) -> bool {
        let objects = async {
            let is_complete = world.scheduled_machines.wait_until_ready().await.is_ok();
            self.scheduled_machines.came();
            is_complete
        };
        let (is_complete, (), (), ()) = tokio::join!(
            objects,
            world.core.known().map(|()| self.core.came()),
            world.drain_rules.settled().map(|()| self.drain_rules.came()),
            world.holds.wait_until_settled().map(|()| self.holds.came())
        );
        is_complete
    }
}

/// Each notice to whoever wakes by it.
fn hand_on<N: Send + 'static>(
    tasks: &mut Tasks,
    name: &'static str,
    mut notices: mpsc::UnboundedReceiver<N>,
    to: impl Fn(N) + Send + 'static,
) {
    tasks.spawn(name, async move {
        while let Some(notice) = notices.recv().await {
            to(notice);
        }
    });
}

struct Watches<'a> {
    client: &'a Client,
    settings: &'a Settings,
    waker: &'a Waker,
    backoff: &'a Arc<retry::Backoff>,
}

impl Watches<'_> {
    fn spawn(
        &self,
        tasks: &mut Tasks,
        resource: &ApiResource,
        writer: Writer<DynamicObject>,
        config: watcher::Config,
        wake: fn(&Waker, &DynamicObject),
    ) {
        let api = collection(self.client, self.settings.namespace.as_deref(), resource);
        let (waker, backoff) = (self.waker.clone(), self.backoff.clone());
        tasks.spawn(format!("watch of {}", resource.plural), async move {
            follow(api, config, writer, move |notice| match notice {
                Notice::Changed(object) | Notice::Gone(object) => wake(&waker, &object),
                // Passes that failed meanwhile wait out a delay that an outage has made long. The others cost nothing.
                Notice::Recovered => {
                    backoff.forget_all();
                    waker.everything();
                }
                Notice::Synced => waker.objects_complete(),
                Notice::Failing(_) => {}
            })
            .await;
        });
    }

    /// Cluster API: its version, Machines and Clusters.
    fn follow_core(&self, tasks: &mut Tasks) -> Core {
        let (notices, changed) = mpsc::unbounded_channel();
        let (core, actor) = Core::new(self.client.clone(), self.settings.namespace.clone(), notices);
        tasks.spawn("Cluster API", actor);
        let (wake, forgiving) = (self.waker.clone(), self.backoff.clone());
        hand_on(tasks, "Cluster API notices", changed, move |notice| {
            // Passes that failed before an upgrade or during an outage wait out delays that mean nothing now.
            if matches!(notice, CoreNotice::View | CoreNotice::Recovered) {
                forgiving.forget_all();
            }
            wake.core(&notice);
        });
        core
    }

    /// Holds are read as they come, into the index that decisions ask.
    fn spawn_holds(&self, tasks: &mut Tasks, writer: Writer<DynamicObject>) {
        let resource = machine_hold_resource();
        let api = collection(self.client, self.settings.namespace.as_deref(), &resource);
        let (waker, backoff) = (self.waker.clone(), self.backoff.clone());
        tasks.spawn(format!("watch of {}", resource.plural), async move {
            follow(api, watcher::Config::default(), writer, move |notice| match notice {
                Notice::Changed(hold) => waker.hold(&hold),
                Notice::Gone(hold) => waker.hold_gone(&hold),
                Notice::Synced => waker.holds_complete(),
                Notice::Recovered => {
                    backoff.forget_all();
                    waker.everything();
                }
                Notice::Failing(outage) => waker.holds_failing(&outage),
            })
            .await;
        });
    }
}

/// A hold's count is right once the ScheduledMachines are known.
async fn hold_passes(
    context: Arc<hold::pass::Context>,
    received: mpsc::UnboundedReceiver<Key>,
    stop: impl Future<Output = ()> + Clone + Send + Sync + 'static,
) {
    tokio::select! {
        () = stop.clone() => return,
        () = context.holds.wait_until_countable() => {}
    }
    hold::pass::run(context, received, stop).await;
}

/// Decisions begin when every cache is complete: half a picture looks like a machine that is gone.
async fn passes(
    context: Arc<Context>,
    complete: Complete,
    concurrency: u16,
    received: mpsc::UnboundedReceiver<Key>,
    stop: impl Future<Output = ()> + Clone + Send + Sync + 'static,
) {
    let world = &context.world;
    tokio::select! {
        () = stop.clone() => return,
        is_complete = complete.of(world) => if !is_complete { return },
    }
    tracing::info!("caches complete, deciding begins");
    succession::foresee(&context);
    let keys = beating(received, context.health.pulse("queue of passes", STALLED));
    let (objects, recorder) = (context.world.scheduled_machines.clone(), context.recorder.clone());
    // Our own adapter feeds the store and the keys; the controller's own trigger stays silent, and so no error of a
    // watch can ever slow the queue.
    Controller::for_stream_with(stream::pending(), objects, scheduled_machine_resource())
        .with_config(Config::default().concurrency(concurrency))
        .reconcile_on(keys)
        .graceful_shutdown_on(stop)
        .run(reconcile::reconcile, reconcile::error_policy, context)
        // Failed passes were logged where their delay was chosen; a key whose object is gone needs nothing.
        .for_each(|_| async {})
        .await;
    recorder.flush(LAST_EVENTS).await;
}

/// Keys as they come. The queue shows that it asks for them: its machinery is not ours, and might forget to.
fn beating(received: mpsc::UnboundedReceiver<Key>, pulse: Pulse) -> impl Stream<Item = Key> {
    stream::unfold((received, pulse), |(mut received, pulse)| async move {
        let mut ticks = tokio::time::interval(ASKS);
        loop {
            tokio::select! {
                biased;
                key = received.recv() => return Some((key?, (received, pulse))),
                _ = ticks.tick() => pulse.beat(),
            }
        }
    })
}

/// Closes workload connections whose last user has gone, and forgets what was noted of objects that have.
async fn tidy(context: Arc<Context>, holds: Arc<hold::pass::Context>) {
    let world = &context.world;
    let mut ticks = tokio::time::interval(TIDY);
    loop {
        ticks.tick().await;
        let objects = world.scheduled_machines.state();
        let held = holds.stored.state();
        let there: HashSet<&str> =
            objects.iter().chain(&held).filter_map(|object| object.metadata.uid.as_deref()).collect();
        holds.expectations.retain(|uid| there.contains(uid));
        context.backoff.retain(|uid| there.contains(uid));
        context.expectations.retain(|uid| there.contains(uid));
        let names: HashSet<_> = objects
            .iter()
            .map(|o| {
                (
                    o.metadata.namespace.clone().unwrap_or_default(),
                    o.metadata.name.clone().unwrap_or_default(),
                )
            })
            .collect();
        context.turns.retain(|who| names.contains(who));
        world.memory.evictions.retain(|uid| there.contains(uid));
        world.memory.hold_tries.retain(|uid| there.contains(uid));
        world.memory.agent_writes.retain(|uid| there.contains(uid));
        world.workloads.retain_askers(|asker| names.contains(asker));
        let used = world.connections();
        world.workloads.retain(|key| used.contains(key));
    }
}
