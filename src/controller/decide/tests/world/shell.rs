//! The pass: what `observe`, `apply` and `reconcile` do, on the model, with everything that can go wrong in between.

use kube::core::{ApiResource, DynamicObject};
use serde_json::{Value, json};

use super::model::{Part, Shown, World, is_bootstrap, merge, reference};
use super::told::times_are_true;
use crate::api::names;
use crate::api::status::{ObjectRef, ScheduledMachineStatus};
use crate::capi::kinds::Role;
use crate::capi::machine::{DeletionLimits, Machine};
use crate::capi::version::Version;
use crate::controller::attempt::describe;
use crate::controller::decide::decide;
use crate::controller::decide::tests::given::{SM, child};
use crate::controller::effect::{Effect, NodeEdit};
use crate::controller::error::Class;
use crate::controller::parts;
use crate::controller::report::{Failure, Made, Report};
use crate::controller::snapshot::pods::Verb;
use crate::controller::snapshot::{ChildObject, Node, Service, Snapshot};
use crate::controller::status::{derive, patch};
use crate::workload::Reach;

/// At which effect of the next pass (or, past the last one, at its status).
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    pub(super) effect: usize,
    pub(super) how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    FailBefore,
    FailAfter,
    DieBefore,
    DieAfter,
}

/// What became of a pass.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// Nothing done, nothing written.
    Rest,
    Moved,
    /// It comes back after a while.
    Failed,
    /// What failed is not tried again yet.
    Held,
}

pub(super) fn refused(reason: &'static str) -> Failure {
    Failure { reason, message: format!("refused: {reason}"), class: Class::Transient }
}

impl World {
    pub(super) fn snapshot(&self, shown: &Shown) -> Snapshot {
        let target = shown.target.clone();
        let status = self.read.clone();
        let look = |(role, _, kind, is_wanted): (Role, String, String, bool)| {
            let mut child = child(role, &kind, is_wanted);
            if self.is_served {
                let key = (is_bootstrap(role), kind);
                child.object = shown.parts.get(&key).map(|part| part.object.clone());
            } else {
                (child.service, child.resource) = (Service::Resolving, None);
            }
            child
        };
        let children = parts::kinds(&target, &status).into_iter().map(look).collect();
        let host = shown.host.as_ref().filter(|_| self.is_spoken());
        let cluster = shown.cluster.as_ref().filter(|_| self.is_spoken());
        let machine = host.map(|host| host.machine.clone());
        let named = machine.as_ref().and_then(|machine| machine.node.clone());
        let named = named.or_else(|| status.node_ref.as_ref().map(|node| node.name.clone()));
        let has_cluster = cluster.is_some();
        let node = named.filter(|_| has_cluster).and_then(|_| self.node_shown(shown));
        Snapshot {
            capi: self.speaks.capi(),
            now: self.wall(),
            object: shown.object.clone(),
            target,
            status,
            holds_unread: self.holds_unread(),
            holds: self.holds_seen(&shown.holds),
            hold_tried: self.reclaims.tried.clone(),
            hold_written: None,
            agents: self.agents_seen(),
            agent_written: self.agents.written.clone(),
            cluster: cluster.cloned(),
            machine,
            children,
            is_node_behind: self.is_behind(node.as_ref()),
            node,
            rivals: vec![],
            reach: match (has_cluster && self.has_listed(), self.is_reachable) {
                (false, _) => Reach::Connecting,
                (true, true) => Reach::Connected,
                (true, false) => Reach::Unreachable("no route".to_owned()),
            },
            waits_for_turn: false,
            pods_asked_at: self.pods_asked_at(),
            pods: self.pods_seen(),
            drain_rules: self.drain_rules(),
        }
    }

    pub(super) fn pass(&mut self) -> Pass {
        let sees_what_is = self.stale.is_none();
        self.is_settled = false;
        let shown = self.stale.take().unwrap_or_else(|| self.live.clone());
        let mut snapshot = self.snapshot(&shown);
        snapshot.rivals = self.rivals_seen(&snapshot);
        let decision = decide(&snapshot);
        if self.awaits_its_node(&snapshot, &decision) {
            return Pass::Held;
        }
        let attempt = describe(&snapshot, &"", &decision);
        if self.is_held(&attempt, decision.wake) {
            return Pass::Held;
        }
        let decision = self.takes_its_turn(&mut snapshot, decision);
        self.obeys(&snapshot, &decision);
        let is_stale = shown.object != self.live.object
            || self.is_lifted(&decision)
            || (decision.effects.iter().any(|effect| effect.wish().is_some())
                && shown.holds != self.live.holds);
        if decision.effects.iter().any(Effect::is_destructive) && is_stale {
            return Pass::Moved;
        }
        let fault = self.fault.filter(|_| !decision.effects.is_empty());
        self.fault = self.fault.filter(|_| fault.is_none());
        let mut report = Report::default();
        self.ask_for_pods(&decision);
        self.ask_for_agents(&decision);
        for (index, effect) in decision.effects.iter().enumerate() {
            // The other half goes on.
            if report.failure.is_some() && !effect.is_on_node() {
                continue;
            }
            let how = fault.filter(|fault| fault.effect == index).map(|fault| fault.how);
            if how == Some(How::DieBefore) {
                return self.died();
            }
            let done = match how {
                Some(How::FailBefore) => Err(refused("ApiTimeout")),
                _ if self.refuses(effect) => Err(refused("Forbidden")),
                // Whether there is one already cannot be seen.
                _ if effect.wish().is_some() && self.hides_holds() => Err(refused("Forbidden")),
                _ => self.perform(effect, &snapshot),
            };
            let done = match how {
                Some(How::DieAfter) => return self.died(),
                Some(How::FailAfter) => Err(refused("ApiTimeout")),
                _ => done,
            };
            if let Some(wish) = effect.wish() {
                report.recorded = Some(self.recorded(wish, done.err()));
                continue;
            }
            match done {
                Ok(made) => report.made.extend(made),
                Err(failure) if effect.is_on_node() => report.node_failure = Some(failure),
                Err(failure) => report.failure = Some(failure),
            }
        }
        if !self.exists {
            return Pass::Rest;
        }
        let past_the_last = fault.is_some_and(|fault| fault.effect >= decision.effects.len());
        match fault.filter(|_| past_the_last).map(|fault| fault.how) {
            Some(How::DieBefore) => return self.died(),
            Some(How::FailBefore) => return Pass::Moved,
            Some(How::FailAfter | How::DieAfter) | None => {}
        }
        let after = derive(&snapshot, &decision, &report);
        times_are_true(&snapshot, &after);
        let changes = after != snapshot.status && self.write(&after);
        if report.failure.is_some() || report.node_failure.is_some() {
            return self.failed(attempt, decision.wake, changes);
        }
        self.held = None;
        if changes || !decision.effects.is_empty() {
            return Pass::Moved;
        }
        self.at_rest(&snapshot, &decision);
        let wake = decision.wake.after(self.wall()).map(|delay| self.real + delay);
        assert!(wake.is_none_or(|at| at > self.real), "a wake-up that has passed already: {decision:#?}");
        // The list of pods comes of itself.
        self.wake = if self.lists_come() { Some(self.real) } else { wake };
        self.is_settled = sees_what_is;
        Pass::Rest
    }

    /// Whether anything is written.
    fn write(&mut self, after: &ScheduledMachineStatus) -> bool {
        let after = serde_json::to_value(after).unwrap();
        let Some(change) = patch(&self.status, &after) else { return false };
        merge(&mut self.status, &change);
        assert_eq!(self.status, after, "a merge patch of the difference");
        self.read = serde_json::from_value(after).unwrap();
        true
    }

    fn refuses(&self, effect: &Effect) -> bool {
        self.is_refusing && matches!(effect, Effect::PatchMachine { .. } | Effect::DeleteMachine { .. })
    }

    pub(super) fn died(&mut self) -> Pass {
        self.pods.forget();
        self.agents.forget();
        self.reclaims.tried = None;
        self.relists();
        self.held = None;
        Pass::Moved
    }

    fn perform(
        &mut self,
        effect: &Effect,
        snapshot: &Snapshot,
    ) -> Result<Option<(Made, ObjectRef)>, Failure> {
        match effect {
            Effect::AddFinalizer => self.live.object.has_finalizer = true,
            Effect::RemoveFinalizer { kinds } => return self.release(kinds).map(|()| None),
            Effect::CreateChild { role, resource, object } => {
                return self.create_part(*role, resource, object).map(Some);
            }
            Effect::CreateMachine(object) => return self.create_machine(object, snapshot).map(Some),
            Effect::PatchMachine { uid, patch } => {
                return self.patch_machine(uid, patch, snapshot.capi.version()).map(|()| None);
            }
            // Parts of the simulated world always carry their labels.
            Effect::PatchChild { .. } => unreachable!("a part without labels"),
            Effect::DeleteMachine { uid } => {
                if self.live.host.as_ref().is_some_and(|host| host.machine.uid == *uid) {
                    self.delete_machine();
                }
            }
            Effect::ReleaseMachine { .. } => unreachable!("no definition is deleted in the simulated world"),
            Effect::DeleteChild { uid, .. } => self.delete_part(uid),
            Effect::Cordon(edit) => return self.edit_node(edit, |node| hold(node, true)).map(|()| None),
            Effect::Uncordon { node, lifts, taints } => {
                let edit = |node: &mut Node| {
                    if *lifts {
                        hold(node, false);
                    }
                    node.taints.clone_from(taints.as_ref().unwrap_or(&node.taints.clone()));
                };
                return self.edit_node(node, edit).map(|()| None);
            }
            Effect::EjectNode { node, cordons, taints } => {
                let edit = |node: &mut Node| {
                    if *cordons {
                        hold(node, true);
                    }
                    node.taints.clone_from(taints);
                };
                return self.edit_node(node, edit).map(|()| None);
            }
            Effect::WriteHold(wish) => self.write_hold(wish),
            Effect::LabelNode { node, on } => return self.label_node(node, *on).map(|()| None),
            Effect::WriteRules(edit) => return self.write_rules(edit).map(|()| None),
            Effect::DeleteRules { name, uid } => return self.delete_rules(name, uid).map(|()| None),
            Effect::ClearReclaim(edit) => {
                return self.edit_node(edit, |node| node.reclaim = None).map(|()| None);
            }
            Effect::Evict(pod) => return self.make_go(pod, Verb::Evict).map(|()| None),
            Effect::DeletePod(pod) => return self.make_go(pod, Verb::Delete).map(|()| None),
            Effect::Taint(edit) => return self.taint(edit).map(|()| None),
            Effect::DeleteNode(edit) => {
                self.live.node = self.live.node.take().filter(|node| node.uid != edit.uid);
                self.rivals.retain(|rival| rival.uid != edit.uid);
            }
        }
        Ok(None)
    }

    fn release(&mut self, kinds: &[ApiResource]) -> Result<(), Failure> {
        let listed = |kind: &str| kinds.iter().any(|resource| resource.kind == kind);
        let ours = |uid: Option<&String>| uid.is_some_and(|uid| uid == SM);
        let part = |((_, kind), part): (&(bool, String), &Part)| {
            listed(kind) && ours(part.object.uid_label.as_ref())
        };
        let label = |machine: &Machine| ours(machine.labels.get(names::LABEL_SCHEDULED_MACHINE_UID));
        let machine = self.live.host.as_ref().is_some_and(|host| listed("Machine") && label(&host.machine));
        if machine || self.live.parts.iter().any(part) {
            return Err(refused("WaitingForMachineDeletion"));
        }
        self.live.object.has_finalizer = false;
        self.exists = false;
        self.nothing_is_left();
        Ok(())
    }

    fn create_part(
        &mut self,
        role: Role,
        resource: &ApiResource,
        object: &DynamicObject,
    ) -> Result<(Made, ObjectRef), Failure> {
        let key = (is_bootstrap(role), resource.kind.clone());
        if !self.live.parts.contains_key(&key) {
            let uid = self.uid();
            self.ours.insert(uid.clone());
            let labels = object.metadata.labels.clone().unwrap_or_default();
            let uid_label = labels.get(names::LABEL_SCHEDULED_MACHINE_UID).cloned();
            let name_label = labels.get(names::LABEL_SCHEDULED_MACHINE).cloned();
            let object = ChildObject { uid, uid_label, name_label, ..ChildObject::default() };
            self.live.parts.insert(key.clone(), Part { object, gone_at: None });
        }
        if Self::is_taken(&self.live.parts[&key]) {
            return Err(refused("NameTaken"));
        }
        let part = &self.live.parts[&key].object;
        if part.deleting {
            return Err(refused("WaitingForMachineDeletion"));
        }
        Ok((Made::Child(role), reference(&resource.api_version, &resource.kind, &part.uid)))
    }

    fn create_machine(
        &mut self,
        object: &DynamicObject,
        snapshot: &Snapshot,
    ) -> Result<(Made, ObjectRef), Failure> {
        if let Some(host) = &self.live.host {
            return match &host.machine {
                machine if !snapshot.owns_machine(machine) => Err(refused("NameTaken")),
                machine if machine.deleted_at.is_some() => Err(refused("WaitingForMachineDeletion")),
                machine => {
                    Ok((Made::Machine, reference("cluster.x-k8s.io/v1beta2", "Machine", &machine.uid)))
                }
            };
        }
        let kind = |pointer: &str| object.data.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
        let bootstrap = kind("/spec/bootstrap/configRef/kind");
        let infrastructure = kind("/spec/infrastructureRef/kind");
        let uid = self.uid();
        let machine = Machine { uid: uid.clone(), ..Machine::decode(object, snapshot.capi.version()) };
        self.add_machine(machine, bootstrap, infrastructure);
        Ok((Made::Machine, reference("cluster.x-k8s.io/v1beta2", "Machine", &uid)))
    }

    fn patch_machine(&mut self, uid: &str, patch: &Value, version: Version) -> Result<(), Failure> {
        let Some(host) = self.live.host.as_mut() else { return Ok(()) };
        let machine = &mut host.machine;
        let read = patch.pointer("/metadata/resourceVersion").and_then(Value::as_str);
        if machine.uid != uid || read.is_some_and(|version| version != machine.resource_version) {
            return Err(refused("UpdateFailed"));
        }
        let mut texts = json!({"labels": machine.labels, "annotations": machine.annotations});
        let metadata = &patch["metadata"];
        for name in ["labels", "annotations"] {
            merge(&mut texts[name], metadata.get(name).unwrap_or(&json!({})));
        }
        machine.labels = serde_json::from_value(texts["labels"].clone()).unwrap();
        machine.annotations = serde_json::from_value(texts["annotations"].clone()).unwrap();
        if let Some(owners) = metadata.get("ownerReferences") {
            machine.owners = serde_json::from_value(owners.clone()).unwrap();
            let controllers = machine.owners.iter().filter(|owner| owner.controller == Some(true));
            assert!(controllers.count() <= 1, "the server refuses two controllers");
        }
        if patch.get("spec").is_some() {
            machine.limits = DeletionLimits::decode(patch, version);
        }
        self.hasten();
        self.touch();
        Ok(())
    }

    pub(super) fn edit_node(
        &mut self,
        edit: &NodeEdit,
        change: impl FnOnce(&mut Node),
    ) -> Result<(), Failure> {
        if !self.is_reachable {
            return Err(refused("NotConnected"));
        }
        let version = self.uid();
        let Some(node) = self.live.node.as_mut() else { return Ok(()) };
        if (&node.uid, &node.resource_version) != (&edit.uid, &edit.resource_version) {
            return Err(refused("UpdateFailed"));
        }
        change(node);
        node.resource_version = version;
        self.wrote_node();
        Ok(())
    }
}

fn hold(node: &mut Node, on: bool) {
    node.unschedulable = on;
    node.cordoned_by = on.then(|| SM.to_owned());
}
