//! Both API servers, the garbage collector, Cluster API and a host, as small as they can be.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::Act;
use super::agents::AgentWorld;
use super::laws::Truth;
use super::pods::PodWorld;
use super::reclaims::Reclaims;
use super::retries::Held;
use super::shell::Fault;
use super::sides::Sides;
use super::sights::{NodeWatch, Speaks};
use crate::api::names;
use crate::api::status::{ObjectRef, ScheduledMachineStatus};
use crate::capi::kinds::Role;
use crate::capi::machine::{Cluster, Machine};
use crate::controller::decide::tests::given::{SM, spec};
use crate::controller::hold::Hold;
use crate::controller::snapshot::{ChildObject, Node, Object, Rival};
use crate::controller::target::Target;

/// Seconds for a collector's round.
pub(super) const COLLECT: i64 = 3;

#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) machine: Machine,
    pub(super) bootstrap: String,
    pub(super) infrastructure: String,
    pub(super) next: Option<Timestamp>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Part {
    pub(super) object: ChildObject,
    pub(super) gone_at: Option<Timestamp>,
}

/// What a cache shows.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) raw: Value,
    pub(super) target: Target,
    pub(super) object: Object,
    pub(super) holds: Vec<Hold>,
    pub(super) cluster: Option<Cluster>,
    pub(super) host: Option<Host>,
    pub(super) parts: BTreeMap<(bool, String), Part>,
    pub(super) node: Option<Node>,
}

#[expect(clippy::struct_excessive_bools, reason = "a world has many sides")]
#[derive(Clone)]
pub(super) struct World {
    /// Time that nobody can set.
    pub(super) real: Timestamp,
    /// What the controller's clock is off by.
    pub(super) offset: i64,
    pub(super) exists: bool,
    pub(super) live: Shown,
    pub(super) status: Value,
    /// The same, read.
    pub(super) read: ScheduledMachineStatus,
    pub(super) is_reachable: bool,
    pub(super) is_served: bool,
    pub(super) speaks: Speaks,
    pub(super) node_watch: NodeWatch,
    pub(super) keeps_node: bool,
    /// A webhook, or a right that somebody took away: Machines are neither edited nor deleted by the controller.
    pub(super) is_refusing: bool,
    pub(super) ours: BTreeSet<String>,
    pub(super) pods: PodWorld,
    /// Key and effect of the taints that the controller put on the Node; all others are a stranger's.
    pub(super) our_taints: BTreeSet<(String, String)>,
    /// Of these, what a stranger took our word off while we could not see it.
    pub(super) doubtful: BTreeSet<(String, String)>,
    uids: u32,
    cluster_back_at: Option<Timestamp>,
    // The controller.
    pub(super) wake: Option<Timestamp>,
    pub(super) down_until: Timestamp,
    pub(super) fault: Option<Fault>,
    pub(super) lags: bool,
    pub(super) held: Option<Held>,
    pub(super) stale: Option<Shown>,
    pub(super) reclaims: Reclaims,
    pub(super) sides: Sides,
    pub(super) rivals: Vec<Rival>,
    pub(super) agents: AgentWorld,
    /// The last pass saw what is, and had nothing to do.
    pub(super) is_settled: bool,
    pub(super) truth: Truth,
}

fn cluster() -> Cluster {
    Cluster {
        uid: "uid-of-the-cluster".to_owned(),
        infrastructure_provisioned: true,
        control_plane_initialized: true,
        ..Cluster::default()
    }
}

pub(super) fn is_bootstrap(role: Role) -> bool {
    matches!(role, Role::Bootstrap)
}

impl World {
    pub(super) fn new(real: Timestamp) -> Self {
        let object = Object {
            namespace: "lab".to_owned(),
            name: "ws-1".to_owned(),
            uid: SM.to_owned(),
            generation: 1,
            ..Object::default()
        };
        let live = Shown {
            target: Target::read(&spec()),
            raw: spec(),
            object,
            holds: vec![],
            cluster: Some(cluster()),
            host: None,
            parts: BTreeMap::new(),
            node: None,
        };
        Self {
            real,
            offset: 0,
            exists: true,
            live,
            status: json!({}),
            read: ScheduledMachineStatus::default(),
            is_reachable: true,
            is_served: true,
            speaks: Speaks::V1Beta2,
            node_watch: NodeWatch::default(),
            keeps_node: false,
            is_refusing: false,
            ours: BTreeSet::new(),
            pods: PodWorld::default(),
            our_taints: BTreeSet::new(),
            doubtful: BTreeSet::new(),
            uids: 0,
            cluster_back_at: None,
            wake: Some(real),
            down_until: real,
            fault: None,
            lags: false,
            held: None,
            stale: None,
            reclaims: Reclaims::default(),
            sides: Sides::default(),
            rivals: Vec::new(),
            agents: AgentWorld::default(),
            is_settled: false,
            truth: Truth::default(),
        }
    }

    pub(super) fn wall(&self) -> Timestamp {
        self.real + SignedDuration::from_secs(self.offset)
    }

    pub(super) fn after(&self, seconds: i64) -> Timestamp {
        self.real + SignedDuration::from_secs(seconds)
    }

    pub(super) fn uid(&mut self) -> String {
        self.uids += 1;
        format!("uid-{}", self.uids)
    }

    pub(super) fn act(&mut self, act: Act) {
        self.sample();
        let before = self.live.clone();
        match act {
            Act::Wait(seconds) => return self.run(seconds),
            Act::Edit(pointer, value) => self.edit(pointer, value),
            Act::PauseCluster(paused) => {
                if let Some(cluster) = &mut self.live.cluster {
                    cluster.paused = paused;
                }
            }
            Act::PauseObject(paused) => self.live.object.is_paused = paused,
            Act::DeleteCluster => {
                if let Some(cluster) = &mut self.live.cluster {
                    cluster.deleting = true;
                }
                self.hasten();
            }
            Act::DeleteObject => self.delete_object(),
            Act::DeleteMachine => self.delete_machine(),
            Act::VanishMachine => self.vanish(),
            Act::StripMachine => {
                if let Some(host) = self.live.host.as_mut() {
                    host.machine.owners.clear();
                    host.machine.labels.remove(names::LABEL_CLUSTER_NAME);
                }
            }
            Act::Adopt => {
                if let Some(owner) = self.live.host.as_mut().and_then(|h| h.machine.owners.first_mut()) {
                    "MachineSet".clone_into(&mut owner.kind);
                    "foreign".clone_into(&mut owner.uid);
                }
            }
            Act::Foreign(there) => self.foreign(there),
            Act::Refuse(refuses) => self.is_refusing = refuses,
            Act::KeepNode => self.keeps_node = true,
            Act::Reach(reachable) => {
                self.is_reachable = reachable;
                self.lists_come();
            }
            Act::Pods(count) => self.schedule_pods(count),
            Act::Budget(blocks) => self.pods.budget = blocks,
            Act::Slow(slow) => self.pods.slow = slow,
            Act::Stuck(stuck) => self.pods.stuck = stuck,
            Act::Label(labelled) => self.pods.labelled = labelled,
            Act::Served(served) => self.is_served = served,
            Act::Speak(speaks) => self.speak(speaks),
            Act::Stick(seconds) => self.stick(seconds),
            Act::Fail(fault) => self.fault = Some(fault),
            Act::Lag => self.lags = true,
            Act::Hold(how) => self.hold(&how),
            Act::EndHold => drop(self.live.holds.pop()),
            Act::Stranger(stranger) => self.stranger(&stranger),
            Act::Ask(is_timed) => self.ask(is_timed),
            Act::Side(side) => self.side(&side),
            Act::Rival(rivalry) => self.rivalry(&rivalry),
            Act::Agent(deed) => self.deed(deed),
            Act::Down(seconds) => self.down_until = self.down_until.max(self.after(seconds)),
            Act::Clock(offset) => {
                self.offset = offset;
                self.truth.clock_was_set(self.real + SignedDuration::from_secs(offset));
            }
        }
        if std::mem::take(&mut self.lags) {
            self.stale = Some(before);
            self.lags = false;
        }
        self.wake = Some(self.real);
        self.sample();
        self.run(0);
    }

    fn edit(&mut self, pointer: &str, value: Value) {
        let (parent, field) = pointer.rsplit_once('/').unwrap_or(("", pointer));
        let slot = self.live.raw.pointer_mut(parent).unwrap();
        if slot[field] != value {
            slot[field] = value;
            self.live.object.generation += 1;
            self.live.target = Target::read(&self.live.raw);
        }
    }

    fn delete_object(&mut self) {
        let now = self.wall();
        let object = &mut self.live.object;
        object.deleted_at = object.deleted_at.or(Some(now));
        self.exists = object.has_finalizer;
    }

    /// Every write has a new version.
    pub(super) fn touch(&mut self) {
        let version = self.uid();
        if let Some(host) = &mut self.live.host {
            host.machine.resource_version = version;
        }
    }

    pub(super) fn is_capi_paused(&self) -> bool {
        self.live.cluster.as_ref().is_some_and(|cluster| cluster.paused)
    }

    /// When something happens by itself.
    pub(super) fn next_event(&self) -> Option<Timestamp> {
        let host = self.live.host.as_ref().and_then(|host| host.next).filter(|_| !self.is_capi_paused());
        let parts = self.live.parts.values().filter_map(|part| part.gone_at).min();
        let pods = self.next_pod_event();
        let going = self.live.cluster.as_ref().is_some_and(|cluster| cluster.deleting);
        let ends = (going && self.live.host.is_none()).then_some(self.real);
        let watch = self.catches_up_at();
        [host, parts, pods, self.cluster_back_at, ends, watch].into_iter().flatten().min()
    }

    /// Lets happen what is due; true if anything did.
    pub(super) fn happen(&mut self) -> bool {
        let now = self.real;
        let mut happened = false;
        let before = self.live.clone();
        self.live.parts.retain(|_, part| part.gone_at.is_none_or(|at| at > now));
        happened |= self.live.parts.len() != before.parts.len();
        let due = |host: &Host| host.next.is_some_and(|at| at <= now);
        if !self.is_capi_paused() && self.live.host.as_ref().is_some_and(due) {
            self.host_is_due();
            happened = true;
        }
        if self.cluster_back_at.is_some_and(|at| at <= now) {
            (self.live.cluster, self.cluster_back_at) = (Some(cluster()), None);
            happened = true;
        }
        let going = self.live.cluster.as_ref().is_some_and(|cluster| cluster.deleting);
        if going && self.live.host.is_none() {
            (self.live.cluster, self.cluster_back_at) = (None, Some(self.after(3600)));
            self.live.node = None;
            self.agents.cluster_is_gone();
            happened = true;
        }
        happened |= self.pods_happen();
        happened |= self.catches_up();
        if happened {
            if std::mem::take(&mut self.lags) {
                self.stale = Some(before);
            }
            self.wake = Some(now);
        }
        happened
    }

    pub(super) fn delete_part(&mut self, uid: &str) {
        let at = self.after(COLLECT);
        for part in self.live.parts.values_mut().filter(|part| part.object.uid == uid) {
            part.object.deleting = true;
            part.gone_at = part.gone_at.or(Some(at));
        }
    }
}

pub(super) fn reference(api_version: &str, kind: &str, uid: &str) -> ObjectRef {
    ObjectRef {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        name: "ws-1".to_owned(),
        namespace: Some("lab".to_owned()),
        uid: Some(uid.to_owned()),
    }
}

/// RFC 7396.
pub(super) fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        into.clone_from(patch);
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (key, value) in fields {
        match value {
            Value::Null => drop(into.as_object_mut().unwrap().remove(key)),
            value => merge(&mut into[key.as_str()], value),
        }
    }
}
