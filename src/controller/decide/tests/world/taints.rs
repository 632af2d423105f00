//! The Node's taints in the simulated world, and strangers who tear at them.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Taint;
use proptest::prelude::*;
use serde_json::json;

use super::model::World;
use super::shell::refused;
use crate::controller::decide::tests::given::perform;
use crate::controller::effect::TaintEdit;
use crate::controller::report::Failure;

/// What somebody else does to the Node.
#[derive(Clone, Debug)]
pub(super) enum Stranger {
    /// Puts a taint on, or another value into the one that is there.
    Puts(&'static str, &'static str),
    /// Takes one off.
    Takes(&'static str),
    /// Writes into our record: everything that is on the Node is ours.
    ClaimsAll,
    /// Writes nonsense into our record, or removes it.
    Garbles(Option<&'static str>),
}

pub(super) fn strangers() -> impl Strategy<Value = Stranger> {
    let key = || prop::sample::select(vec!["a", "b", "foreign"]);
    prop_oneof![
        (key(), prop::sample::select(vec!["", "1", "2"])).prop_map(|(key, value)| Stranger::Puts(key, value)),
        key().prop_map(Stranger::Takes),
        Just(Stranger::ClaimsAll),
        prop::sample::select(vec![None, Some("["), Some("[]")]).prop_map(Stranger::Garbles),
    ]
}

fn effect(key: &str) -> &'static str {
    if key == "b" { "NoExecute" } else { "NoSchedule" }
}

fn value_of(taint: &Taint) -> &str {
    taint.value.as_deref().unwrap_or_default()
}

fn identity(taint: &Taint) -> (String, String) {
    (taint.key.clone(), taint.effect.clone())
}

impl World {
    pub(super) fn stranger(&mut self, stranger: &Stranger) {
        let version = self.uid();
        let is_known = self.node_is_known();
        let announced = self.announced();
        let is_unseen = self.node_watch.is_stuck() || self.lags;
        let Some(node) = self.live.node.as_mut() else { return };
        match stranger {
            Stranger::Puts(key, value) => {
                let new = Taint {
                    key: (*key).to_owned(),
                    value: (!value.is_empty()).then(|| (*value).to_owned()),
                    effect: effect(key).to_owned(),
                    time_added: None,
                };
                match node.taints.iter_mut().find(|taint| taint.key == *key) {
                    // Told twice, nobody's hands have changed.
                    Some(there) if value_of(there) == *value => return,
                    Some(there) => {
                        self.our_taints.remove(&identity(there));
                        *there = new;
                    }
                    None => {
                        self.our_taints.remove(&identity(&new));
                        node.taints.insert(0, new);
                    }
                }
            }
            Stranger::Takes(key) => node.taints.retain(|taint| taint.key != *key),
            // Somebody who claims a taint for us in the moment in which we announce it, or before we first see the
            // Node, is believed: no taint that is not asked for can be lost by that.
            Stranger::ClaimsAll if !is_known => return,
            Stranger::ClaimsAll => {
                let claimed = node.taints.iter().filter(|taint| !announced.contains(&identity(taint)));
                let claimed = claimed
                    .map(|taint| json!({"key": taint.key, "value": taint.value, "effect": taint.effect}));
                node.applied_taints = Some(claimed.collect::<serde_json::Value>().to_string());
                // What is announced is left out of that claim: while we cannot see it, our word taken off.
                if is_unseen {
                    let left_out = self.our_taints.intersection(&announced).cloned();
                    self.doubtful.extend(left_out.collect::<Vec<_>>());
                }
            }
            // Whoever takes our word off while we cannot see it, and just then we write down another value, is believed too:
            // of what is on the Node nothing proves any longer that it is ours. It is told as a conflict.
            Stranger::Garbles(text) => {
                node.applied_taints = text.map(str::to_owned);
                if is_unseen {
                    self.doubtful.extend(self.our_taints.iter().cloned());
                }
            }
        }
        node.has_annotations = node.applied_taints.is_some();
        node.resource_version = version;
    }

    fn node_is_known(&self) -> bool {
        let known = self.status.pointer("/nodeRef/uid").and_then(serde_json::Value::as_str);
        self.live.node.as_ref().is_some_and(|node| known == Some(node.uid.as_str()))
    }

    fn announced(&self) -> BTreeSet<(String, String)> {
        let records = self.status["appliedNodeTaints"].as_array();
        let pending = records.into_iter().flatten().filter(|record| record["pending"] == true);
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        pending.map(|record| (text(&record["key"]), text(&record["effect"]))).collect()
    }

    pub(super) fn taint(&mut self, edit: &TaintEdit) -> Result<(), Failure> {
        if !self.is_reachable {
            return Err(refused("NotConnected"));
        }
        let version = self.uid();
        let Some(node) = self.live.node.as_mut() else { return Ok(()) };
        if (&node.uid, &node.resource_version) != (&edit.node.uid, &edit.node.resource_version) {
            return Err(refused("UpdateFailed"));
        }
        let touched = edit.changed.iter().map(|(place, _)| place).chain(&edit.removed);
        for place in touched {
            let taint = &node.taints[*place];
            assert!(self.our_taints.contains(&identity(taint)), "a stranger's taint: {taint:?} {edit:?}");
        }
        let strangers: Vec<Taint> =
            node.taints.iter().filter(|taint| !self.our_taints.contains(&identity(taint))).cloned().collect();
        perform(edit, &mut node.taints);
        for added in &edit.added {
            let identity = (added.key.clone(), added.effect.name().to_owned());
            let places =
                node.taints.iter().filter(|taint| (&taint.key, &taint.effect) == (&identity.0, &identity.1));
            assert_eq!(places.count(), 1, "the server refuses two of one key and effect");
            self.our_taints.insert(identity);
        }
        assert!(strangers.iter().all(|taint| node.taints.contains(taint)));
        node.applied_taints.clone_from(&edit.record);
        node.has_annotations = node.applied_taints.is_some();
        node.resource_version = version;
        self.wrote_node();
        Ok(())
    }

    /// What is asked for is on, where no stranger has the place; what is not is off, where it was ours.
    pub(super) fn taints_are_as_asked_for(&self) {
        let Some(node) = &self.live.node else { return };
        let wanted = &self.live.target.taints;
        for taint in wanted {
            let there = node.taints.iter().find(|there| {
                (there.key.as_str(), there.effect.as_str()) == (taint.key.as_str(), taint.effect.name())
            });
            let value = taint.value.as_deref().unwrap_or_default();
            assert!(
                there.is_some_and(|there| value_of(there) == value
                    || !self.our_taints.contains(&identity(there))
                    || self.doubtful.contains(&identity(there))),
                "{taint:?} is asked for: {node:?} {:#}",
                self.status
            );
        }
        for there in node.taints.iter().filter(|there| self.our_taints.contains(&identity(there))) {
            let is_wanted = wanted
                .iter()
                .any(|t| (t.key.as_str(), t.effect.name()) == (there.key.as_str(), there.effect.as_str()));
            let is_doubtful = self.doubtful.contains(&identity(there));
            assert!(
                is_wanted || is_doubtful,
                "{there:?} is ours, and nobody asks for it: {node:?} {:#}",
                self.status
            );
        }
    }
}
