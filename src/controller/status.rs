//! From snapshot, decision and report to the whole status. Derived last; never acts.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::api::condition::Phase;
use crate::api::status::{
    DecisionStatus, DesiredState, LastRun, NodeRef, ObjectRef, Rule, ScheduledMachineStatus, Timers,
};
use crate::api::taint::AppliedTaint;
use crate::capi::kinds::Role;
use crate::capi::version::Capi;
use crate::controller::conditions;
use crate::controller::decide::node::first_noted;
use crate::controller::decide::rule::{in_schedule, schedule_instant};
use crate::controller::effect::Decision;
use crate::controller::parts;
use crate::controller::reclaim;
use crate::controller::report::{Made, Report};
use crate::controller::snapshot::Snapshot;
use crate::schedule::Schedule;
use crate::workload::Reach;

/// Limit of the one-line fields.
const LONGEST_LINE: usize = 1024;

/// The status that this pass leaves behind.
pub fn derive(snapshot: &Snapshot, decision: &Decision, report: &Report) -> ScheduledMachineStatus {
    let before = &snapshot.status;
    let schedule = snapshot.target.schedule.as_ref().ok();
    let in_schedule = in_schedule(snapshot, &decision.ruling);
    let (next_activation, next_cleanup) = timetable(snapshot, schedule, in_schedule);
    // While something fails nothing is taken for gone, or nobody would look for it again.
    let is_gone = decision.is_gone && report.failure.is_none();
    let last_run = last_run(snapshot, decision, is_gone);
    let keeps_node = !is_gone || outlives_its_machine(snapshot, decision);
    let ruling = &decision.ruling;
    let recorded = reclaim::recorded(snapshot, report);
    let reclaimed_at = reclaim::to_latch(snapshot, recorded.as_ref());
    let timers = Timers { reclaimed_at, ..decision.timers.clone() };
    ScheduledMachineStatus {
        observed_generation: Some(snapshot.object.generation),
        phase: Some(phase(decision, report)),
        message: Some(message(decision, report)),
        in_schedule: Some(in_schedule),
        next_activation,
        next_cleanup,
        next: ruling.next.clone(),
        next_text: Some(next_text(decision, schedule)),
        hand_back_by: hand_back_by(snapshot, decision),
        last_scheduled_time: last_run.as_ref().and_then(|run| run.opened_at).or(before.last_scheduled_time),
        decision: Some(DecisionStatus {
            state: ruling.state,
            rule: ruling.rule,
            since: ruling.since,
            rule_since: ruling.rule_since,
            until: ruling.until,
            manner: ruling.manner,
            source: ruling.source.clone(),
            message: Some(clipped(&ruling.message, LONGEST_LINE)),
        }),
        timers: (timers != Timers::default()).then_some(timers),
        leaving: decision.leaving.clone(),
        last_run,
        reclaim: reclaim::status(snapshot, recorded.as_ref()),
        machine_ref: machine_ref(snapshot, report).filter(|_| !is_gone),
        bootstrap_ref: child_ref(snapshot, report, Role::Bootstrap, is_gone),
        infrastructure_ref: child_ref(snapshot, report, Role::Infrastructure, is_gone),
        part_kinds: parts::to_note(snapshot, is_gone),
        node_ref: node_ref(snapshot).filter(|_| keeps_node),
        provider_id: provider_id(snapshot).filter(|_| keeps_node),
        applied_node_taints: if keeps_node { applied_taints(snapshot, decision) } else { Vec::new() },
        conditions: conditions::all(snapshot, decision, report),
    }
}

/// A JSON merge patch from one status to the other; `None` where they are the same.
pub fn patch(before: &Value, after: &Value) -> Option<Value> {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            let removed =
                before.keys().filter(|key| !after.contains_key(*key)).map(|key| (key.clone(), Value::Null));
            let changed = after.iter().filter_map(|(key, value)| {
                let change = match before.get(key) {
                    Some(old) => patch(old, value)?,
                    None => value.clone(),
                };
                Some((key.clone(), change))
            });
            let all: Map<String, Value> = removed.chain(changed).collect();
            (!all.is_empty()).then_some(Value::Object(all))
        }
        (before, after) => (before != after).then(|| after.clone()),
    }
}

/// No longer than the field may be: the server refuses a whole status for one long line.
fn clipped(text: &str, longest: usize) -> String {
    text.chars().take(longest).collect()
}

fn phase(decision: &Decision, report: &Report) -> Phase {
    match &report.failure {
        Some(failure) if failure.reason == "NameTaken" => Phase::Error,
        _ => decision.standing.phase,
    }
}

fn message(decision: &Decision, report: &Report) -> String {
    let text = report.failure.as_ref().map_or(&decision.standing.message, |failure| &failure.message);
    clipped(&conditions::with_node_failure(text, report.node_failure.as_ref()), conditions::LONGEST_MESSAGE)
}

/// Of a timetable that cannot be read, the end last promised stands, until it has come.
fn timetable(
    snapshot: &Snapshot,
    schedule: Option<&Schedule>,
    in_schedule: bool,
) -> (Option<Timestamp>, Option<Timestamp>) {
    let Some(schedule) = schedule else {
        return (None, snapshot.status.next_cleanup.filter(|_| in_schedule));
    };
    let first = schedule.next_edge(schedule_instant(snapshot));
    let second = first.as_ref().and_then(|edge| schedule.next_edge(edge.at));
    let horizon = snapshot.now.saturating_add(crate::schedule::HORIZON).unwrap_or(Timestamp::MAX);
    let find = |active: bool| {
        [&first, &second]
            .into_iter()
            .flatten()
            .find(|edge| edge.active == active && edge.at <= horizon)
            .map(|e| e.at)
    };
    (find(true), find(false))
}

fn next_text(decision: &Decision, schedule: Option<&Schedule>) -> String {
    let ruling = &decision.ruling;
    let Some(next) = &ruling.next else {
        let why = match ruling.rule {
            Rule::Deletion => "being deleted",
            Rule::ClusterDeleting => "Cluster being deleted",
            Rule::KillSwitch => "kill switch",
            Rule::Reclaim => "reclaimed",
            Rule::Paused => "paused",
            Rule::Hold => "held",
            Rule::Disabled => "disabled",
            Rule::ScheduleInvalid => "schedule invalid",
            Rule::Exception | Rule::Window | Rule::OutsideWindows => "no change within a year",
        };
        return format!("never ({why})");
    };
    let verb = match next.state {
        DesiredState::Active => "joins",
        DesiredState::Inactive => "leaves",
        DesiredState::AsIs => "frozen from",
    };
    let when = schedule.map_or_else(|| next.at.to_string(), |schedule| ruling.when(schedule, next.at));
    match &next.blocked_by {
        Some(blocker) => format!("{verb} {when} (blocked: {blocker})"),
        None => format!("{verb} {when}"),
    }
}

fn hand_back_by(snapshot: &Snapshot, decision: &Decision) -> Option<Timestamp> {
    match decision.ruling.state {
        DesiredState::Inactive => decision.leaving.as_ref()?.gone_by,
        // Frozen or not, it leaves when the clock says so, and no sooner.
        DesiredState::AsIs | DesiredState::Active => {
            snapshot.own_machine()?;
            decision.ruling.leaves_at?.saturating_add(snapshot.target.hand_back_span()).ok()
        }
    }
}

fn last_run(snapshot: &Snapshot, decision: &Decision, is_gone: bool) -> Option<LastRun> {
    let before = snapshot.status.last_run.clone();
    let is_over = before.as_ref().is_none_or(|run| run.gone_at.is_some());
    let mut run = match decision.timers.open_started_at {
        Some(opened_at) if is_over => LastRun { opened_at: Some(opened_at), ..LastRun::default() },
        _ => before?,
    };
    if run.gone_at.is_some() {
        return Some(run);
    }
    let is_off = decision.ruling.state == DesiredState::Inactive;
    if let Some(leaving) = decision.leaving.as_ref().filter(|_| is_off) {
        run.closed_at = run.closed_at.or(Some(leaving.since));
        run.ended_by = run.ended_by.or(Some(decision.ruling.rule));
    }
    if let Some(machine) = snapshot.own_machine() {
        run.node = machine.node.clone().or(run.node);
        run.provider_id = machine.provider_id.clone().or(run.provider_id);
        if machine.is_ready() {
            run.ready_at = run.ready_at.or(Some(snapshot.now));
        }
        match machine.deleted_at {
            // Somebody else's doing, unless a leaving stands there already: then no rule ended it.
            Some(at) => run.closed_at = run.closed_at.or(Some(at)),
            // Cancelled, or not leaving at all.
            None if decision.ruling.state == DesiredState::Active && decision.leaving.is_none() => {
                (run.closed_at, run.ended_by) = (None, None);
            }
            None => {}
        }
    }
    if is_gone {
        let promised = snapshot.status.leaving.as_ref().and_then(|leaving| leaving.gone_by);
        run.gone_at = Some(snapshot.now);
        run.closed_at = run.closed_at.or(Some(if is_off { decision.ruling.since } else { snapshot.now }));
        run.ended_by = run.ended_by.or(is_off.then_some(decision.ruling.rule));
        run.late_by_seconds = Some(promised.map_or(0, |by| snapshot.now.duration_since(by).as_secs().max(0)));
    }
    Some(run)
}

/// Remembered until that run is closed in the books, also where the Machine went while nothing could be decided.
fn machine_ref(snapshot: &Snapshot, report: &Report) -> Option<ObjectRef> {
    let known = snapshot.own_machine().map(|machine| ObjectRef {
        api_version: snapshot.capi.version().api_version(),
        kind: "Machine".to_owned(),
        name: machine.name.clone(),
        namespace: Some(snapshot.object.namespace.clone()),
        uid: Some(machine.uid.clone()),
    });
    known.or_else(|| report.made(Made::Machine).cloned()).or_else(|| snapshot.status.machine_ref.clone())
}

/// Remembered until everything is gone: after an edit of the template it is the only trace of the old kind.
fn child_ref(snapshot: &Snapshot, report: &Report, role: Role, is_gone: bool) -> Option<ObjectRef> {
    let made = report.made(Made::Child(role)).cloned();
    let seen = snapshot.children.iter().filter(|child| child.role == role).find_map(|child| {
        let object = child.object.as_ref().filter(|object| snapshot.owns_child(child, object))?;
        Some(ObjectRef {
            api_version: child.api_version.clone(),
            kind: child.kind.clone(),
            name: snapshot.object.name.clone(),
            namespace: Some(snapshot.object.namespace.clone()),
            uid: Some(object.uid.clone()),
        })
    });
    let before = match role {
        Role::Bootstrap => snapshot.status.bootstrap_ref.clone(),
        Role::Infrastructure => snapshot.status.infrastructure_ref.clone(),
    };
    // A part can outlive a Machine that never took hold of it.
    made.or(seen).or(before.filter(|_| !is_gone))
}

fn node_ref(snapshot: &Snapshot) -> Option<NodeRef> {
    let before = snapshot.status.node_ref.clone();
    // Before Cluster API has matched the two, the provider id has.
    let matched = || snapshot.own_node().map(|node| node.name.clone());
    let named = snapshot.own_machine().and_then(|machine| machine.node.clone().or_else(matched));
    let Some(name) = named else { return before };
    let seen = snapshot.own_node().filter(|node| node.name == name).map(|node| node.uid.clone());
    let uid = seen.or_else(|| before.filter(|before| before.name == name).and_then(|before| before.uid));
    Some(NodeRef { api_version: "v1".to_owned(), kind: "Node".to_owned(), name, uid })
}

/// Of the Node in `nodeRef`, and written by the same pass.
fn applied_taints(snapshot: &Snapshot, decision: &Decision) -> Vec<AppliedTaint> {
    let planned = decision.taints.as_ref().map(|plan| plan.record.clone());
    planned.or_else(|| first_noted(snapshot)).unwrap_or_else(|| snapshot.status.applied_node_taints.clone())
}

/// The machine is back with its owner, but nobody can see whether its Node object has gone too (Cluster API gives up on
/// it after a while): it is remembered until the workload cluster answers again, and deleted then if it is still there.
fn outlives_its_machine(snapshot: &Snapshot, decision: &Decision) -> bool {
    let somebody_asks_again = !matches!(decision.ruling.rule, Rule::Deletion | Rule::ClusterDeleting);
    // A Cluster that cannot be read may be there all the same.
    let may_have_cluster = snapshot.cluster.is_some() || !matches!(snapshot.capi, Capi::Served(_));
    somebody_asks_again && may_have_cluster && snapshot.reach != Reach::Connected
}

fn provider_id(snapshot: &Snapshot) -> Option<String> {
    let now = snapshot.own_machine().and_then(|machine| machine.provider_id.clone());
    now.or_else(|| snapshot.status.provider_id.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_patch_names_what_changed_and_nulls_what_went() {
        let before =
            json!({"phase": "Active", "nodeRef": {"name": "n"}, "timers": {"a": 1, "b": 2}, "list": [1]});
        let after = json!({"phase": "Inactive", "timers": {"a": 1}, "list": [1, 2], "new": true});
        assert_eq!(
            patch(&before, &after),
            Some(
                json!({"phase": "Inactive", "nodeRef": null, "timers": {"b": null}, "list": [1, 2], "new": true})
            )
        );
    }

    #[test]
    fn equal_statuses_need_no_patch() {
        let same = json!({"phase": "Active", "list": [{"a": 1}]});
        assert_eq!(patch(&same, &same), None);
    }
}
