//! The hold of a reclaim, as it is to be written, and when it is to be tried again.
//!
//! The owner does not wait for it: where it cannot be written at once the status remembers in its place.

use jiff::{SignedDuration, Timestamp};
use kube::core::{DynamicObject, ObjectMeta, TypeMeta};
use serde_json::json;

use super::request::{self, Asked};
use super::return_at;
use crate::api::machine_hold::{HoldOrigin, HoldReclaim, HoldState, MachineHoldSpec};
use crate::api::names;
use crate::api::status::Rule;
use crate::controller::build;
use crate::controller::snapshot::Snapshot;

/// A hold that is over before it is made would hold nobody.
const SHORTEST: SignedDuration = SignedDuration::from_secs(1);

/// A reclaim and the hold that is to be written for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    /// What was asked.
    pub asked: Asked,
    /// A MachineHold.
    pub hold: Box<DynamicObject>,
    /// Why it must not be made now, though it is wanted: it counts as one that could not be written.
    pub withheld: Option<String>,
}

/// A hold that this process wrote and no watch has shown yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unshown {
    /// Its name.
    pub name: String,
    /// When the owner asked.
    pub asked_at: Timestamp,
    /// It should have been shown long since.
    pub is_overdue: bool,
}

/// How the last try to write a reclaim's hold failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Whose hold.
    pub request: String,
    /// For people.
    pub message: String,
    /// When it is to be tried again.
    pub again_at: Timestamp,
}

/// What became of the tries with a request, if the last one failed.
pub fn failed<'a>(snapshot: &'a Snapshot, request: &str) -> Option<&'a Tried> {
    snapshot.hold_tried.as_ref().filter(|tried| tried.request == request)
}

/// The hold that is to be written now, and when there is one to be written later.
pub fn due(snapshot: &Snapshot, rule: Rule) -> (Option<Wish>, Option<Timestamp>) {
    // It would go with its object.
    let is_ending = matches!(rule, Rule::Deletion | Rule::ClusterDeleting);
    let is_written = snapshot.hold_written.is_some();
    let asked = request::latched(snapshot).or_else(|| request::news(snapshot));
    let asked = asked.filter(|_| !is_ending && !is_written);
    let Some(asked) = asked else { return (None, None) };
    let again_at = failed(snapshot, &asked.request).map(|tried| tried.again_at);
    match again_at.filter(|at| *at > snapshot.now) {
        Some(at) => (None, Some(at)),
        None => (Some(Wish { hold: Box::new(hold(snapshot, &asked)), asked, withheld: None }), None),
    }
}

/// It goes with its ScheduledMachine, and so `clusterctl move` takes it along.
fn hold(snapshot: &Snapshot, asked: &Asked) -> DynamicObject {
    let name = &snapshot.object.name;
    let at_least = snapshot.now.saturating_add(SHORTEST).unwrap_or(snapshot.now);
    let from_now = || return_at(&snapshot.target, snapshot.now).map(|until| until.max(at_least));
    let spec = MachineHoldSpec {
        scheduled_machine: Some(name.clone()),
        selector: None,
        state: HoldState::Inactive,
        from: None,
        until: if asked.is_late { from_now() } else { asked.until },
        reason: asked.reason(),
        origin: HoldOrigin::Reclaim,
        reclaim: Some(HoldReclaim {
            request: Some(asked.request.clone()),
            node: Some(asked.node.clone()),
            matched: asked.matched.clone(),
            requested_at: Some(asked.at),
        }),
    };
    DynamicObject {
        types: Some(TypeMeta { api_version: names::API_VERSION.to_owned(), kind: "MachineHold".to_owned() }),
        metadata: ObjectMeta {
            // Whatever somebody has put in the way of a name, there is another one.
            generate_name: Some(format!("{name}-reclaim-")),
            namespace: Some(snapshot.object.namespace.clone()),
            labels: Some([(names::LABEL_SCHEDULED_MACHINE.to_owned(), name.clone())].into()),
            owner_references: Some(vec![build::controller(&snapshot.object)]),
            ..ObjectMeta::default()
        },
        data: json!({ "spec": spec }),
    }
}
