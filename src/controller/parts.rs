//! Which kinds the parts of a machine may be of: those that the spec names, and those that it named before.
//!
//! Pure. A kind is noted in the status before the first object of it is made. So whatever happens between a create and
//! its record, a crash and an edit of the kind included, the object is looked for where it is.

use kube::core::{ApiResource, GroupVersionKind};

use crate::api::refs::{MOST_PART_KINDS, PartKind, PartRole};
use crate::api::status::ScheduledMachineStatus;
use crate::capi::kinds::Role;
use crate::controller::snapshot::{Child, Service, Snapshot};
use crate::controller::target::Target;

/// What the status calls a role.
pub fn part_role(role: Role) -> PartRole {
    match role {
        Role::Bootstrap => PartRole::Bootstrap,
        Role::Infrastructure => PartRole::Infrastructure,
    }
}

/// The kinds to look at, each once: role, `apiVersion`, kind, and whether the spec names it today.
pub fn kinds(target: &Target, status: &ScheduledMachineStatus) -> Vec<(Role, String, String, bool)> {
    let mut found: Vec<(Role, String, String, bool)> = Vec::new();
    let mut add = |role: Role, api_version: &str, kind: &str, is_wanted: bool| {
        if !found.iter().any(|(r, a, k, _)| *r == role && a == api_version && k == kind) {
            found.push((role, api_version.to_owned(), kind.to_owned(), is_wanted));
        }
    };
    if let Ok(templates) = &target.templates {
        add(Role::Bootstrap, &templates.bootstrap.api_version, &templates.bootstrap.kind, true);
        let infrastructure = &templates.infrastructure;
        add(Role::Infrastructure, &infrastructure.api_version, &infrastructure.kind, true);
    }
    let recorded =
        [(Role::Bootstrap, &status.bootstrap_ref), (Role::Infrastructure, &status.infrastructure_ref)];
    for (role, reference) in recorded {
        if let Some(reference) = reference {
            add(role, &reference.api_version, &reference.kind, false);
        }
    }
    for noted in &status.part_kinds {
        let role = match noted.role {
            PartRole::Bootstrap => Role::Bootstrap,
            PartRole::Infrastructure => Role::Infrastructure,
        };
        add(role, &noted.api_version, &noted.kind, false);
    }
    found
}

/// Whether objects of the kind may be made: it stands in the status.
pub fn is_noted(snapshot: &Snapshot, child: &Child) -> bool {
    snapshot.status.part_kinds.contains(&part_kind(child))
}

/// What the status is to note. `is_gone`: nothing of the machine is left.
pub fn to_note(snapshot: &Snapshot, is_gone: bool) -> Vec<PartKind> {
    let is_made = snapshot.own_machine().is_some();
    let mut noted: Vec<PartKind> = snapshot
        .children
        .iter()
        .filter(|child| child.is_wanted || !(is_gone || is_made && is_seen_empty(child)))
        .map(part_kind)
        .collect();
    // Wanted ones come first.
    noted.truncate(MOST_PART_KINDS);
    noted
}

/// What the last look is to go through: the kind as it is served, or else as it was called when it was. Nothing of a
/// group that we may not touch.
pub fn to_look_at(child: &Child) -> Option<ApiResource> {
    let as_called = || {
        let (group, version) = child.api_version.split_once('/')?;
        Some(ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &child.kind)))
    };
    match &child.service {
        Service::NotServed(_) => child.resource.clone().or_else(as_called),
        Service::Served(_) | Service::NotAllowed(_) | Service::Resolving | Service::Unreachable(_) => {
            child.resource.clone()
        }
    }
}

/// While a Machine is there no part is being made, so what cannot be seen is not there.
fn is_seen_empty(child: &Child) -> bool {
    child.object.is_none() && matches!(child.service, Service::Served(_))
}

fn part_kind(child: &Child) -> PartKind {
    PartKind { role: part_role(child.role), api_version: child.api_version.clone(), kind: child.kind.clone() }
}
