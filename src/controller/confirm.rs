//! The live looks that some decisions need before anything is done: caches lie, and some steps cannot be taken back.

use std::collections::BTreeSet;
use std::time::Duration;

use kube::ResourceExt;
use kube::api::{Api, ListParams};
use kube::core::{DynamicObject, PartialObjectMeta};

use crate::api::names;
use crate::api::status::{DesiredState, Manner, Rule};
use crate::capi::machine::{Cluster, Machine};
use crate::capi::version::Capi;
use crate::controller::decide::decide;
use crate::controller::effect::{Decision, Effect};
use crate::controller::error::{PassError, words};
use crate::controller::hold::{edition, machine_hold_resource};
use crate::controller::lost_part;
use crate::controller::reclaim::{self, request, wish};
use crate::controller::reconcile::Context;
use crate::controller::snapshot::{Object, Snapshot};
use crate::controller::tell::objects;

/// Bound on one look.
const CALL: Duration = Duration::from_secs(10);

/// The same where an owner is waiting: the promise is that the DELETE goes out within 2 s.
const IN_A_HURRY: Duration = Duration::from_millis(500);

/// What this process knows of a reclaim's hold, put right. One that was written and is not shown is asked for, lest the
/// machine be kept away for a hold that somebody deleted meanwhile; no answer keeps it away. And whoever left a latch may
/// have left a create on its way.
pub async fn recall_hold(context: &Context, snapshot: &mut Snapshot) {
    let (tries, uid) = (&context.world.memory.hold_tries, snapshot.object.uid.clone());
    let overdue = snapshot.hold_written.as_ref().filter(|hold| hold.is_overdue);
    if let Some(name) = overdue.map(|hold| hold.name.clone()) {
        let api: Api<DynamicObject> = Api::namespaced_with(
            context.client.clone(),
            &snapshot.object.namespace,
            &machine_hold_resource(),
        );
        let live = tokio::time::timeout(IN_A_HURRY, api.get_metadata_opt(&name)).await;
        let is_gone = |live: Option<PartialObjectMeta<_>>| {
            live.is_none_or(|live| live.metadata.deletion_timestamp.is_some())
        };
        if live.is_ok_and(|live| live.is_ok_and(is_gone)) {
            tries.gone(&uid);
            snapshot.hold_written = None;
        }
    }
    let latched = request::latched(snapshot).filter(|_| snapshot.hold_written.is_none());
    if let Some(asked) = latched.filter(|asked| wish::failed(snapshot, &asked.request).is_none()) {
        snapshot.hold_tried = Some(tries.inherited(&uid, &asked.request, snapshot.now));
    }
}

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
        // An eject asks in a hurry at first, and does what needs no answer; a server that is slow is then given its time.
        let is_eject = decision.ruling.manner == Manner::Eject;
        let is_first = is_eject && !context.backoff.is_failing(&snapshot.object.uid);
        let bound = if is_first { IN_A_HURRY } else { CALL };
        let (object, cluster, holds) = tokio::join!(
            confirm(context, raw, snapshot, bound),
            confirm_cluster(context, snapshot, bound),
            confirm_holds(context, snapshot, decision)
        );
        object.and(cluster).and(holds)?;
    } else if snapshot.status.reclaim.is_some() && decision.effects.iter().any(makes_a_machine) {
        confirm_all_holds(context, snapshot).await?;
    }
    Ok(())
}

/// Of one that was reclaimed: a watch that stalls may hide what keeps it away.
fn makes_a_machine(effect: &Effect) -> bool {
    matches!(effect, Effect::CreateMachine(_) | Effect::CreateChild { .. })
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
        | Effect::ReleaseMachine { .. }
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
async fn confirm(
    context: &Context,
    raw: &DynamicObject,
    snapshot: &Snapshot,
    bound: Duration,
) -> Result<(), PassError> {
    let api = objects(context, &snapshot.object.namespace);
    let live = tokio::time::timeout(bound, api.get_metadata_opt(&snapshot.object.name)).await;
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
async fn confirm_cluster(context: &Context, snapshot: &Snapshot, bound: Duration) -> Result<(), PassError> {
    let name = &snapshot.target.cluster_name;
    let Capi::Served(version) = snapshot.capi else { return Ok(()) };
    if snapshot.object.is_moving || name.is_empty() {
        return Ok(());
    }
    let api: Api<DynamicObject> =
        Api::namespaced_with(context.client.clone(), &snapshot.object.namespace, &version.cluster());
    let live = tokio::time::timeout(bound, api.get_opt(name)).await;
    let live = live.map_err(|_| PassError::Timeout("get"))?;
    let live = live.map_err(|error| PassError::Look(error.into()))?;
    let decided_on = |cluster: &Cluster| (cluster.uid.clone(), cluster.paused, cluster.deleting);
    let live = live.map(|object| decided_on(&Cluster::decode(&object, version)));
    if live == snapshot.cluster.as_ref().map(decided_on) { Ok(()) } else { Err(PassError::Stale) }
}

/// The same for holds: whoever made, edited or deleted one a moment ago may want the machine to stay; and of a reclaim's
/// own there may be one already, which is no reason to wait with the eject. Nothing is asked where no hold could matter.
async fn confirm_holds(
    context: &Context,
    snapshot: &Snapshot,
    decision: &mut Decision,
) -> Result<(), PassError> {
    if let Some(wish) = decision.effects.iter_mut().find_map(Effect::wish_mut) {
        wish.withheld = may_be_there(context, snapshot).await;
        return Ok(());
    }
    let is_bound = matches!(decision.ruling.rule, Rule::Deletion | Rule::ClusterDeleting | Rule::KillSwitch);
    // What the owner asked for outranks every hold of people.
    if is_bound || reclaim::without_hold(snapshot).is_some() {
        return Ok(());
    }
    confirm_all_holds(context, snapshot).await
}

/// Why a reclaim's hold must not be made now: there may be one that is not shown yet.
async fn may_be_there(context: &Context, snapshot: &Snapshot) -> Option<String> {
    let Object { namespace, name, uid, .. } = &snapshot.object;
    let api: Api<DynamicObject> =
        Api::namespaced_with(context.client.clone(), namespace, &machine_hold_resource());
    let of_it = ListParams::default().labels(&format!("{}={name}", names::LABEL_SCHEDULED_MACHINE));
    let live = match tokio::time::timeout(IN_A_HURRY, api.list_metadata(&of_it)).await {
        Ok(Ok(live)) => live,
        Ok(Err(error)) => {
            return Some(format!("whether there is one already cannot be seen: {}", words(&error)));
        }
        Err(_late) => {
            let bound = IN_A_HURRY.as_secs_f32();
            return Some(format!(
                "whether there is one already cannot be seen: no answer from the API server within {bound} s"
            ));
        }
    };
    let known = context.world.holds.editions(namespace);
    let is_ours =
        |hold: &&PartialObjectMeta<_>| hold.owner_references().iter().any(|owner| owner.uid == *uid);
    let is_known =
        |hold: &PartialObjectMeta<_>| known.iter().any(|(known, ..)| hold.uid().as_ref() == Some(known));
    let unknown = live.items.iter().filter(is_ours).find(|hold| !is_known(hold))?;
    Some(format!("there is {} already, which is not shown yet", unknown.name_any()))
}

async fn confirm_all_holds(context: &Context, snapshot: &Snapshot) -> Result<(), PassError> {
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
