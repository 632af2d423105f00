//! One connection and one Node watch per workload cluster, however many objects use it.
//!
//! The kubeconfig Secret is read in the management cluster, everything else of a connection goes to the workload
//! cluster's own API server: there is no fallback from one to the other. A connection that is down is a value in the
//! [`View`], never an error and never a wait.

mod agents;
mod answer;
mod bounds;
mod connection;
pub mod kubeconfig;
mod line;
mod long;
mod pods;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    panic::resume_unwind,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::runtime::reflector::Store;
use tokio::{
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        watch,
    },
    task::{AbortHandle, JoinSet},
};

pub use self::agents::{AgentsView, Beat, SILENT_AFTER};
pub use self::line::{ANSWER, Line, Unanswered};
pub use self::long::LONGEST;
pub use self::pods::{Asker, PodsView};
use self::{
    agents::{AgentSlot, AgentWatches},
    connection::Connection,
    kubeconfig::Accepted,
    pods::{PodSlot, PodWatches, Watched},
};
use crate::telemetry::metrics::Calls;

/// Which kubeconfig: the key `key` of a Secret in the management cluster.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ConnectionKey {
    /// Namespace of the Secret.
    pub namespace: String,
    /// Name of the Secret.
    pub secret: String,
    /// Key inside the Secret's data.
    pub key: String,
}

/// How a workload cluster answers at the moment. The texts are fit for a condition: they say what is wrong, change only
/// with the cause, and hold nothing of the Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Nothing is known yet: the Secret has not been read, or its cluster has not answered.
    Connecting,
    /// No such Secret, no such key in it, or we may not read it.
    KubeconfigMissing(String),
    /// There is one, and it is refused; see [`kubeconfig::KubeconfigFault`].
    KubeconfigInvalid(String),
    /// The API server does not answer, or with something of no use. Retried for ever, at most 5 s apart.
    Unreachable(String),
    /// The API server answers, and not to us: credentials refused, or no right to watch Nodes.
    Unauthorized(String),
    /// The Node watch works.
    Connected,
}

/// What is known of one workload cluster.
#[derive(Clone)]
pub struct View {
    /// How it answers.
    pub reach: Reach,
    /// Made of the accepted kubeconfig; there while one is, also during an outage.
    pub line: Option<Line>,
    /// Another one with every change of `line`.
    pub epoch: u64,
    /// Some once the first list of its Nodes was complete. During an outage and after the kubeconfig was withdrawn
    /// this is what was last known; it is dropped when the kubeconfig leads to another cluster.
    pub nodes: Option<Store<Node>>,
}

/// Something about a workload cluster changed; the [`View`] shows it already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkloadNotice {
    /// The [`Reach`] of this connection, or which cluster it leads to.
    Reach(ConnectionKey),
    /// A Node came, changed or went.
    Node {
        /// The connection that saw it.
        connection: ConnectionKey,
        /// The Node's name.
        name: String,
        /// Namespace and name of its Machine, from the annotations Cluster API writes on Nodes it has matched.
        machine: Option<(String, String)>,
        /// `spec.providerID`: before they are matched it is all that ties the two.
        provider_id: Option<String>,
    },
    /// A pod on a Node came, changed or went, or the watch of them came or went.
    Pods {
        /// The Node's name.
        node: String,
        /// Who asks for its pods.
        askers: Vec<Asker>,
    },
    /// Something about reclaim agents changed.
    Agents {
        /// Name of the ConfigMap or Lease; `None`: of all.
        agent: Option<String>,
        /// Who asks for agents of this cluster.
        askers: Vec<Asker>,
    },
    /// A call was answered that nobody waited for any more.
    Answered {
        /// Whose it was.
        asker: Asker,
    },
}

impl View {
    /// Before anything is known.
    pub fn unknown() -> Self {
        Self { reach: Reach::Connecting, line: None, epoch: 0, nodes: None }
    }
}

/// All connections; clones are handles to the same ones.
#[derive(Clone)]
pub struct Workloads {
    slots: Arc<Mutex<HashMap<ConnectionKey, Slot>>>,
    pods: PodWatches,
    agents: AgentWatches,
    orders: UnboundedSender<Order>,
}

/// Where a connection's task publishes.
type Slot = Arc<watch::Sender<View>>;
/// Makes a client; another one in tests.
type Dial = Arc<dyn Fn(&Accepted) -> Result<kube::Client, kubeconfig::KubeconfigFault> + Send + Sync>;

enum Order {
    Open(ConnectionKey, Slot),
    Close(ConnectionKey),
    OpenPods(Watched, PodSlot, Slot),
    ClosePods(Watched),
    OpenAgents(ConnectionKey, AgentSlot, Slot),
    CloseAgents(ConnectionKey),
}

impl Workloads {
    /// `notices`: what changed, for whoever maps it to keys. The returned future is the actor that owns every
    /// connection task; it runs until dropped, and ends them all with it.
    ///
    /// `calls`: where calls to workload clusters are counted.
    pub fn new(
        management: kube::Client,
        notices: UnboundedSender<WorkloadNotice>,
        calls: Calls,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        Self::with_dial(management, notices, Arc::new(move |accepted: &Accepted| accepted.client(&calls)))
    }

    fn with_dial(
        management: kube::Client,
        notices: UnboundedSender<WorkloadNotice>,
        dial: Dial,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (orders, incoming) = unbounded_channel();
        let told = notices.clone();
        let actor = run(incoming, told, move |key, slot| {
            Connection::new(key, slot, management.clone(), notices.clone(), dial.clone())
        });
        let (slots, pods, agents) = Default::default();
        (Self { slots, pods, agents, orders }, actor)
    }

    /// What is known of a workload cluster; starts its connection if there is none yet. Never waits, never calls.
    pub fn view(&self, key: &ConnectionKey) -> View {
        self.slot(key).borrow().clone()
    }

    fn slot(&self, key: &ConnectionKey) -> Slot {
        let mut slots = self.slots();
        if let Some(slot) = slots.get(key) {
            return slot.clone();
        }
        let slot = Arc::new(watch::Sender::new(View::unknown()));
        slots.insert(key.clone(), slot.clone());
        // Sent under the lock, so that orders come in the order of the map's changes. No actor: still connecting.
        let _ = self.orders.send(Order::Open(key.clone(), slot.clone()));
        slot
    }

    /// How each workload cluster in use answers. Opens no connection.
    pub fn reaches(&self) -> Vec<(ConnectionKey, Reach)> {
        let slots = self.slots();
        slots.iter().map(|(key, slot)| (key.clone(), slot.borrow().reach.clone())).collect()
    }

    /// What is known of the pods of a Node; `None` while nobody asks for them.
    pub fn pods(&self, key: &ConnectionKey, node: &str) -> Option<PodsView> {
        self.pods.view(key, node)
    }

    /// From now on `asker` needs the pods of this Node and of no other; `None`: of none. The watch is told of by
    /// [`WorkloadNotice::Pods`], and ends when nobody asks any more. Never waits, never calls.
    pub fn ask_for_pods(&self, asker: &Asker, wanted: Option<(&ConnectionKey, &str)>, now: Timestamp) {
        self.pods.ask(asker, wanted, now, &self.orders, |key| self.slot(key));
    }

    /// What is known of the reclaim agents of a cluster; `None` while nobody asks.
    pub fn agents(&self, key: &ConnectionKey) -> Option<AgentsView> {
        self.agents.view(key)
    }

    /// From now on `asker` needs to know of the agents of this cluster and of no other; `None`: of none. Told of by
    /// [`WorkloadNotice::Agents`]. Never waits, never calls.
    pub fn ask_for_agents(&self, asker: &Asker, wanted: Option<&ConnectionKey>) {
        self.agents.ask(asker, wanted, &self.orders, |key| self.slot(key));
    }

    /// Ends the watches of pods and of agents for askers that are no more.
    pub fn retain_askers(&self, is_there: impl Fn(&Asker) -> bool) {
        self.pods.retain(&is_there, &self.orders);
        self.agents.retain(&is_there, &self.orders);
    }

    /// Closes the connections nobody uses any more, and forgets what they knew.
    pub fn retain(&self, wanted: impl Fn(&ConnectionKey) -> bool) {
        self.slots().retain(|key, _| {
            let keep = wanted(key);
            if !keep {
                let _ = self.orders.send(Order::Close(key.clone()));
            }
            keep
        });
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<ConnectionKey, Slot>> {
        // The map is whole between any two statements that hold the lock.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn run(
    mut orders: UnboundedReceiver<Order>,
    notices: UnboundedSender<WorkloadNotice>,
    open: impl Fn(ConnectionKey, Slot) -> Connection + Send,
) {
    let mut tasks = JoinSet::new();
    let mut open_connections: HashMap<ConnectionKey, AbortHandle> = HashMap::new();
    let mut open_pods: HashMap<Watched, AbortHandle> = HashMap::new();
    let mut open_agents: HashMap<ConnectionKey, AbortHandle> = HashMap::new();
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(Order::Open(key, slot)) => {
                    let task = tasks.spawn(open(key.clone(), slot).run());
                    if let Some(former) = open_connections.insert(key, task) {
                        former.abort();
                    }
                }
                Some(Order::Close(key)) => {
                    if let Some(task) = open_connections.remove(&key) {
                        task.abort();
                    }
                }
                Some(Order::OpenPods(watched, slot, connection)) => {
                    let task = tasks.spawn(pods::run(watched.clone(), slot, connection, notices.clone()));
                    if let Some(former) = open_pods.insert(watched, task) {
                        former.abort();
                    }
                }
                Some(Order::ClosePods(watched)) => {
                    if let Some(task) = open_pods.remove(&watched) {
                        task.abort();
                    }
                }
                Some(Order::OpenAgents(key, slot, connection)) => {
                    let task = tasks.spawn(agents::run(slot, connection, notices.clone()));
                    if let Some(former) = open_agents.insert(key, task) {
                        former.abort();
                    }
                }
                Some(Order::CloseAgents(key)) => {
                    if let Some(task) = open_agents.remove(&key) {
                        task.abort();
                    }
                }
                // No handle is left, so nobody can look; whoever runs us may still wait for us.
                None => std::future::pending().await,
            },
            Some(Err(ended)) = tasks.join_next() => {
                if ended.is_panic() {
                    resume_unwind(ended.into_panic());
                }
            }
        }
    }
}
