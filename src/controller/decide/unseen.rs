//! A Machine that Cluster API can never end, because the definition of one of its parts is gone.
//!
//! Deleting a `CustomResourceDefinition` takes every object of its kind along. Cluster API goes on looking for the part of
//! the Machine and fails (as seen with 1.10 and 1.14), so that the Machine would keep the ScheduledMachine for ever.

use crate::capi::kinds::Role;
use crate::capi::machine::Machine;
use crate::controller::decide::leave::{Clock, local};
use crate::controller::effect::{Effect, UnseenKind};
use crate::controller::snapshot::{Child, Service, Snapshot};

fn parts(snapshot: &Snapshot) -> impl Iterator<Item = (&Child, &str)> {
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

/// What Cluster API cannot see, in words.
pub(super) fn why(snapshot: &Snapshot) -> Option<&str> {
    parts(snapshot).next().map(|(_, why)| why)
}

/// How it ends all the same, to be said after that.
pub(super) fn way_out(snapshot: &Snapshot, clock: &Clock) -> Option<String> {
    why(snapshot)?;
    Some(if snapshot.object.deleted_at.is_some() {
        format!("; without it the Machine is let go at {}", local(snapshot, clock.gone_by))
    } else {
        "; a deletion of this object ends without it".to_owned()
    })
}

/// Once the time that was promised is over, and only where the ScheduledMachine itself goes: a provider that is away for a
/// while still takes its part out when it is back. Never while there is, or may be, an infrastructure object: its host
/// would be forgotten. A bootstrap object that is left goes after the Machine, as any part that no Machine takes along.
pub(super) fn release(snapshot: &Snapshot, machine: &Machine, clock: &Clock) -> Option<Effect> {
    let may_have_host = |child: &Child| {
        child.role == Role::Infrastructure && (child.object.is_some() || child.service.is_unknown())
    };
    let is_time = snapshot.object.deleted_at.is_some() && snapshot.now >= clock.gone_by;
    if !is_time || snapshot.children.iter().any(may_have_host) {
        return None;
    }
    let unseen: Vec<UnseenKind> = parts(snapshot)
        .map(|(child, _)| UnseenKind {
            group: child.api_version.split('/').next().unwrap_or_default().to_owned(),
            kind: child.kind.clone(),
        })
        .collect();
    (!unseen.is_empty()).then(|| Effect::ReleaseMachine { uid: machine.uid.clone(), unseen })
}
