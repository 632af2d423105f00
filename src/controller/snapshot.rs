//! All that a decision may know, as values.

pub mod pods;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Taint;
use kube::core::ApiResource;

use crate::api::status::ScheduledMachineStatus;
use crate::capi::drain_rules::DrainRule;
use crate::capi::kinds::Role;
use crate::capi::machine::{Cluster, Machine};
use crate::capi::version::Capi;
use crate::controller::agent::{Agents, Written};
use crate::controller::hold::Hold;
use crate::controller::reclaim::request::Note;
use crate::controller::reclaim::wish::{Tried, Unshown};
use crate::controller::target::Target;
use crate::workload::Reach;
use pods::Pods;

/// One ScheduledMachine and all around it, at one instant.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The clock, read once.
    pub now: Timestamp,
    /// The object itself.
    pub object: Object,
    /// Its spec, understood as far as it can be.
    pub target: Target,
    /// Its status as last written.
    pub status: ScheduledMachineStatus,
    /// What of Cluster API is served; decides how Machines are written.
    pub capi: Capi,
    /// Why nobody knows which MachineHolds there are.
    pub holds_unread: Option<String>,
    /// The MachineHolds over it, in force or not.
    pub holds: Vec<Hold>,
    /// How the last try to write a reclaim's hold failed, if it did, in this process.
    pub hold_tried: Option<Tried>,
    /// The hold of a reclaim that was written in this process and is not among `holds` yet.
    pub hold_written: Option<Unshown>,
    /// Its Cluster.
    pub cluster: Option<Cluster>,
    /// The Machine of its name, ours or not.
    pub machine: Option<Machine>,
    /// The bootstrap and infrastructure kinds that the spec names and those that the status remembers.
    pub children: Vec<Child>,
    /// The Node that the Machine, or else the status, points at.
    pub node: Option<Node>,
    /// Every Node with the provider id of our Machine, by name, while that is not ready.
    pub rivals: Vec<Rival>,
    /// What is known of reclaim agents; `None`: nobody asks.
    pub agents: Option<Agents>,
    /// What was written last for its agent, in this process.
    pub agent_written: Written,
    /// The Node is not shown yet as we wrote it.
    pub is_node_behind: bool,
    /// The way to the workload cluster.
    pub reach: Reach,
    /// As many machines as may be made at one time are being made, or go first.
    pub waits_for_turn: bool,
    /// The pods on the Machine's Node, while a leaving asks for them.
    pub pods: Pods,
    /// Since when they are asked for, in this process.
    pub pods_asked_at: Option<Timestamp>,
    /// The MachineDrainRules of the namespace; `None`: they cannot be read.
    pub drain_rules: Option<Vec<DrainRule>>,
}

/// Who the object is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Object {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
    /// Generation of the spec.
    pub generation: i64,
    /// Since when it exists.
    pub created_at: Option<Timestamp>,
    /// Since when it is being deleted.
    pub deleted_at: Option<Timestamp>,
    /// Our finalizer is on it.
    pub has_finalizer: bool,
    /// It carries Cluster API's pause annotation.
    pub is_paused: bool,
    /// `clusterctl move` is taking it away.
    pub is_moving: bool,
}

/// A kind that an object of ours may be of, and that object.
#[derive(Clone, Debug)]
pub struct Child {
    /// Which of the two.
    pub role: Role,
    /// `group/version`.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// The spec names this kind today (else only the status does).
    pub is_wanted: bool,
    /// Whether the kind can be used.
    pub service: Service,
    /// What to make an `Api` from; there also for a kind that may not be used any more, as long as it can be seen.
    pub resource: Option<ApiResource>,
    /// The object of our name, ours or not; known only while the kind can be seen.
    pub object: Option<ChildObject>,
}

/// Whether a kind can be used.
#[derive(Clone, Debug, PartialEq)]
pub enum Service {
    /// Being looked up.
    Resolving,
    /// No CRD serves it; in words.
    NotServed(String),
    /// Not on the list, or not what it claims to be; in words.
    NotAllowed(String),
    /// The API server does not say; in words.
    Unreachable(String),
    /// It is.
    Served(ApiResource),
}

/// What decisions need to know of a bootstrap or infrastructure object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChildObject {
    /// Its uid.
    pub uid: String,
    /// It is being deleted.
    pub deleting: bool,
    /// Value of our uid label.
    pub uid_label: Option<String>,
    /// Value of the label by which we watch it.
    pub name_label: Option<String>,
    /// Uid of the Machine that Cluster API made its controller.
    pub machine_uid: Option<String>,
}

/// What decisions need to know of a Node.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each read from a field of its own")]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// For checked writes.
    pub resource_version: String,
    /// Since when it exists.
    pub created_at: Option<Timestamp>,
    /// `spec.providerID`.
    pub provider_id: Option<String>,
    /// The Machine that Cluster API has matched it to last.
    pub claimed_by: Option<Claim>,
    /// `spec.unschedulable`.
    pub unschedulable: bool,
    /// Uid of the ScheduledMachine that cordoned it.
    pub cordoned_by: Option<String>,
    /// `spec.taints`, everybody's, as they stand there.
    pub taints: Vec<Taint>,
    /// Its kubelet says that it is `Ready`.
    pub is_ready: bool,
    /// Its kubelet has not been heard of: `Ready` is `Unknown`.
    pub is_unreachable: bool,
    /// It is being deleted.
    pub deleting: bool,
    /// Our record of those that are ours, as it stands there: anybody may have written it.
    pub applied_taints: Option<String>,
    /// Value of the label that brings the agent's pod there.
    pub agent_label: Option<String>,
    /// What stands there for a reclaim: anybody may have written it.
    pub reclaim: Option<Note>,
    /// It has any annotation at all.
    pub has_annotations: bool,
}

/// What Cluster API writes on a Node that it has matched to a Machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Name of the Machine.
    pub machine: String,
    /// Its namespace.
    pub namespace: Option<String>,
}

/// A Node that may be taken for our Machine's.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each read from a field of its own")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rival {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// For checked writes.
    pub resource_version: String,
    /// It was there before the Machine.
    pub is_older: bool,
    /// Its kubelet has not been heard of for a while.
    pub is_silent: bool,
    /// Cluster API or we have written on it that it belonged to a Machine of ours.
    pub carries_our_mark: bool,
    /// It is being deleted.
    pub deleting: bool,
}

impl Service {
    /// Whether there are objects of the kind cannot be said now.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Resolving | Self::Unreachable(_))
    }
}

impl Snapshot {
    /// The Machine, if it is ours.
    pub fn own_machine(&self) -> Option<&Machine> {
        self.machine.as_ref().filter(|machine| self.owns_machine(machine))
    }

    /// Ours by uid label, by recorded uid or (objects of the predecessor, objects that `clusterctl move` brought) by
    /// controller reference.
    pub fn owns_machine(&self, machine: &Machine) -> bool {
        use crate::api::names::{GROUP, LABEL_SCHEDULED_MACHINE_UID};
        let recorded = self.status.machine_ref.as_ref().and_then(|r| r.uid.as_ref());
        machine.labels.get(LABEL_SCHEDULED_MACHINE_UID) == Some(&self.object.uid)
            || recorded == Some(&machine.uid)
            || machine.owners.iter().any(|owner| {
                owner.controller == Some(true)
                    && owner.uid == self.object.uid
                    && owner.kind == "ScheduledMachine"
                    && owner.api_version.split('/').next() == Some(GROUP)
            })
    }

    /// Ours by uid label, by recorded uid, or because our Machine controls it.
    pub fn owns_child(&self, child: &Child, object: &ChildObject) -> bool {
        let recorded = match child.role {
            Role::Bootstrap => self.status.bootstrap_ref.as_ref(),
            Role::Infrastructure => self.status.infrastructure_ref.as_ref(),
        };
        object.uid_label.as_ref() == Some(&self.object.uid)
            || recorded.and_then(|r| r.uid.as_ref()) == Some(&object.uid)
            || self.own_machine().is_some_and(|machine| object.machine_uid.as_ref() == Some(&machine.uid))
    }

    /// The Node, if it is provably that of our Machine, or of the one before it.
    pub fn own_node(&self) -> Option<&Node> {
        let node = self.node.as_ref()?;
        let recorded = self.status.node_ref.as_ref().and_then(|r| r.uid.as_ref());
        let is_recorded = recorded == Some(&node.uid);
        let same_host = |id: Option<&String>| id.is_some() && node.provider_id.as_ref() == id;
        let is_elses = node.claimed_by.as_ref().is_some_and(|claim| !self.is_of_our_machine(claim));
        let is_ours = match self.own_machine() {
            // What the Machine itself names is its Node, whatever an earlier run left written on it.
            Some(machine) => {
                let is_named = machine.node.as_ref() == Some(&node.name);
                (is_recorded || same_host(machine.provider_id.as_ref())) && (is_named || !is_elses)
            }
            // The host may have joined again for somebody else, under the same name and provider id, even with the same
            // Node object: the uid decides, and who has it now.
            None if recorded.is_some() => is_recorded && !is_elses,
            None => same_host(self.status.provider_id.as_ref()) && !is_elses && self.is_of_the_last_run(node),
        };
        is_ours.then_some(node)
    }

    fn is_of_our_machine(&self, claim: &Claim) -> bool {
        let Object { namespace, name, .. } = &self.object;
        claim.machine == *name && claim.namespace.as_ref().is_none_or(|claimed| claimed == namespace)
    }

    /// It was there when that run ended, which may be now. One that came later came for somebody else.
    fn is_of_the_last_run(&self, node: &Node) -> bool {
        let run = self.status.last_run.as_ref();
        let ended_at = run.map(|run| run.closed_at.or(run.gone_at).unwrap_or(self.now));
        node.created_at.zip(ended_at).is_some_and(|(created, ended)| created <= ended)
    }

    /// The status says that there was, or may be, an object of this kind.
    pub fn remembers(&self, child: &Child) -> bool {
        let recorded = match child.role {
            Role::Bootstrap => self.status.bootstrap_ref.as_ref(),
            Role::Infrastructure => self.status.infrastructure_ref.as_ref(),
        };
        // What the spec does not name is here because the status does.
        !child.is_wanted
            || recorded.is_some_and(|r| r.api_version == child.api_version && r.kind == child.kind)
    }

    /// The kind that the spec names today.
    pub fn wanted(&self, role: Role) -> Option<&Child> {
        self.children.iter().find(|child| child.role == role && child.is_wanted)
    }

    /// Cluster API wants nothing of this written.
    pub fn is_capi_paused(&self) -> bool {
        self.pause().is_some()
    }

    /// What says so, for people.
    pub fn pause(&self) -> Option<String> {
        if self.object.is_paused {
            return Some(format!("annotation {}", crate::api::names::ANNOTATION_CAPI_PAUSED));
        }
        let is_paused = self.cluster.as_ref().is_some_and(|cluster| cluster.paused);
        is_paused.then(|| format!("paused Cluster {}", self.target.cluster_name))
    }
}
