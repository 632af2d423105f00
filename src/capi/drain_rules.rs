//! Cluster API's MachineDrainRules: what we read of them.
//!
//! Pure. Where one speaks, the order in which pods go is Cluster API's business; we only need to know that one does.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{DynamicObject, Selector, SelectorExt};
use serde_json::Value;

use crate::capi::machine::{Cluster, Machine};

/// What decisions need to know of a MachineDrainRule.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DrainRule {
    /// Its name.
    pub name: String,
    /// Machines it is for; empty: all.
    machines: Vec<MachineSelector>,
    /// Pods it is for; empty: all. Their namespaces may narrow it further, which is Cluster API's to find out.
    pods: Vec<Selects>,
}

#[derive(Clone, Debug, PartialEq)]
struct MachineSelector {
    machine: Selects,
    cluster: Selects,
}

/// A selector; one that cannot be read selects everything, so that the decision is left to Cluster API.
#[derive(Clone, Debug, PartialEq)]
struct Selects(Option<Selector>);

impl Selects {
    fn read(parent: &Value, field: &str) -> Self {
        let Some(value) = parent.get(field).filter(|value| !value.is_null()) else {
            return Self(Some(Selector::default()));
        };
        let read: Option<LabelSelector> = serde_json::from_value(value.clone()).ok();
        Self(read.and_then(|selector| Selector::try_from(selector).ok()))
    }

    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.as_ref().is_none_or(|selector| selector.matches(labels))
    }
}

impl DrainRule {
    /// Reads a MachineDrainRule.
    pub fn decode(object: &DynamicObject) -> Self {
        let list = |pointer: &str| {
            object.data.pointer(pointer).and_then(Value::as_array).map_or(&[][..], Vec::as_slice)
        };
        Self {
            name: object.metadata.name.clone().unwrap_or_default(),
            machines: list("/spec/machines")
                .iter()
                .map(|entry| MachineSelector {
                    machine: Selects::read(entry, "selector"),
                    cluster: Selects::read(entry, "clusterSelector"),
                })
                .collect(),
            pods: list("/spec/pods").iter().map(|entry| Selects::read(entry, "selector")).collect(),
        }
    }

    /// Whether it is for this Machine.
    pub fn is_for(&self, machine: &Machine, cluster: Option<&Cluster>) -> bool {
        let none = BTreeMap::new();
        let cluster = cluster.map_or(&none, |cluster| &cluster.labels);
        self.machines.is_empty()
            || self
                .machines
                .iter()
                .any(|wanted| wanted.machine.matches(&machine.labels) && wanted.cluster.matches(cluster))
    }

    /// Whether it may be for a pod with these labels.
    pub fn may_select(&self, pod: &BTreeMap<String, String>) -> bool {
        self.pods.is_empty() || self.pods.iter().any(|wanted| wanted.matches(pod))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rule(spec: &Value) -> DrainRule {
        DrainRule::decode(&serde_json::from_value(json!({"metadata": {"name": "r"}, "spec": spec})).unwrap())
    }

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn without_selectors_it_is_for_every_machine_and_pod() {
        let rule = rule(&json!({"drain": {"behavior": "Skip"}}));
        assert!(rule.is_for(&Machine::default(), None));
        assert!(rule.may_select(&labels(&[])));
    }

    #[test]
    fn machine_and_cluster_selectors_must_both_match() {
        let rule = rule(&json!({"machines": [{
            "selector": {"matchLabels": {"team": "grid"}},
            "clusterSelector": {"matchExpressions": [{"key": "env", "operator": "In", "values": ["prod"]}]},
        }]}));
        let machine = Machine { labels: labels(&[("team", "grid")]), ..Machine::default() };
        let cluster = Cluster { labels: labels(&[("env", "prod")]), ..Cluster::default() };
        assert!(rule.is_for(&machine, Some(&cluster)));
        assert!(!rule.is_for(&machine, Some(&Cluster::default())));
        assert!(!rule.is_for(&Machine::default(), Some(&cluster)));
    }

    #[test]
    fn pods_are_selected_by_any_of_its_entries() {
        let rule = rule(&json!({"pods": [
            {"selector": {"matchLabels": {"app": "db"}}},
            {"selector": {"matchExpressions": [{"key": "last", "operator": "Exists"}]}},
        ]}));
        assert!(rule.may_select(&labels(&[("app", "db")])));
        assert!(rule.may_select(&labels(&[("last", "")])));
        assert!(!rule.may_select(&labels(&[("app", "web")])));
    }

    #[test]
    fn a_selector_that_cannot_be_read_leaves_it_to_cluster_api() {
        let rule =
            rule(&json!({"pods": [{"selector": {"matchExpressions": [{"key": "a", "operator": "Odd"}]}}]}));
        assert!(rule.may_select(&labels(&[])));
    }
}
