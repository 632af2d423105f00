//! Taints that the Node carries while it is lent, and what is remembered of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema::machine;
use super::{names, syntax};

/// Most entries of `nodeTaints` and `appliedNodeTaints`; the server refuses a status with more.
pub const MOST_TAINTS: usize = 64;

/// A taint; `key` and `effect` are its identity.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeTaint {
    /// A qualified name.
    #[schemars(schema_with = "machine::taint_key")]
    pub key: String,
    /// May be edited while the taint is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "machine::taint_value")]
    pub value: Option<String>,
    /// What it does to pods.
    pub effect: TaintEffect,
}

/// What a taint does to pods that do not tolerate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum TaintEffect {
    /// New ones stay away.
    NoSchedule,
    /// New ones stay away where they can.
    PreferNoSchedule,
    /// Running ones leave too.
    NoExecute,
}

impl TaintEffect {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoSchedule => "NoSchedule",
            Self::PreferNoSchedule => "PreferNoSchedule",
            Self::NoExecute => "NoExecute",
        }
    }
}

/// A taint that 5spot put on the Node, or is about to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppliedTaint {
    /// A qualified name.
    #[schemars(schema_with = "machine::taint_key")]
    pub key: String,
    /// As last asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "machine::taint_value")]
    pub value: Option<String>,
    /// What it does to pods.
    pub effect: TaintEffect,
    /// Written down ahead: with this value it has not been seen on the Node yet.
    #[serde(default, skip_serializing_if = "is_false")]
    pub pending: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// Domains whose taints belong to Kubernetes and to 5spot itself, as admission has them.
const RESERVED: [&str; 4] = [names::GROUP, "kubernetes.io", "node.kubernetes.io", "node-role.kubernetes.io"];
impl NodeTaint {
    /// Why it cannot be put on a Node: one taint that the API server refuses would keep all others off.
    pub fn fault(&self) -> Option<&'static str> {
        let domain = self.key.split_once('/').map(|(domain, _)| domain);
        if domain.is_some_and(|domain| RESERVED.contains(&domain)) {
            return Some("belongs to Kubernetes or to 5spot; use a domain of your own");
        }
        if !syntax::is_qualified_name(&self.key) {
            return Some("must be a qualified name like lent or example.com/lent");
        }
        let is_value = self.value.as_deref().is_none_or(syntax::is_label_value);
        (!is_value)
            .then_some("must have a value of letters, digits, '-', '_' and '.', at most 63 of them, or none")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taint(key: &str, value: Option<&str>) -> NodeTaint {
        NodeTaint { key: key.to_owned(), value: value.map(str::to_owned), effect: TaintEffect::NoSchedule }
    }

    #[test]
    fn what_the_api_server_takes_is_no_fault() {
        for (key, value) in [
            ("lent", None),
            ("lent", Some("")),
            ("lent", Some("true")),
            ("a_b.c-D", Some("a_b.c-D")),
            ("example.com/lent", Some("1")),
            ("x.kubernetes.io/lent", None),
        ] {
            assert_eq!(taint(key, value).fault(), None, "{key}={value:?}");
        }
    }

    #[test]
    fn what_it_refuses_and_what_belongs_to_others_is_one() {
        let long = "x".repeat(64);
        for (key, value) in [
            ("", None),
            ("-lent", None),
            ("lent.", None),
            ("a/b/c", None),
            ("/lent", None),
            ("Example.com/lent", None),
            ("a..b/lent", None),
            (long.as_str(), None),
            ("lent", Some("a b")),
            ("lent", Some("-")),
            ("lent", Some(long.as_str())),
            ("5spot.finos.org/ejecting", None),
            ("node.kubernetes.io/not-ready", None),
            ("kubernetes.io/x", None),
            ("node-role.kubernetes.io/control-plane", None),
        ] {
            assert!(taint(key, value).fault().is_some(), "{key}={value:?}");
        }
    }

    #[test]
    fn a_record_of_the_predecessor_is_one_of_taints_that_are_on() {
        let text = r#"{"key": "lent", "value": "true", "effect": "NoSchedule"}"#;
        let applied: AppliedTaint = serde_json::from_str(text).unwrap();
        assert!(!applied.pending);
        assert_eq!(
            serde_json::to_value(applied).unwrap(),
            serde_json::from_str::<serde_json::Value>(text).unwrap()
        );
    }
}
