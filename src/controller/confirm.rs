//! The live looks that some decisions need before anything is done: caches lie, and some steps cannot be taken back.

use std::collections::BTreeSet;
use std::time::Duration;

use kube::ResourceExt;
use kube::api::{Api, ListParams};
use kube::core::DynamicObject;

use crate::api::status::{DesiredState, Rule};
use crate::capi::machine::{Cluster, Machine};
use crate::capi::version::Capi;
use crate::controller::decide::decide;
use crate::controller::effect::{Decision, Effect};
use crate::controller::error::PassError;
use crate::controller::hold::{edition, machine_hold_resource};
use crate::controller::lost_part;
use crate::controller::reconcile::Context;
use crate::controller::snapshot::Snapshot;
use crate::controller::tell::objects;

/// Bound on one look.
const CALL: Duration = Duration::from_secs(10);

/// Looks, and decides anew where that shows what the caches do not.
///
/// # Errors
/// The caches are behind, or there is no answer.
pub async fn look(
    raw: &DynamicObject,
    context: &Context,
    snapshot: &mut Snapshot,
    decision: &mut Decision,
) -> Result<(), PassError> {
    if takes_the_machine_for_gone(snapshot, decision) {
        snapshot.machine = live_machine(context, snapshot).await?;
        if snapshot.machine.is_some() {
            *decision = decide(snapshot);
        }
    }
    lost_part::look(&context.client, snapshot, decision).await?;
    if decision.effects.iter().any(Effect::is_destructive) {
        let (object, cluster, holds) = tokio::join!(
            confirm(context, raw, snapshot),
            confirm_cluster(context, snapshot),
            confirm_holds(context, snapshot, decision)
        );
        object.and(cluster).and(holds)?;
    }
    Ok(())
}

/// A Machine whose label somebody took off leaves our watch as a deleted one does, and one that never had it (a
/// stranger's) was never in it. So before one that the status remembers counts as gone, its parts are cleared up or new
/// ones are made, its name is looked up live. Not while nothing may be touched: that may last, and asks for nothing.
fn takes_the_machine_for_gone(snapshot: &Snapshot, decision: &Decision) -> bool {
    let is_frozen = decision.ruling.state == DesiredState::AsIs || snapshot.is_capi_paused();
    let remembers_one = snapshot.status.machine_ref.is_some() && !is_frozen;
    let acts_on_it = |effect: &Effect| match effect {
        Effect::CreateMachine(_) | Effect::DeleteChild { .. } | Effect::DeleteNode(_) => true,
        Effect::RemoveFinalizer { kinds } => !kinds.is_empty(),
        Effect::AddFinalizer
        | Effect::CreateChild { .. }
        | Effect::PatchMachine { .. }
        | Effect::PatchChild { .. }
        | Effect::WriteHold(_)
        | Effect::DeleteMachine { .. }
        | Effect::Cordon(_)
        | Effect::Uncordon { .. }
        | Effect::EjectNode { .. }
        | Effect::Taint(_)
        | Effect::ClearReclaim(_)
        | Effect::LabelNode { .. }
        | Effect::WriteRules(_)
        | Effect::DeleteRules { .. }
        | Effect::Evict(_)
        | Effect::DeletePod(_) => false,
    };
    snapshot.machine.is_none() && (remembers_one || decision.effects.iter().any(acts_on_it))
}

async fn live_machine(context: &Context, snapshot: &Snapshot) -> Result<Option<Machine>, PassError> {
    let Capi::Served(version) = snapshot.capi else { return Ok(None) };
    let api: Api<DynamicObject> =
        Api::namespaced_with(context.client.clone(), &snapshot.object.namespace, &version.machine());
    let live = tokio::time::timeout(CALL, api.get_opt(&snapshot.object.name)).await;
    let live = live.map_err(|_| PassError::Timeout("get"))?;
    Ok(live.map_err(|error| PassError::Look(error.into()))?.map(|object| Machine::decode(&object, version)))
}

/// Before what cannot be taken back the object is read live: a cache may not know yet that the user changed her mind.
async fn confirm(context: &Context, raw: &DynamicObject, snapshot: &Snapshot) -> Result<(), PassError> {
    let api = objects(context, &snapshot.object.namespace);
    let live = tokio::time::timeout(CALL, api.get_metadata_opt(&snapshot.object.name)).await;
    let live =
        live.map_err(|_| PassError::Timeout("get"))?.map_err(|error| PassError::Confirm(error.into()))?;
    let same = live.is_some_and(|live| {
        live.uid() == raw.uid()
            && live.metadata.generation == raw.metadata.generation
            && live.metadata.deletion_timestamp == raw.metadata.deletion_timestamp
            && live.metadata.annotations == raw.metadata.annotations
    });
    if same { Ok(()) } else { Err(PassError::Stale) }
}

/// The same for its Cluster. A pause may just have begun; and an object that `clusterctl move` has just made may be seen
/// before its Cluster, which is paused.
async fn confirm_cluster(context: &Context, snapshot: &Snapshot) -> Result<(), PassError> {
    let name = &snapshot.target.cluster_name;
    let Capi::Served(version) = snapshot.capi else { return Ok(()) };
    if snapshot.object.is_moving || name.is_empty() {
        return Ok(());
    }
    let api: Api<DynamicObject> =
        Api::namespaced_with(context.client.clone(), &snapshot.object.namespace, &version.cluster());
    let live = tokio::time::timeout(CALL, api.get_opt(name)).await;
    let live = live.map_err(|_| PassError::Timeout("get"))?;
    let live = live.map_err(|error| PassError::Look(error.into()))?;
    let decided_on = |cluster: &Cluster| (cluster.uid.clone(), cluster.paused, cluster.deleting);
    let live = live.map(|object| decided_on(&Cluster::decode(&object, version)));
    if live == snapshot.cluster.as_ref().map(decided_on) { Ok(()) } else { Err(PassError::Stale) }
}

/// The same for holds: whoever made, edited or deleted one a moment ago may want the machine to stay; and of a reclaim's
/// own there may be one already. Nothing is asked where no hold could matter.
async fn confirm_holds(context: &Context, snapshot: &Snapshot, decision: &Decision) -> Result<(), PassError> {
    let is_bound = matches!(decision.ruling.rule, Rule::Deletion | Rule::ClusterDeleting | Rule::KillSwitch);
    if is_bound && !decision.effects.iter().any(|effect| matches!(effect, Effect::WriteHold(_))) {
        return Ok(());
    }
    let namespace = &snapshot.object.namespace;
    let api: Api<DynamicObject> =
        Api::namespaced_with(context.client.clone(), namespace, &machine_hold_resource());
    let all = ListParams::default();
    let live = tokio::time::timeout(CALL, api.list_metadata(&all)).await;
    let live = live.map_err(|_| PassError::Timeout("list"))?;
    let live = live.map_err(|error| PassError::Look(error.into()))?;
    let live: BTreeSet<_> = live.items.iter().map(|hold| edition(&hold.metadata)).collect();
    if live == context.world.holds.editions(namespace) { Ok(()) } else { Err(PassError::Stale) }
}
