//! The shell: observe, decide, apply, report, wake.

use std::sync::Arc;
use std::time::Duration;

use kube::core::DynamicObject;
use kube::runtime::controller::Action;
use kube::{Client, ResourceExt};
use tracing::Instrument;

use crate::api::status::Manner;
use crate::controller::apply::Apply;
use crate::controller::attempt;
use crate::controller::confirm;
use crate::controller::decide::decide;
use crate::controller::decide::rule::schedule_instant;
use crate::controller::effect::{Decision, Effect, Wake};
use crate::controller::error::{Class, PassError};
use crate::controller::expect::{Cache, Expectations};
use crate::controller::measure;
use crate::controller::observe::{self, World, connection_key};
use crate::controller::recorder::Recorder;
use crate::controller::report::{Failure, Report};
use crate::controller::retry::{Backoff, spread};
use crate::controller::snapshot::Snapshot;
use crate::controller::tell::{released, write_status};
use crate::controller::turn::{MOMENT, NET, Permit, Turn, Turns};
use crate::leadership::duties::{Duties, Standing};
use crate::telemetry::answers::Answers;
use crate::telemetry::health::Health;
use crate::telemetry::metrics::ControllerMetrics;
use crate::workload::{Asker, ConnectionKey, Line};

/// A pass that lasts longer hangs: each of its calls is bounded, and there are few.
const LONGEST: Duration = Duration::from_secs(15 * 60);
/// A cache that is behind our own write shows it within milliseconds; this is the net under the missing event.
const BEHIND: Duration = Duration::from_secs(1);

/// Whoever has just won waits for so long at most until its watches are open again: their pauses after an outage are
/// shorter, and one that a person has to mend is waited for by nobody.
const CATCHING_UP: Duration = Duration::from_secs(8);
/// Between two looks whether they are.
const SOON: Duration = Duration::from_millis(100);

/// What every pass shares.
pub struct Context {
    /// The management cluster.
    pub client: Client,
    /// The caches.
    pub world: World,
    /// What was written and may not be cached yet.
    pub expectations: Expectations,
    /// Failures in a row.
    pub backoff: Arc<Backoff>,
    /// Who may make a machine now.
    pub turns: Turns,
    /// Where Events are handed in.
    pub recorder: Recorder,
    /// Name in our Events: `POD_NAME`.
    pub instance: String,
    /// What passes count into.
    pub metrics: ControllerMetrics,
    /// Where a pass that hangs is seen.
    pub health: Health,
    /// Which objects are ours to act on, now.
    pub duties: Duties,
    /// Whether the caches can be up to date.
    pub answers: Answers,
}

/// One pass over one ScheduledMachine, if it is ours to act on. One that stops being so ends the pass with its next write,
/// and is no failure; whoever acts on it next looks at it by itself.
///
/// # Errors
/// What kept the pass from ending; [`error_policy`] says when the next one comes.
pub async fn reconcile(raw: Arc<DynamicObject>, context: Arc<Context>) -> Result<Action, PassFailed> {
    let (namespace, name) = (raw.namespace().unwrap_or_default(), raw.name_any());
    let claim = match context.duties.over(&namespace, &name) {
        // Another replica has acted while this one, cut off, could not see it.
        Standing::Acts(claim)
            if claim.is_younger_than(CATCHING_UP) && !context.answers.are_watches_open() =>
        {
            return Ok(Action::requeue(SOON));
        }
        Standing::Acts(claim) => claim,
        Standing::StandsBy => {
            // Whoever follows finds the connections open.
            drop(context.world.snapshot(&raw, observe::now()));
            return Ok(Action::await_change());
        }
        Standing::Never => return Ok(Action::await_change()),
    };
    let _alive = context.health.pulse(format!("pass over {namespace}/{name}"), LONGEST);
    // One for each pass: what a line of a log has in common with the others of its pass.
    let reconcile_id = format!("{:08x}", rand::random::<u32>());
    let span = tracing::info_span!("reconcile", namespace, name, reconcile_id);
    let timer = context.metrics.begin(observe::phase(&raw));
    let outcome = Box::pin(claim.cover(pass(&raw, &context).instrument(span))).await;
    if outcome.is_err() && !claim.holds() {
        tracing::info!(namespace, name, "pass given up: another replica may act now");
        return Ok(Action::await_change());
    }
    let outcome = outcome.map_err(|failed| PassFailed { reconcile_id, ..failed });
    match &outcome {
        Err(PassFailed { error, .. }) if error.class() != Class::Conflict => timer.failed(error.fault()),
        Ok(_) | Err(_) => timer.ended(),
    }
    outcome
}

/// When to come back after a failure.
#[expect(clippy::needless_pass_by_value, reason = "the signature that the controller runtime asks for")]
pub fn error_policy(raw: Arc<DynamicObject>, error: &PassFailed, context: Arc<Context>) -> Action {
    let uid = raw.uid().unwrap_or_default();
    let PassFailed { attempt, error, wake, reconcile_id } = error;
    let delay = sooner(wake, context.backoff.failed(&uid, attempt, error.class()));
    let (namespace, name, step) = (raw.namespace(), raw.name_any(), error.label());
    let retry_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
    if error.class() == Class::Conflict {
        tracing::debug!(namespace, name, reconcile_id, %error, step, retry_ms, "what was read is old; looking again");
    } else if let Some(times) = context.backoff.news(&uid, &error.to_string()) {
        tracing::warn!(namespace, name, reconcile_id, %error, step, retry_ms, times, "pass failed");
    } else {
        tracing::debug!(namespace, name, reconcile_id, %error, step, retry_ms, "pass failed as before");
    }
    Action::requeue(delay)
}

/// A pass that failed, and what it had tried.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct PassFailed {
    attempt: String,
    #[source]
    error: PassError,
    /// When to look again at the latest.
    wake: Wake,
    reconcile_id: String,
}

async fn pass(raw: &DynamicObject, context: &Context) -> Result<Action, PassFailed> {
    // Between two versions of Cluster API: whatever comes next wakes every object.
    let Some(mut snapshot) = context.world.snapshot(raw, observe::now()) else {
        return Ok(Action::await_change());
    };
    let behind =
        context.expectations.behind(&snapshot.object.uid, |cache| context.world.seen(&snapshot, raw, cache));
    // A watch of a workload cluster may stall for long: the management half does not wait for it.
    snapshot.is_node_behind = behind == [Cache::Node];
    confirm::recall_hold(context, &mut snapshot).await;
    let mut decision = decide(&snapshot);
    if let Ok(schedule) = &snapshot.target.schedule {
        context.metrics.evaluated(schedule.is_active(schedule_instant(&snapshot)));
    }
    let is_hold_behind = snapshot.hold_written.as_ref().is_some_and(|hold| !hold.is_overdue);
    // A stalled watch of Nodes or of holds delays nothing that can be done without it.
    let may_go_on = snapshot.is_node_behind || behind.is_empty() && is_hold_behind;
    let waits = if may_go_on { decision.effects.is_empty() } else { !behind.is_empty() };
    if waits {
        return Ok(Action::requeue(BEHIND));
    }
    let attempt = attempt::describe(&snapshot, &raw.metadata.annotations, &decision);
    let held = context.backoff.held(&snapshot.object.uid, &attempt);
    let spared = held.and_then(|left| Some((left, context.backoff.node_failure(&snapshot.object.uid)?)));
    match (held, &spared) {
        (Some(left), None) => {
            context.turns.step_aside(&snapshot.object);
            return Ok(Action::requeue(sooner(&decision.wake, left)));
        }
        // What the workload side refuses keeps the management side, and the status, from nothing.
        (Some(_), Some(_)) => decision.effects.retain(|effect| !effect.is_on_node()),
        (None, _) => {}
    }
    let at = decision.wake;
    let failed = |error: PassError| PassFailed {
        attempt: attempt.clone(),
        error,
        wake: at,
        reconcile_id: String::new(),
    };
    let permit = match context.turns.ask(&snapshot, &decision) {
        Turn::Go(permit) => permit,
        Turn::Wait(waited) => {
            return wait_for_turn(raw, context, &mut snapshot, waited).await.map_err(failed);
        }
    };
    let looked = confirm::look(raw, context, &mut snapshot, &mut decision).await;
    if looked.as_ref().is_err_and(|error| error.class() != Class::Conflict) {
        eject_from_node(context, &snapshot, &decision).await;
    }
    let look = match looked {
        Err(error) if error.class() == Class::Permanent => Some(error),
        look => {
            look.map_err(failed)?;
            None
        }
    };
    if let Some(error) = look {
        // Not being allowed to look is for a person to mend: the object says so.
        let report = Report { failure: Some(Failure::from(&error)), ..Report::default() };
        write_status(context, raw, &snapshot, &decision, &report).await.map_err(failed)?;
        return Err(failed(error));
    }
    act(raw, context, &snapshot, &decision, &attempt, permit, spared).await.map_err(failed)
}

/// Others come first. Who waits for longer than a moment says so; either way the pass ends, and the turn wakes it.
async fn wait_for_turn(
    raw: &DynamicObject,
    context: &Context,
    snapshot: &mut Snapshot,
    waited: Duration,
) -> Result<Action, PassError> {
    if waited < MOMENT {
        return Ok(Action::requeue(MOMENT.saturating_sub(waited)));
    }
    snapshot.waits_for_turn = true;
    let decision = decide(snapshot);
    write_status(context, raw, snapshot, &decision, &Report::default()).await?;
    Ok(wake(&decision.wake, spread(NET)))
}

/// The Node half of an eject waits for nobody: not for a management API server that does not answer the looks either.
async fn eject_from_node(context: &Context, snapshot: &Snapshot, decision: &Decision) {
    let on_node = decision.effects.iter().filter(|effect| effect.is_on_node()).cloned();
    let on_node: Vec<Effect> = on_node.filter(|_| decision.ruling.manner == Manner::Eject).collect();
    if !on_node.is_empty() {
        let key = connection_key(&snapshot.object.namespace, snapshot.target.kubeconfig.clone());
        let workload = context.world.workloads.view(&key).line;
        // What fails of it is in the log, and tried again with the rest.
        drop(apply(context, snapshot, workload.as_ref()).all(&on_node, true).await);
    }
}

fn apply<'a>(context: &'a Context, snapshot: &'a Snapshot, workload: Option<&'a Line>) -> Apply<'a> {
    let memory = &context.world.memory;
    Apply {
        management: &context.client,
        workload,
        snapshot,
        expectations: &context.expectations,
        evictions: &memory.evictions,
        hold_tries: &memory.hold_tries,
        agent_writes: &memory.agent_writes,
        metrics: &context.metrics,
    }
}

async fn act(
    raw: &DynamicObject,
    context: &Context,
    snapshot: &Snapshot,
    decision: &Decision,
    attempt: &str,
    permit: Option<Permit>,
    spared: Option<(Duration, Failure)>,
) -> Result<Action, PassError> {
    let (uid, world) = (&snapshot.object.uid, &context.world);
    let key = connection_key(&snapshot.object.namespace, snapshot.target.kubeconfig.clone());
    let workload = snapshot.cluster.as_ref().and_then(|_| world.workloads.view(&key).line);
    ask_for_pods(world, snapshot, decision, &key);
    world.workloads.ask_for_agents(&asker(snapshot), Some(&key).filter(|_| decision.agent.asks));
    let is_eject = decision.ruling.manner == Manner::Eject;
    let (mut report, error) =
        apply(context, snapshot, workload.as_ref()).all(&decision.effects, is_eject).await;
    report.node_failure = report.node_failure.or_else(|| Some(spared.as_ref()?.1.clone()));
    if error.is_none()
        && let Some(measure) = measure::deleted(snapshot, decision, &report, observe::now())
    {
        context.metrics.count(measure);
    }
    // Everything is made, or nothing more will be in this pass: the next in line need not wait for the books.
    drop(permit);
    if error.is_none()
        && decision.effects.iter().any(|effect| matches!(effect, Effect::RemoveFinalizer { .. }))
    {
        released(context, snapshot, decision, &report);
        context.expectations.forget(uid);
        context.backoff.forget(uid);
        return Ok(Action::await_change());
    }
    write_status(context, raw, snapshot, decision, &report).await?;
    if let Some(error) = error {
        return Err(error.into());
    }
    if let Some((left, _)) = spared {
        // What is due at once is what has to wait.
        return Ok(Action::requeue(sooner(&decision.wake, left)));
    }
    if let Some(failure) = &report.node_failure {
        let retry = context.backoff.failed_on_node(uid, attempt, failure);
        return Ok(wake(&decision.wake, retry));
    }
    context.backoff.forget(uid);
    Ok(wake(&decision.wake, spread(Wake::CAP)))
}

fn asker(snapshot: &Snapshot) -> Asker {
    (snapshot.object.namespace.clone(), snapshot.object.name.clone())
}

/// Before the effects, so that the list comes while they are performed.
fn ask_for_pods(world: &World, snapshot: &Snapshot, decision: &Decision, key: &ConnectionKey) {
    let object = &snapshot.object;
    let node = decision.pods_of.as_deref().filter(|_| snapshot.cluster.is_some());
    world.workloads.ask_for_pods(&asker(snapshot), node.map(|node| (key, node)), snapshot.now);
    if node.is_none() {
        world.memory.evictions.forget(&object.uid);
    }
}

/// Waiting out a delay must not outlast the next edge or deadline: there another attempt begins. One that has come
/// already was met by this pass.
fn sooner(wake: &Wake, delay: Duration) -> Duration {
    let left = wake.after(observe::now()).filter(|left| !left.is_zero());
    left.map_or(delay, |left| left.min(delay))
}

/// The clock is read again: the pass itself took time, and an edge is met to the millisecond.
fn wake(wake: &Wake, at_most: Duration) -> Action {
    match wake.after(observe::now()) {
        Some(delay) if delay < at_most => Action::requeue(delay),
        _ => Action::requeue(at_most),
    }
}
