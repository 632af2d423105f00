//! Kubernetes Events: one per transition, nothing at rest, never a control channel.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

use crate::api::condition::{Phase, types};
use crate::api::names;
use crate::api::status::ScheduledMachineStatus;
use crate::controller::reclaim;
use crate::controller::snapshot::Snapshot;

/// Limit of the field, in bytes.
const LONGEST_NOTE: usize = 1024;
/// What the name of an Event keeps of the object's: with the instant it is a name still.
const LONGEST_NAME: usize = 200;

/// The Events of a pass: what is another in the status that it wrote than in the one before. So a restart tells nothing
/// twice, and a pass whose status could not be written tells nothing.
pub fn of_pass(snapshot: &Snapshot, after: &ScheduledMachineStatus, instance: &str) -> Vec<Event> {
    let news = [
        reclaimed(snapshot, after, instance),
        often_reclaimed(snapshot, after, instance),
        without_hold(snapshot, after, instance),
        phase(snapshot, after, instance),
        overdue(snapshot, after, instance),
    ];
    let mut told: Vec<Event> = news.into_iter().flatten().collect();
    for (nth, event) in (0..).zip(&mut told) {
        event.metadata.name = Some(name(snapshot, nth));
    }
    told
}

/// After client-go: the object's, and the instant. One that is posted again is refused, not told twice.
fn name(snapshot: &Snapshot, nth: i128) -> String {
    let of: String = snapshot.object.name.chars().take(LONGEST_NAME).collect();
    format!("{of}.{:x}", snapshot.now.as_nanosecond() + nth)
}

/// The owner took it back.
fn reclaimed(snapshot: &Snapshot, after: &ScheduledMachineStatus, instance: &str) -> Option<Event> {
    let asked = reclaim::is_new(snapshot.status.reclaim.as_ref(), after.reclaim.as_ref())?;
    let place = asked.node.as_deref().unwrap_or("its Node");
    let matched = asked.matched.as_deref().unwrap_or("it is not said why");
    let note = format!("its owner asked for it at {} on {place}: {matched}", asked.at);
    Some(event(snapshot, "Warning", "EmergencyReclaim", "Reclaim", &note, instance))
}

fn often_reclaimed(snapshot: &Snapshot, after: &ScheduledMachineStatus, instance: &str) -> Option<Event> {
    let times = reclaim::rapid(snapshot.status.reclaim.as_ref(), after.reclaim.as_ref())?;
    let note = format!(
        "its owner asked for it {times} times within ten minutes: a program of hers runs on, so give spec.reclaim.returnAfter \
         more time, or take the program off spec.killIfCommands"
    );
    Some(event(snapshot, "Warning", "RapidReReclaim", "Reclaim", &note, instance))
}

/// Told once: the message of the object goes on telling it.
fn without_hold(snapshot: &Snapshot, after: &ScheduledMachineStatus, instance: &str) -> Option<Event> {
    let latched = |status: &ScheduledMachineStatus| status.timers.as_ref()?.reclaimed_at;
    let is_new = reclaim::is_new(snapshot.status.reclaim.as_ref(), after.reclaim.as_ref()).is_some();
    latched(after).filter(|_| is_new || latched(&snapshot.status).is_none())?;
    let note = "the MachineHold of this reclaim could not be written in time; status.timers.reclaimedAt stands in for it, \
                and it is tried again; the status message says what to mend";
    Some(event(snapshot, "Warning", "HoldNotWritten", "Reclaim", note, instance))
}

/// Another phase, or a new trouble in the same.
fn phase(snapshot: &Snapshot, after: &ScheduledMachineStatus, instance: &str) -> Option<Event> {
    let before = &snapshot.status;
    let (from, to) = (before.phase, after.phase?);
    let reason = |status: &ScheduledMachineStatus| {
        status
            .conditions
            .iter()
            .find(|condition| condition.type_ == "Ready")
            .map(|ready| ready.reason.clone())
    };
    let trouble = matches!(to, Phase::Error) && reason(before) != reason(after);
    if from == Some(to) && !trouble {
        return None;
    }
    let kind = if matches!(to, Phase::Error | Phase::Terminated | Phase::EmergencyRemove) {
        "Warning"
    } else {
        "Normal"
    };
    let came_from = from.map_or_else(|| "new".to_owned(), |phase| format!("{phase:?}"));
    let note = format!("{came_from} -> {to:?}: {}", after.message.as_deref().unwrap_or_default());
    Some(event(snapshot, kind, &reason(after)?, &format!("PhaseTransitionTo{to:?}"), &note, instance))
}

/// The promised instant has passed, and the owner does not have her machine.
fn overdue(snapshot: &Snapshot, after: &ScheduledMachineStatus, instance: &str) -> Option<Event> {
    let said = |status: &'_ ScheduledMachineStatus| {
        status.conditions.iter().find(|condition| condition.type_ == types::HAND_BACK_OVERDUE).cloned()
    };
    let late = said(after).filter(|_| said(&snapshot.status).is_none())?;
    Some(event(snapshot, "Warning", types::HAND_BACK_OVERDUE, "HandBack", &late.message, instance))
}

fn event(snapshot: &Snapshot, kind: &str, reason: &str, action: &str, note: &str, instance: &str) -> Event {
    let object = &snapshot.object;
    Event {
        metadata: ObjectMeta { namespace: Some(object.namespace.clone()), ..ObjectMeta::default() },
        action: Some(action.to_owned()),
        event_time: Some(MicroTime(snapshot.now)),
        note: Some(clipped(note).to_owned()),
        reason: Some(reason.to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some(names::API_VERSION.to_owned()),
            kind: Some("ScheduledMachine".to_owned()),
            name: Some(object.name.clone()),
            namespace: Some(object.namespace.clone()),
            uid: Some(object.uid.clone()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(names::EVENT_REPORTER.to_owned()),
        reporting_instance: Some(instance.to_owned()),
        type_: Some(kind.to_owned()),
        ..Event::default()
    }
}

/// Bytes count, not characters: the server refuses what is longer.
fn clipped(note: &str) -> &str {
    let end = (0..=LONGEST_NOTE.min(note.len())).rev().find(|end| note.is_char_boundary(*end));
    &note[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_cut_by_bytes_and_between_characters() {
        assert_eq!(clipped("short"), "short");
        assert_eq!(clipped(&"\u{20ac}".repeat(1000)).len(), 1023);
    }
}
