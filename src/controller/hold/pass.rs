//! The shell around a hold: its status is written when it changes, and one of our own goes an hour after its end.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::DynamicObject;
use kube::runtime::Controller;
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::Store;
use kube::{Client, ResourceExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use super::index::Holds;
use super::{Entry, machine_hold_resource, said};
use crate::api::machine_hold::MachineHoldStatus;
use crate::api::names;
use crate::controller::effect::Wake;
use crate::controller::error::{Class, PassError, is_not_found};
use crate::controller::expect::{Expectations, Written};
use crate::controller::observe;
use crate::controller::retry::{Backoff, spread};
use crate::controller::snapshot::Object;
use crate::controller::status::patch;
use crate::controller::watch::Key;
use crate::leadership::duties::{Duties, Standing};

/// Bound on a call.
const CALL: Duration = Duration::from_secs(10);
/// The net under a missing event after our own write.
const BEHIND: Duration = Duration::from_secs(1);
/// Passes at one time: nothing waits for a hold's status.
const CONCURRENCY: u16 = 4;

/// What every pass over a hold shares.
pub struct Context {
    /// The management cluster.
    pub client: Client,
    /// The holds as stored.
    pub stored: Store<DynamicObject>,
    /// The same, read; knows when everything is there.
    pub holds: Holds,
    /// ScheduledMachines, for how many a hold covers.
    pub scheduled_machines: Store<DynamicObject>,
    /// What was written and may not be cached yet.
    pub expectations: Expectations,
    /// Failures in a row.
    pub backoff: Arc<Backoff>,
    /// Which holds are ours to write, now.
    pub duties: Duties,
}

/// Passes over holds as their keys come, until `stop`.
pub async fn run(
    context: Arc<Context>,
    received: UnboundedReceiver<Key>,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let keys =
        stream::unfold(received, |mut received| async move { Some((received.recv().await?, received)) });
    Controller::for_stream_with(stream::pending(), context.stored.clone(), machine_hold_resource())
        .with_config(Config::default().concurrency(CONCURRENCY))
        .reconcile_on(keys)
        .graceful_shutdown_on(stop)
        .run(reconcile, error_policy, context)
        .for_each(|_| async {})
        .await;
}

async fn reconcile(raw: Arc<DynamicObject>, context: Arc<Context>) -> Result<Action, PassError> {
    // By its own name: how many objects it covers is counted from caches that every replica has.
    match context.duties.over(&raw.namespace().unwrap_or_default(), &raw.name_any()) {
        Standing::Acts(claim) => {
            let outcome = claim.cover(pass(raw, context)).await;
            if outcome.is_err() && !claim.holds() { Ok(Action::await_change()) } else { outcome }
        }
        Standing::StandsBy | Standing::Never => Ok(Action::await_change()),
    }
}

async fn pass(raw: Arc<DynamicObject>, context: Arc<Context>) -> Result<Action, PassError> {
    let (namespace, name) = (raw.namespace().unwrap_or_default(), raw.name_any());
    let uid = raw.uid().unwrap_or_default();
    let seen = || Some((uid.clone(), raw.resource_version()?));
    if !context.expectations.behind(&uid, |_| seen()).is_empty() {
        return Ok(Action::requeue(BEHIND));
    }
    // `clusterctl move` takes it away, or somebody asks that it be left alone.
    if raw.annotations().keys().any(|key| is_hands_off(key)) {
        return Ok(Action::await_change());
    }
    let now = observe::now();
    let entry = Entry::read(&raw);
    let hold = entry.content.as_ref().ok().map(|(_, hold)| hold);
    let matches = context.scheduled_machines.state_filter(|object| {
        object.metadata.namespace.as_ref() == Some(&namespace)
            && entry.over(&object.name_any(), object.labels()).is_some()
    });
    let is_disposable = hold.is_some_and(|hold| said::is_disposable(hold, now)) && !entry.is_ending;
    if is_disposable {
        // `clusterctl move` may be under way, and would miss it.
        if matches.iter().any(|object| is_paused(object)) {
            return Ok(Action::requeue(spread(Wake::CAP)));
        }
        dispose(&context, &namespace, &name, &uid).await?;
        return Ok(Action::await_change());
    }
    let before = raw.data.get("status").cloned().unwrap_or_else(|| json!({}));
    let status = said::status(
        &entry,
        &said::Seen {
            namespace: &namespace,
            name: &name,
            generation: raw.metadata.generation,
            matches: matches.len(),
            before: &MachineHoldStatus::deserialize(&before).unwrap_or_default(),
            now,
        },
    );
    write(&context, &raw, &before, &status).await?;
    context.backoff.forget(&uid);
    let next = hold.and_then(|hold| said::next_look(hold, now));
    let at_most = spread(Wake::CAP);
    let wake = next.map_or_else(Wake::never, Wake::at).after(observe::now());
    Ok(Action::requeue(wake.map_or(at_most, |wake| wake.min(at_most))))
}

/// As its own status says.
fn is_paused(object: &DynamicObject) -> bool {
    let conditions = object.data.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|condition| condition["reason"] == "BlockedByPause")
}

fn is_hands_off(annotation: &str) -> bool {
    annotation == names::ANNOTATION_DELETE_FOR_MOVE || annotation == names::ANNOTATION_CAPI_PAUSED
}

#[expect(clippy::needless_pass_by_value, reason = "the signature that the controller runtime asks for")]
fn error_policy(raw: Arc<DynamicObject>, error: &PassError, context: Arc<Context>) -> Action {
    let delay = context.backoff.failed(&raw.uid().unwrap_or_default(), "hold", error.class());
    let (namespace, name) = (raw.namespace(), raw.name_any());
    if error.class() == Class::Conflict {
        tracing::debug!(namespace, name, %error, "hold: what was read is old; looking again");
    } else if let Some(times) = context.backoff.news(&raw.uid().unwrap_or_default(), &error.to_string()) {
        tracing::warn!(namespace, name, %error, ?delay, times, "pass over a hold failed");
    } else {
        tracing::debug!(namespace, name, %error, ?delay, "pass over a hold failed as before");
    }
    Action::requeue(delay)
}

fn objects(context: &Context, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(context.client.clone(), namespace, &machine_hold_resource())
}

/// The one of that uid, and no other of its name.
async fn dispose(context: &Context, namespace: &str, name: &str, uid: &str) -> Result<(), PassError> {
    let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    let params = DeleteParams::default().preconditions(preconditions);
    let api = objects(context, namespace);
    let answer = tokio::time::timeout(CALL, api.delete(name, &params)).await;
    match answer.map_err(|_| PassError::Timeout("delete"))? {
        Ok(_) => {
            tracing::info!(namespace, name, "hold of a reclaim deleted an hour after its end");
            Ok(())
        }
        Err(error) if is_not_found(&error) => Ok(()),
        Err(error) => Err(PassError::Dispose(error.into())),
    }
}

async fn write(
    context: &Context,
    raw: &DynamicObject,
    before: &Value,
    status: &MachineHoldStatus,
) -> Result<(), PassError> {
    let whole = serde_json::to_value(status).map_err(PassError::Encode)?;
    let Some(change) = patch(before, &whole) else { return Ok(()) };
    let patch = Patch::Merge(json!({ "metadata": { "uid": raw.uid() }, "status": change }));
    let params =
        PatchParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let api = objects(context, &raw.namespace().unwrap_or_default());
    let name = raw.name_any();
    let answer = tokio::time::timeout(CALL, api.patch_status(&name, &params, &patch)).await;
    match answer.map_err(|_| PassError::Timeout("patch status"))? {
        Ok(written) => {
            let object = Object { uid: raw.uid().unwrap_or_default(), ..Object::default() };
            context.expectations.note(&object, Written::Object(&written));
            Ok(())
        }
        Err(error) if is_not_found(&error) => Ok(()),
        Err(error) => Err(PassError::Status(error.into())),
    }
}
