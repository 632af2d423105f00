//! What was written last for the agents, by object. In memory only: it keeps two writers from fighting, and one from
//! writing again what a cache does not show yet.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Written;

/// Of all objects, by uid; clones are handles to the same.
#[derive(Clone, Debug, Default)]
pub struct AgentWrites {
    objects: Arc<Mutex<HashMap<String, Written>>>,
}

impl AgentWrites {
    /// What was written last for an object.
    pub fn of(&self, object: &str) -> Written {
        self.lock().get(object).cloned().unwrap_or_default()
    }

    /// Notes a write.
    pub fn note(&self, object: &str, write: impl FnOnce(&mut Written)) {
        write(self.lock().entry(object.to_owned()).or_default());
    }

    /// Forgets objects that are gone, however they went.
    pub fn retain(&self, is_there: impl Fn(&str) -> bool) {
        self.lock().retain(|object, _| is_there(object));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Written>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
