//! What the status says: never stale, and times that change only where something did.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::model::World;
use crate::api::status::ScheduledMachineStatus;
use crate::controller::decide::tests::kstatus::reading::verdict;
use crate::controller::snapshot::Snapshot;

/// Kubernetes' own times have no fraction.
fn second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap()
}

/// Each condition is of today's generation, and its time is that of its last change of status.
pub(super) fn times_are_true(snapshot: &Snapshot, after: &ScheduledMachineStatus) {
    let generation = Some(snapshot.object.generation);
    for said in &after.conditions {
        assert_eq!(said.observed_generation, generation, "{said:?}");
        let was = snapshot.status.conditions.iter().find(|was| was.type_ == said.type_);
        let since = match was.filter(|was| was.status == said.status) {
            Some(was) => was.last_transition_time.0,
            None => second(snapshot.now),
        };
        assert_eq!(said.last_transition_time.0, since, "{said:?} after {was:?}");
    }
    assert_eq!(after.observed_generation, generation);
}

impl World {
    /// What the timetable says stands in the status to the last instant before `until`, under whatever rule.
    pub(super) fn timetable_is_fresh(&self, until: Timestamp) {
        let is_up = self.down_until <= self.real;
        let Ok(schedule) = &self.live.target.schedule else { return };
        if !self.exists || !is_up || !self.is_settled {
            return;
        }
        let last = until - SignedDuration::from_millis(1);
        let now = last.max(self.real) + SignedDuration::from_secs(self.offset);
        // A clock that was set back a little does not undo an edge.
        let acted: Option<Timestamp> =
            self.status["decision"]["since"].as_str().map(|at| at.parse().unwrap());
        let tolerated = SignedDuration::from_mins(5);
        let now = acted.filter(|at| *at > now && at.duration_since(now) <= tolerated).unwrap_or(now);
        let shown = |field: &str| self.status[field].as_str().map(|at| at.parse::<Timestamp>().unwrap());
        assert_eq!(self.status["inSchedule"], json!(schedule.is_active(now)), "at {now}: {:#}", self.status);
        let first = schedule.next_edge(now);
        let second = first.as_ref().and_then(|edge| schedule.next_edge(edge.at));
        for (field, active) in [("nextActivation", true), ("nextCleanup", false)] {
            let edge = [&first, &second].into_iter().flatten().find(|edge| edge.active == active);
            assert_eq!(shown(field), edge.map(|edge| edge.at), "{field} at {now}: {:#}", self.status);
        }
    }

    /// What tools that wait for an apply make of it.
    pub(super) fn kstatus(&self) -> &'static str {
        let object = &self.live.object;
        let mut seen = json!({"metadata": {"generation": object.generation}, "status": self.status});
        if let Some(at) = object.deleted_at {
            seen["metadata"]["deletionTimestamp"] = json!(at);
        }
        verdict(&seen)
    }
}
