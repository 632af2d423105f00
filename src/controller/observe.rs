//! Builds the snapshot: the only place that reads cluster state for a decision, and the clock. Caches only.

mod agents;
mod connections;
mod rivals;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node as CoreNode, Pod as CorePod};
use kube::ResourceExt;
use kube::core::{DynamicObject, PartialObjectMeta};
use kube::runtime::reflector::{ObjectRef, Store};
use serde_json::Value;

use crate::api::condition::Phase;
use crate::api::names;
use crate::api::scheduled_machine::SecretKeyRef;
use crate::api::status::ScheduledMachineStatus;
use crate::capi::core::{Core, CoreView};
use crate::capi::drain_rules::DrainRule;
use crate::capi::kinds::{KindView, Kinds, Ours, Role};
use crate::capi::machine::{Cluster, Machine};
use crate::capi::version::{Capi, Version};
use crate::controller::agent::writes::AgentWrites;
use crate::controller::drain_rules::DrainRules;
use crate::controller::evictions::Evictions;
use crate::controller::expect::{Cache, Seen};
use crate::controller::hold::index::Holds;
use crate::controller::hold::tries::HoldTries;
use crate::controller::parts;
use crate::controller::reclaim::request::Note;
use crate::controller::report::Made;
use crate::controller::snapshot::pods::{Pod, Pods};
use crate::controller::snapshot::{Child, ChildObject, Claim, Node, Object, Service, Snapshot};
use crate::controller::target::Target;
use crate::workload::{ConnectionKey, PodsView, View, Workloads};

/// The caches.
#[derive(Clone)]
pub struct World {
    /// ScheduledMachines, undecoded: one bad object must not hide the others.
    pub scheduled_machines: Store<DynamicObject>,
    /// Cluster API: its version, Machines with our label, and Clusters.
    pub core: Core,
    /// MachineHolds, read.
    pub holds: Holds,
    /// Bootstrap and infrastructure kinds, and our objects of each.
    pub kinds: Kinds,
    /// Workload clusters, their Nodes, and the pods of Nodes that are being emptied.
    pub workloads: Workloads,
    /// MachineDrainRules.
    pub drain_rules: DrainRules,
    /// What this process remembers of its own writes.
    pub memory: Memory,
}

/// What no cache shows, and no status keeps.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// What became of the tries to make pods go.
    pub evictions: Evictions,
    /// What was written last for reclaim agents.
    pub agent_writes: AgentWrites,
    /// What became of the tries to write a reclaim's hold.
    pub hold_tries: HoldTries,
}

/// The clock, to the millisecond: what is stored can be read.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock for a decision")]
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}

/// Where an object's workload kubeconfig is.
pub fn connection_key(namespace: &str, kubeconfig: SecretKeyRef) -> ConnectionKey {
    ConnectionKey { namespace: namespace.to_owned(), secret: kubeconfig.name, key: kubeconfig.key }
}

impl World {
    /// One ScheduledMachine and all around it; `None` while nothing can be said of Machines and Clusters.
    pub fn snapshot(&self, raw: &DynamicObject, now: Timestamp) -> Option<Snapshot> {
        let object = object(raw);
        let target = Target::read(raw.data.get("spec").unwrap_or(&Value::Null));
        let status = status(raw);
        let (capi, cluster, machine) = match self.core.view() {
            CoreView::Resolving => return None,
            CoreView::NotServed(why) => (Capi::NotServed(why), None, None),
            CoreView::Unspoken(why) => (Capi::Unspoken(why), None, None),
            CoreView::Served { version, machines, clusters } => (
                Capi::Served(version),
                cluster(&clusters, version, &object.namespace, &target.cluster_name),
                machine(&machines, version, &object.namespace, &object.name),
            ),
        };
        let view = self.workload(&object, &target, cluster.as_ref());
        let node = node(&view, machine.as_ref(), &status);
        let key = connection_key(&object.namespace, target.kubeconfig.clone());
        let (pods_asked_at, pods) = self.pods(&object, &target, machine.as_ref());
        let holds = self.holds.over(&object.namespace, &object.name, raw.labels());
        Some(Snapshot {
            now,
            capi,
            children: self.children(&object, &target, &status),
            pods_asked_at,
            pods,
            drain_rules: self.drain_rules(&object.namespace),
            agents: self.agents(&key, &object, node.as_ref(), now),
            agent_written: self.memory.agent_writes.of(&object.uid),
            node,
            rivals: rivals::rivals(view.nodes.as_ref(), machine.as_ref(), &object),
            reach: view.reach,
            holds_unread: self.holds.unread(),
            hold_written: self.memory.hold_tries.unshown(&object.uid, &holds),
            holds,
            hold_tried: self.memory.hold_tries.of(&object.uid),
            object,
            target,
            status,
            cluster,
            machine,
            waits_for_turn: false,
            is_node_behind: false,
        })
    }

    /// What the caches show, for the notes of what was written.
    pub fn seen(&self, snapshot: &Snapshot, raw: &DynamicObject, cache: Cache) -> Seen {
        let pair = |uid: Option<String>, version: Option<String>| Some((uid?, version?));
        match cache {
            Cache::Object => pair(raw.uid(), raw.resource_version()),
            Cache::Made(Made::Machine) => {
                let machine = snapshot.machine.as_ref()?;
                Some((machine.uid.clone(), machine.resource_version.clone()))
            }
            Cache::Made(Made::Child(role)) => {
                let child = snapshot.wanted(role)?;
                let view = self.kinds.view(child.role, &child.api_version, &child.kind);
                let meta = child_meta(view.ours()?, &snapshot.object)?;
                pair(meta.uid(), meta.resource_version())
            }
            Cache::Node => {
                let node = snapshot.node.as_ref()?;
                Some((node.uid.clone(), node.resource_version.clone()))
            }
        }
    }

    /// No Cluster, no connection: its Secret belongs to whoever deletes the Cluster.
    fn workload(&self, object: &Object, target: &Target, cluster: Option<&Cluster>) -> View {
        match cluster {
            Some(_) => self.workloads.view(&connection_key(&object.namespace, target.kubeconfig.clone())),
            None => View::unknown(),
        }
    }

    /// With since when somebody asks for them.
    fn pods(&self, object: &Object, target: &Target, machine: Option<&Machine>) -> (Option<Timestamp>, Pods) {
        let key = connection_key(&object.namespace, target.kubeconfig.clone());
        let node = machine.and_then(|machine| machine.node.as_ref());
        let Some(view) = node.and_then(|node| self.workloads.pods(&key, node)) else {
            return (None, Pods::Unasked);
        };
        let PodsView { since, pods, trouble } = view;
        let Some(store) = pods else { return (Some(since), Pods::Awaited { since, trouble }) };
        let mut tries = self.memory.evictions.of(&object.uid);
        let mut seen = |pod: &CorePod| {
            let mut seen = pod_seen(pod);
            (seen.tried, seen.underway) = tries.remove(&seen.uid).unwrap_or_default();
            seen
        };
        let mut pods: Vec<Pod> = store.state().iter().map(|pod| seen(pod)).collect();
        pods.sort_unstable_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        (Some(since), Pods::Known(pods))
    }

    fn drain_rules(&self, namespace: &str) -> Option<Vec<DrainRule>> {
        let rules = self.drain_rules.within(namespace)?;
        Some(rules.iter().map(|rule| DrainRule::decode(rule)).collect())
    }

    fn children(&self, object: &Object, target: &Target, status: &ScheduledMachineStatus) -> Vec<Child> {
        let kinds = parts::kinds(target, status).into_iter();
        kinds
            .map(|(role, api_version, kind, is_wanted)| {
                self.child(object, role, &api_version, &kind, is_wanted)
            })
            .collect()
    }

    fn child(&self, object: &Object, role: Role, api_version: &str, kind: &str, is_wanted: bool) -> Child {
        let view = self.kinds.view(role, api_version, kind);
        let (resource, meta) = match view.ours() {
            Some(ours) => (Some(ours.resource.clone()), child_meta(ours, object)),
            None => (None, None),
        };
        let service = match view {
            KindView::Resolving => Service::Resolving,
            KindView::NotServed { why, .. } => Service::NotServed(why),
            KindView::NotAllowed { why, .. } => Service::NotAllowed(why),
            KindView::Unreachable(why) => Service::Unreachable(why),
            KindView::Served(ours) => Service::Served(ours.resource),
        };
        Child {
            role,
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            is_wanted,
            service,
            resource,
            object: meta.map(|meta| child_object(&meta)),
        }
    }
}

fn child_meta(ours: &Ours, object: &Object) -> Option<Arc<PartialObjectMeta<DynamicObject>>> {
    ours.children.get(&ObjectRef::new_with(&object.name, ours.resource.clone()).within(&object.namespace))
}

fn cluster(store: &Store<DynamicObject>, version: Version, namespace: &str, name: &str) -> Option<Cluster> {
    let key = ObjectRef::new_with(name, version.cluster()).within(namespace);
    store.get(&key).map(|object| Cluster::decode(&object, version))
}

fn machine(store: &Store<DynamicObject>, version: Version, namespace: &str, name: &str) -> Option<Machine> {
    let key = ObjectRef::new_with(name, version.machine()).within(namespace);
    store.get(&key).map(|object| Machine::decode(&object, version))
}

fn object(raw: &DynamicObject) -> Object {
    let annotations = raw.annotations();
    Object {
        namespace: raw.namespace().unwrap_or_default(),
        name: raw.name_any(),
        uid: raw.uid().unwrap_or_default(),
        generation: raw.metadata.generation.unwrap_or_default(),
        created_at: raw.metadata.creation_timestamp.as_ref().map(|at| at.0),
        deleted_at: raw.metadata.deletion_timestamp.as_ref().map(|at| at.0),
        has_finalizer: raw.finalizers().iter().any(|finalizer| finalizer == names::FINALIZER),
        is_paused: annotations.contains_key(names::ANNOTATION_CAPI_PAUSED),
        is_moving: annotations.contains_key(names::ANNOTATION_DELETE_FOR_MOVE),
    }
}

/// What the status says; pending where it says nothing that is a phase.
pub fn phase(raw: &DynamicObject) -> Phase {
    let said = raw.data.pointer("/status/phase").and_then(Value::as_str);
    Phase::ALL.into_iter().find(|phase| Some(phase.name()) == said).unwrap_or(Phase::Pending)
}

/// A status that cannot be read counts as none: everything in it can be found again.
fn status(raw: &DynamicObject) -> ScheduledMachineStatus {
    let Some(value) = raw.data.get("status") else { return ScheduledMachineStatus::default() };
    serde_json::from_value(value.clone()).unwrap_or_else(|error| {
        tracing::debug!(name = raw.name_any(), %error, "stored status cannot be read; it is written anew");
        ScheduledMachineStatus::default()
    })
}

/// What is kept of a part.
pub fn child_object(meta: &PartialObjectMeta<DynamicObject>) -> ChildObject {
    let controller = meta.owner_references().iter().find(|owner| owner.controller == Some(true));
    ChildObject {
        uid: meta.uid().unwrap_or_default(),
        deleting: meta.metadata.deletion_timestamp.is_some(),
        uid_label: meta.labels().get(names::LABEL_SCHEDULED_MACHINE_UID).cloned(),
        name_label: meta.labels().get(names::LABEL_SCHEDULED_MACHINE).cloned(),
        machine_uid: controller.filter(|owner| owner.kind == "Machine").map(|owner| owner.uid.clone()),
    }
}

/// The Node that the Machine names; before it names one, the one that joined with its provider id, so that what belongs
/// on a Node is there before Cluster API has matched the two; else the one that the status remembers.
fn node(view: &View, machine: Option<&Machine>, status: &ScheduledMachineStatus) -> Option<Node> {
    let nodes = view.nodes.as_ref()?;
    let named = |name: &str| nodes.get(&ObjectRef::<CoreNode>::new(name));
    let remembered = || {
        let known = status.node_ref.as_ref()?;
        // Of a new Machine a Node that has come anew under that name has to prove itself in the other way.
        named(&known.name).filter(|node| machine.is_none() || node.uid() == known.uid)
    };
    let found = match machine.map(|machine| (machine, machine.node.as_ref())) {
        Some((_, Some(name))) => named(name),
        Some((machine, None)) => joined(nodes, machine).or_else(remembered),
        None => remembered(),
    };
    found.map(|node| read_node(&node))
}

/// Asked only until Cluster API has matched Machine and Node. Two Nodes with one id are nobody's, and one that was there
/// before the Machine is another's, or of an earlier run.
fn joined(nodes: &Store<CoreNode>, machine: &Machine) -> Option<Arc<CoreNode>> {
    let id = machine.provider_id.as_deref()?;
    let has_id =
        |node: &CoreNode| node.spec.as_ref().is_some_and(|spec| spec.provider_id.as_deref() == Some(id));
    match nodes.state_filter(has_id).as_slice() {
        [only] if only.metadata.creation_timestamp.as_ref().map(|at| at.0) >= machine.created_at => {
            Some(only.clone())
        }
        _ => None,
    }
}

fn read_node(node: &CoreNode) -> Node {
    let spec = node.spec.clone().unwrap_or_default();
    let annotations = node.annotations();
    Node {
        name: node.name_any(),
        uid: node.uid().unwrap_or_default(),
        resource_version: node.resource_version().unwrap_or_default(),
        created_at: node.metadata.creation_timestamp.as_ref().map(|at| at.0),
        claimed_by: annotations.get(names::ANNOTATION_NODE_MACHINE).map(|machine| Claim {
            machine: machine.clone(),
            namespace: annotations.get(names::ANNOTATION_NODE_CLUSTER_NAMESPACE).cloned(),
        }),
        provider_id: spec.provider_id,
        unschedulable: spec.unschedulable.unwrap_or(false),
        cordoned_by: annotations.get(names::ANNOTATION_CORDONED_BY).cloned(),
        is_ready: says_ready(node, "True"),
        is_unreachable: says_ready(node, "Unknown"),
        deleting: node.metadata.deletion_timestamp.is_some(),
        taints: spec.taints.unwrap_or_default(),
        applied_taints: annotations.get(names::ANNOTATION_APPLIED_TAINTS).cloned(),
        agent_label: node.labels().get(names::LABEL_RECLAIM_AGENT).cloned(),
        reclaim: Note::read(annotations),
        has_annotations: !annotations.is_empty(),
    }
}

fn says_ready(node: &CoreNode, status: &str) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|said| said.type_ == "Ready" && said.status == status)
}

fn pod_seen(pod: &CorePod) -> Pod {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let controller = pod.owner_references().iter().find(|owner| owner.controller == Some(true));
    let is_ending = pod.metadata.deletion_timestamp.is_some();
    Pod {
        uid: pod.uid().unwrap_or_default(),
        namespace: pod.namespace().unwrap_or_default(),
        name: pod.name_any(),
        labels: pod.labels().clone(),
        priority: pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or_default(),
        controller: controller.map(|owner| owner.kind.clone()),
        is_mirror: pod.annotations().contains_key(names::ANNOTATION_MIRROR_POD),
        is_finished: matches!(phase, Some("Succeeded" | "Failed")),
        ending: is_ending.then(|| pod.metadata.deletion_grace_period_seconds.unwrap_or_default()),
        tried: None,
        underway: None,
    }
}
