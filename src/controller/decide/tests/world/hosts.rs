//! Cluster API's side of a Machine: it joins, is drained, and goes.

use super::model::{COLLECT, Host, World};
use crate::api::names;
use crate::capi::machine::Machine;
use crate::controller::decide::tests::given::{HOST, says};
use crate::controller::snapshot::Node;

/// Seconds from a Machine to its Node, for a drain, for the deletion of a host.
const JOIN: i64 = 60;
const DRAIN: i64 = 120;
const REMOVAL: i64 = 5;

impl World {
    /// The Nodes of one that goes are not drained.
    fn has_cluster(&self) -> bool {
        self.live.cluster.as_ref().is_some_and(|cluster| !cluster.deleting)
    }

    pub(super) fn delete_machine(&mut self) {
        let (now, drained, removed) = (self.wall(), self.after(DRAIN), self.after(REMOVAL));
        let has_cluster = self.has_cluster();
        let Some(host) = self.live.host.as_mut().filter(|host| host.machine.deleted_at.is_none()) else {
            return;
        };
        host.machine.deleted_at = Some(now);
        let has_pods = self.pods.live.iter().any(|live| !live.pod.stays() || live.pod.is_finished);
        let drains = host.machine.node.is_some()
            && has_pods
            && has_cluster
            && !host.machine.annotations.contains_key(names::ANNOTATION_EXCLUDE_DRAIN);
        host.next = Some(if drains { drained } else { removed });
        let reason = if drains { "DrainingNode" } else { "WaitingForInfrastructureDeletion" };
        host.machine.conditions =
            vec![says("Deleting", "True", reason, "one pod"), says("Ready", "False", "X", "")];
        self.touch();
    }

    /// Its finalizer taken off by hand: the collector takes its parts, the Node stays.
    pub(super) fn vanish(&mut self) {
        let at = self.after(COLLECT);
        let Some(host) = self.live.host.take() else { return };
        for part in self.live.parts.values_mut() {
            if part.object.machine_uid.as_ref() == Some(&host.machine.uid) {
                part.gone_at = Some(at);
            }
        }
    }

    pub(super) fn foreign(&mut self, there: bool) {
        let is_foreign = |host: &Host| host.machine.uid == "foreign";
        if there && self.live.host.is_none() {
            let machine = Machine { name: "ws-1".into(), uid: "foreign".into(), ..Machine::default() };
            let (bootstrap, infrastructure) = (String::new(), String::new());
            self.live.host = Some(Host { machine, bootstrap, infrastructure, next: None });
        } else if !there && self.live.host.as_ref().is_some_and(is_foreign) {
            self.live.host = None;
        }
    }

    pub(super) fn host_is_due(&mut self) {
        let Some(mut host) = self.live.host.take() else { return };
        host.next = None;
        if host.machine.deleted_at.is_some() {
            self.live.parts.retain(|_, part| part.object.machine_uid.as_ref() != Some(&host.machine.uid));
            if !std::mem::take(&mut self.keeps_node) {
                self.live.node = None;
            }
            return;
        }
        let kinds = [(true, host.bootstrap.clone()), (false, host.infrastructure.clone())];
        let uid = host.machine.uid.clone();
        let mut complete = true;
        for kind in &kinds {
            match self.live.parts.get_mut(kind).map(|part| &mut part.object) {
                Some(part) if part.machine_uid.as_ref().is_none_or(|has| *has == uid) => {
                    part.machine_uid = Some(uid.clone());
                }
                _ => complete = false,
            }
        }
        if complete && self.is_contested(&mut host) {
            host.next = Some(self.after(JOIN));
        } else if complete {
            self.join(&mut host);
        }
        self.live.host = Some(host);
        self.touch();
    }

    /// The host joins. A Node object of its name that is still there is taken over as it is, cordon included.
    fn join(&mut self, host: &mut Host) {
        let uid = self.uid();
        if self.live.node.is_none() {
            self.our_taints.clear();
            self.doubtful.clear();
        }
        let node = self.live.node.get_or_insert_with(|| Node {
            name: "ws-1".to_owned(),
            uid: uid.clone(),
            resource_version: uid,
            provider_id: Some(HOST.to_owned()),
            is_ready: true,
            ..Node::default()
        });
        self.ours.insert(node.uid.clone());
        host.machine.node = Some(node.name.clone());
        host.machine.provider_id = Some(HOST.to_owned());
        host.machine.conditions = vec![says("Ready", "True", "Ready", "")];
    }

    pub(super) fn add_machine(&mut self, machine: Machine, bootstrap: String, infrastructure: String) {
        let next = Some(self.after(JOIN));
        self.ours.insert(machine.uid.clone());
        self.live.host = Some(Host { machine, bootstrap, infrastructure, next });
        self.touch();
    }

    /// A drain that is to be left out, or whose Cluster goes, ends with Cluster API's next look.
    pub(super) fn hasten(&mut self) {
        let soon = self.after(REMOVAL);
        let has_cluster = self.has_cluster();
        if let Some(host) = self.live.host.as_mut().filter(|host| host.machine.deleted_at.is_some())
            && (!has_cluster || host.machine.annotations.contains_key(names::ANNOTATION_EXCLUDE_DRAIN))
        {
            host.next = host.next.map(|at| at.min(soon));
        }
    }
}
