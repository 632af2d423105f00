//! The shell: observe, decide, apply, report, wake.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use kube::runtime::controller::Action;
use kube::{Client, ResourceExt};
use serde_json::json;
use tracing::Instrument;

use crate::api::names;
use crate::api::status::ScheduledMachineStatus;
use crate::controller::apply::Apply;
use crate::controller::attempt;
use crate::controller::confirm;
use crate::controller::decide::decide;
use crate::controller::effect::{Decision, Effect, Wake};
use crate::controller::error::{Class, PassError, is_not_found};
use crate::controller::expect::{Cache, Expectations, Written};
use crate::controller::observe::{self, World, connection_key};
use crate::controller::report::{Failure, Report};
use crate::controller::retry::{Backoff, spread};
use crate::controller::snapshot::Snapshot;
use crate::controller::turn::{MOMENT, NET, Permit, Turn, Turns};
use crate::controller::watch::scheduled_machine_resource;
use crate::controller::{events, status};
use crate::workload::{Asker, ConnectionKey};

/// Bound on a call of the shell itself.
const CALL: Duration = Duration::from_secs(10);
/// A cache that is behind our own write shows it within milliseconds; this is the net under the missing event.
const BEHIND: Duration = Duration::from_secs(1);

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
    /// Name in our Events: `POD_NAME`.
    pub instance: String,
}

/// One pass over one ScheduledMachine.
///
/// # Errors
/// What kept the pass from ending; [`error_policy`] says when the next one comes.
pub async fn reconcile(raw: Arc<DynamicObject>, context: Arc<Context>) -> Result<Action, PassFailed> {
    let span = tracing::info_span!("reconcile", namespace = raw.namespace(), name = raw.name_any());
    pass(&raw, &context).instrument(span).await
}

/// When to come back after a failure.
#[expect(clippy::needless_pass_by_value, reason = "the signature that the controller runtime asks for")]
pub fn error_policy(raw: Arc<DynamicObject>, error: &PassFailed, context: Arc<Context>) -> Action {
    let uid = raw.uid().unwrap_or_default();
    let PassFailed { attempt, error, wake } = error;
    let delay = sooner(wake, context.backoff.failed(&uid, attempt, error.class()));
    let (namespace, name, step) = (raw.namespace(), raw.name_any(), error.label());
    let retry_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
    if error.class() == Class::Conflict {
        tracing::debug!(namespace, name, %error, step, retry_ms, "what was read is old; looking again");
    } else {
        tracing::warn!(namespace, name, %error, step, retry_ms, "pass failed");
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
    if context.world.memory.hold_tries.awaits(&snapshot.object.uid, &snapshot.holds) {
        return Ok(Action::requeue(BEHIND));
    }
    let mut decision = decide(&snapshot);
    let waits = if snapshot.is_node_behind { decision.effects.is_empty() } else { !behind.is_empty() };
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
    let failed = |error: PassError| PassFailed { attempt: attempt.clone(), error, wake: at };
    let permit = match context.turns.ask(&snapshot, &decision) {
        Turn::Go(permit) => permit,
        Turn::Wait(waited) => {
            return wait_for_turn(raw, context, &mut snapshot, waited).await.map_err(failed);
        }
    };
    let look = match confirm::look(raw, context, &mut snapshot, &mut decision).await {
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
    let apply = Apply {
        management: &context.client,
        workload: workload.as_ref(),
        snapshot,
        expectations: &context.expectations,
        evictions: &world.memory.evictions,
        hold_tries: &world.memory.hold_tries,
        agent_writes: &world.memory.agent_writes,
    };
    let (mut report, error) = apply.all(&decision.effects).await;
    report.node_failure = report.node_failure.or_else(|| Some(spared.as_ref()?.1.clone()));
    // Everything is made, or nothing more will be in this pass: the next in line need not wait for the books.
    drop(permit);
    if error.is_none()
        && decision.effects.iter().any(|effect| matches!(effect, Effect::RemoveFinalizer { .. }))
    {
        tracing::info!("released");
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

/// One patch, only if something changed, and only to the object it was computed for.
async fn write_status(
    context: &Context,
    raw: &DynamicObject,
    snapshot: &Snapshot,
    decision: &Decision,
    report: &Report,
) -> Result<(), PassError> {
    // `clusterctl move` is taking it away: it is let go, untouched.
    if snapshot.object.is_moving {
        return Ok(());
    }
    let after = status::derive(snapshot, decision, report);
    let before = raw.data.get("status").cloned().unwrap_or_else(|| json!({}));
    let whole = serde_json::to_value(&after).map_err(PassError::Encode)?;
    let Some(change) = status::patch(&before, &whole) else { return Ok(()) };
    let patch = Patch::Merge(json!({ "metadata": { "uid": snapshot.object.uid }, "status": change }));
    let params =
        PatchParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let api = objects(context, &snapshot.object.namespace);
    let call = api.patch_status(&snapshot.object.name, &params, &patch);
    match tokio::time::timeout(CALL, call).await.map_err(|_| PassError::Timeout("patch status"))? {
        Ok(written) => {
            context.expectations.note(&snapshot.object, Written::Object(&written));
            // Under a pause of Cluster API the status says so, and nothing else is written.
            if !snapshot.is_capi_paused() {
                announce(context, snapshot, &after).await;
            }
            Ok(())
        }
        // Deleted meanwhile.
        Err(error) if is_not_found(&error) => Ok(()),
        Err(error) => Err(PassError::Status(error.into())),
    }
}

/// Lines in the log and Events; neither may fail a pass.
async fn announce(context: &Context, snapshot: &Snapshot, after: &ScheduledMachineStatus) {
    let api: Api<Event> = Api::namespaced(context.client.clone(), &snapshot.object.namespace);
    let params = PostParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PostParams::default() };
    for event in events::of_pass(snapshot, after, &context.instance) {
        tracing::info!(from = ?snapshot.status.phase, to = ?after.phase, reason = event.reason, note = event.note, "event");
        match tokio::time::timeout(CALL, api.create(&params, &event)).await {
            Ok(Ok(_)) => {}
            // A namespace that is going takes no Events.
            Ok(Err(error)) => tracing::debug!(%error, "Event not recorded"),
            Err(_) => tracing::debug!("Event not recorded in time"),
        }
    }
}

pub(super) fn objects(context: &Context, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(context.client.clone(), namespace, &scheduled_machine_resource())
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
