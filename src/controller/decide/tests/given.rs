//! A snapshot, put together in few words. Monday 2 November 2026; the window is 09:00 to 18:00 UTC on weekdays.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Taint;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::core::ApiResource;
use serde_json::{Value, json};

use crate::api::condition::{Phase, types};
use crate::api::machine_hold::{HoldOrigin, HoldReclaim, HoldState};
use crate::api::refs::{PartKind, PartRole};
use crate::api::status::{
    DecisionStatus, DesiredState, LastRun, Manner, NodeRef, ObjectRef, Rule, ScheduledMachineStatus, Timers,
};
use crate::capi::kinds::Role;
use crate::capi::machine::{Cluster, Machine};
use crate::capi::version::{Capi, Version};
use crate::controller::agent::Written;
use crate::controller::build;
use crate::controller::decide::decide;
use crate::controller::effect::{Decision, Effect, TaintEdit};
use crate::controller::hold::Hold;
use crate::controller::report::Report;
use crate::controller::snapshot::pods::Pods;
use crate::controller::snapshot::{Child, ChildObject, Node, Object, Service, Snapshot};
use crate::controller::status::derive;
use crate::controller::target::Target;
use crate::workload::Reach;

pub(super) const SM: &str = "uid-of-the-scheduled-machine";
pub(super) const MACHINE: &str = "uid-of-the-machine";
pub(super) const NODE: &str = "uid-of-the-node";
pub(super) const HOST: &str = "stub://ws-1";

/// `"10:00"`: that Monday; else a whole instant.
pub(super) fn t(text: &str) -> Timestamp {
    let whole = if text.len() == 5 { format!("2026-11-02T{text}:00Z") } else { text.to_owned() };
    whole.parse().unwrap()
}

pub(super) fn spec() -> Value {
    json!({
        "clusterName": "grid",
        "schedule": {"daysOfWeek": ["mon-fri"], "hoursOfDay": ["9-17"]},
        "bootstrapSpec": {"apiVersion": "bootstrap.cluster.x-k8s.io/v1", "kind": "StubConfig", "spec": {"a": 1}},
        "infrastructureSpec":
            {"apiVersion": "infrastructure.cluster.x-k8s.io/v1", "kind": "StubMachine", "spec": {"b": 2}},
    })
}

pub(super) fn child(role: Role, kind: &str, is_wanted: bool) -> Child {
    let group = match role {
        Role::Bootstrap => "bootstrap.cluster.x-k8s.io",
        Role::Infrastructure => "infrastructure.cluster.x-k8s.io",
    };
    let resource = ApiResource {
        group: group.to_owned(),
        version: "v1".to_owned(),
        api_version: format!("{group}/v1"),
        kind: kind.to_owned(),
        plural: format!("{}s", kind.to_lowercase()),
    };
    Child {
        role,
        api_version: resource.api_version.clone(),
        kind: kind.to_owned(),
        is_wanted,
        service: Service::Served(resource.clone()),
        resource: Some(resource),
        object: None,
    }
}

/// The kinds of [`spec`], as every pass writes them down.
pub(super) fn noted() -> Vec<PartKind> {
    let kind = |role, group: &str, kind: &str| PartKind {
        role,
        api_version: format!("{group}.cluster.x-k8s.io/v1"),
        kind: kind.to_owned(),
    };
    vec![
        kind(PartRole::Bootstrap, "bootstrap", "StubConfig"),
        kind(PartRole::Infrastructure, "infrastructure", "StubMachine"),
    ]
}

pub(super) fn own_child() -> ChildObject {
    ChildObject {
        uid: "uid-of-a-child".to_owned(),
        uid_label: Some(SM.to_owned()),
        name_label: Some("ws-1".to_owned()),
        ..ChildObject::default()
    }
}

pub(super) fn says(kind: &str, status: &str, reason: &str, message: &str) -> Condition {
    Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: None,
        last_transition_time: Time(t("00:00")),
    }
}

/// Everything is there but the machine.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) raw: Value,
    pub(super) s: Snapshot,
}

pub(super) fn given() -> Given {
    let raw = spec();
    let s = Snapshot {
        now: t("10:00"),
        object: Object {
            namespace: "lab".to_owned(),
            name: "ws-1".to_owned(),
            uid: SM.to_owned(),
            generation: 1,
            has_finalizer: true,
            ..Object::default()
        },
        target: Target::read(&raw),
        status: ScheduledMachineStatus { part_kinds: noted(), ..ScheduledMachineStatus::default() },
        capi: Capi::Served(Version::V1Beta2),
        holds_unread: None,
        holds: vec![],
        hold_tried: None,
        hold_written: None,
        agents: None,
        agent_written: Written::default(),
        cluster: Some(Cluster {
            uid: "uid-of-the-cluster".to_owned(),
            infrastructure_provisioned: true,
            control_plane_initialized: true,
            ..Cluster::default()
        }),
        machine: None,
        children: vec![
            child(Role::Bootstrap, "StubConfig", true),
            child(Role::Infrastructure, "StubMachine", true),
        ],
        node: None,
        rivals: vec![],
        reach: Reach::Connected,
        waits_for_turn: false,
        is_node_behind: false,
        pods_asked_at: None,
        pods: Pods::Known(Vec::new()),
        drain_rules: Some(Vec::new()),
    };
    Given { raw, s }
}

impl Given {
    pub(super) fn at(self, now: &str) -> Self {
        self.with(|s| s.now = t(now))
    }

    pub(super) fn with(mut self, change: impl FnOnce(&mut Snapshot)) -> Self {
        change(&mut self.s);
        self
    }

    /// One field of the spec; the status has seen this generation.
    pub(super) fn set(mut self, pointer: &str, value: Value) -> Self {
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        self.raw.pointer_mut(parent).unwrap()[field] = value;
        self.s.target = Target::read(&self.raw);
        self
    }

    /// The same, by a user, just now.
    pub(super) fn edit(self, pointer: &str, value: Value) -> Self {
        self.set(pointer, value).with(|s| s.object.generation += 1)
    }

    /// What the last pass decided.
    pub(super) fn was(self, state: DesiredState, rule: Rule, since: &str) -> Self {
        let since = t(since);
        let by_clock = matches!(rule, Rule::Exception | Rule::Window | Rule::OutsideWindows);
        self.with(|s| {
            let schedule = s.target.schedule.as_ref().ok().filter(|_| by_clock);
            let until = schedule.and_then(|schedule| schedule.next_edge(since)).map(|edge| edge.at);
            s.status.observed_generation = Some(s.object.generation);
            s.status.decision = Some(DecisionStatus {
                state,
                rule,
                since,
                rule_since: since,
                until,
                manner: Manner::Graceful,
                source: None,
                message: None,
            });
        })
    }

    /// A Machine as we make it, without a Node.
    pub(super) fn machine(self) -> Self {
        self.with(|s| {
            let templates = s.target.templates.as_ref().unwrap();
            let object = build::machine(s, templates, s.cluster.as_ref().unwrap());
            let made = Machine::decode(&object, s.capi.version());
            s.machine = Some(Machine { uid: MACHINE.to_owned(), resource_version: "7".to_owned(), ..made });
            s.status.machine_ref = Some(ObjectRef {
                kind: "Machine".to_owned(),
                uid: Some(MACHINE.to_owned()),
                ..ObjectRef::default()
            });
            s.status.timers = Some(Timers { open_started_at: Some(t("09:00")), ..Timers::default() });
            s.status.last_run = Some(LastRun { opened_at: Some(t("09:00")), ..LastRun::default() });
            for child in &mut s.children {
                child.object = Some(ChildObject { machine_uid: Some(MACHINE.to_owned()), ..own_child() });
            }
        })
    }

    /// A Machine with its Node, ready, and a status that says so.
    pub(super) fn lent(self) -> Self {
        self.machine().was(DesiredState::Active, Rule::Window, "09:00").with(|s| {
            let machine = s.machine.as_mut().unwrap();
            machine.node = Some("ws-1".to_owned());
            machine.provider_id = Some(HOST.to_owned());
            machine.conditions = vec![says("Ready", "True", "Ready", "")];
            s.node = Some(Node {
                name: "ws-1".to_owned(),
                uid: NODE.to_owned(),
                resource_version: "3".to_owned(),
                provider_id: Some(HOST.to_owned()),
                ..Node::default()
            });
            s.status.phase = Some(Phase::Active);
            s.status.provider_id = Some(HOST.to_owned());
            s.status.node_ref =
                Some(NodeRef { name: "ws-1".to_owned(), uid: Some(NODE.to_owned()), ..NodeRef::default() });
            s.status.last_run.as_mut().unwrap().ready_at = Some(t("09:05"));
        })
    }

    /// The Machine is being deleted, and says why it is still there.
    pub(super) fn deleting(self, reason: &str, message: &str) -> Self {
        let said = says("Deleting", "True", reason, message);
        self.with(|s| {
            let machine = s.machine.as_mut().unwrap();
            machine.deleted_at = Some(s.now);
            machine.conditions = vec![said, says("Ready", "False", "NotReady", "")];
        })
    }

    pub(super) fn gone(self) -> Self {
        self.with(|s| {
            s.machine = None;
            s.node = None;
            for child in &mut s.children {
                child.object = None;
            }
        })
    }

    pub(super) fn decide(&self) -> Decision {
        decide(&self.s)
    }

    pub(super) fn effects(&self) -> Vec<&'static str> {
        self.decide().effects.iter().map(Effect::label).collect()
    }

    /// The status after a pass in which every effect went well.
    pub(super) fn status(&self) -> ScheduledMachineStatus {
        let status = derive(&self.s, &self.decide(), &Report::default());
        super::reasons::are_documented(&status);
        status
    }

    /// A condition after that pass: status and reason.
    pub(super) fn condition(&self, kind: &str) -> Option<(String, String)> {
        let status = self.status();
        let found = status.conditions.into_iter().find(|condition| condition.type_ == kind)?;
        Some((found.status, found.reason))
    }

    /// Phase, status of `Ready` and its reason.
    pub(super) fn standing(&self) -> (Phase, String, String) {
        let (status, reason) = self.condition(types::READY).unwrap();
        (self.status().phase.unwrap(), status, reason)
    }

    /// Writes the status of one pass, and goes on.
    pub(super) fn passed(self) -> Self {
        let after = serde_json::to_value(self.status()).unwrap();
        self.with(|s| s.status = serde_json::from_value(after).unwrap())
    }
}

/// What the API server makes of a write to a Node's taints.
pub(super) fn perform(edit: &TaintEdit, taints: &mut Vec<Taint>) {
    for (place, value) in &edit.changed {
        taints[*place].value.clone_from(value);
    }
    let mut place = 0;
    taints.retain(|_| {
        place += 1;
        !edit.removed.contains(&(place - 1))
    });
    taints.extend(edit.added.iter().map(|added| Taint {
        key: added.key.clone(),
        value: added.value.clone(),
        effect: added.effect.name().to_owned(),
        time_added: None,
    }));
}

/// Shorthand for [`Given::standing`].
pub(super) fn stands(phase: Phase, ready: &str, reason: &str) -> (Phase, String, String) {
    (phase, ready.to_owned(), reason.to_owned())
}

/// A person's hold over the machine, made that Monday.
pub(super) fn hold(
    name: &str,
    state: HoldState,
    made: &str,
    from: Option<&str>,
    until: Option<&str>,
) -> Hold {
    Hold {
        namespace: "lab".to_owned(),
        name: name.to_owned(),
        uid: format!("uid-of-{name}"),
        created_at: t(made),
        state,
        origin: HoldOrigin::User,
        from: from.map(t),
        until: until.map(t),
        reason: "a test".to_owned(),
        reclaim: None,
    }
}

/// The hold of a reclaim.
pub(super) fn reclaim_hold(name: &str, made: &str, until: Option<&str>) -> Hold {
    let reclaim = HoldReclaim {
        request: Some(format!("{NODE}/{made}")),
        node: Some("ws-1".to_owned()),
        matched: Some("java".to_owned()),
        requested_at: Some(t(made)),
    };
    let made = hold(name, HoldState::Inactive, made, None, until);
    Hold { origin: HoldOrigin::Reclaim, reclaim: Some(reclaim), ..made }
}
