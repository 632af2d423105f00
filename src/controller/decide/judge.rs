//! What the rules say at an instant: the first that matches, in their one order.

use jiff::Timestamp;

use crate::api::machine_hold::{HoldOrigin, HoldState};
use crate::api::names;
use crate::api::status::{DecisionSource, DesiredState, Rule};
use crate::controller::hold::Hold;
use crate::controller::reclaim::{self, request, wish};
use crate::controller::snapshot::Snapshot;
use crate::schedule::{Schedule, Winner};

/// A rule that matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) state: DesiredState,
    pub(super) rule: Rule,
    pub(super) source: Option<DecisionSource>,
    pub(super) message: String,
    /// What a person types to end it.
    pub(super) remedy: Option<String>,
}

/// The first rule that matches at an instant, for a machine that is lent then or not.
///
/// `lent` matters to a hold that says `NoNew`, and to a schedule that nobody can read: both let stay what is there and
/// let nothing in.
pub(super) fn judge(snapshot: &Snapshot, holds: &[Hold], at: Timestamp, lent: bool) -> Verdict {
    timeless(snapshot)
        .or_else(|| by_reclaim(snapshot, holds, at))
        .or_else(|| by_pause(snapshot))
        .or_else(|| unread(snapshot))
        .or_else(|| by_hold(snapshot, holds, at, lent))
        .unwrap_or_else(|| below_holds(snapshot, at, lent))
}

/// Whether the clock alone can never change what is decided.
pub(super) fn is_timeless(snapshot: &Snapshot) -> bool {
    timeless(snapshot).is_some()
}

/// The hold that decides among those of people.
pub(super) fn newest(holds: &[Hold], origin: HoldOrigin, at: Timestamp) -> Option<&Hold> {
    let in_force = holds.iter().filter(|hold| hold.origin == origin && hold.is_in_force(at));
    in_force.max_by_key(|hold| hold.rank())
}

fn timeless(snapshot: &Snapshot) -> Option<Verdict> {
    let target = &snapshot.target;
    let (rule, path, message) = if snapshot.object.deleted_at.is_some() {
        (Rule::Deletion, None, "the ScheduledMachine is being deleted".to_owned())
    } else if snapshot.cluster.as_ref().is_some_and(|cluster| cluster.deleting) {
        (Rule::ClusterDeleting, None, format!("Cluster {} is being deleted", target.cluster_name))
    } else if target.kill_switch {
        let message = "the kill switch is on; set spec.killSwitch to false to return to the schedule";
        (Rule::KillSwitch, Some("spec.killSwitch"), message.to_owned())
    } else {
        return None;
    };
    Some(of_object(snapshot, DesiredState::Inactive, rule, path.map(str::to_owned), message))
}

fn by_reclaim(snapshot: &Snapshot, holds: &[Hold], at: Timestamp) -> Option<Verdict> {
    if let Some(hold) = newest(holds, HoldOrigin::Reclaim, at) {
        let seen = hold.reclaim.as_ref().and_then(|reclaim| reclaim.matched.as_ref());
        let seen = seen.map_or_else(String::new, |seen| format!(" ({seen})"));
        let message =
            format!("reclaimed by its owner{seen}, {}: {}", until(snapshot, hold.until), hold.reason);
        return Some(of_hold(hold, DesiredState::Inactive, Rule::Reclaim, message));
    }
    by_request(snapshot, at).or_else(|| by_latch(snapshot, at))
}

/// Asked for a moment ago: the machine leaves while its hold is being written.
fn by_request(snapshot: &Snapshot, at: Timestamp) -> Option<Verdict> {
    let asked = request::news(snapshot).filter(|asked| asked.until.is_none_or(|until| at < until))?;
    let seen = asked.matched.as_ref().map_or_else(String::new, |seen| format!(" ({seen})"));
    let message = format!("reclaimed by its owner{seen}, on Node {}", asked.node);
    let source = DecisionSource {
        kind: Some("Node".to_owned()),
        name: Some(asked.node.clone()),
        uid: snapshot.own_node().map(|node| node.uid.clone()),
        field_path: Some(format!("metadata.annotations[{}]", names::ANNOTATION_RECLAIM_REQUESTED)),
    };
    let (state, rule) = (DesiredState::Inactive, Rule::Reclaim);
    Some(Verdict { state, rule, source: Some(source), message, remedy: None })
}

fn by_latch(snapshot: &Snapshot, at: Timestamp) -> Option<Verdict> {
    let latch = reclaim::latch(snapshot).filter(|latch| latch.until.is_none_or(|until| at < until))?;
    let known = snapshot.status.reclaim.as_ref().filter(|known| known.at == latch.at);
    let seen = known.and_then(|known| known.matched.as_ref());
    let seen = seen.map_or_else(String::new, |seen| format!(" ({seen})"));
    let request = known.and_then(|known| known.request.as_ref());
    let without = request.and_then(|request| wish::failed(snapshot, request));
    let without = without.map_or_else(String::new, |tried| format!("; {}", tried.message));
    let message = format!("reclaimed by its owner{seen}, {}{without}", until(snapshot, latch.until));
    if let (None, Some(hold)) = (reclaim::stored_latch(snapshot), &snapshot.hold_written) {
        let message = format!("{message}; its MachineHold {} is written and not shown yet", hold.name);
        return Some(of_object(snapshot, DesiredState::Inactive, Rule::Reclaim, None, message));
    }
    let path = Some("status.timers.reclaimedAt".to_owned());
    let object = &snapshot.object;
    let remedy = format!(
        "to return it now: kubectl patch scheduledmachine -n {} {} --subresource=status --type=merge -p '{}'",
        object.namespace, object.name, r#"{"status":{"timers":{"reclaimedAt":null}}}"#
    );
    let verdict = of_object(snapshot, DesiredState::Inactive, Rule::Reclaim, path, message);
    Some(Verdict { remedy: Some(remedy), ..verdict })
}

fn by_pause(snapshot: &Snapshot) -> Option<Verdict> {
    let message = "spec.paused is true: nothing is touched".to_owned();
    let path = Some("spec.paused".to_owned());
    snapshot.target.paused.then(|| of_object(snapshot, DesiredState::AsIs, Rule::Paused, path, message))
}

/// There may be a freeze that nobody has seen.
fn unread(snapshot: &Snapshot) -> Option<Verdict> {
    let why = snapshot.holds_unread.as_ref()?;
    let message =
        format!("nothing is touched, for there may be holds, and MachineHolds cannot be read: {why}");
    Some(of_object(snapshot, DesiredState::AsIs, Rule::Hold, None, message))
}

fn by_hold(snapshot: &Snapshot, holds: &[Hold], at: Timestamp, lent: bool) -> Option<Verdict> {
    let hold = newest(holds, HoldOrigin::User, at)?;
    let (state, what) = match hold.state {
        HoldState::Active => (DesiredState::Active, "held in the cluster"),
        HoldState::Inactive => (DesiredState::Inactive, "held with its owner"),
        HoldState::AsIs => (DesiredState::AsIs, "held as it is: nothing is touched"),
        HoldState::NoNew => {
            let below = below_holds(snapshot, at, lent);
            if below.state != DesiredState::Active || lent {
                return Some(below);
            }
            (DesiredState::Inactive, "kept from joining")
        }
    };
    let message =
        format!("{what} by MachineHold {}, {}: {}", hold.name, until(snapshot, hold.until), hold.reason);
    Some(of_hold(hold, state, Rule::Hold, message))
}

/// What would be decided if there were no holds.
pub(super) fn below_holds(snapshot: &Snapshot, at: Timestamp, lent: bool) -> Verdict {
    if !snapshot.target.enabled {
        let path = Some("spec.schedule.enabled".to_owned());
        let message = "spec.schedule.enabled is false".to_owned();
        return of_object(snapshot, DesiredState::Inactive, Rule::Disabled, path, message);
    }
    match &snapshot.target.schedule {
        Ok(schedule) => by_schedule(snapshot, schedule, at),
        Err(_) => without_schedule(snapshot, at, lent),
    }
}

fn by_schedule(snapshot: &Snapshot, schedule: &Schedule, at: Timestamp) -> Verdict {
    let verdict = schedule.verdict(at);
    let message = match &verdict.winner {
        Winner::Exception { index, reason: Some(reason), .. } => format!("exception {index}: {reason}"),
        Winner::Exception { index, .. } => format!("exception {index}"),
        Winner::Window { path } => format!("{path} is open"),
        Winner::OutsideWindows => "no window is open".to_owned(),
    };
    let state = if verdict.active { DesiredState::Active } else { DesiredState::Inactive };
    of_object(snapshot, state, rule_of(&verdict.winner), verdict.winner.field_path(), message)
}

/// The rule by which the timetable speaks.
pub(super) fn rule_of(winner: &Winner) -> Rule {
    match winner {
        Winner::Exception { .. } => Rule::Exception,
        Winner::Window { .. } => Rule::Window,
        Winner::OutsideWindows => Rule::OutsideWindows,
    }
}

/// Nobody can say what the timetable wants. It opens nothing; what it had lent leaves at the end last promised.
fn without_schedule(snapshot: &Snapshot, at: Timestamp, lent: bool) -> Verdict {
    let (promised, stays) = (snapshot.status.next_cleanup, keeps_promise(snapshot, at, lent));
    let message = match (stays, promised) {
        (true, Some(_)) => "the schedule cannot be read; the machine leaves at the end last promised",
        (true, None) => "the schedule cannot be read and no end was promised; the machine stays",
        (false, _) => "the schedule cannot be read; the machine does not join",
    };
    let state = if stays { DesiredState::Active } else { DesiredState::Inactive };
    let path = Some("spec.schedule".to_owned());
    of_object(snapshot, state, Rule::ScheduleInvalid, path, message.to_owned())
}

/// Whether an opening that had been promised an end before the timetable became unreadable still goes on.
pub(super) fn keeps_promise(snapshot: &Snapshot, at: Timestamp, lent: bool) -> bool {
    lent && was_open(snapshot) && snapshot.status.next_cleanup.is_none_or(|end| at < end)
}

/// Whether the machine was lent by the timetable when that became unreadable, and has not been on its way out since.
fn was_open(snapshot: &Snapshot) -> bool {
    let status = &snapshot.status;
    let was_active = status.decision.as_ref().is_some_and(|decision| match decision.state {
        DesiredState::Active => true,
        DesiredState::Inactive => false,
        // Lent when the pause began, unless it was on its way out.
        DesiredState::AsIs => status.last_run.as_ref().is_some_and(|run| run.closed_at.is_none()),
    });
    // Lent outside the windows by a hold: no window was open that could be promised an end.
    was_active && status.in_schedule != Some(false)
}

fn of_object(
    snapshot: &Snapshot,
    state: DesiredState,
    rule: Rule,
    field_path: Option<String>,
    message: String,
) -> Verdict {
    let source = field_path.map(|path| DecisionSource {
        kind: Some("ScheduledMachine".to_owned()),
        name: Some(snapshot.object.name.clone()),
        uid: Some(snapshot.object.uid.clone()),
        field_path: Some(path),
    });
    Verdict { state, rule, source, message, remedy: None }
}

fn of_hold(hold: &Hold, state: DesiredState, rule: Rule, message: String) -> Verdict {
    let source = DecisionSource {
        kind: Some("MachineHold".to_owned()),
        name: Some(hold.name.clone()),
        uid: Some(hold.uid.clone()),
        field_path: Some("spec.state".to_owned()),
    };
    let remedy = format!("to return it to its schedule now: {}", hold.end_command());
    Verdict { state, rule, source: Some(source), message, remedy: Some(remedy) }
}

fn until(snapshot: &Snapshot, until: Option<Timestamp>) -> String {
    match (until, &snapshot.target.schedule) {
        (None, _) => "until somebody ends that".to_owned(),
        (Some(at), Ok(schedule)) => format!("until {}", schedule.local_with_date(at)),
        (Some(at), Err(_)) => format!("until {at}"),
    }
}
