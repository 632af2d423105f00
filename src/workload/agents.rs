//! What a workload cluster says of its reclaim agents: the rules that they were given, and the Leases that they renew.
//!
//! One watch of each per cluster, open while some object wants an agent there, and no longer. A renewal alone wakes
//! nobody: it is noted, with when it was seen, for the clock of an agent proves nothing.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::{
    reflector::store::{Store, Writer},
    watcher::Config,
};
use kube::{Api, ResourceExt};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;

use super::pods::{Asker, other_client};
use super::{ConnectionKey, Line, Order, Slot, WorkloadNotice, bounds::MOST_OBJECTS};
use crate::api::names::{
    AGENT_NAMESPACE, ANNOTATION_AGENT_DETECTOR, ANNOTATION_AGENT_FALLBACK, ANNOTATION_AGENT_RULES,
    LABELS_OF_RULES,
};
use crate::watch::{Notice, Outage, follow_bounded};

/// After so long without a renewal an agent is not there. It renews every ten seconds.
pub const SILENT_AFTER: Duration = Duration::from_secs(40);

/// What is known of the agents of one workload cluster.
#[derive(Clone, Default)]
pub struct AgentsView {
    /// The `ConfigMap`s with our labels; some once a first list was complete.
    pub rules: Option<Store<ConfigMap>>,
    /// By name of the Lease; some once a first list was complete.
    pub beats: Option<Arc<HashMap<String, Beat>>>,
    /// Why one of the lists is missing or old, in words fit for a condition.
    pub trouble: Option<String>,
}

/// An agent's sign of life, and what it says of itself. All words are its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// How it learns of programs.
    pub detector: Option<String>,
    /// Why in no better way.
    pub fallback: Option<String>,
    /// What it says of its rules.
    pub rules: Option<String>,
    /// The renewal, as the agent dates it: only that it changes counts.
    renewed: String,
    /// When the latest renewal was seen here, or the Lease at all.
    seen_at: Instant,
    /// A renewal was seen, and not only one that had been there.
    pub is_alive: bool,
}

impl Beat {
    /// How long ago it was last renewed, by our clock.
    pub fn age(&self) -> Duration {
        now().saturating_duration_since(self.seen_at)
    }

    fn read(lease: &Lease, before: Option<&Self>) -> Self {
        let word = |key: &str| lease.annotations().get(key).cloned();
        let time = lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref());
        let renewed = time.map(|time| time.0.to_string()).unwrap_or_default();
        let same = before.filter(|before| before.renewed == renewed);
        Self {
            detector: word(ANNOTATION_AGENT_DETECTOR),
            fallback: word(ANNOTATION_AGENT_FALLBACK),
            rules: word(ANNOTATION_AGENT_RULES),
            seen_at: same.map_or_else(now, |same| same.seen_at),
            is_alive: same.map_or(before.is_some(), |same| same.is_alive),
            renewed,
        }
    }

    /// It says what it said, and was heard of in time.
    fn goes_on(&self, before: &Self) -> bool {
        let words = |beat: &Self| (beat.detector.clone(), beat.fallback.clone(), beat.rules.clone());
        words(self) == words(before) && before.age() < SILENT_AFTER && self.is_alive == before.is_alive
    }
}

#[derive(Default)]
pub(super) struct Shared {
    view: AgentsView,
    askers: BTreeSet<Asker>,
    /// Of the `ConfigMap`s, and of the Leases.
    troubles: [Option<String>; 2],
}

pub(super) type AgentSlot = Arc<Mutex<Shared>>;

/// All watches; clones are handles to the same ones.
#[derive(Clone, Default)]
pub(super) struct AgentWatches {
    slots: Arc<Mutex<HashMap<ConnectionKey, AgentSlot>>>,
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long ago something was heard, whatever the wall clock does"
)]
fn now() -> Instant {
    Instant::now()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whole between any two statements that hold the lock.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AgentWatches {
    /// `None` while nobody asks.
    pub(super) fn view(&self, connection: &ConnectionKey) -> Option<AgentsView> {
        lock(&self.slots).get(connection).map(|slot| lock(slot).view.clone())
    }

    /// From now on `asker` needs to know of the agents of this cluster and of no other.
    pub(super) fn ask(
        &self,
        asker: &Asker,
        wanted: Option<&ConnectionKey>,
        orders: &UnboundedSender<Order>,
        connection: impl FnOnce(&ConnectionKey) -> Slot,
    ) {
        let mut slots = lock(&self.slots);
        slots.retain(|key, slot| {
            let mut shared = lock(slot);
            if Some(key) != wanted {
                shared.askers.remove(asker);
            }
            Self::keep(key, &shared, wanted, orders)
        });
        let Some(key) = wanted else { return };
        if let Some(slot) = slots.get(key) {
            lock(slot).askers.insert(asker.clone());
            return;
        }
        let slot = AgentSlot::default();
        lock(&slot).askers.insert(asker.clone());
        slots.insert(key.clone(), slot.clone());
        // No actor: nobody looks either.
        let _ = orders.send(Order::OpenAgents(key.clone(), slot, connection(key)));
    }

    /// Forgets those who ask no more because they are no more.
    pub(super) fn retain(&self, is_there: impl Fn(&Asker) -> bool, orders: &UnboundedSender<Order>) {
        lock(&self.slots).retain(|key, slot| {
            let mut shared = lock(slot);
            shared.askers.retain(&is_there);
            Self::keep(key, &shared, None, orders)
        });
    }

    fn keep(
        key: &ConnectionKey,
        shared: &Shared,
        wanted: Option<&ConnectionKey>,
        orders: &UnboundedSender<Order>,
    ) -> bool {
        let keep = !shared.askers.is_empty() || Some(key) == wanted;
        if !keep {
            let _ = orders.send(Order::CloseAgents(key.clone()));
        }
        keep
    }
}

/// Watches until dropped; anew with every client that the connection makes.
pub(super) async fn run(slot: AgentSlot, connection: Slot, notices: UnboundedSender<WorkloadNotice>) {
    let mut connection = connection.subscribe();
    loop {
        let (client, epoch) = {
            let view = connection.borrow_and_update();
            (view.line.as_ref().map(Line::client), view.epoch)
        };
        let watches = async {
            match client {
                Some(client) => {
                    tokio::join!(
                        follow_rules(client.clone(), &slot, &notices),
                        follow_leases(client, &slot, &notices)
                    );
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = other_client(&mut connection, epoch) => {}
            () = watches => {}
        }
    }
}

/// To those who ask: of one agent, or of all.
fn tell(shared: &Shared, notices: &UnboundedSender<WorkloadNotice>, agent: Option<String>) {
    let askers = shared.askers.iter().cloned().collect();
    // Nobody listens any more: we are about to be dropped.
    let _ = notices.send(WorkloadNotice::Agents { agent, askers });
}

fn in_trouble(shared: &mut Shared, which: usize, outage: Option<Outage>) {
    shared.troubles[which] = outage.map(|outage| outage.message);
    shared.view.trouble = shared.troubles.iter().flatten().next().cloned();
}

async fn follow_rules(client: kube::Client, slot: &AgentSlot, notices: &UnboundedSender<WorkloadNotice>) {
    let writer = Writer::<ConfigMap>::default();
    let reader = writer.as_reader();
    let labels: Vec<String> = LABELS_OF_RULES.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let config = Config::default().labels(&labels.join(","));
    let api = Api::namespaced(client, AGENT_NAMESPACE);
    follow_bounded(
        api,
        config,
        writer,
        MOST_OBJECTS,
        |_| {},
        |notice| {
            let mut shared = lock(slot);
            let about = match notice {
                Notice::Changed(map) | Notice::Gone(map) => Some(map.name_any()),
                Notice::Synced => {
                    shared.view.rules = Some(reader.clone());
                    in_trouble(&mut shared, 0, None);
                    None
                }
                Notice::Recovered => {
                    in_trouble(&mut shared, 0, None);
                    None
                }
                Notice::Failing(outage) => {
                    in_trouble(&mut shared, 0, Some(outage));
                    None
                }
            };
            tell(&shared, notices, about);
        },
    )
    .await;
}

async fn follow_leases(client: kube::Client, slot: &AgentSlot, notices: &UnboundedSender<WorkloadNotice>) {
    let writer = Writer::<Lease>::default();
    let reader = writer.as_reader();
    let api = Api::namespaced(client, AGENT_NAMESPACE);
    follow_bounded(
        api,
        Config::default(),
        writer,
        MOST_OBJECTS,
        |_| {},
        |notice| {
            let mut shared = lock(slot);
            let about = match notice {
                Notice::Changed(lease) => {
                    let (name, beats) = (lease.name_any(), shared.view.beats.get_or_insert_default());
                    let before = beats.get(&name).cloned();
                    let beat = Beat::read(&lease, before.as_ref());
                    let goes_on = before.as_ref().is_some_and(|before| beat.goes_on(before));
                    Arc::make_mut(beats).insert(name.clone(), beat);
                    if goes_on {
                        return;
                    }
                    Some(name)
                }
                Notice::Gone(lease) => {
                    if let Some(beats) = &mut shared.view.beats {
                        Arc::make_mut(beats).remove(&lease.name_any());
                    }
                    Some(lease.name_any())
                }
                Notice::Synced => {
                    // What an earlier client knew and this one does not see is gone.
                    let listed: BTreeSet<String> =
                        reader.state().iter().map(|lease| lease.name_any()).collect();
                    Arc::make_mut(shared.view.beats.get_or_insert_default())
                        .retain(|name, _| listed.contains(name));
                    in_trouble(&mut shared, 1, None);
                    None
                }
                Notice::Recovered => {
                    in_trouble(&mut shared, 1, None);
                    None
                }
                Notice::Failing(outage) => {
                    in_trouble(&mut shared, 1, Some(outage));
                    None
                }
            };
            tell(&shared, notices, about);
        },
    )
    .await;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lease(renewed: &str, detector: &str) -> Lease {
        serde_json::from_value(json!({
            "metadata": {"name": "reclaim-agent-ws-1", "annotations": {ANNOTATION_AGENT_DETECTOR: detector}},
            "spec": {"renewTime": renewed},
        }))
        .unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_renewal_that_changes_is_a_sign_of_life_whatever_its_date() {
        let first = Beat::read(&lease("2030-01-01T00:00:00.000000Z", "netlink"), None);
        assert!(!first.is_alive, "it may have been there for a week");
        tokio::time::advance(Duration::from_secs(30)).await;
        let same = Beat::read(&lease("2030-01-01T00:00:00.000000Z", "netlink"), Some(&first));
        assert_eq!((same.age(), same.is_alive), (Duration::from_secs(30), false));
        let renewed = Beat::read(&lease("2020-01-01T00:00:00.000000Z", "netlink"), Some(&same));
        assert_eq!((renewed.age(), renewed.is_alive), (Duration::ZERO, true));
        let again = Beat::read(&lease("2020-01-01T00:00:10.000000Z", "netlink"), Some(&renewed));
        assert!(again.goes_on(&renewed) && !renewed.goes_on(&same));
        let other = Beat::read(&lease("2020-01-01T00:00:20.000000Z", "poll"), Some(&again));
        assert!(!other.goes_on(&again), "it says something else");
        tokio::time::advance(SILENT_AFTER).await;
        let back = Beat::read(&lease("2020-01-01T00:01:00.000000Z", "poll"), Some(&other));
        assert!(!back.goes_on(&other), "it was taken for silent meanwhile");
    }
}
