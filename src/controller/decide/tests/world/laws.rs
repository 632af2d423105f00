//! What must hold: at every pass, at the release, at rest, and in the end.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::Act;
use super::agents::Deed;
use super::model::World;
use super::rivals::Rivalry;
use super::shell::Pass;
use super::sides::{Ruled, Side};
use super::sights::{NodeWatch, Speaks};
use crate::api::machine_hold::{HoldOrigin, HoldState};
use crate::api::names;
use crate::api::status::{DesiredState, Manner, Rule};
use crate::controller::decide::tests::given::SM;
use crate::controller::effect::{Decision, Effect};
use crate::controller::hold::Hold;
use crate::controller::reclaim::without_hold;
use crate::controller::snapshot::Snapshot;
use crate::controller::snapshot::pods::Pods;
use crate::workload::Reach;
use DesiredState::{Active, AsIs, Inactive};

/// What should be, found without the code under test: the last instant at which the machine could rightly be in.
#[derive(Clone, Debug, Default)]
pub(super) struct Truth {
    in_until: Option<Timestamp>,
    was_in: bool,
    garbage: bool,
    promised: Option<Timestamp>,
}

impl Truth {
    /// Nothing was in at an instant that is yet to come.
    pub(super) fn clock_was_set(&mut self, now: Timestamp) {
        self.in_until = self.in_until.map(|at| at.min(now));
    }
}

impl World {
    /// By the spec, the Cluster, the holds and the clock; `AsIs` where nothing may be touched.
    fn wanted(&self) -> DesiredState {
        self.wanted_at(self.wall())
    }

    fn wanted_at(&self, at: Timestamp) -> DesiredState {
        let is_paused = self.live.object.is_paused || self.is_capi_paused();
        if is_paused { AsIs } else { self.ruled_at(at) }
    }

    /// The same, as if Cluster API were not paused.
    fn ruled_at(&self, at: Timestamp) -> DesiredState {
        let target = self.live.target.clone();
        let object = &self.live.object;
        let ends = self.live.cluster.as_ref().is_some_and(|cluster| cluster.deleting);
        if object.deleted_at.is_some() || ends || target.kill_switch {
            return Inactive;
        }
        let counts =
            |hold: &&Hold| hold.from.is_none_or(|from| from <= at) && hold.until.is_none_or(|end| at < end);
        let known = if self.hides_holds() { &[][..] } else { &self.live.holds[..] };
        let in_force: Vec<&Hold> = known.iter().filter(counts).collect();
        if in_force.iter().any(|hold| hold.origin == HoldOrigin::Reclaim) {
            return Inactive;
        }
        // Not what holds that nobody can read might say.
        if target.paused || self.hides_holds() {
            return AsIs;
        }
        let open = match &target.schedule {
            Ok(schedule) => schedule.is_active(at),
            Err(_) => self.truth.promised.is_some_and(|end| at < end),
        };
        let otherwise = if open && target.enabled { Active } else { Inactive };
        match in_force.iter().max_by_key(|hold| (hold.created_at, &hold.name)).map(|hold| hold.state) {
            None => otherwise,
            Some(HoldState::Active) => Active,
            Some(HoldState::AsIs) => AsIs,
            Some(HoldState::NoNew) if self.is_lent() => otherwise,
            Some(HoldState::Inactive | HoldState::NoNew) => Inactive,
        }
    }

    fn is_lent(&self) -> bool {
        let ours = self.live.host.as_ref().filter(|host| self.ours.contains(&host.machine.uid));
        ours.is_some_and(|host| host.machine.deleted_at.is_none())
    }

    /// The last edge of the clock from which on the machine should not be in.
    fn turned_off(&self, now: Timestamp) -> Option<Timestamp> {
        let mut at = now;
        loop {
            let schedule = self.live.target.schedule.as_ref().ok();
            let timetable = schedule.and_then(|schedule| schedule.previous_edge(at)).map(|edge| edge.at);
            let promised = self.truth.promised.filter(|end| schedule.is_none() && *end <= at);
            let holds = self.live.holds.iter().flat_map(|hold| [hold.from, hold.until]).flatten();
            let edge = holds.filter(|edge| *edge <= at).chain(timetable).chain(promised).max()?;
            let just_before = edge - SignedDuration::from_nanos(1);
            if self.wanted_at(just_before) != Inactive {
                return Some(edge);
            }
            at = just_before;
            if now.duration_since(at) > SignedDuration::from_hours(14 * 24) {
                return None;
            }
        }
    }

    /// Called before and after everything that may change what is wanted.
    pub(super) fn sample(&mut self) {
        let target = self.live.target.clone();
        let now = self.wall();
        let garbage = target.schedule.is_err();
        if garbage && !self.truth.garbage {
            let promised = self.status["nextCleanup"].as_str().map(|text| text.parse().unwrap());
            let was_open = self.status["inSchedule"] == true;
            self.truth.promised = promised.filter(|_| self.truth.was_in && was_open);
        }
        self.truth.garbage = garbage;
        let state = self.wanted();
        // The edge may lie between two samples; nobody was up to see it.
        let turned = if self.truth.was_in && state == Inactive { self.turned_off(now) } else { None };
        // A change of mind that began and ended in an outage was never known.
        let is_up = self.down_until <= self.real;
        let seen = (state != Inactive && is_up).then_some(now);
        self.truth.in_until = [self.truth.in_until, turned, seen].into_iter().flatten().max();
        if is_up {
            self.truth.was_in = state == Active || (self.truth.was_in && state == AsIs);
        }
        // What has to leave does not come back for what was promised, also if a pause kept it; and the promise was made
        // to the Machine that stood: one that a hold makes after it is the hold's.
        if self.ruled_at(now) == Inactive || !self.is_lent() {
            self.truth.promised = None;
        }
    }

    /// Safety, at every decision.
    pub(super) fn obeys(&self, snapshot: &Snapshot, decision: &Decision) {
        let (object, effects) = (&snapshot.object, &decision.effects);
        let ejects = decision.ruling.manner == Manner::Eject;
        let counts = |hold: &&Hold| hold.is_in_force(snapshot.now);
        let in_force = || snapshot.holds.iter().filter(counts);
        let reclaims = in_force().any(|hold| hold.origin == HoldOrigin::Reclaim);
        if self.offset == 0 {
            let eject = snapshot.target.kill_switch || reclaims || without_hold(snapshot).is_some();
            assert_eq!(decision.ruling.manner == Manner::Eject, eject, "{:#?}", decision.ruling);
            let newest =
                in_force().filter(|hold| hold.origin == HoldOrigin::User).max_by_key(|hold| hold.rank());
            let joins = effects.iter().any(|effect| matches!(effect, Effect::CreateMachine(_)));
            let may_join = newest.is_none_or(|hold| matches!(hold.state, HoldState::Active));
            assert!(!joins || (may_join && !reclaims), "joined under {newest:?}");
        }
        Self::obeys_its_eyes(snapshot, decision);
        self.obeys_its_sides(snapshot, decision);
        self.obeys_its_agent(snapshot, decision);
        if snapshot.is_capi_paused() || decision.ruling.state == AsIs {
            let is_node_half = |effect: &Effect| ejects && effect.is_on_node();
            // An eject reached the Node under the pause, and was called off under it.
            let is_called_off = |effect: &Effect| {
                let taken_back = matches!(effect, Effect::Uncordon { taints: Some(_), .. });
                taken_back && decision.ruling.state == Active && snapshot.is_capi_paused()
            };
            let is_allowed = |effect: &Effect| is_node_half(effect) || is_called_off(effect);
            assert!(effects.iter().all(is_allowed), "written while paused: {effects:?}");
        }
        for effect in effects {
            match effect {
                Effect::CreateChild { .. } | Effect::CreateMachine(_) => {
                    assert!(object.deleted_at.is_none(), "made after the deletion began");
                    assert!(object.has_finalizer, "made without a finalizer");
                    assert!(snapshot.machine.is_none(), "a second Machine");
                }
                Effect::DeleteMachine { uid } => {
                    assert!(self.ours.contains(uid), "not ours");
                    self.grace_is_over(snapshot, decision, SignedDuration::ZERO);
                    self.drain_is_over(snapshot, decision);
                }
                Effect::Evict(pod) => {
                    assert!(!ejects && !pod.uid.is_empty());
                    assert!(
                        snapshot.node.as_ref().is_some_and(|node| node.unschedulable),
                        "comes straight back"
                    );
                    let timers = snapshot.status.timers.as_ref();
                    let on_record = timers.is_some_and(|timers| timers.drain_started_at.is_some());
                    assert!(on_record, "begun, and not on record");
                    if decision.ruling.state == Inactive {
                        self.grace_is_over(snapshot, decision, SignedDuration::ZERO);
                    }
                }
                Effect::DeletePod(_) => assert!(ejects, "against its budget"),
                Effect::PatchMachine { uid, .. }
                | Effect::ReleaseMachine { uid, .. }
                | Effect::DeleteChild { uid, .. } => {
                    assert!(self.ours.contains(uid), "not ours");
                }
                Effect::DeleteNode(node) => {
                    self.is_no_rivals(node);
                    assert!(self.ours.contains(&node.uid), "not our Node");
                }
                Effect::Cordon(node)
                | Effect::Uncordon { node, .. }
                | Effect::EjectNode { node, .. }
                | Effect::ClearReclaim(node)
                | Effect::LabelNode { node, .. } => assert!(self.ours.contains(&node.uid), "not our Node"),
                Effect::WriteHold(wish) => self.is_asked_for(wish),
                Effect::AddFinalizer
                | Effect::PatchChild { .. }
                | Effect::WriteRules(_)
                | Effect::DeleteRules { .. }
                | Effect::RemoveFinalizer { .. } => {}
                Effect::Taint(edit) => assert!(self.ours.contains(&edit.node.uid), "not our Node"),
            }
        }
    }

    /// A lent Node takes pods: what a cancelled leaving cordoned is open again.
    pub(super) fn at_rest(&self, snapshot: &Snapshot, decision: &Decision) {
        let is_in = decision.ruling.state == Active && decision.standing.reason == "Active";
        let is_current = snapshot.object == self.live.object && snapshot.node == self.live.node;
        if is_in && is_current && self.is_reachable {
            self.taints_are_as_asked_for();
        }
        let is_cordoned = snapshot.node.as_ref().is_some_and(|node| node.cordoned_by.is_some());
        let is_ejecting = snapshot.node.as_ref().is_some_and(|node| {
            node.taints.iter().any(|taint| taint.key == crate::api::names::TAINT_EJECTING)
        });
        let is_held = is_cordoned || is_ejecting;
        assert!(!is_in || !is_held || !self.is_reachable, "lent, and still held: {:#}", self.status);
    }

    /// Pods that could be asked to go were, until the time for it was over.
    fn drain_is_over(&self, snapshot: &Snapshot, decision: &Decision) {
        let Pods::Known(pods) = &snapshot.pods else { return };
        let left = pods.iter().any(|pod| !pod.stays());
        let ruling = &decision.ruling;
        let is_at_once = ruling.manner == Manner::Eject || ruling.rule == Rule::ClusterDeleting;
        // Where they cannot be asked, or nothing tells that the Node takes no new ones, Cluster API may, and does.
        let is_cordoned = snapshot.own_node().is_some_and(|node| node.unschedulable);
        let may_ask = snapshot.reach == Reach::Connected && is_cordoned && !self.is_ordered_by_capi();
        let is_left_out = |effect: &Effect| match effect {
            Effect::PatchMachine { patch, .. } => {
                !patch["metadata"]["annotations"][names::ANNOTATION_EXCLUDE_DRAIN].is_null()
            }
            _ => false,
        };
        let is_handed_over = !may_ask && !decision.effects.iter().any(is_left_out);
        if is_at_once || !left || is_handed_over {
            return;
        }
        let limit = SignedDuration::from_secs(i64::try_from(snapshot.target.drain.as_secs()).unwrap());
        let begun = snapshot.status.timers.as_ref().and_then(|timers| timers.drain_started_at);
        match begun {
            Some(at) => assert!(snapshot.now >= at + limit, "pods left, and time: {:#}", self.status),
            None => self.grace_is_over(snapshot, decision, limit),
        }
    }

    pub(super) fn grace_is_over(&self, snapshot: &Snapshot, decision: &Decision, more: SignedDuration) {
        let ruling = &decision.ruling;
        let has_node = snapshot.own_machine().is_some_and(|machine| machine.node.is_some());
        if ruling.manner == Manner::Eject || ruling.rule == Rule::ClusterDeleting || !has_node {
            return;
        }
        let grace = SignedDuration::from_secs(i64::try_from(snapshot.target.grace.as_secs()).unwrap());
        let began = self.truth.in_until.unwrap_or(Timestamp::MIN);
        let known = snapshot.object == self.live.object
            && snapshot.cluster == self.live.cluster
            && snapshot.holds == self.live.holds;
        // What has begun completes, whatever the window says meanwhile.
        let timers = snapshot.status.timers.as_ref();
        let completes = timers.is_some_and(|timers| timers.drain_started_at.is_some());
        assert!(
            !known || completes || snapshot.now >= began + grace + more,
            "deleted at {} within the grace of {began}: {ruling:#?} {:#}",
            snapshot.now,
            self.status
        );
    }

    /// The finalizer outlives every effect.
    pub(super) fn nothing_is_left(&self) {
        let parts: Vec<_> = self
            .live
            .parts
            .iter()
            .filter(|(_, part)| part.object.uid_label.as_deref() == Some(SM) && part.gone_at.is_none())
            .collect();
        assert!(parts.is_empty(), "orphans: {parts:?} {:#}", self.status);
        let machine = self.live.host.as_ref().filter(|host| self.ours.contains(&host.machine.uid));
        assert!(machine.is_none(), "an orphan: {machine:?}");
    }

    /// All faults end, everything frozen thaws, and in the end reality matches what is wanted.
    pub(super) fn calm(&mut self) {
        (self.fault, self.lags, self.stale, self.keeps_node) = (None, false, None, false);
        self.node_watch = NodeWatch::default();
        self.down_until = self.real;
        self.live.holds.clear();
        for act in [
            Act::Clock(0),
            Act::Reach(true),
            Act::Refuse(false),
            Act::Budget(false),
            Act::Stuck(false),
            Act::Slow(false),
            Act::Label(false),
            Act::Served(true),
            Act::Speak(Speaks::V1Beta2),
            Act::Foreign(false),
            Act::Side(Side::HideHolds(false)),
            Act::Side(Side::Crowd(false)),
            Act::Side(Side::Rule(Ruled::Not)),
            Act::Rival(Rivalry::Leaves),
            Act::Rival(Rivalry::Part(true, false)),
            Act::Rival(Rivalry::Part(false, false)),
            Act::Agent(Deed::Unread(false)),
            Act::Agent(Deed::Refuse(false)),
            Act::Agent(Deed::Foreign(false)),
            Act::Agent(Deed::Unlabel),
            Act::PauseCluster(false),
            Act::PauseObject(false),
            Act::Edit("/paused", json!(false)),
            Act::Wait(3 * 3600),
            Act::PauseCluster(false),
        ] {
            self.act(act);
        }
        if self.live.target.schedule.is_err() || self.live.target.templates.is_err() {
            let schedule = json!({"daysOfWeek": ["mon-fri"], "hoursOfDay": ["9-17"]});
            self.act(Act::Edit("/schedule", schedule));
            let kind =
                json!({"apiVersion": "bootstrap.cluster.x-k8s.io/v1", "kind": "StubConfig", "spec": {}});
            self.act(Act::Edit("/bootstrapSpec", kind));
        }
        self.act(Act::Wait(7200));
        let target = self.live.target.clone();
        let schedule = target.schedule.as_ref().unwrap();
        let margin = SignedDuration::from_hours(3);
        for _ in 0..24 {
            self.act(Act::Wait(3600));
            let near = |edge: Option<Timestamp>| {
                edge.is_some_and(|at| at.duration_since(self.wall()).abs() < margin)
            };
            let before = near(schedule.previous_edge(self.wall()).map(|edge| edge.at));
            // A reclaim ceases to count after a day: a change as well.
            let recent = self.status["reclaim"]["recent"].as_array().cloned().unwrap_or_default();
            let day = SignedDuration::from_hours(24);
            let falls = |at: &Value| near(Some(at.as_str().unwrap().parse::<Timestamp>().unwrap() + day));
            // And so does a hold, which was written for a reclaim meanwhile; until when, another schedule may have said.
            let lifts = self.live.holds.iter().any(|hold| near(hold.until));
            let before = before || lifts || recent.iter().any(falls);
            if !before && !near(schedule.next_edge(self.wall()).map(|edge| edge.at)) {
                break;
            }
        }
        self.ends_well();
    }

    fn ends_well(&mut self) {
        if self.live.object.deleted_at.is_some() {
            assert!(!self.exists, "never released: {:#}", self.status);
            return self.nothing_is_left();
        }
        let node = self.live.node.as_ref();
        let ready = self.status["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "Ready");
        let ready = ready.unwrap();
        self.agent_is_as_asked_for();
        match self.wanted() {
            Active => {
                let host = self.live.host.as_ref();
                let host = host.unwrap_or_else(|| panic!("not in: {:#}", self.status));
                assert!(host.machine.is_ready() && host.machine.deleted_at.is_none(), "{:#}", self.status);
                assert!(node.is_some_and(|node| !node.unschedulable), "still cordoned: {node:?}");
                assert_eq!((&ready["status"], &ready["reason"]), (&json!("True"), &json!("Active")));
            }
            Inactive => {
                self.nothing_is_left();
                assert_eq!(ready["status"], json!("True"), "{:#}", self.status);
            }
            AsIs => panic!("everything was thawed"),
        }
        assert_eq!(self.kstatus(), "Current", "{:#}", self.status);
        let reconciling = |c: &Value| c["type"] == "Reconciling" || c["type"] == "Stalled";
        assert!(!self.status["conditions"].as_array().unwrap().iter().any(reconciling));
        self.rests(10);
    }

    /// Passes at an advancing clock change nothing and write nothing.
    pub(super) fn rests(&mut self, passes: usize) {
        for _ in 0..passes {
            self.real += SignedDuration::from_millis(21_357);
            assert_eq!(self.pass(), Pass::Rest, "{:#}", self.status);
        }
    }
}
