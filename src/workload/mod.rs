//! One connection and one Node watch per workload cluster, however many objects use it.
//!
//! The kubeconfig Secret is read in the management cluster, everything else of a connection goes to the workload
//! cluster's own API server: there is no fallback from one to the other. A connection that is down is a value in the
//! [`View`], never an error and never a wait.

mod connection;
pub mod kubeconfig;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    panic::resume_unwind,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::api::core::v1::Node;
use kube::runtime::reflector::Store;
use tokio::{
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        watch,
    },
    task::{AbortHandle, JoinSet},
};

use self::{connection::Connection, kubeconfig::Accepted};

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
    /// Made of the accepted kubeconfig; there while one is, also during an outage. It begins an answer within 10 s or
    /// fails; callers bound their calls.
    pub client: Option<kube::Client>,
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
    },
}

/// All connections; clones are handles to the same ones.
#[derive(Clone)]
pub struct Workloads {
    slots: Arc<Mutex<HashMap<ConnectionKey, Slot>>>,
    orders: UnboundedSender<Order>,
}

/// Where a connection's task publishes.
type Slot = Arc<watch::Sender<View>>;
/// Makes a client; another one in tests.
type Dial = Arc<dyn Fn(&Accepted) -> Result<kube::Client, kubeconfig::KubeconfigFault> + Send + Sync>;

enum Order {
    Open(ConnectionKey, Slot),
    Close(ConnectionKey),
}

impl Workloads {
    /// `notices`: what changed, for whoever maps it to keys. The returned future is the actor that owns every
    /// connection task; it runs until dropped, and ends them all with it.
    pub fn new(
        management: kube::Client,
        notices: UnboundedSender<WorkloadNotice>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        Self::with_dial(management, notices, Arc::new(Accepted::client))
    }

    fn with_dial(
        management: kube::Client,
        notices: UnboundedSender<WorkloadNotice>,
        dial: Dial,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (orders, incoming) = unbounded_channel();
        let actor = run(incoming, move |key, slot| {
            Connection::new(key, slot, management.clone(), notices.clone(), dial.clone())
        });
        (Self { slots: Arc::default(), orders }, actor)
    }

    /// What is known of a workload cluster; starts its connection if there is none yet. Never waits, never calls.
    pub fn view(&self, key: &ConnectionKey) -> View {
        let mut slots = self.slots();
        if let Some(slot) = slots.get(key) {
            return slot.borrow().clone();
        }
        let view = View { reach: Reach::Connecting, client: None, nodes: None };
        let slot = Arc::new(watch::Sender::new(view.clone()));
        slots.insert(key.clone(), slot.clone());
        // Sent under the lock, so that orders come in the order of the map's changes. No actor: still connecting.
        let _ = self.orders.send(Order::Open(key.clone(), slot));
        view
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

async fn run(mut orders: UnboundedReceiver<Order>, open: impl Fn(ConnectionKey, Slot) -> Connection + Send) {
    let mut tasks = JoinSet::new();
    let mut open_connections: HashMap<ConnectionKey, AbortHandle> = HashMap::new();
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
