//! A Machine that Cluster API can never end: its Cluster is gone, or the definition of one of its parts.
//!
//! Without the Cluster object Cluster API does nothing to its Machines. Deleting a `CustomResourceDefinition` takes every
//! object of its kind along, and Cluster API goes on looking for the part and fails. Either way (both seen with 1.14, the
//! latter with 1.10 as well) the Machine would keep the ScheduledMachine, and in the first case the host, for ever.

use crate::capi::kinds::Role;
use crate::capi::machine::Machine;
use crate::controller::decide::leave::{Clock, local};
use crate::controller::effect::{Effect, UnseenKind};
use crate::controller::snapshot::{Child, Service, Snapshot};

fn lost_parts(snapshot: &Snapshot) -> impl Iterator<Item = (&Child, &str)> {
    snapshot.children.iter().filter_map(|child| match &child.service {
        Service::NotServed(why) if child.resource.is_none() && snapshot.remembers(child) => {
            Some((child, why.as_str()))
        }
        Service::NotServed(_)
        | Service::Resolving
        | Service::NotAllowed(_)
        | Service::Unreachable(_)
        | Service::Served(_) => None,
    })
}

fn hosts(snapshot: &Snapshot) -> impl Iterator<Item = &Child> {
    snapshot.children.iter().filter(|child| child.role == Role::Infrastructure)
}

/// The Machine is on its way out, and its Cluster is gone: it has to be ended whatever the window says.
pub(super) fn is_torn(snapshot: &Snapshot) -> bool {
    snapshot.cluster.is_none() && snapshot.own_machine().is_some_and(|machine| machine.deleted_at.is_some())
}

/// What keeps Cluster API from ending it, in words.
pub(super) fn why(snapshot: &Snapshot) -> Option<String> {
    if snapshot.cluster.is_none() {
        let name = &snapshot.target.cluster_name;
        return Some(format!("Cluster API ends no Machine without its Cluster, and {name} is gone"));
    }
    lost_parts(snapshot).next().map(|(_, why)| format!("Cluster API cannot see it: {why}"))
}

/// How it ends all the same, to be said after that.
pub(super) fn way_out(snapshot: &Snapshot, clock: &Clock) -> Option<String> {
    why(snapshot)?;
    let at = local(snapshot, clock.gone_by);
    let is_over = snapshot.now >= clock.gone_by;
    Some(match (&snapshot.cluster, snapshot.object.deleted_at) {
        (None, _) if is_over => match hosts(snapshot).find(|child| may_have_host(snapshot, child)) {
            Some(child) => format!("; {} is being deleted without it", child.kind),
            None => "; it is let go".to_owned(),
        },
        (None, _) => format!("; without it the host is given back at {at}"),
        (Some(_), Some(_)) => format!("; without it the Machine is let go at {at}"),
        (Some(_), None) => "; a deletion of this object ends without it".to_owned(),
    })
}

/// Once the time that was promised is over. Never while there is, or may be, an infrastructure object: its host would be
/// forgotten. A bootstrap object that is left goes after the Machine, as any part that no Machine takes along.
///
/// Without its Cluster the Machine's host is taken out as Cluster API would do it: infrastructure first. Without a kind,
/// only where the ScheduledMachine itself goes: a provider that is away for a while still takes its part out when it is
/// back.
pub(super) fn end(snapshot: &Snapshot, machine: &Machine, clock: &Clock) -> Option<Effect> {
    if snapshot.now < clock.gone_by {
        return None;
    }
    if snapshot.cluster.is_none() {
        return end_without_cluster(snapshot, machine);
    }
    if snapshot.object.deleted_at.is_none() || hosts(snapshot).any(|child| may_have_host(snapshot, child)) {
        return None;
    }
    let unseen = unseen_kinds(snapshot);
    (!unseen.is_empty()).then(|| Effect::ReleaseMachine { uid: machine.uid.clone(), unseen })
}

/// Both steps look for the Cluster live once more before.
fn end_without_cluster(snapshot: &Snapshot, machine: &Machine) -> Option<Effect> {
    let owned = hosts(snapshot).find_map(|child| {
        let object = child.object.as_ref().filter(|object| snapshot.owns_child(child, object))?;
        Some((object, child.resource.as_ref()?))
    });
    match owned {
        Some((object, resource)) => (!object.deleting)
            .then(|| Effect::DeleteChild { resource: resource.clone(), uid: object.uid.clone() }),
        None if hosts(snapshot).any(|child| may_have_host(snapshot, child)) => None,
        None => Some(Effect::ReleaseMachine { uid: machine.uid.clone(), unseen: unseen_kinds(snapshot) }),
    }
}

/// A group that was taken off the allowed ones may still hold the object that was made when it was one of them.
fn may_have_host(snapshot: &Snapshot, child: &Child) -> bool {
    let is_hidden = matches!(child.service, Service::NotAllowed(_)) && snapshot.remembers(child);
    child.object.is_some() || child.service.is_unknown() || is_hidden
}

fn unseen_kinds(snapshot: &Snapshot) -> Vec<UnseenKind> {
    lost_parts(snapshot)
        .map(|(child, _)| UnseenKind {
            group: child.api_version.split('/').next().unwrap_or_default().to_owned(),
            kind: child.kind.clone(),
        })
        .collect()
}
