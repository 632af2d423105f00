//! What a MachineHold says, as values: whom it covers, what it asks for and when it is in force.
//!
//! Read from the stored object as it is, so that one that cannot be understood hides no other. `index` keeps them at
//! hand, `said` writes their status, `pass` is the shell around that; what a hold does to a machine is `decide`'s.

pub mod index;
pub mod pass;
pub mod said;
#[cfg(test)]
mod tests;
pub mod tries;

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::core::{ApiResource, DynamicObject, ObjectMeta, Selector, SelectorExt};
use serde::Deserialize;
use serde_json::Value;

use crate::api::machine_hold::{HoldOrigin, HoldReclaim, HoldState, MachineHoldSpec};
use crate::api::names;

/// `machineholds.5spot.finos.org`.
pub fn machine_hold_resource() -> ApiResource {
    ApiResource {
        group: names::GROUP.to_owned(),
        version: names::VERSION.to_owned(),
        api_version: names::API_VERSION.to_owned(),
        kind: "MachineHold".to_owned(),
        plural: "machineholds".to_owned(),
    }
}

/// A hold that can be read, and that nobody is deleting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Namespace, its own and that of the machines.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
    /// Of several in force the one made last decides.
    pub created_at: Timestamp,
    /// What it asks for.
    pub state: HoldState,
    /// Who made it.
    pub origin: HoldOrigin,
    /// From when; `None`: since it was made.
    pub from: Option<Timestamp>,
    /// Until when; `None`: until it is deleted.
    pub until: Option<Timestamp>,
    /// Why, on one line.
    pub reason: String,
    /// The reclaim that made it.
    pub reclaim: Option<HoldReclaim>,
}

impl Hold {
    /// Whether it counts at an instant. Its creation is not asked for: the server's clock may be ahead of ours, and a
    /// hold acts at once.
    pub fn is_in_force(&self, at: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= at) && self.until.is_none_or(|until| at < until)
    }

    /// Its end has come.
    pub fn is_expired(&self, at: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= at)
    }

    /// When it begins or ends to count, strictly after an instant.
    pub fn edges_after(&self, at: Timestamp) -> impl Iterator<Item = Timestamp> + use<> {
        [self.from, self.until].into_iter().flatten().filter(move |edge| *edge > at)
    }

    /// The same hold for a look back: before it was made it held nobody, whatever its `from` says.
    #[must_use]
    pub fn since_it_was_made(&self) -> Self {
        let from = self.from.map_or(self.created_at, |from| from.max(self.created_at));
        Self { from: Some(from), ..self.clone() }
    }

    /// When the owner asked, of a reclaim's hold.
    pub fn reclaimed_at(&self) -> Option<Timestamp> {
        let asked = self.reclaim.as_ref().and_then(|reclaim| reclaim.requested_at);
        (self.origin == HoldOrigin::Reclaim).then(|| asked.unwrap_or(self.created_at))
    }

    /// Which request it answers, of a reclaim's hold.
    pub fn request(&self) -> Option<&str> {
        self.reclaim.as_ref().filter(|_| self.origin == HoldOrigin::Reclaim)?.request.as_deref()
    }

    /// The command that ends it.
    pub fn end_command(&self) -> String {
        format!("kubectl delete machinehold -n {} {}", self.namespace, self.name)
    }

    /// Which of several in force decides: the one made last, of the same second the last by name.
    pub fn rank(&self) -> (Timestamp, &str) {
        (self.created_at, &self.name)
    }
}

/// Whom a hold covers, within its namespace.
#[derive(Clone, Debug, PartialEq)]
pub enum Covers {
    /// The ScheduledMachine of that name.
    One(String),
    /// Those whose labels match.
    Selected(Selector),
}

/// A stored hold: what it says, or in words why that cannot be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Of the object.
    pub uid: String,
    /// Generation of its spec.
    pub generation: Option<i64>,
    /// Somebody is deleting it: it holds nobody any more, even while a finalizer keeps the object.
    pub is_ending: bool,
    /// What it says.
    pub content: Result<(Covers, Hold), String>,
}

impl Entry {
    /// Reads a stored object, of whatever shape.
    pub fn read(raw: &DynamicObject) -> Self {
        Self {
            uid: raw.uid().unwrap_or_default(),
            generation: raw.metadata.generation,
            is_ending: raw.metadata.deletion_timestamp.is_some(),
            content: content(raw),
        }
    }

    /// The hold, if it counts for an object of that name with those labels.
    pub fn over(&self, name: &str, labels: &BTreeMap<String, String>) -> Option<&Hold> {
        let (covers, hold) = self.content.as_ref().ok().filter(|_| !self.is_ending)?;
        let is_covered = match covers {
            Covers::One(one) => one == name,
            Covers::Selected(selector) => selector.matches(labels),
        };
        is_covered.then_some(hold)
    }
}

/// What tells one state of a namespace's holds from another.
pub type Edition = (String, Option<i64>, bool);

/// Of a stored hold.
pub fn edition(meta: &ObjectMeta) -> Edition {
    (meta.uid.clone().unwrap_or_default(), meta.generation, meta.deletion_timestamp.is_some())
}

fn content(raw: &DynamicObject) -> Result<(Covers, Hold), String> {
    let spec = raw.data.get("spec").unwrap_or(&Value::Null);
    let spec = MachineHoldSpec::deserialize(spec).map_err(|error| format!("spec: {error}"))?;
    let covers = match (spec.scheduled_machine, spec.selector) {
        (Some(name), None) => Covers::One(name),
        (None, Some(selector)) => {
            let selector = Selector::try_from(selector);
            Covers::Selected(selector.map_err(|error| format!("spec.selector: {error}"))?)
        }
        (Some(_), Some(_)) => return Err("spec: scheduledMachine and selector are both set".to_owned()),
        (None, None) => return Err("spec: neither scheduledMachine nor selector is set".to_owned()),
    };
    let hold = Hold {
        namespace: raw.namespace().unwrap_or_default(),
        name: raw.name_any(),
        uid: raw.uid().unwrap_or_default(),
        created_at: raw.metadata.creation_timestamp.as_ref().map_or(Timestamp::MIN, |at| at.0),
        state: spec.state,
        origin: spec.origin,
        from: spec.from,
        until: spec.until,
        reason: spec.reason.split_whitespace().collect::<Vec<_>>().join(" "),
        reclaim: spec.reclaim,
    };
    Ok((covers, hold))
}
