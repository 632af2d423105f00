//! Which event wakes which object. The reason for waking is dropped on purpose: decisions depend on state only.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::api::Api;
use kube::core::{ApiResource, DynamicObject, SelectorExt};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, ResourceExt};
use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;

use crate::api::names;
use crate::capi::core::CoreNotice;
use crate::capi::kinds::KindNotice;
use crate::controller::hold::index::Holds;
use crate::controller::hold::{Covers, Entry, machine_hold_resource};
use crate::controller::observe::connection_key;
use crate::controller::target::Target;
use crate::watch::{Cause, Outage};
use crate::workload::{ConnectionKey, WorkloadNotice};

/// `scheduledmachines.5spot.finos.org`.
pub fn scheduled_machine_resource() -> ApiResource {
    ApiResource {
        group: names::GROUP.to_owned(),
        version: names::VERSION.to_owned(),
        api_version: names::API_VERSION.to_owned(),
        kind: "ScheduledMachine".to_owned(),
        plural: "scheduledmachines".to_owned(),
    }
}

/// Everything of that kind, in one namespace or in all.
pub fn collection(client: &Client, namespace: Option<&str>, resource: &ApiResource) -> Api<DynamicObject> {
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, resource),
        None => Api::all_with(client.clone(), resource),
    }
}

/// A ScheduledMachine, or a MachineHold, to look at.
pub type Key = ObjectRef<DynamicObject>;

/// Turns what happened into keys.
#[derive(Clone)]
pub struct Waker {
    keys: UnboundedSender<Key>,
    hold_keys: UnboundedSender<Key>,
    objects: Store<DynamicObject>,
    holds: Holds,
    /// Machines whose host Cluster API has not matched with its Node yet, by provider id.
    unmatched: Arc<Mutex<HashMap<String, HashSet<Named>>>>,
}

/// Namespace and name.
type Named = (String, String);

impl Waker {
    /// Sends keys of objects in this store, and of holds.
    pub fn new(
        keys: UnboundedSender<Key>,
        hold_keys: UnboundedSender<Key>,
        objects: Store<DynamicObject>,
        holds: Holds,
    ) -> Self {
        Self { keys, hold_keys, objects, holds, unmatched: Arc::default() }
    }

    /// One object, by name.
    pub fn wake(&self, namespace: &str, name: &str) {
        let key = ObjectRef::new_with(name, scheduled_machine_resource()).within(namespace);
        // The receiver only goes when the process ends.
        let _ = self.keys.send(key);
    }

    /// The object itself came, changed or went: it, and the holds that begin or cease to cover it.
    pub fn object(&self, object: &DynamicObject) {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let key = ObjectRef::new_with(&name, scheduled_machine_resource()).within(&namespace);
        let stored = self.objects.get(&key);
        for hold in self.holds.moved(&namespace, &name, stored.as_ref().map(|stored| stored.labels())) {
            self.wake_hold(&namespace, &hold);
        }
        self.wake(&namespace, &name);
    }

    /// A hold came or changed: it, and whom it covered before and covers now.
    pub fn hold(&self, hold: &DynamicObject) {
        let (before, now) = self.holds.put(hold);
        let namespace = hold.namespace().unwrap_or_default();
        self.covered(&namespace, before.as_deref());
        self.covered(&namespace, Some(&now));
        let covers =
            |entry: &Entry, object: &DynamicObject| entry.over(&object.name_any(), object.labels()).is_some();
        self.note_covered(|object| {
            object.metadata.namespace.as_deref() == Some(&namespace)
                && (covers(&now, object) || before.as_ref().is_some_and(|before| covers(before, object)))
        });
        self.wake_hold(&namespace, &hold.name_any());
    }

    /// A hold went: whom it covered.
    pub fn hold_gone(&self, hold: &DynamicObject) {
        let before = self.holds.remove(hold);
        self.covered(&hold.namespace().unwrap_or_default(), before.as_deref());
    }

    /// Every hold has been told of.
    pub fn holds_complete(&self) {
        let was_unread = self.holds.unread().is_some();
        self.holds.set_complete();
        self.note_covered(|_| true);
        if was_unread {
            self.everything();
        }
    }

    /// Holds cannot be read, and a person has to mend that; whatever else keeps them from us passes, or everything fails.
    pub fn holds_failing(&self, outage: &Outage) {
        let mend = match outage.cause {
            Cause::Missing => "apply the definitions of this release: 5spot crd print | kubectl apply -f -",
            Cause::Forbidden => "give the controller the role of this release",
            Cause::Unreachable | Cause::Unauthorized | Cause::Refused => return,
        };
        self.holds.set_unreadable(format!("{outage}; {mend}"));
        self.everything();
    }

    /// The index learns which holds are over these objects; their own events tell it of changes.
    fn note_covered(&self, concerns: impl Fn(&DynamicObject) -> bool) {
        for object in self.objects.state_filter(|object| concerns(object)) {
            let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
            self.holds.moved(&namespace, &name, Some(object.labels()));
        }
    }

    /// Every ScheduledMachine has been told of.
    pub fn objects_complete(&self) {
        self.holds.set_objects_complete();
    }

    fn covered(&self, namespace: &str, entry: Option<&Entry>) {
        match entry.map(|entry| &entry.content) {
            Some(Ok((Covers::One(name), _))) => self.wake(namespace, name),
            Some(Ok((Covers::Selected(selector), _))) => self.all(|object| {
                object.metadata.namespace.as_deref() == Some(namespace) && selector.matches(object.labels())
            }),
            Some(Err(_)) | None => {}
        }
    }

    fn wake_hold(&self, namespace: &str, name: &str) {
        let key = ObjectRef::new_with(name, machine_hold_resource()).within(namespace);
        // As with the other keys.
        let _ = self.hold_keys.send(key);
    }

    /// Something about Cluster API.
    pub fn core(&self, notice: &CoreNotice) {
        match notice {
            CoreNotice::View | CoreNotice::Recovered => self.everything(),
            CoreNotice::Machine(machine) => self.machine(machine),
            CoreNotice::Cluster(cluster) => self.cluster(cluster),
        }
    }

    /// A Machine changed: by label, or (the predecessor's, and after `clusterctl move`) by controller reference.
    fn machine(&self, machine: &DynamicObject) {
        self.note_host(machine);
        let owner = machine
            .owner_references()
            .iter()
            .find(|o| o.controller == Some(true) && o.kind == "ScheduledMachine");
        let label = machine.labels().get(names::LABEL_SCHEDULED_MACHINE);
        if let Some(name) = label.or(owner.map(|owner| &owner.name)) {
            self.wake(&machine.namespace().unwrap_or_default(), name);
        }
    }

    /// Nodes carry no word of their Machine before they are matched.
    fn note_host(&self, machine: &DynamicObject) {
        let Some(id) = text(machine, "/spec/providerID").filter(|id| !id.is_empty()) else { return };
        let is_matched = text(machine, "/status/nodeRef/name").is_some_and(|name| !name.is_empty());
        let named = (machine.namespace().unwrap_or_default(), machine.name_any());
        let mut unmatched = self.unmatched();
        if is_matched || machine.metadata.deletion_timestamp.is_some() {
            if let Some(waiting) = unmatched.get_mut(id) {
                waiting.remove(&named);
                if waiting.is_empty() {
                    unmatched.remove(id);
                }
            }
        } else {
            unmatched.entry(id.to_owned()).or_default().insert(named);
        }
    }

    fn unmatched(&self) -> MutexGuard<'_, HashMap<String, HashSet<Named>>> {
        // Whole between any two statements that hold the lock.
        self.unmatched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A Cluster changed: all objects that name it.
    fn cluster(&self, cluster: &DynamicObject) {
        let (namespace, name) = (cluster.namespace(), cluster.name_any());
        self.all(|object| {
            object.namespace() == namespace && text(object, "/spec/clusterName") == Some(&name)
        });
    }

    /// A MachineDrainRule changed: it may matter to any leaving in its namespace.
    pub fn drain_rule(&self, rule: &DynamicObject) {
        let namespace = rule.namespace();
        self.all(|object| {
            object.namespace() == namespace && object.data.pointer("/status/leaving").is_some()
        });
    }

    /// A workload cluster came or went, or one of its Nodes changed.
    pub fn workload(&self, notice: &WorkloadNotice) {
        match notice {
            WorkloadNotice::Reach(key) => self.all(|object| uses(object, key)),
            WorkloadNotice::Answered { asker: (namespace, name) } => self.wake(namespace, name),
            // What is written on a Node may be of an earlier Machine, and of another than the one that waits for it.
            WorkloadNotice::Node { machine, provider_id, .. } => {
                let unmatched = self.unmatched();
                let waiting = provider_id.as_ref().and_then(|id| unmatched.get(id)).into_iter().flatten();
                let claimed =
                    machine.iter().filter(|named| !waiting.clone().any(|waiting| waiting == *named));
                for (namespace, name) in waiting.clone().chain(claimed) {
                    self.wake(namespace, name);
                }
            }
            WorkloadNotice::Agents { agent, askers } => {
                for (namespace, name) in askers.iter().filter(|asker| self.has_agent(asker, agent.as_deref()))
                {
                    self.wake(namespace, name);
                }
            }
            WorkloadNotice::Pods { askers, .. } => {
                for (namespace, name) in askers {
                    self.wake(namespace, name);
                }
            }
        }
    }

    /// Whether an object has that agent, or may have.
    fn has_agent(&self, (namespace, name): &Named, agent: Option<&str>) -> bool {
        let key = ObjectRef::new_with(name, scheduled_machine_resource()).within(namespace);
        let Some(object) = self.objects.get(&key) else { return false };
        let node = text(&object, "/status/nodeRef/name");
        agent.zip(node).is_none_or(|(agent, node)| names::agent_object(node) == agent)
    }

    /// A kind came or went, or one of our objects of it changed.
    pub fn kind(&self, notice: &KindNotice) {
        match notice {
            KindNotice::Child { namespace, scheduled_machine, .. } => self.wake(namespace, scheduled_machine),
            KindNotice::Kind { api_version, kind, .. } => self.all(|object| {
                let noted = object.data.pointer("/status/partKinds").and_then(Value::as_array);
                let mut parts = PARTS
                    .into_iter()
                    .filter_map(|pointer| object.data.pointer(pointer))
                    .chain(noted.into_iter().flatten());
                parts.any(|part| {
                    let named = |field: &str| part.get(field).and_then(Value::as_str);
                    named("apiVersion") == Some(api_version) && named("kind") == Some(kind)
                })
            }),
        }
    }

    /// The API server is back.
    pub fn everything(&self) {
        self.all(|_| true);
        for (namespace, name) in self.holds.names() {
            self.wake_hold(&namespace, &name);
        }
    }

    fn all(&self, concerns: impl Fn(&DynamicObject) -> bool) {
        for object in self.objects.state_filter(|object| concerns(object)) {
            self.wake(&object.namespace().unwrap_or_default(), &object.name_any());
        }
    }
}

/// Where an object names kinds one by one; `status.partKinds` lists others.
const PARTS: [&str; 4] =
    ["/spec/bootstrapSpec", "/spec/infrastructureSpec", "/status/bootstrapRef", "/status/infrastructureRef"];

/// Asked of every object at once: reads no more of it than it must.
fn uses(object: &DynamicObject, connection: &ConnectionKey) -> bool {
    object.metadata.namespace.as_deref().is_some_and(|namespace| {
        let kubeconfig = Target::kubeconfig_of(object.data.get("spec").unwrap_or(&Value::Null));
        connection_key(namespace, kubeconfig) == *connection
    })
}

fn text<'a>(object: &'a DynamicObject, pointer: &str) -> Option<&'a str> {
    object.data.pointer(pointer).and_then(Value::as_str)
}

#[cfg(test)]
mod tests;
