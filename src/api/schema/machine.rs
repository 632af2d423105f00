//! The rest of a ScheduledMachine's spec: names, lengths of time, taints, templates.

use kube::core::Rule;
use schemars::{Schema, SchemaGenerator, json_schema};

use super::keys::{is_qualified, label_value};
use super::{QUALIFIED_NAME_LENGTH, SUBDOMAIN, atomic_list, nullable, rule, ruled, ruled_text, text};
use crate::api::scheduled_machine::ReadinessGate;
use crate::api::taint::{AppliedTaint, MOST_TAINTS, NodeTaint};

/// The name of a Cluster, fixed for the object's life.
pub(in crate::api) fn cluster_name(_: &mut SchemaGenerator) -> Schema {
    ruled_text(
        63,
        [
            rule(
                "self.matches('^[A-Za-z0-9][A-Za-z0-9._-]*$')",
                "must be the name of a Cluster: letters, digits, '-', '_' and '.', beginning with a letter or digit",
            ),
            rule(
                "self == oldSelf",
                "clusterName is immutable: a machine does not change its cluster; delete the ScheduledMachine and make another",
            ),
        ],
    )
}

const FORM: &str = "self.matches('^[0-9]+[smh]$')";
const FORM_MESSAGE: &str =
    "must be a whole number followed by s, m or h, like 90s, 5m or 12h, without blanks or a second unit";
/// Within 24 hours; what has another form is the other rule's.
const WITHIN_A_DAY: &str = "!self.matches('^[0-9]+[smh]$') || (self.matches('^0*[0-9]{1,5}[smh]$') && \
     int(self.substring(0, size(self) - 1)) * (self.endsWith('h') ? 3600 : self.endsWith('m') ? 60 : 1) <= 86400)";
const WITHIN_A_DAY_MESSAGE: &str = "must be at most 24h";

fn duration_rules() -> [Rule; 2] {
    [rule(FORM, FORM_MESSAGE), rule(WITHIN_A_DAY, WITHIN_A_DAY_MESSAGE)]
}

/// `90s`, `5m`, `12h`; at most 24 hours.
pub(in crate::api) fn duration(_: &mut SchemaGenerator) -> Schema {
    ruled_text(32, duration_rules())
}

/// The same, but not none.
pub(in crate::api) fn duration_not_zero(generator: &mut SchemaGenerator) -> Schema {
    ruled(
        duration(generator),
        [rule(
            "!self.matches('^0+[smh]$')",
            "must be at least 1s: Cluster API reads 0 as for ever; leave the field out for its default",
        )],
    )
}

/// `NextWindow`, `Never` or a duration.
pub(in crate::api) fn return_after(_: &mut SchemaGenerator) -> Schema {
    let word = "self in ['NextWindow', 'Never']";
    ruled_text(
        32,
        [
            rule(format!("{word} || {FORM}"), "must be NextWindow, Never, or a duration like 90s, 5m or 12h"),
            rule(format!("{word} || {WITHIN_A_DAY}"), WITHIN_A_DAY_MESSAGE),
        ],
    )
}

/// Taints, one of each key and effect.
pub(in crate::api) fn taints(generator: &mut SchemaGenerator) -> Schema {
    taint_list(&generator.subschema_for::<NodeTaint>())
}

/// Taints with what became of them, one of each key and effect.
pub(in crate::api) fn applied_taints(generator: &mut SchemaGenerator) -> Schema {
    taint_list(&generator.subschema_for::<AppliedTaint>())
}

fn taint_list(items: &Schema) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": MOST_TAINTS,
        "items": items,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["key", "effect"],
    })
}

/// Keys that Kubernetes and 5spot keep for themselves are refused.
pub(in crate::api) fn taint_key(_: &mut SchemaGenerator) -> Schema {
    ruled_text(
        QUALIFIED_NAME_LENGTH,
        [
            rule(
                is_qualified("self"),
                "must be a qualified name like lent or example.com/lent: letters, digits, '-', '_' and '.', at most 63 of \
                 them after an optional lower-case domain",
            ),
            rule(
                "!self.startsWith('5spot.finos.org/')",
                "taints under 5spot.finos.org/ belong to 5spot: use a domain of your own",
            ),
            rule(
                r"!self.matches(r'^(kubernetes\.io|node\.kubernetes\.io|node-role\.kubernetes\.io)/')",
                "taints under kubernetes.io/, node.kubernetes.io/ and node-role.kubernetes.io/ belong to Kubernetes: use a \
                 domain of your own",
            ),
        ],
    )
}

/// As a label's value.
pub(in crate::api) fn taint_value(_: &mut SchemaGenerator) -> Schema {
    nullable(label_value())
}

/// Names of programs; null is none.
pub(in crate::api) fn commands(_: &mut SchemaGenerator) -> Schema {
    nullable(atomic_list(100, &text(1, 256)))
}

/// A key in a Secret.
pub(in crate::api) fn secret_key(_: &mut SchemaGenerator) -> Schema {
    ruled_text(
        253,
        [rule(
            "self.matches('^[-._a-zA-Z0-9]+$')",
            "must be a key of a Secret: letters, digits, '-', '_' and '.', like value",
        )],
    )
}

/// An object of any shape.
pub(in crate::api) fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// A word of Cluster API's, at most 256 characters.
pub(in crate::api) fn short_text(_: &mut SchemaGenerator) -> Schema {
    text(1, 256)
}

/// Seconds, not negative.
pub(in crate::api) fn seconds(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "format": "int32", "minimum": 0 })
}

/// 0 to 255.
pub(in crate::api) fn priority(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "format": "int32", "minimum": 0, "maximum": 255 })
}

/// Gates, one of each condition.
pub(in crate::api) fn readiness_gates(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 32,
        "items": generator.subschema_for::<ReadinessGate>(),
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["conditionType"],
    })
}

/// The type of a condition.
pub(in crate::api) fn condition_type(_: &mut SchemaGenerator) -> Schema {
    ruled_text(
        316,
        [rule(
            format!("self.matches(r'^({SUBDOMAIN}/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$')"),
            "must be the type of a condition, like NodeHealthy or example.com/Burnt-In",
        )],
    )
}

/// Of the whole object: names end up in label values. Asked at creation only, or a longer one stored under an older
/// schema could never lose its finalizer.
pub(in crate::api) fn name_rule() -> Rule {
    rule(
        "oldSelf.hasValue() || size(self.metadata.name) <= 63",
        "metadata.name must be at most 63 characters: it becomes the value of a label",
    )
    .optional_old_self(true)
}
