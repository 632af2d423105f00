//! The pods of one Node, watched while somebody asks for them, and no longer.
//!
//! One watch per Node, shared by all who ask, on the client of the Node's connection; a list of one Node's pods takes the
//! server milliseconds, so it is opened when a leaving comes to it and not before. Knows nothing of drains.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec, PodStatus};
use kube::Api;
use kube::runtime::{
    reflector::store::{Store, Writer},
    watcher::Config,
};
use tokio::sync::{mpsc::UnboundedSender, watch};

use super::{ConnectionKey, Line, Order, Slot, WorkloadNotice, bounds::MOST_OBJECTS};
use crate::api::names::ANNOTATION_MIRROR_POD;
use crate::watch::{Notice, follow_bounded};

/// Namespace and name of the object that asks.
pub type Asker = (String, String);

/// What is known of the pods of one Node.
#[derive(Clone)]
pub struct PodsView {
    /// Since when somebody asks.
    pub since: Timestamp,
    /// Some once a first list was complete; during an outage what was last known.
    pub pods: Option<Store<Pod>>,
    /// Why there is no list, or an old one; in words fit for a condition.
    pub trouble: Option<String>,
}

/// Which pods: of this Node, on this connection.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Watched {
    connection: ConnectionKey,
    node: String,
}

/// Where a watch publishes, and whom it tells.
pub(super) struct Shared {
    view: PodsView,
    askers: BTreeSet<Asker>,
}

pub(super) type PodSlot = Arc<Mutex<Shared>>;

/// All watches; clones are handles to the same ones.
#[derive(Clone, Default)]
pub(super) struct PodWatches {
    slots: Arc<Mutex<HashMap<Watched, PodSlot>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whole between any two statements that hold the lock.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PodWatches {
    /// What is known of the pods of a Node; `None` while nobody asks for them.
    pub(super) fn view(&self, connection: &ConnectionKey, node: &str) -> Option<PodsView> {
        let watched = Watched { connection: connection.clone(), node: node.to_owned() };
        let slots = lock(&self.slots);
        slots.get(&watched).map(|slot| lock(slot).view.clone())
    }

    /// From now on `asker` needs these pods and no others. `connection`: looked up only for a watch that is new.
    pub(super) fn ask(
        &self,
        asker: &Asker,
        wanted: Option<(&ConnectionKey, &str)>,
        now: Timestamp,
        orders: &UnboundedSender<Order>,
        connection: impl FnOnce(&ConnectionKey) -> Slot,
    ) {
        let wanted = wanted.map(|(key, node)| Watched { connection: key.clone(), node: node.to_owned() });
        let mut slots = lock(&self.slots);
        slots.retain(|watched, slot| {
            let mut shared = lock(slot);
            if Some(watched) != wanted.as_ref() {
                shared.askers.remove(asker);
            }
            Self::keep(watched, &shared, orders)
        });
        let Some(watched) = wanted else { return };
        if let Some(slot) = slots.get(&watched) {
            lock(slot).askers.insert(asker.clone());
            return;
        }
        let view = PodsView { since: now, pods: None, trouble: None };
        let slot = Arc::new(Mutex::new(Shared { view, askers: BTreeSet::from([asker.clone()]) }));
        slots.insert(watched.clone(), slot.clone());
        let connection = connection(&watched.connection);
        // No actor: nobody looks either.
        let _ = orders.send(Order::OpenPods(watched, slot, connection));
    }

    /// Forgets those who ask no more because they are no more.
    pub(super) fn retain(&self, is_there: impl Fn(&Asker) -> bool, orders: &UnboundedSender<Order>) {
        lock(&self.slots).retain(|watched, slot| {
            let mut shared = lock(slot);
            shared.askers.retain(&is_there);
            Self::keep(watched, &shared, orders)
        });
    }

    fn keep(watched: &Watched, shared: &Shared, orders: &UnboundedSender<Order>) -> bool {
        let keep = !shared.askers.is_empty();
        if !keep {
            let _ = orders.send(Order::ClosePods(watched.clone()));
        }
        keep
    }
}

/// Watches until dropped; anew with every client that the connection makes.
pub(super) async fn run(
    watched: Watched,
    slot: PodSlot,
    connection: Slot,
    notices: UnboundedSender<WorkloadNotice>,
) {
    let mut connection = connection.subscribe();
    loop {
        let (client, epoch) = {
            let view = connection.borrow_and_update();
            (view.line.as_ref().map(Line::client), view.epoch)
        };
        let pods = async {
            match client {
                Some(client) => follow(client, &watched, &slot, &notices).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = other_client(&mut connection, epoch) => {}
            () = pods => {}
        }
    }
}

pub(super) async fn other_client(connection: &mut watch::Receiver<super::View>, epoch: u64) {
    if connection.wait_for(|view| view.epoch != epoch).await.is_err() {
        // The connection is closed for good, and we are about to be.
        std::future::pending::<()>().await;
    }
}

async fn follow(
    client: kube::Client,
    watched: &Watched,
    slot: &PodSlot,
    notices: &UnboundedSender<WorkloadNotice>,
) {
    let writer = Writer::<Pod>::default();
    let reader = writer.as_reader();
    let config = Config::default().fields(&format!("spec.nodeName={}", watched.node));
    follow_bounded(Api::all(client), config, writer, MOST_OBJECTS, trim, |notice| {
        let mut shared = lock(slot);
        match notice {
            // Before the first list is complete the store is empty; it must not be taken for an empty Node.
            Notice::Changed(_) | Notice::Gone(_) => {}
            Notice::Synced => {
                shared.view.pods = Some(reader.clone());
                // Perhaps that of a former client.
                shared.view.trouble = None;
            }
            Notice::Recovered => shared.view.trouble = None,
            Notice::Failing(outage) => shared.view.trouble = Some(outage.message),
        }
        let askers = shared.askers.iter().cloned().collect();
        // Nobody listens any more: we are about to be dropped.
        let _ = notices.send(WorkloadNotice::Pods { node: watched.node.clone(), askers });
    })
    .await;
}

/// A Node may have hundreds of pods, and of each a few words are read.
fn trim(pod: &mut Pod) {
    if let Some(annotations) = &mut pod.metadata.annotations {
        annotations.retain(|key, _| key == ANNOTATION_MIRROR_POD);
    }
    pod.spec = pod.spec.take().map(|spec| PodSpec {
        priority: spec.priority,
        node_name: spec.node_name,
        ..PodSpec::default()
    });
    pod.status = pod.status.take().map(|status| PodStatus { phase: status.phase, ..PodStatus::default() });
}
