//! The machine should be in the cluster: make what is missing, follow what is there.

use jiff::Timestamp;

use crate::api::condition::Phase;
use crate::api::status::{Rule, Timers};
use crate::capi::kinds::Role;
use crate::capi::machine::{Cluster, Machine};
use crate::capi::version::Capi;
use crate::controller::agent;
use crate::controller::build;
use crate::controller::decide::Plan;
use crate::controller::decide::cleanup::stale_node;
use crate::controller::decide::leave::{Deleting, edit, reachable_node, uncordon};
use crate::controller::decide::node;
use crate::controller::decide::rivals;
use crate::controller::decide::rule::Ruling;
use crate::controller::effect::{Effect, INFRASTRUCTURE_DELETED, Standing, Wake};
use crate::controller::parts;
use crate::controller::reclaim::request;
use crate::controller::snapshot::{Child, Object, Service, Snapshot};
use crate::controller::target::Templates;

pub(super) fn plan(snapshot: &Snapshot, ruling: &Ruling) -> Plan {
    if let Capi::NotServed(why) | Capi::Unspoken(why) = &snapshot.capi {
        return blocked(snapshot, stalled("ClusterApiNotServed", why.clone()));
    }
    match &snapshot.machine {
        Some(machine) if !snapshot.owns_machine(machine) => {
            blocked(snapshot, name_taken("Machine", snapshot))
        }
        Some(machine) if machine.deleted_at.is_some() => wait_for_old_machine(snapshot, machine),
        Some(machine) => follow(snapshot, ruling, machine),
        None => build(snapshot),
    }
}

/// The window came back while the last Machine is still going: it goes, and a new one follows.
fn wait_for_old_machine(snapshot: &Snapshot, machine: &Machine) -> Plan {
    let detail = machine.condition("Deleting").map(|c| c.message.trim()).filter(|text| !text.is_empty());
    let message = match detail {
        Some(text) => format!("waiting for the previous Machine to go: {text}"),
        None => "waiting for the previous Machine to go; a new one follows".to_owned(),
    };
    let mut plan = Plan::new(
        waiting("WaitingForMachineDeletion", one_line(&message)),
        snapshot.status.timers.clone().unwrap_or_default(),
    );
    // That leaving completes, with what was promised for it, and its limits hold as in any other.
    let drain_ends_at = snapshot.status.leaving.as_ref().and_then(|leaving| leaving.drain_ends_at);
    let may_drain = !Deleting::read(snapshot, machine).is_past_drain && machine.node.is_some();
    let is_over = may_drain && drain_ends_at.is_some_and(|at| snapshot.now >= at);
    let farewell = || build::machine_farewell(snapshot, machine, is_over, false);
    plan.effects.extend(build::machine_relabel(snapshot, machine).or_else(farewell));
    plan.wake = Wake::never().or(drain_ends_at.filter(|_| may_drain && !is_over));
    plan.leaving.clone_from(&snapshot.status.leaving);
    plan
}

/// The run began when its first object was made; every other timer belongs to a leaving, and there is none.
fn opened(snapshot: &Snapshot) -> Timers {
    let stored = snapshot.status.timers.as_ref().and_then(|timers| timers.open_started_at);
    Timers { open_started_at: stored.or(Some(snapshot.now)), ..Timers::default() }
}

fn follow(snapshot: &Snapshot, ruling: &Ruling, machine: &Machine) -> Plan {
    let (rivals, removal) = rivals::plan(snapshot).unzip();
    let standing = match bereft(snapshot).or(rivals) {
        Some(standing) => standing,
        None if machine.is_ready() => lent(snapshot, ruling),
        None => joining(snapshot, machine),
    };
    let timers = opened(snapshot);
    let mut plan = Plan::new(standing, timers);
    plan.effects.extend(removal.flatten());
    plan.effects.extend(build::machine_repair(snapshot, machine));
    plan.effects.extend(snapshot.children.iter().filter_map(|child| build::child_relabel(snapshot, child)));
    let free = uncordon(snapshot);
    let taints = node::taints(snapshot);
    // One write to the Node in a pass: the next one needs the version that this one makes.
    let taint = || taints.edit.clone().map(Effect::Taint);
    let agent = agent::plan::follow(snapshot);
    plan.effects.extend(agent.rules.clone());
    plan.effects.extend(free.or_else(taint).or_else(|| answered(snapshot)).or_else(|| agent.label.clone()));
    let silent_at =
        snapshot.agents.as_ref().and_then(|agents| agents.beat.as_ref()).map(|beat| beat.silent_at);
    plan.wake = plan.wake.or(agent.again_at).or(silent_at.filter(|at| *at > snapshot.now));
    plan.agent = agent;
    plan.taints = Some(taints);
    plan
}

/// The agent waits for this before it asks again.
fn answered(snapshot: &Snapshot) -> Option<Effect> {
    let node = reachable_node(snapshot).filter(|_| request::is_to_be_cleared(snapshot))?;
    Some(Effect::ClearReclaim(edit(node)))
}

/// Somebody deleted the infrastructure object under its Machine: the host is gone, and Cluster API never asks for
/// another. What runs on the Node may be worth saving first, so a person decides when the Machine follows.
fn bereft(snapshot: &Snapshot) -> Option<Standing> {
    let was_there = snapshot.status.infrastructure_ref.as_ref().filter(|part| part.uid.is_some())?;
    let is_lost = |child: &Child| child.resource.is_some() && child.object.is_none();
    let mut kinds = snapshot.children.iter().filter(|child| child.role == Role::Infrastructure);
    let Object { namespace, name, .. } = &snapshot.object;
    let message = format!(
        "{} {name} was deleted under its Machine; delete the Machine too and a new one follows: \
         kubectl delete machine -n {namespace} {name}",
        was_there.kind
    );
    kinds.all(is_lost).then(|| stalled(INFRASTRUCTURE_DELETED, message))
}

fn lent(snapshot: &Snapshot, ruling: &Ruling) -> Standing {
    let back = |at: Timestamp| at.saturating_add(snapshot.target.hand_back_span()).unwrap_or(at);
    let why = if ruling.rule == Rule::Hold { format!(" ({})", ruling.message) } else { String::new() };
    let message = match (&snapshot.target.schedule, ruling.leaves_at) {
        (Ok(schedule), Some(at)) => {
            let (from, by) = (ruling.when(schedule, at), ruling.when(schedule, back(at)));
            format!("lent{why}; leaves from {from}, back by {by}")
        }
        (Err(_), Some(at)) => {
            format!("lent; {}: leaves from {at}, back by {}", ruling.message, back(at))
        }
        (_, None) => format!("lent; {}", ruling.message),
    };
    Standing { phase: Phase::Active, ready: Some(true), reason: "Active", message, stalled: false }
}

fn joining(snapshot: &Snapshot, machine: &Machine) -> Standing {
    let step = [
        ("BootstrapConfigReady", "WaitingForBootstrap"),
        ("InfrastructureReady", "WaitingForInfrastructure"),
        ("NodeHealthy", "WaitingForNode"),
    ]
    .into_iter()
    .find_map(|(condition, reason)| {
        let found = machine.condition(condition)?;
        (found.status != "True").then(|| (reason, found.message.clone()))
    });
    let (reason, detail) = match step {
        Some((reason, detail)) if !detail.is_empty() => (reason, detail),
        Some((reason, _)) => (reason, "Cluster API gives no detail".to_owned()),
        // A readiness gate, say.
        None => {
            let said = machine.condition("Ready").map(|ready| ready.message.clone());
            let said = said.filter(|text| !text.is_empty());
            ("WaitingForNode", said.unwrap_or_else(|| "the Machine is not ready yet".to_owned()))
        }
    };
    // A machine that was in and has a hiccup is still lent.
    let was_in =
        snapshot.status.last_run.as_ref().is_some_and(|run| run.ready_at.is_some() && run.gone_at.is_none());
    let phase = if was_in { Phase::Active } else { Phase::Pending };
    Standing { phase, ready: Some(false), reason, message: one_line(&detail), stalled: false }
}

/// Bootstrap and infrastructure first: Cluster API looks again only after 30 s when a Machine's parts are missing.
fn build(snapshot: &Snapshot) -> Plan {
    if let Some(plan) = leftovers(snapshot) {
        return plan;
    }
    if snapshot.status.machine_ref.is_some() {
        return after_the_last(snapshot);
    }
    let templates = match &snapshot.target.templates {
        Ok(templates) => templates,
        Err(faults) => {
            let text: Vec<String> = faults.iter().map(ToString::to_string).collect();
            return blocked(snapshot, stalled("SpecInvalid", text.join("; ")));
        }
    };
    let cluster = match ready_cluster(snapshot) {
        Ok(cluster) => cluster,
        Err(standing) => return blocked(snapshot, standing),
    };
    if let Some(plan) = note_kinds(snapshot) {
        return plan;
    }
    let mut effects = Vec::new();
    for role in [Role::Bootstrap, Role::Infrastructure] {
        match create_child(snapshot, templates, cluster, role) {
            Ok(effect) => effects.extend(effect),
            Err(standing) => return blocked(snapshot, standing),
        }
    }
    effects.push(Effect::CreateMachine(Box::new(build::machine(snapshot, templates, cluster))));
    if snapshot.waits_for_turn {
        let message = "as many machines as may be made at one time are being made; this one follows by its spec.priority";
        return blocked(snapshot, waiting("WaitingForTurn", message.to_owned()));
    }
    let timers = opened(snapshot);
    let mut plan = Plan::new(waiting("WaitingForBootstrap", "making the Machine".to_owned()), timers);
    plan.effects = effects;
    plan
}

/// A kind is written down before the first object of it is made; where the spec was not edited just now it has been.
fn note_kinds(snapshot: &Snapshot) -> Option<Plan> {
    let news = snapshot.children.iter().find(|child| child.is_wanted && !parts::is_noted(snapshot, child))?;
    let mut plan = blocked(snapshot, waiting("Starting", format!("noting the kind {}", news.kind)));
    plan.wake = Wake::at(snapshot.now);
    Some(plan)
}

/// The Machine that the status remembers has gone: that run is closed in the books before the next one opens.
fn after_the_last(snapshot: &Snapshot) -> Plan {
    let standing =
        waiting("WaitingForBootstrap", "the previous Machine is gone; a new one follows".to_owned());
    let mut plan = Plan::new(standing, Timers::default());
    plan.is_gone = true;
    plan.wake = Wake::at(snapshot.now);
    plan
}

fn ready_cluster(snapshot: &Snapshot) -> Result<&Cluster, Standing> {
    let name = &snapshot.target.cluster_name;
    let Some(cluster) = &snapshot.cluster else {
        let message = format!(
            "Cluster {name} does not exist in namespace {}; create it or correct spec.clusterName",
            snapshot.object.namespace
        );
        return Err(waiting("WaitingForCluster", message));
    };
    if !cluster.infrastructure_provisioned {
        return Err(waiting(
            "WaitingForCluster",
            format!("the infrastructure of Cluster {name} is not provisioned yet"),
        ));
    }
    if !cluster.control_plane_initialized {
        return Err(waiting(
            "WaitingForCluster",
            format!("the control plane of Cluster {name} is not initialized yet"),
        ));
    }
    Ok(cluster)
}

/// What an earlier run left: one host cannot be taken twice (a stale Node with its provider id would keep the new
/// Machine from ever finding its own).
fn leftovers(snapshot: &Snapshot) -> Option<Plan> {
    if let Some(child) = snapshot.children.iter().find(|child| is_left_over(snapshot, child)) {
        let reason = match child.role {
            Role::Bootstrap => "WaitingForBootstrap",
            Role::Infrastructure => "WaitingForInfrastructure",
        };
        let message = format!("waiting for the previous {} to go", child.kind);
        let mut plan = blocked(snapshot, waiting(reason, message));
        // One that had a Machine goes with it (the garbage collector's work); what never had one goes by us.
        if let (Some(resource), Some(object)) = (&child.resource, &child.object)
            && !object.deleting
            && object.machine_uid.is_none()
        {
            plan.effects.push(Effect::DeleteChild { resource: resource.clone(), uid: object.uid.clone() });
        }
        return Some(plan);
    }
    let node = stale_node(snapshot)?;
    let mut plan = blocked(
        snapshot,
        waiting("WaitingForNode", format!("waiting for the previous Node {} to go", node.name)),
    );
    plan.effects.extend((!node.deleting).then(|| Effect::DeleteNode(edit(node))));
    Some(plan)
}

/// On its way out already; of a Machine that is no more (the collector takes it, and would take it from under a new
/// Machine); or of a kind that the template no longer names, and that nobody would remember after the next create.
fn is_left_over(snapshot: &Snapshot, child: &Child) -> bool {
    let is_edited_away = !child.is_wanted && snapshot.target.templates.is_ok();
    match &child.object {
        Some(object) if object.deleting => true,
        Some(object) => {
            snapshot.owns_child(child, object) && (object.machine_uid.is_some() || is_edited_away)
        }
        // Not known is not gone.
        None => child.service.is_unknown() && snapshot.remembers(child),
    }
}

fn create_child(
    snapshot: &Snapshot,
    templates: &Templates,
    cluster: &Cluster,
    role: Role,
) -> Result<Option<Effect>, Standing> {
    let Some(child) = snapshot.wanted(role) else {
        return Err(stalled("SpecInvalid", "bootstrapSpec and infrastructureSpec are required".to_owned()));
    };
    let resource = usable(child)?;
    match &child.object {
        Some(object) if snapshot.owns_child(child, object) => Ok(None),
        Some(_) => Err(name_taken(&child.kind, snapshot)),
        None => Ok(Some(Effect::CreateChild {
            role,
            resource: resource.clone(),
            object: Box::new(build::child(snapshot, templates, cluster, role, resource)),
        })),
    }
}

fn usable(child: &Child) -> Result<&kube::core::ApiResource, Standing> {
    match &child.service {
        Service::Served(resource) => Ok(resource),
        Service::Resolving => {
            Err(waiting("Starting", format!("looking up {} {}", child.api_version, child.kind)))
        }
        Service::Unreachable(text) => Err(waiting("Starting", text.clone())),
        Service::NotServed(text) => Err(stalled("KindNotServed", text.clone())),
        Service::NotAllowed(text) => Err(stalled("KindNotAllowed", text.clone())),
    }
}

fn name_taken(kind: &str, snapshot: &Snapshot) -> Standing {
    let object = &snapshot.object;
    let message = format!(
        "a {kind} named {} exists in namespace {} and is not ours; delete or rename it, or rename this ScheduledMachine",
        object.name, object.namespace
    );
    stalled("NameTaken", message)
}

/// Nothing can be made now; what has been made so far stays.
fn blocked(snapshot: &Snapshot, standing: Standing) -> Plan {
    let timers = Timers {
        open_started_at: snapshot.status.timers.as_ref().and_then(|t| t.open_started_at),
        ..Timers::default()
    };
    Plan::new(standing, timers)
}

pub(super) fn waiting(reason: &'static str, message: String) -> Standing {
    Standing { phase: Phase::Pending, ready: Some(false), reason, message, stalled: false }
}

fn stalled(reason: &'static str, message: String) -> Standing {
    Standing { phase: Phase::Error, ready: Some(false), reason, message, stalled: true }
}

/// Cluster API's messages are lists over several lines; a printer column has one.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
