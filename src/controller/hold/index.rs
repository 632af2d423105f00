//! All holds, by namespace, and which objects each covered when it was last looked at.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use kube::ResourceExt;
use kube::core::DynamicObject;
use tokio::sync::watch;

use super::{Edition, Entry, Hold};

/// The holds of all namespaces. Clones share them.
///
/// Fed by the one watch of holds, so it is as complete as that: [`Holds::wait_until_settled`] before the first decision,
/// or a freeze would be missed.
#[derive(Clone, Debug)]
pub struct Holds {
    spaces: Arc<RwLock<HashMap<String, Space>>>,
    complete: watch::Sender<Complete>,
}

/// Which lists have been told of whole.
#[derive(Clone, Debug, Default)]
struct Complete {
    holds: bool,
    objects: bool,
    /// Why the holds cannot be read.
    unreadable: Option<String>,
}

#[derive(Debug, Default)]
struct Space {
    holds: BTreeMap<String, Arc<Entry>>,
    /// Names of the holds over each object, as of its last event.
    over: HashMap<String, BTreeSet<String>>,
}

impl Default for Holds {
    fn default() -> Self {
        Self { spaces: Arc::default(), complete: watch::Sender::new(Complete::default()) }
    }
}

impl Holds {
    /// A hold came or changed: what it was before, and what it is now.
    pub fn put(&self, raw: &DynamicObject) -> (Option<Arc<Entry>>, Arc<Entry>) {
        let entry = Arc::new(Entry::read(raw));
        let mut spaces = self.spaces.write().unwrap_or_else(PoisonError::into_inner);
        let space = spaces.entry(raw.namespace().unwrap_or_default()).or_default();
        (space.holds.insert(raw.name_any(), entry.clone()), entry)
    }

    /// A hold is gone: what it was. A later one of that name stays.
    pub fn remove(&self, raw: &DynamicObject) -> Option<Arc<Entry>> {
        let mut spaces = self.spaces.write().unwrap_or_else(PoisonError::into_inner);
        let space = spaces.get_mut(&raw.namespace().unwrap_or_default())?;
        let is_this =
            space.holds.get(&raw.name_any()).is_some_and(|entry| Some(&entry.uid) == raw.uid().as_ref());
        if is_this { space.holds.remove(&raw.name_any()) } else { None }
    }

    /// Every hold has been told of.
    pub fn set_complete(&self) {
        self.complete.send_modify(|complete| {
            (complete.holds, complete.unreadable) = (true, None);
        });
    }

    /// They cannot be read, and somebody has to mend that.
    pub fn set_unreadable(&self, why: String) {
        self.complete.send_modify(|complete| complete.unreadable = Some(why));
    }

    /// Why nobody knows which holds there are. Of holds that were known before an outage it is known.
    pub fn unread(&self) -> Option<String> {
        let complete = self.complete.borrow();
        complete.unreadable.clone().filter(|_| !complete.holds)
    }

    /// Every ScheduledMachine has been told of.
    pub fn set_objects_complete(&self) {
        self.complete.send_modify(|complete| complete.objects = true);
    }

    /// Returns once it is known which holds there are, or that it cannot be known.
    pub async fn wait_until_settled(&self) {
        let is_settled = |complete: &Complete| complete.holds || complete.unreadable.is_some();
        // The sender lives as long as we do.
        let _ = self.complete.subscribe().wait_for(is_settled).await;
    }

    /// Returns once it can be said how many objects a hold covers. (Of two tasks that wait for one store to be ready
    /// only one is woken, so this has a signal of its own.)
    pub async fn wait_until_countable(&self) {
        let _ = self.complete.subscribe().wait_for(|complete| complete.holds && complete.objects).await;
    }

    /// The holds over an object, in force or not.
    pub fn over(&self, namespace: &str, name: &str, labels: &BTreeMap<String, String>) -> Vec<Hold> {
        let spaces = self.spaces.read().unwrap_or_else(PoisonError::into_inner);
        let entries = spaces.get(namespace).into_iter().flat_map(|space| space.holds.values());
        entries.filter_map(|entry| entry.over(name, labels).cloned()).collect()
    }

    /// Those of a namespace as they are known.
    pub fn editions(&self, namespace: &str) -> BTreeSet<Edition> {
        let spaces = self.spaces.read().unwrap_or_else(PoisonError::into_inner);
        let entries = spaces.get(namespace).into_iter().flat_map(|space| space.holds.values());
        entries.map(|entry| (entry.uid.clone(), entry.generation, entry.is_ending)).collect()
    }

    /// Namespace and name of every hold.
    pub fn names(&self) -> Vec<(String, String)> {
        let spaces = self.spaces.read().unwrap_or_else(PoisonError::into_inner);
        let all = spaces
            .iter()
            .flat_map(|(namespace, space)| space.holds.keys().map(move |name| (namespace, name)));
        all.map(|(namespace, name)| (namespace.clone(), name.clone())).collect()
    }

    /// An object came, changed or (`None`) went: the names of the holds that begin or cease to cover it.
    pub fn moved(
        &self,
        namespace: &str,
        name: &str,
        labels: Option<&BTreeMap<String, String>>,
    ) -> BTreeSet<String> {
        let mut spaces = self.spaces.write().unwrap_or_else(PoisonError::into_inner);
        let Some(space) = spaces.get_mut(namespace) else { return BTreeSet::new() };
        let now: BTreeSet<String> = labels.map_or_else(BTreeSet::new, |labels| {
            let over = space.holds.iter().filter(|(_, entry)| entry.over(name, labels).is_some());
            over.map(|(hold, _)| hold.clone()).collect()
        });
        let before = space.over.get(name).cloned().unwrap_or_default();
        let changed = before.symmetric_difference(&now).cloned().collect();
        if now.is_empty() {
            space.over.remove(name);
        } else {
            space.over.insert(name.to_owned(), now);
        }
        changed
    }
}
