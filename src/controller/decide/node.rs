//! Taints of the lent Node: those of the spec, and never more than ours.
//!
//! Which taints are ours has to be proven, and what stands on the Node proves nothing by itself: a kubelet may write
//! any annotation there. So the status, which nobody on that side can write, names a taint before it is put on
//! (`pending`), one checked write puts it on together with the annotation that says so, and the status confirms it
//! when it has been seen. Lost answers, lost status writes and restarts in between lose nothing.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Taint;
use serde::Deserialize;

use crate::api::taint::{AppliedTaint, MOST_TAINTS, NodeTaint, TaintEffect};
use crate::controller::decide::leave::edit;
use crate::controller::effect::TaintEdit;
use crate::controller::snapshot::{Node, Snapshot};
use crate::workload::Reach;

/// What should become of the Node's taints, and how they stand.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaintPlan {
    /// The write that brings them there, if one is due.
    pub edit: Option<TaintEdit>,
    /// What is to be remembered.
    pub record: Vec<AppliedTaint>,
    /// Whether a Node of ours can be seen.
    pub has_node: bool,
    /// Asked for, and on.
    pub on: Vec<String>,
    /// Asked for, and on soon.
    pub coming: Vec<String>,
    /// Ours, no longer asked for, and still on.
    pub going: Vec<String>,
    /// Asked for, where somebody else's taint has the place.
    pub taken: Vec<Taken>,
}

/// Somebody else's taint in the place of one that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// What is asked for.
    pub wanted: String,
    /// What is there.
    pub found: String,
}

impl Taken {
    /// The Node does not carry what is asked for. (Else it does, and it is not ours to take off.)
    pub fn is_missing(&self) -> bool {
        self.wanted != self.found
    }

    /// For people: what is wrong, and what to do.
    pub fn words(&self) -> String {
        let Self { wanted, found } = self;
        if self.is_missing() {
            format!(
                "the Node has {found}, which 5spot did not put there, in the place of {wanted}: take it off the Node, or \
                 {wanted} off spec.nodeTaints"
            )
        } else {
            format!(
                "the Node has {found} already, and 5spot did not put it there: it stays when it leaves spec.nodeTaints"
            )
        }
    }
}

/// A Node has no two taints of one key and effect.
type Identity = (String, TaintEffect);

/// One entry of the annotation. The predecessor wrote no values.
#[derive(Deserialize)]
struct Entry {
    key: String,
    value: Option<String>,
    effect: TaintEffect,
}

/// What is known of one taint.
#[derive(Clone, Copy)]
struct Known<'a> {
    wanted: Option<&'a NodeTaint>,
    found: Option<(usize, &'a Taint)>,
    recorded: Option<&'a AppliedTaint>,
    /// The value that the annotation gives.
    said: Option<&'a str>,
    /// The status has seen this Node before: what it does not record we did not put there.
    is_known_node: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// As it should be, or nothing of ours.
    Rest,
    /// To be written down before it is done.
    Record,
    Add,
    Change,
    Remove,
    Taken,
}

/// What should be done about the taints of the lent Node.
pub(super) fn taints(snapshot: &Snapshot) -> TaintPlan {
    let before = &snapshot.status.applied_node_taints;
    let Some(node) = snapshot.own_node() else {
        return TaintPlan { record: before.clone(), ..TaintPlan::default() };
    };
    let seen = snapshot.status.node_ref.as_ref().and_then(|known| known.uid.as_ref());
    let is_known_node = seen == Some(&node.uid);
    // A Node that came anew under the same name carries nothing of ours.
    let recorded: &[AppliedTaint] = if is_known_node { before } else { &[] };
    let plan = Planner::new(&snapshot.target.taints, node, recorded, is_known_node).plan();
    if snapshot.reach == Reach::Connected && !node.deleting {
        return plan;
    }
    // What cannot be done is not written down ahead either.
    TaintPlan { edit: None, record: recorded.to_vec(), ..plan }
}

/// What is ours on a Node that the status sees for the first time, whatever is decided: the next look takes the Node for a
/// known one, on which nothing is ours but what was noted.
pub fn first_noted(snapshot: &Snapshot) -> Option<Vec<AppliedTaint>> {
    let node = snapshot.own_node()?;
    let seen = snapshot.status.node_ref.as_ref().and_then(|known| known.uid.as_ref());
    let is_new = seen != Some(&node.uid);
    is_new.then(|| taints(snapshot).record.into_iter().filter(|taint| !taint.pending).collect())
}

struct Planner<'a> {
    node: &'a Node,
    recorded: &'a [AppliedTaint],
    known: BTreeMap<Identity, Known<'a>>,
    /// What the annotation says; nothing where it is absent, `None` where it is not of our writing.
    said: Option<BTreeMap<Identity, String>>,
    is_managed: bool,
}

impl<'a> Planner<'a> {
    fn new(
        wanted: &'a [NodeTaint],
        node: &'a Node,
        recorded: &'a [AppliedTaint],
        is_known_node: bool,
    ) -> Self {
        let mut known: BTreeMap<Identity, Known<'a>> = BTreeMap::new();
        let mut of = |key: &str, effect: TaintEffect, set: &dyn Fn(&mut Known<'a>)| {
            let blank = Known { wanted: None, found: None, recorded: None, said: None, is_known_node };
            set(known.entry((key.to_owned(), effect)).or_insert(blank));
        };
        for taint in wanted {
            of(&taint.key, taint.effect, &|known| known.wanted = Some(taint));
        }
        for taint in recorded {
            of(&taint.key, taint.effect, &|known| known.recorded = Some(taint));
        }
        for (place, taint) in node.taints.iter().enumerate() {
            // An effect that is not known here is nothing of ours.
            if let Some(effect) = effect(&taint.effect) {
                of(&taint.key, effect, &|known| known.found = Some((place, taint)));
            }
        }
        let is_managed = !wanted.is_empty() || !recorded.is_empty();
        let said = node.applied_taints.as_deref().map_or_else(|| Some(BTreeMap::new()), said);
        Self { node, recorded, known, said, is_managed }
    }

    fn plan(&self) -> TaintPlan {
        let mut plan = TaintPlan { has_node: true, ..TaintPlan::default() };
        let mut change = Change::default();
        let mut records = Vec::new();
        for (identity, known) in &self.known {
            let said = self.said.as_ref().and_then(|said| said.get(identity));
            let known = Known { said: said.map(String::as_str), ..*known };
            let step = known.step();
            records.extend(known.record(step).map(|record| (known.rank(), record)));
            known.tell(step, &mut plan);
            known.carry_out(step, &mut change);
        }
        plan.record = within_bounds(records);
        let is_told = self.said.as_ref() == Some(&change.ours);
        let announces = plan.record.iter().any(|record| record.pending && !self.recorded.contains(record));
        // What is announced now is done by the next pass, and the rest with it: one edit, one write.
        if !announces && (change.is_any() || (self.is_managed && !is_told)) {
            plan.edit = Some(change.edit(self.node));
        }
        plan
    }
}

impl Known<'_> {
    fn value(&self) -> &str {
        value_of(self.wanted.and_then(|wanted| wanted.value.as_ref()))
    }

    /// What is on the Node is what we put there: by the status, or, where that was written ahead, by what one call
    /// wrote on the Node. Of a Node seen for the first time (the status was lost, or `clusterctl move` left it behind)
    /// the annotation is taken at its word for exactly what is asked for, which changes nothing on the Node.
    fn is_ours(&self, found: &Taint) -> bool {
        let value = value_of(found.value.as_ref());
        let is_told = self.said == Some(value);
        match self.recorded {
            Some(recorded) if recorded.pending => is_told,
            Some(recorded) => value_of(recorded.value.as_ref()) == value,
            None => !self.is_known_node && is_told && self.wanted.is_some() && value == self.value(),
        }
    }

    /// Written down already, as it is asked for now.
    fn is_announced(&self) -> bool {
        self.recorded.is_some_and(|recorded| value_of(recorded.value.as_ref()) == self.value())
    }

    fn step(&self) -> Step {
        match (self.wanted, self.found) {
            (None, Some((_, found))) if self.is_ours(found) => Step::Remove,
            (None, _) => Step::Rest,
            (Some(_), None) if self.is_announced() => Step::Add,
            (Some(_), Some((_, found))) if !self.is_ours(found) => Step::Taken,
            (Some(_), Some((_, found))) if value_of(found.value.as_ref()) == self.value() => Step::Rest,
            (Some(_), Some(_)) if self.is_announced() => Step::Change,
            (Some(_), _) => Step::Record,
        }
    }

    fn record(&self, step: Step) -> Option<AppliedTaint> {
        let asked_for = |pending| {
            let NodeTaint { key, value, effect } = self.wanted?.clone();
            Some(AppliedTaint { key, value, effect, pending })
        };
        match (step, self.wanted, self.found) {
            (Step::Taken, _, _) | (Step::Rest, None, Some(_)) => None,
            (Step::Rest, Some(_), _) => asked_for(false),
            // Its value is what proves it ours once the record names another: first the annotation is put right.
            (Step::Record, _, Some((_, found))) if self.said != Some(value_of(found.value.as_ref())) => {
                self.recorded.cloned()
            }
            (Step::Record | Step::Add | Step::Change, _, _) => asked_for(true),
            (Step::Remove, _, _) => self.recorded.cloned(),
            // The answer of the write that puts it on may have been lost, and the write not have been shown yet.
            (Step::Rest, None, None) => self.recorded.filter(|recorded| recorded.pending).cloned(),
        }
    }

    /// What has to be remembered goes before what can wait, and that before what is kept to be on the safe side.
    fn rank(&self) -> u8 {
        match (self.found, self.wanted) {
            (Some(_), _) => 0,
            (None, Some(_)) => 1,
            (None, None) => 2,
        }
    }

    fn tell(&self, step: Step, plan: &mut TaintPlan) {
        let wanted = self.wanted.map(|wanted| shown(&wanted.key, self.value(), wanted.effect.name()));
        let found =
            self.found.map(|(_, found)| shown(&found.key, value_of(found.value.as_ref()), &found.effect));
        match (step, wanted, found) {
            (Step::Rest, Some(wanted), _) => plan.on.push(wanted),
            (Step::Record | Step::Add | Step::Change, Some(wanted), _) => plan.coming.push(wanted),
            (Step::Remove, _, Some(found)) => plan.going.push(found),
            (Step::Taken, Some(wanted), Some(found)) => plan.taken.push(Taken { wanted, found }),
            _ => {}
        }
    }

    fn carry_out(&self, step: Step, change: &mut Change) {
        let wanted =
            || self.wanted.map(|wanted| ((wanted.key.clone(), wanted.effect), self.value().to_owned()));
        match (step, self.found) {
            (Step::Add, _) => {
                change.added.extend(self.wanted.cloned());
                change.ours.extend(wanted());
            }
            (Step::Change, Some((place, _))) => {
                change.changed.push((place, self.wanted.and_then(|wanted| wanted.value.clone())));
                change.ours.extend(wanted());
            }
            (Step::Remove, Some((place, _))) => change.removed.push(place),
            (Step::Rest | Step::Record, Some((_, found))) => {
                change.ours.extend(
                    wanted().map(|(identity, _)| (identity, value_of(found.value.as_ref()).to_owned())),
                );
            }
            _ => {}
        }
    }
}

#[derive(Default)]
struct Change {
    changed: Vec<(usize, Option<String>)>,
    removed: Vec<usize>,
    added: Vec<NodeTaint>,
    /// On the Node afterwards.
    ours: BTreeMap<Identity, String>,
}

impl Change {
    fn is_any(&self) -> bool {
        !(self.changed.is_empty() && self.removed.is_empty() && self.added.is_empty())
    }

    fn edit(self, node: &Node) -> TaintEdit {
        TaintEdit {
            node: edit(node),
            changed: self.changed,
            removed: self.removed,
            added: self.added,
            record: (!self.ours.is_empty()).then(|| annotation(&self.ours)),
            has_record: node.applied_taints.is_some(),
            has_taints: !node.taints.is_empty(),
            has_annotations: node.has_annotations,
        }
    }
}

/// No value and an empty one are the same to Kubernetes.
fn value_of(value: Option<&String>) -> &str {
    value.map(String::as_str).unwrap_or_default()
}

fn within_bounds(mut records: Vec<(u8, AppliedTaint)>) -> Vec<AppliedTaint> {
    records.sort_by_key(|(rank, _)| *rank);
    records.truncate(MOST_TAINTS);
    let mut list: Vec<AppliedTaint> = records.into_iter().map(|(_, record)| record).collect();
    list.sort_by(|a, b| (&a.key, a.effect).cmp(&(&b.key, b.effect)));
    list
}

fn effect(name: &str) -> Option<TaintEffect> {
    [TaintEffect::NoSchedule, TaintEffect::PreferNoSchedule, TaintEffect::NoExecute]
        .into_iter()
        .find(|effect| effect.name() == name)
}

/// As kubectl writes it.
fn shown(key: &str, value: &str, effect: &str) -> String {
    if value.is_empty() { format!("{key}:{effect}") } else { format!("{key}={value}:{effect}") }
}

/// `None`: not our writing.
fn said(annotation: &str) -> Option<BTreeMap<Identity, String>> {
    let entries: Vec<Entry> = serde_json::from_str(annotation).ok()?;
    Some(
        entries
            .into_iter()
            .map(|entry| ((entry.key, entry.effect), entry.value.unwrap_or_default()))
            .collect(),
    )
}

fn annotation(ours: &BTreeMap<Identity, String>) -> String {
    let entry = |((key, effect), value): (&Identity, &String)| serde_json::json!({"key": key, "value": value, "effect": effect});
    serde_json::Value::Array(ours.iter().map(entry).collect()).to_string()
}
