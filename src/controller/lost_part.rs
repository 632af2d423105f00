//! A part whose label somebody took off leaves our watch as a deleted one does: before its Machine counts as bereft of
//! its host, the part is looked up live.

use std::time::Duration;

use kube::Client;
use kube::api::Api;
use kube::core::DynamicObject;

use crate::api::condition::types;
use crate::capi::kinds::Role;
use crate::controller::decide::decide;
use crate::controller::effect::{Decision, INFRASTRUCTURE_DELETED};
use crate::controller::error::PassError;
use crate::controller::observe;
use crate::controller::snapshot::{Child, Snapshot};

/// Bound on one look.
const CALL: Duration = Duration::from_secs(10);

/// Looks up what is missing of the parts, once, and decides anew if any of it is there: then its labels are put back.
/// What the status tells already was looked up when it was written, and is not asked for again.
///
/// # Errors
/// No answer, or one that says nothing of the part.
pub async fn look(
    client: &Client,
    snapshot: &mut Snapshot,
    decision: &mut Decision,
) -> Result<(), PassError> {
    if decision.standing.reason != INFRASTRUCTURE_DELETED || is_told(snapshot) {
        return Ok(());
    }
    let mut is_found = false;
    for place in 0..snapshot.children.len() {
        let child = &snapshot.children[place];
        let Some((uid, resource)) = recorded(snapshot, child).zip(child.resource.as_ref()) else { continue };
        let api: Api<DynamicObject> =
            Api::namespaced_with(client.clone(), &snapshot.object.namespace, resource);
        let live = tokio::time::timeout(CALL, api.get_metadata_opt(&snapshot.object.name)).await;
        let live = live.map_err(|_| PassError::Timeout("get"))?;
        let live = live
            .map_err(|error| PassError::LookForPart(error.into()))?
            .map(|meta| observe::child_object(&meta));
        if let Some(found) = live.filter(|found| found.uid == uid) {
            is_found = true;
            snapshot.children[place].object = Some(found);
        }
    }
    if is_found {
        *decision = decide(snapshot);
    }
    Ok(())
}

fn is_told(snapshot: &Snapshot) -> bool {
    let conditions = &snapshot.status.conditions;
    conditions.iter().any(|said| said.type_ == types::READY && said.reason == INFRASTRUCTURE_DELETED)
}

/// Uid of the part that the status knows of that kind, where the watch does not show it.
fn recorded(snapshot: &Snapshot, child: &Child) -> Option<String> {
    let known = match child.role {
        Role::Bootstrap => snapshot.status.bootstrap_ref.as_ref(),
        Role::Infrastructure => snapshot.status.infrastructure_ref.as_ref(),
    };
    let is_lost = child.object.is_none();
    let known =
        known.filter(|known| is_lost && known.api_version == child.api_version && known.kind == child.kind);
    known?.uid.clone()
}
