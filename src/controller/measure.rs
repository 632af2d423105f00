//! What a status that was just written says has happened: read off the difference to the one before.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::api::condition::types;
use crate::api::status::{DesiredState, LeavingStage, Manner, Rule, ScheduledMachineStatus};
use crate::controller::effect::{Decision, Effect};
use crate::controller::reclaim;
use crate::controller::report::Report;
use crate::controller::snapshot::Snapshot;
use crate::telemetry::metrics::{DrainEnd, Edge, EjectEnd, Fault, Measure, Path, Stage};

/// A machine whose making begins later than this after its edge was kept from it, or is made anew.
const AT_THE_EDGE: SignedDuration = SignedDuration::from_mins(10);

/// A pass that has deleted the Machine because its owner asked for it.
pub fn deleted(snapshot: &Snapshot, decision: &Decision, report: &Report, now: Timestamp) -> Option<Measure> {
    let is_deleted = decision.effects.iter().any(|effect| matches!(effect, Effect::DeleteMachine { .. }));
    if !is_deleted || decision.ruling.rule != Rule::Reclaim {
        return None;
    }
    let asked = reclaim::status(snapshot, reclaim::recorded(snapshot, report).as_ref())?;
    Some(Measure::ReclaimStage(Stage::Delete, seconds(asked.at, now)))
}

/// One status, and the one before it.
struct Step<'a> {
    before: &'a ScheduledMachineStatus,
    after: &'a ScheduledMachineStatus,
    now: Timestamp,
}

/// What happened between the two, as of `now`: after the effects of the pass.
pub fn measures(
    before: &ScheduledMachineStatus,
    after: &ScheduledMachineStatus,
    now: Timestamp,
) -> Vec<Measure> {
    let step = Step { before, after, now };
    let mut all: Vec<Measure> = [
        step.kill_switch(),
        step.drain(),
        step.finalizer_timeout(),
        step.opened(),
        step.closed(),
        step.ready(),
        step.fault(types::REFERENCES_VALID),
        step.fault(types::WORKLOAD_REACHABLE),
    ]
    .into_iter()
    .flatten()
    .collect();
    all.extend(step.gone());
    all.extend(step.reclaim());
    all
}

impl Step<'_> {
    fn rule(&self) -> Option<Rule> {
        Some(self.after.decision.as_ref()?.rule)
    }

    fn turned_to(&self, rule: Rule) -> bool {
        self.rule() == Some(rule) && self.before.decision.as_ref().is_none_or(|before| before.rule != rule)
    }

    fn kill_switch(&self) -> Option<Measure> {
        self.turned_to(Rule::KillSwitch).then_some(Measure::KillSwitch)
    }

    fn drain(&self) -> Option<Measure> {
        let draining = self.before.leaving.as_ref().filter(|leaving| leaving.stage == LeavingStage::Drain)?;
        let in_time = draining.drain_ends_at.is_none_or(|end| self.now < end);
        let by_the_clock = if in_time { DrainEnd::Success } else { DrainEnd::Timeout };
        let end = match self.after.leaving.as_ref().map(|leaving| leaving.stage) {
            Some(LeavingStage::Eject) => DrainEnd::Ejected,
            Some(LeavingStage::Deletion) => by_the_clock,
            // Gone; or frozen by a pause, and then begun anew.
            None if self.is_gone() => by_the_clock,
            Some(LeavingStage::Drain | LeavingStage::Grace) | None => return None,
        };
        Some(Measure::Drain(end))
    }

    fn finalizer_timeout(&self) -> Option<Measure> {
        let is_late = |status| said(status, types::HAND_BACK_OVERDUE).is_some();
        let became_late = is_late(self.after) && !is_late(self.before);
        (became_late && self.rule() == Some(Rule::Deletion)).then_some(Measure::FinalizerTimeout)
    }

    /// The first Machine of an opening.
    fn opened(&self) -> Option<Measure> {
        let decision = self.after.decision.as_ref().filter(|d| d.state == DesiredState::Active)?;
        let is_made = self.before.machine_ref.is_none() && self.after.machine_ref.is_some();
        let run = self.before.last_run.as_ref();
        let had_one = run.is_some_and(|run| run.opened_at >= Some(decision.since) && run.gone_at.is_some());
        (is_made && !had_one).then(|| Measure::EdgeLag(Edge::Open, seconds(decision.since, self.now)))
    }

    /// The first status with a leaving in it comes after the first effects of that leaving.
    fn closed(&self) -> Option<Measure> {
        let decision = self.after.decision.as_ref().filter(|d| d.state == DesiredState::Inactive)?;
        let before = self.before.decision.as_ref().filter(|d| d.state == DesiredState::Active)?;
        let leaves = self.after.leaving.is_some() && before.state != decision.state;
        // The API server tells the instant of a deletion to the second.
        (leaves && decision.rule != Rule::Deletion)
            .then(|| Measure::EdgeLag(Edge::Close, seconds(decision.since, self.now)))
    }

    fn ready(&self) -> Option<Measure> {
        let run = self.after.last_run.as_ref()?;
        let before = self.before.last_run.as_ref().filter(|before| before.opened_at == run.opened_at);
        let ready_at = run.ready_at.filter(|_| before.is_none_or(|before| before.ready_at.is_none()))?;
        let decision = self.after.decision.as_ref().filter(|d| d.state == DesiredState::Active)?;
        let is_prompt = run.opened_at?.duration_since(decision.since) <= AT_THE_EDGE;
        is_prompt.then(|| Measure::Ready(seconds(decision.since, ready_at)))
    }

    fn is_gone(&self) -> bool {
        let was_gone = self.before.last_run.as_ref().is_none_or(|run| run.gone_at.is_some());
        let is_gone = self.after.last_run.as_ref().is_some_and(|run| run.gone_at.is_some());
        is_gone && !was_gone
    }

    /// A run that is over: how long it took to go.
    fn gone(&self) -> Vec<Measure> {
        let Some(run) = self.after.last_run.as_ref().filter(|_| self.is_gone()) else { return Vec::new() };
        let Some(gone_at) = run.gone_at else { return Vec::new() };
        // What no rule ended was somebody else's doing.
        let Some((closed_at, _)) = run.closed_at.zip(run.ended_by) else { return Vec::new() };
        let is_ejected = self.after.decision.as_ref().is_some_and(|d| d.manner == Manner::Eject);
        let path = if is_ejected { Path::Eject } else { Path::Graceful };
        let mut all = vec![Measure::HandBack(path, seconds(closed_at, gone_at))];
        let began = self.before.timers.as_ref().and_then(|timers| timers.eject_started_at);
        if let Some(began) = began.filter(|_| is_ejected) {
            let is_connected = said(self.after, types::WORKLOAD_REACHABLE) == Some("True");
            let end = match run.late_by_seconds {
                _ if !is_connected => EjectEnd::Error,
                Some(late) if late > 0 => EjectEnd::Timeout,
                _ => EjectEnd::Success,
            };
            all.push(Measure::Eject(end, seconds(began, gone_at)));
        }
        if let (Some(Rule::Reclaim), Some(reclaim)) = (self.rule(), &self.after.reclaim) {
            all.push(Measure::ReclaimStage(Stage::Gone, seconds(reclaim.at, gone_at)));
        }
        all
    }

    /// One that was heard.
    fn reclaim(&self) -> Vec<Measure> {
        let (before, after) = (self.before.reclaim.as_ref(), self.after.reclaim.as_ref());
        let Some(reclaim) = reclaim::is_new(before, after) else { return Vec::new() };
        let observed = Measure::ReclaimStage(Stage::Observe, seconds(reclaim.at, self.now));
        let rapid = reclaim::rapid(before, after).map(|_count| Measure::RapidReclaim);
        [Measure::Reclaim, observed].into_iter().chain(rapid).collect()
    }

    /// A condition that turned to False, by its reason.
    fn fault(&self, kind: &str) -> Option<Measure> {
        let find = |status: &'_ ScheduledMachineStatus| {
            let found = condition(status, kind)?;
            (found.status == "False").then(|| found.reason.clone())
        };
        let reason = find(self.after)?;
        if find(self.before).as_ref() == Some(&reason) {
            return None;
        }
        let fault = match reason.as_str() {
            "SpecInvalid" if self.rule() == Some(Rule::ScheduleInvalid) => Fault::Schedule,
            "SpecInvalid" => Fault::Validation,
            "KubeconfigMissing" | "KubeconfigInvalid" => Fault::InvalidConfig,
            // An outage, which the calls tell.
            _ if kind == types::WORKLOAD_REACHABLE => return None,
            _ => Fault::ReferenceValidation,
        };
        Some(Measure::Fault(fault))
    }
}

fn condition<'a>(status: &'a ScheduledMachineStatus, kind: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|condition| condition.type_ == kind)
}

fn said<'a>(status: &'a ScheduledMachineStatus, kind: &str) -> Option<&'a str> {
    condition(status, kind).map(|condition| condition.status.as_str())
}

/// Clocks of others may be ahead.
fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64().max(0.0)
}

#[cfg(test)]
mod tests;
