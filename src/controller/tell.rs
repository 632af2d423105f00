//! What a pass leaves behind: the status, and with it Events, lines in the log, and measures.

use std::time::Duration;

use kube::api::{Api, Patch, PatchParams};
use kube::core::DynamicObject;
use serde_json::json;

use crate::api::names;
use crate::api::status::ScheduledMachineStatus;
use crate::controller::effect::Decision;
use crate::controller::error::{PassError, is_not_found};
use crate::controller::expect::Written;
use crate::controller::measure::measures;
use crate::controller::reconcile::Context;
use crate::controller::report::Report;
use crate::controller::snapshot::Snapshot;
use crate::controller::watch::scheduled_machine_resource;
use crate::controller::{events, observe, status};

/// Bound on a call.
const CALL: Duration = Duration::from_secs(10);

/// One patch, only if something changed, and only to the object it was computed for.
pub(super) async fn write_status(
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
            measure(context, snapshot, &after);
            // Under a pause of Cluster API the status says so, and nothing else is written.
            if !snapshot.is_capi_paused() {
                announce(context, snapshot, &after);
            }
            Ok(())
        }
        // Deleted meanwhile.
        Err(error) if is_not_found(&error) => Ok(()),
        Err(error) => Err(PassError::Status(error.into())),
    }
}

/// Lines in the log and Events; neither may fail a pass, nor delay the next.
fn announce(context: &Context, snapshot: &Snapshot, after: &ScheduledMachineStatus) {
    for event in events::of_pass(snapshot, after, &context.instance) {
        tracing::info!(from = ?snapshot.status.phase, to = ?after.phase, reason = event.reason, note = event.note, "event");
        context.recorder.tell(event);
    }
}

/// An object that is let go has no status any more, but its machine may have gone with this pass.
pub(super) fn released(context: &Context, snapshot: &Snapshot, decision: &Decision, report: &Report) {
    tracing::info!("released");
    let after = status::derive(snapshot, decision, report);
    measure(context, snapshot, &after);
}

fn measure(context: &Context, snapshot: &Snapshot, after: &ScheduledMachineStatus) {
    for measure in measures(&snapshot.status, after, observe::now()) {
        context.metrics.count(measure);
    }
}

pub(super) fn objects(context: &Context, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(context.client.clone(), namespace, &scheduled_machine_resource())
}
