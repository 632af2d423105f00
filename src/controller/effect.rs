//! What a decision asks to be done: values, performed elsewhere.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Taint;
use kube::core::{ApiResource, DynamicObject};
use serde_json::{Value, json};

use crate::api::condition::Phase;
use crate::api::names;
use crate::api::status::{Leaving, Timers};
use crate::api::taint::NodeTaint;
use crate::capi::kinds::Role;
use crate::controller::agent::plan::{AgentPlan, RulesEdit};
use crate::controller::decide::node::TaintPlan;
use crate::controller::decide::rule::Ruling;
use crate::controller::reclaim::wish::Wish;

/// One API call, safe to repeat.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Before anything else exists.
    AddFinalizer,
    /// After a live look found nothing left.
    RemoveFinalizer {
        /// Kinds to look through, Machines among them; none: let go without a look.
        kinds: Vec<ApiResource>,
    },
    /// The bootstrap or infrastructure object; *already ours* is success.
    CreateChild {
        /// Which of the two.
        role: Role,
        /// Its kind.
        resource: ApiResource,
        /// The object.
        object: Box<DynamicObject>,
    },
    /// The Machine; *already ours* is success.
    CreateMachine(Box<DynamicObject>),
    /// A merge patch that puts labels, owners or limits of our Machine right.
    PatchMachine {
        /// Which one.
        uid: String,
        /// Merge patch.
        patch: Value,
    },
    /// A merge patch that puts the labels of a bootstrap or infrastructure object right.
    PatchChild {
        /// Its kind.
        resource: ApiResource,
        /// Merge patch; carries the uid.
        patch: Value,
    },
    /// The hold of a reclaim; bounded so that the owner does not wait for it, and its failure stops nothing.
    WriteHold(Box<Wish>),
    /// Graceful or not is decided by what was patched before.
    DeleteMachine {
        /// Which one.
        uid: String,
    },
    /// Cluster API's finalizer taken off a Machine that it can never end: its Cluster is gone, or see [`UnseenKind`].
    ReleaseMachine {
        /// Which one.
        uid: String,
        /// Kinds that keep Cluster API, if any; each is looked up live once more.
        unseen: Vec<UnseenKind>,
    },
    /// A bootstrap or infrastructure object that no Machine takes with it.
    DeleteChild {
        /// Its kind.
        resource: ApiResource,
        /// Which one.
        uid: String,
    },
    /// No new pods, and a mark that it was us.
    Cordon(NodeEdit),
    /// What we did to a Node that stays, taken back; nothing else.
    Uncordon {
        /// Which one.
        node: NodeEdit,
        /// The cordon is ours, and not needed any more.
        lifts: bool,
        /// All its taints from now on; `None`: as they are.
        taints: Option<Vec<Taint>>,
    },
    /// Cordon and `NoExecute` taint in one write: no new pods, and none without a toleration stays.
    EjectNode {
        /// Which one.
        node: NodeEdit,
        /// It can be scheduled to: the cordon will be ours.
        cordons: bool,
        /// All its taints from now on.
        taints: Vec<Taint>,
    },
    /// Our taints put on, changed or taken off, and the record of them.
    Taint(TaintEdit),
    /// A request for a reclaim that was answered, taken off a Node that stays.
    ClearReclaim(NodeEdit),
    /// The label that brings the agent's pod to the Node, put on or taken off.
    LabelNode {
        /// Which Node.
        node: NodeEdit,
        /// Put on.
        on: bool,
    },
    /// The ConfigMap with the agent's rules, made or changed.
    WriteRules(RulesEdit),
    /// The same, deleted.
    DeleteRules {
        /// Its name.
        name: String,
        /// Its uid.
        uid: String,
    },
    /// A Node object that outlived its Machine.
    DeleteNode(NodeEdit),
    /// Through `pods/eviction`: budgets count, and the pod's own grace. A refusal is an outcome, not an error.
    Evict(PodEdit),
    /// With one second of grace, whatever budgets say.
    DeletePod(PodEdit),
}

impl Effect {
    /// The hold to be written.
    pub fn wish(&self) -> Option<&Wish> {
        if let Self::WriteHold(wish) = self { Some(wish) } else { None }
    }

    /// The same, to be changed.
    pub fn wish_mut(&mut self) -> Option<&mut Wish> {
        if let Self::WriteHold(wish) = self { Some(wish) } else { None }
    }

    /// For logs, metrics and conditions.
    pub fn label(&self) -> &'static str {
        match self {
            Self::AddFinalizer => "add_finalizer",
            Self::RemoveFinalizer { .. } => "remove_finalizer",
            Self::CreateChild { role: Role::Bootstrap, .. } => "create_bootstrap",
            Self::CreateChild { role: Role::Infrastructure, .. } => "create_infrastructure",
            Self::CreateMachine(_) => "create_machine",
            Self::PatchMachine { .. } => "patch_machine",
            Self::PatchChild { .. } => "patch_child",
            Self::WriteHold(_) => "write_hold",
            Self::DeleteMachine { .. } => "delete_machine",
            Self::ReleaseMachine { .. } => "release_machine",
            Self::DeleteChild { .. } => "delete_child",
            Self::Cordon(_) => "cordon",
            Self::Uncordon { .. } => "uncordon",
            Self::EjectNode { .. } => "eject_node",
            Self::Taint(_) => "taint",
            Self::ClearReclaim(_) => "clear_reclaim",
            Self::LabelNode { .. } => "label_node",
            Self::WriteRules(_) => "write_rules",
            Self::DeleteRules { .. } => "delete_rules",
            Self::DeleteNode(_) => "delete_node",
            Self::Evict(_) => "evict",
            Self::DeletePod(_) => "delete_pod",
        }
    }

    /// Cannot be taken back, or must not be done twice: what it was decided on is read live once more before.
    pub fn is_destructive(&self) -> bool {
        match self {
            Self::RemoveFinalizer { .. }
            | Self::WriteHold(_)
            | Self::DeleteMachine { .. }
            | Self::ReleaseMachine { .. }
            | Self::DeleteChild { .. }
            | Self::DeleteNode(_)
            | Self::Cordon(_)
            | Self::EjectNode { .. }
            | Self::Evict(_)
            | Self::DeletePod(_) => true,
            Self::AddFinalizer
            | Self::CreateChild { .. }
            | Self::CreateMachine(_)
            | Self::PatchMachine { .. }
            | Self::PatchChild { .. }
            | Self::Uncordon { .. }
            | Self::ClearReclaim(_)
            | Self::LabelNode { .. }
            | Self::WriteRules(_)
            | Self::DeleteRules { .. }
            | Self::Taint(_) => false,
        }
    }

    /// Neither needs the other, and both are waited for: the two parts of a Machine.
    pub fn goes_beside(&self, next: &Self) -> bool {
        matches!((self, next), (Self::CreateChild { .. }, Self::CreateChild { .. }))
    }

    /// Needs the Node's version as it was read, and makes another one.
    pub fn edits_node(&self) -> bool {
        matches!(
            self,
            Self::Cordon(_)
                | Self::Uncordon { .. }
                | Self::EjectNode { .. }
                | Self::Taint(_)
                | Self::ClearReclaim(_)
                | Self::LabelNode { .. }
                | Self::DeleteNode(_)
        )
    }

    /// Goes to the workload cluster: neither its failure nor its wait delays anything on the management side.
    pub fn is_on_node(&self) -> bool {
        match self {
            Self::Cordon(_)
            | Self::Uncordon { .. }
            | Self::EjectNode { .. }
            | Self::Taint(_)
            | Self::ClearReclaim(_)
            | Self::LabelNode { .. }
            | Self::WriteRules(_)
            | Self::DeleteRules { .. }
            | Self::DeleteNode(_)
            | Self::Evict(_)
            | Self::DeletePod(_) => true,
            Self::AddFinalizer
            | Self::RemoveFinalizer { .. }
            | Self::CreateChild { .. }
            | Self::CreateMachine(_)
            | Self::PatchMachine { .. }
            | Self::PatchChild { .. }
            | Self::WriteHold(_)
            | Self::DeleteMachine { .. }
            | Self::ReleaseMachine { .. }
            | Self::DeleteChild { .. } => false,
        }
    }
}

/// A kind that the Machine's part was of, and whose definition is gone, and with it every object of the kind. Cluster API
/// looks for the part for ever, and never ends the Machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnseenKind {
    /// API group.
    pub group: String,
    /// Kind.
    pub kind: String,
}

/// A checked write to one Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEdit {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// What was read.
    pub resource_version: String,
}

/// A write to one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodEdit {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// Changes of a Node's taints and of the record of ours. Made of places in the list as it was read, so that every other
/// taint stays as it is, byte for byte; the resource version makes sure that it is the same list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaintEdit {
    /// Of which Node.
    pub node: NodeEdit,
    /// New values, by place.
    pub changed: Vec<(usize, Option<String>)>,
    /// Places of those that go.
    pub removed: Vec<usize>,
    /// What comes, at the end.
    pub added: Vec<NodeTaint>,
    /// What the record says afterwards; `None`: there is none.
    pub record: Option<String>,
    /// There is one now.
    pub has_record: bool,
    /// The Node has taints at all.
    pub has_taints: bool,
    /// The Node has annotations at all.
    pub has_annotations: bool,
}

impl TaintEdit {
    /// As a JSON patch (RFC 6902), checked by resource version.
    pub fn patch(&self) -> Value {
        // Written with another version than the stored one, the object is refused as a conflict.
        let version = &self.node.resource_version;
        let mut steps = vec![json!({"op": "replace", "path": "/metadata/resourceVersion", "value": version})];
        // Places count until the first one goes, and from the end on also afterwards.
        for (place, value) in &self.changed {
            steps.push(json!({"op": "add", "path": format!("/spec/taints/{place}/value"), "value": value.as_deref().unwrap_or_default()}));
        }
        let mut removed = self.removed.clone();
        removed.sort_unstable_by(|a, b| b.cmp(a));
        for place in removed {
            steps.push(json!({"op": "remove", "path": format!("/spec/taints/{place}")}));
        }
        if !self.has_taints && !self.added.is_empty() {
            steps.push(json!({"op": "add", "path": "/spec/taints", "value": []}));
        }
        for taint in &self.added {
            steps.push(json!({"op": "add", "path": "/spec/taints/-", "value": taint}));
        }
        steps.extend(self.record_step());
        Value::Array(steps)
    }

    fn record_step(&self) -> Option<Value> {
        let name = names::ANNOTATION_APPLIED_TAINTS;
        // RFC 6901: a slash inside a name.
        let path = format!("/metadata/annotations/{}", name.replace('/', "~1"));
        match &self.record {
            Some(text) if self.has_annotations => Some(json!({"op": "add", "path": path, "value": text})),
            Some(text) => Some(json!({"op": "add", "path": "/metadata/annotations", "value": {name: text}})),
            None => self.has_record.then(|| json!({"op": "remove", "path": path})),
        }
    }
}

/// Reason of a Machine whose infrastructure object is not to be seen any more; see [`crate::controller::lost_part`].
pub const INFRASTRUCTURE_DELETED: &str = "InfrastructureDeleted";

/// How things stand against the decision: phase, `Ready` and the message come from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// A summary.
    pub phase: Phase,
    /// Whether reality matches the decision; `None`: cannot be said.
    pub ready: Option<bool>,
    /// Of `Ready`.
    pub reason: &'static str,
    /// Of `Ready`, and for people.
    pub message: String,
    /// It will not move without a person.
    pub stalled: bool,
}

/// What should be done now, and what to say about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Which rule won.
    pub ruling: Ruling,
    /// How things stand.
    pub standing: Standing,
    /// In this order.
    pub effects: Vec<Effect>,
    /// As they are to be stored.
    pub timers: Timers,
    /// On its way out.
    pub leaving: Option<Leaving>,
    /// Nothing of the machine is left.
    pub is_gone: bool,
    /// The Node whose pods the next decision needs to see.
    pub pods_of: Option<String>,
    /// What is to be done for the agent on the Node.
    pub agent: AgentPlan,
    /// Of the lent Node; `None`: nothing is asked of it now, and what is remembered stands.
    pub taints: Option<TaintPlan>,
    /// When to look again, if nothing happens before.
    pub wake: Wake,
}

/// When to look again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wake {
    at: Option<Timestamp>,
}

impl Wake {
    /// The clock may be set, the host may sleep: never trust a longer timer. In seconds, jittered by the caller.
    pub const CAP: Duration = Duration::from_secs(30);

    /// Nothing to wait for but events.
    pub fn never() -> Self {
        Self::default()
    }

    /// At an instant.
    pub fn at(at: Timestamp) -> Self {
        Self { at: Some(at) }
    }

    /// The earlier of the two.
    #[must_use]
    pub fn or(self, other: impl Into<Option<Timestamp>>) -> Self {
        let at = match (self.at, other.into()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Self { at }
    }

    /// From `now` on; `None`: nothing but the cap.
    pub fn after(self, now: Timestamp) -> Option<Duration> {
        let at = self.at?;
        Some(Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO))
    }
}
