//! What we wrote and the cache may not show yet.
//!
//! A pass on a cache that is behind our own writes would do them again. So each write leaves a note, and the next pass
//! of that object waits until the cache has caught up (the same idea as Kubernetes' KEP-5647). A note is dropped after
//! some seconds at the latest: a cache that is behind for longer is a broken watch, and waiting would not mend it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use kube::core::DynamicObject;
use tokio::time::Instant;

use crate::controller::report::Made;
use crate::controller::snapshot::Object;

/// After this a note counts no more.
const PATIENCE: Duration = Duration::from_secs(5);

/// Something we wrote.
#[derive(Clone, Copy)]
pub enum Written<'a> {
    /// The ScheduledMachine itself.
    Object(&'a DynamicObject),
    /// One of its objects.
    Made(Made, &'a DynamicObject),
    /// One of its objects, told to go.
    Deleted(Made, &'a DynamicObject),
    /// Its Node.
    Node(&'a Node),
}

/// Where a note can be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// Of ScheduledMachines.
    Object,
    /// Of Machines and their parts.
    Made(Made),
    /// Of Nodes.
    Node,
}

#[derive(Debug)]
struct Note {
    cache: Cache,
    uid: String,
    resource_version: u64,
    /// A cache that shows nothing is no longer behind, but ahead.
    may_go: bool,
    until: Instant,
}

/// What a cache shows of an object: its uid and resource version.
pub type Seen = Option<(String, String)>;

/// The notes of all objects, by uid.
#[derive(Debug, Default)]
pub struct Expectations {
    notes: Mutex<HashMap<String, Vec<Note>>>,
}

impl Expectations {
    /// Notes a write for one ScheduledMachine.
    pub fn note(&self, object: &Object, written: Written<'_>) {
        let (cache, uid, version) = match written {
            Written::Object(o) => (Cache::Object, o.uid(), o.resource_version()),
            Written::Made(made, o) | Written::Deleted(made, o) => {
                (Cache::Made(made), o.uid(), o.resource_version())
            }
            Written::Node(node) => (Cache::Node, node.uid(), node.resource_version()),
        };
        let (Some(uid), Some(Ok(resource_version))) = (uid, version.map(|v| v.parse())) else { return };
        #[expect(clippy::disallowed_methods, reason = "bounds a wait; no decision depends on it")]
        let until = Instant::now() + PATIENCE;
        let may_go = matches!(written, Written::Deleted(..));
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let list = notes.entry(object.uid.clone()).or_default();
        list.retain(|note| note.cache != cache);
        list.push(Note { cache, uid, resource_version, may_go, until });
    }

    /// The caches that do not show yet what was written for this object; forgets what they show.
    pub fn behind(&self, uid: &str, seen: impl Fn(Cache) -> Seen) -> Vec<Cache> {
        #[expect(clippy::disallowed_methods, reason = "bounds a wait; no decision depends on it")]
        let now = Instant::now();
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(list) = notes.get_mut(uid) else { return Vec::new() };
        list.retain(|note| {
            let caught_up = match seen(note.cache) {
                // A later object of that name: ours came and went.
                Some((seen_uid, _)) if seen_uid != note.uid => true,
                Some((_, version)) => {
                    version.parse::<u64>().is_ok_and(|version| version >= note.resource_version)
                }
                None => note.may_go,
            };
            !caught_up && now < note.until
        });
        let behind: Vec<Cache> = list.iter().map(|note| note.cache).collect();
        if behind.is_empty() {
            notes.remove(uid);
        }
        behind
    }

    /// Forgets objects that are gone, however they went.
    pub fn retain(&self, is_there: impl Fn(&str) -> bool) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).retain(|uid, _| is_there(uid));
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, uid: &str) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn machine() -> DynamicObject {
        let metadata = json!({"name": "ws-1", "uid": "m", "resourceVersion": "7"});
        serde_json::from_value(json!({"apiVersion": "v1", "kind": "Machine", "metadata": metadata})).unwrap()
    }

    fn shown(uid: &str, version: &str) -> (String, String) {
        (uid.to_owned(), version.to_owned())
    }

    #[test]
    fn what_was_made_is_awaited_and_what_was_deleted_may_be_gone_already() {
        let (notes, made) = (Expectations::default(), Made::Machine);
        let object = Object { uid: "sm".to_owned(), ..Object::default() };
        notes.note(&object, Written::Made(made, &machine()));
        assert_eq!(notes.behind("sm", |_| None), [Cache::Made(made)]);
        assert_eq!(notes.behind("sm", |_| Some(shown("m", "6"))), [Cache::Made(made)]);
        assert!(notes.behind("sm", |_| Some(shown("m", "7"))).is_empty());
        notes.note(&object, Written::Deleted(made, &machine()));
        assert_eq!(notes.behind("sm", |_| Some(shown("m", "6"))), [Cache::Made(made)]);
        assert!(notes.behind("sm", |_| None).is_empty());
        notes.note(&object, Written::Deleted(made, &machine()));
        assert!(notes.behind("sm", |_| Some(shown("another", "1"))).is_empty());
    }
}
