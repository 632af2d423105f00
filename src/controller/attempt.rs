//! What a pass is about to try, as far as it matters for waiting before it is tried again.

use std::fmt::Debug;

use crate::controller::decide::rule::schedule_instant;
use crate::controller::effect::{Decision, Effect};
use crate::controller::snapshot::Snapshot;

/// With other pods it is another step: those of the one before have their own pauses.
fn step(effect: &Effect) -> String {
    match effect {
        Effect::Evict(pod) | Effect::DeletePod(pod) => format!("{} {}", effect.label(), pod.uid),
        other => other.label().to_owned(),
    }
}

/// In one text, of which nothing but its sameness counts: an edit, another verdict or another step is another attempt.
pub fn describe(snapshot: &Snapshot, annotations: &impl Debug, decision: &Decision) -> String {
    let object = &snapshot.object;
    let effects: Vec<String> = decision.effects.iter().map(step).collect();
    let ruling = &decision.ruling;
    // The status tells the timetable under every rule, so its edge is worth a try of its own.
    let timetable = snapshot.target.schedule.as_ref().ok();
    let is_open = timetable.map(|schedule| schedule.is_active(schedule_instant(snapshot)));
    // The end of a grace is an edge too, though the effects before and after it may be the same.
    let stage = decision.leaving.as_ref().map(|leaving| leaving.stage);
    format!(
        "{:?} {:?} {annotations:?} {is_open:?} {:?} {:?} {:?} {stage:?} {effects:?}",
        object.generation, object.deleted_at, ruling.state, ruling.rule, ruling.manner
    )
}
