//! Conditions: each type has one function here, with its reasons.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::api::condition::types;
use crate::api::status::{DesiredState, Rule};
use crate::capi::encode::has_min_ready_seconds;
use crate::capi::kinds::Role;
use crate::capi::version::Capi;
use crate::controller::agent::said;
use crate::controller::build;
use crate::controller::decide::node::Taken;
use crate::controller::effect::Decision;
use crate::controller::error::Class;
use crate::controller::report::{Failure, Report};
use crate::controller::snapshot::{Service, Snapshot};
use crate::schedule::Fault;
use crate::workload::Reach;

/// How much of a message is kept; the field's own limit is 32,768.
pub const LONGEST_MESSAGE: usize = 2048;

/// A condition before it has a time.
struct Said {
    status: &'static str,
    reason: String,
    message: String,
}

impl Said {
    fn new(holds: bool, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { status: if holds { "True" } else { "False" }, reason: reason.into(), message: message.into() }
    }

    fn unknown(reason: &str, message: &str) -> Self {
        Self { status: "Unknown", reason: reason.to_owned(), message: message.to_owned() }
    }
}

/// What a condition becomes.
enum Next {
    Say(Said),
    /// Not known yet: what was said before stands, or else this.
    Keep(Said),
    /// What was said before stands, if anything was.
    Stand,
    Drop,
}

/// All conditions, sorted by type. A time changes only where a status does.
pub fn all(snapshot: &Snapshot, decision: &Decision, report: &Report) -> Vec<Condition> {
    let ready = ready(decision, report);
    let is_ready = ready.status == "True";
    let stalled = stalled(snapshot, decision, report);
    let reconciling = reconciling(&ready, is_ready || stalled.is_some());
    let list = [
        (types::AGENT_READY, agent_ready(snapshot, decision, report)),
        (types::HAND_BACK_OVERDUE, overdue(snapshot, decision)),
        (types::MACHINE_READY, machine_ready(snapshot, decision)),
        (types::NODE_TAINTED, node_tainted(snapshot, decision, report)),
        (types::READY, Next::Say(ready)),
        (types::RECONCILING, reconciling),
        (types::REFERENCES_VALID, references_valid(snapshot, decision, report)),
        (types::SCHEDULED, Next::Say(scheduled(snapshot, decision))),
        (types::STALLED, stalled.map_or(Next::Drop, Next::Say)),
        (types::TEMPLATE_CURRENT, template_current(snapshot, decision)),
        (types::WORKLOAD_REACHABLE, workload_reachable(snapshot)),
    ];
    list.into_iter().filter_map(|(kind, next)| stamped(snapshot, kind, next)).collect()
}

fn stamped(snapshot: &Snapshot, kind: &str, next: Next) -> Option<Condition> {
    let before = snapshot.status.conditions.iter().find(|condition| condition.type_ == kind);
    let said = match (next, before) {
        (Next::Drop, _) | (Next::Stand, None) => return None,
        (Next::Keep(_) | Next::Stand, Some(before)) => {
            return Some(Condition {
                observed_generation: Some(snapshot.object.generation),
                ..before.clone()
            });
        }
        (Next::Say(said) | Next::Keep(said), _) => said,
    };
    let unchanged =
        before.filter(|before| before.status == said.status).map(|b| b.last_transition_time.clone());
    Some(Condition {
        type_: kind.to_owned(),
        status: said.status.to_owned(),
        reason: said.reason,
        message: said.message.chars().take(LONGEST_MESSAGE).collect(),
        observed_generation: Some(snapshot.object.generation),
        last_transition_time: unchanged.unwrap_or_else(|| Time(whole_seconds(snapshot.now))),
    })
}

/// Kubernetes' own times have no fraction.
fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

fn ready(decision: &Decision, report: &Report) -> Said {
    if let Some(failure) = &report.failure {
        return Said::new(false, failure.reason, failure.message.clone());
    }
    let standing = &decision.standing;
    match standing.ready {
        Some(ready) => Said::new(ready, standing.reason, standing.message.clone()),
        None => Said::unknown(standing.reason, &standing.message),
    }
}

fn reconciling(ready: &Said, is_at_rest: bool) -> Next {
    if is_at_rest || ready.status == "Unknown" {
        return Next::Drop;
    }
    Next::Say(Said::new(true, ready.reason.clone(), ready.message.clone()))
}

/// A person is needed. A schedule that cannot be read stalls under every rule; bad templates only where they block.
fn stalled(snapshot: &Snapshot, decision: &Decision, report: &Report) -> Option<Said> {
    if let Err(faults) = &snapshot.target.schedule {
        return Some(Said::new(true, "SpecInvalid", words(faults)));
    }
    if let Some(text) = name_taken(decision, report) {
        return Some(Said::new(true, "NameTaken", text));
    }
    let standing = &decision.standing;
    standing.stalled.then(|| Said::new(true, standing.reason, standing.message.clone()))
}

/// Something foreign in our way, seen in the caches or met by a create.
fn name_taken<'a>(decision: &'a Decision, report: &'a Report) -> Option<&'a str> {
    let met = report.failure.as_ref().map(|failure| (failure.reason, &failure.message));
    let seen = (decision.standing.reason, &decision.standing.message);
    [met, Some(seen)]
        .into_iter()
        .flatten()
        .find(|(reason, _)| *reason == "NameTaken")
        .map(|(_, text)| text.as_str())
}

fn scheduled(snapshot: &Snapshot, decision: &Decision) -> Said {
    let ruling = &decision.ruling;
    let active = ruling.state == DesiredState::Active;
    let reason = match ruling.rule {
        Rule::Deletion | Rule::ClusterDeleting | Rule::OutsideWindows => "ScheduleInactive",
        Rule::KillSwitch => "KillSwitchActivated",
        Rule::Reclaim => "EmergencyReclaim",
        Rule::Paused => "Paused",
        Rule::Hold => "Held",
        Rule::Disabled => "ScheduleDisabled",
        Rule::ScheduleInvalid => "SpecInvalid",
        Rule::Exception if active => "ExceptionActive",
        Rule::Exception => "ExceptionInactive",
        Rule::Window => "ScheduleActive",
    };
    let message = match &snapshot.target.schedule {
        Err(faults) if ruling.rule == Rule::ScheduleInvalid => {
            format!("{}: {}", ruling.message, words(faults))
        }
        _ => ruling.message.clone(),
    };
    if ruling.state == DesiredState::AsIs {
        return Said::unknown(reason, &message);
    }
    Said::new(active, reason, message)
}

fn references_valid(snapshot: &Snapshot, decision: &Decision, report: &Report) -> Next {
    let faults = snapshot.target.faults();
    if !faults.is_empty() {
        return Next::Say(Said::new(false, "SpecInvalid", words(&faults)));
    }
    if let Capi::NotServed(why) | Capi::Unspoken(why) = &snapshot.capi {
        return Next::Say(Said::new(false, "ClusterApiNotServed", why.clone()));
    }
    if snapshot.cluster.is_none() {
        let (name, namespace) = (&snapshot.target.cluster_name, &snapshot.object.namespace);
        let message = format!("Cluster {name} does not exist in namespace {namespace}");
        return Next::Say(Said::new(false, "ClusterNotFound", message));
    }
    if let Some(text) = name_taken(decision, report) {
        return Next::Say(Said::new(false, "NameTaken", text));
    }
    for role in [Role::Bootstrap, Role::Infrastructure] {
        let Some(child) = snapshot.wanted(role) else { continue };
        match &child.service {
            Service::Served(_) => {}
            Service::NotServed(text) => return Next::Say(Said::new(false, "KindNotServed", text.clone())),
            Service::NotAllowed(text) => return Next::Say(Said::new(false, "KindNotAllowed", text.clone())),
            Service::Resolving => return Next::Keep(Said::unknown("Resolving", "looking up the kinds")),
            Service::Unreachable(text) => return Next::Keep(Said::unknown("Resolving", text)),
        }
    }
    let sound = "the spec is sound and what it names exists";
    let asks = snapshot.target.templates.as_ref().is_ok_and(|made| made.min_ready_seconds.is_some());
    if asks && !has_min_ready_seconds(snapshot.capi.version()) {
        let text = format!("{sound}; minReadySeconds is left out, Machines have it from Cluster API 1.11 on");
        return Next::Say(Said::new(true, "Valid", text));
    }
    Next::Say(Said::new(true, "Valid", sound))
}

fn workload_reachable(snapshot: &Snapshot) -> Next {
    if snapshot.cluster.is_none() {
        // Without it there is no connection either: what was said before holds no more.
        return Next::Say(Said::unknown("ClusterNotFound", "there is no Cluster to connect to"));
    }
    match &snapshot.reach {
        Reach::Connected => Next::Say(Said::new(true, "Connected", "the workload API server answers")),
        Reach::Connecting => Next::Keep(Said::unknown("Connecting", "connecting to the workload API server")),
        Reach::KubeconfigMissing(text) => Next::Say(Said::new(false, "KubeconfigMissing", text.clone())),
        Reach::KubeconfigInvalid(text) => Next::Say(Said::new(false, "KubeconfigInvalid", text.clone())),
        Reach::Unreachable(text) => Next::Say(Said::new(false, "Unreachable", text.clone())),
        Reach::Unauthorized(text) => Next::Say(Said::new(false, "Unauthorized", text.clone())),
    }
}

fn template_current(snapshot: &Snapshot, decision: &Decision) -> Next {
    if decision.is_gone {
        return Next::Drop;
    }
    let (Some(machine), Ok(templates)) = (snapshot.own_machine(), &snapshot.target.templates) else {
        return Next::Drop;
    };
    match build::is_template_current(templates, machine) {
        Some(true) => Next::Say(Said::new(true, "Current", "the Machine was built from today's templates")),
        Some(false) => {
            let message = "the templates were edited since the Machine was built; the next Machine gets them";
            Next::Say(Said::new(false, "PendingNextMachine", message))
        }
        None => Next::Drop,
    }
}

/// Mirrors the Machine's own `Ready`.
fn machine_ready(snapshot: &Snapshot, decision: &Decision) -> Next {
    if decision.ruling.state == DesiredState::Inactive {
        return Next::Drop;
    }
    let Some(machine) = snapshot.own_machine() else { return Next::Drop };
    match machine.condition("Ready") {
        Some(ready) => Next::Say(Said {
            status: match ready.status.as_str() {
                "True" => "True",
                "False" => "False",
                _ => "Unknown",
            },
            // The server refuses a condition without a reason.
            reason: if ready.reason.is_empty() { "NotReported".to_owned() } else { ready.reason.clone() },
            message: ready.message.clone(),
        }),
        None => Next::Say(Said::unknown("NotReported", "Cluster API has not reported on the Machine yet")),
    }
}

/// Absent while no machine is wanted, and where no taints are.
fn node_tainted(snapshot: &Snapshot, decision: &Decision, report: &Report) -> Next {
    let is_wanted = !snapshot.target.taints.is_empty();
    let Some(plan) = &decision.taints else {
        let is_frozen = snapshot.is_capi_paused() || snapshot.object.is_moving;
        return match decision.ruling.state {
            DesiredState::AsIs => Next::Stand,
            // On its way out all the same; its taints stay on until it has gone.
            DesiredState::Active if is_frozen || decision.leaving.is_some() => Next::Stand,
            DesiredState::Active if is_wanted => {
                Next::Say(Said::new(false, "NodeNotReady", "waiting for the Node to join"))
            }
            DesiredState::Active | DesiredState::Inactive => Next::Drop,
        };
    };
    if !is_wanted && plan.going.is_empty() {
        return Next::Drop;
    }
    if !plan.has_node {
        return Next::Say(Said::new(false, "NodeNotReady", "waiting for the Node to join"));
    }
    let failure = report.node_failure.as_ref().filter(|failure| failure.class != Class::Conflict);
    if let (Some(failure), Some(_)) = (failure, &plan.edit) {
        return Next::Say(Said::new(false, "PatchFailed", failure.message.clone()));
    }
    let taken = plan.taken.iter().map(Taken::words).collect::<Vec<_>>().join("; ");
    if plan.taken.iter().any(Taken::is_missing) {
        return Next::Say(Said::new(false, "TaintOwnershipConflict", taken));
    }
    if !plan.coming.is_empty() || !plan.going.is_empty() {
        let steps = [("to be put on", &plan.coming), ("to be taken off", &plan.going)];
        let steps = steps.iter().filter(|(_, taints)| !taints.is_empty());
        let steps: Vec<String> =
            steps.map(|(what, taints)| format!("{what}: {}", taints.join(", "))).collect();
        return Next::Say(Said::new(false, "NodeNotReady", steps.join("; ")));
    }
    if !taken.is_empty() {
        return Next::Say(Said::new(true, "TaintOwnershipConflict", taken));
    }
    Next::Say(Said::new(true, "Applied", format!("the Node carries {}", plan.on.join(", "))))
}

/// Absent while no machine is wanted, and where no agent is. It outlasts the wish by the time that it takes to fulfil it.
fn agent_ready(snapshot: &Snapshot, decision: &Decision, report: &Report) -> Next {
    let plan = &decision.agent;
    let is_lent = snapshot.own_machine().is_some_and(|machine| machine.deleted_at.is_none());
    let is_to_go = plan.label.is_some() || plan.rules.is_some();
    match decision.ruling.state {
        DesiredState::Inactive => return Next::Drop,
        DesiredState::AsIs => return Next::Stand,
        DesiredState::Active if !is_lent => return Next::Drop,
        DesiredState::Active if snapshot.is_capi_paused() || decision.leaving.is_some() => {
            return Next::Stand;
        }
        DesiredState::Active if snapshot.target.commands.is_empty() && is_to_go => return Next::Stand,
        DesiredState::Active if snapshot.target.commands.is_empty() => return Next::Drop,
        DesiredState::Active => {}
    }
    // Who cannot be reached may hear all the same.
    if snapshot.reach != Reach::Connected {
        return Next::Stand;
    }
    let failure = report.node_failure.as_ref().filter(|failure| failure.class != Class::Conflict);
    let word = said::word(snapshot, plan, failure);
    word.map_or(Next::Stand, |(is_heard, reason, message)| Next::Say(Said::new(is_heard, reason, message)))
}

fn overdue(snapshot: &Snapshot, decision: &Decision) -> Next {
    // Not while the window is open again: nobody waits for the machine then.
    let is_off = decision.ruling.state == DesiredState::Inactive;
    let gone_by = decision.leaving.as_ref().filter(|_| is_off).and_then(|leaving| leaving.gone_by);
    match gone_by {
        Some(by) if by <= snapshot.now => {
            let message = format!("promised to its owner by {by}: {}", decision.standing.message);
            Next::Say(Said::new(true, decision.standing.reason, message))
        }
        _ => Next::Drop,
    }
}

fn words(faults: &[Fault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// A failure on the Node belongs beside the message, not in place of it.
pub fn with_node_failure(message: &str, failure: Option<&Failure>) -> String {
    match failure {
        Some(failure) if failure.class != Class::Conflict => format!("{message} ({})", failure.message),
        _ => message.to_owned(),
    }
}
