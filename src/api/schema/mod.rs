//! What the API server checks: bounds, and rules in CEL with a message that says what to write instead.
//!
//! Named from the types by `#[schemars(...)]`. Every text, list and map is bounded, or the server would refuse the
//! rules as too dear. A rule hangs as deep as it can: the server lets an unchanged invalid part pass on update, so
//! that objects stored under an older schema can still be edited, and lose their finalizer.

pub(super) mod hold;
pub(super) mod keys;
pub(super) mod machine;
pub(super) mod schedule;

use kube::core::{Reason, Rule};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::refs::{MOST_PART_KINDS, PartKind};
use super::status::{Blocker, MOST_BLOCKERS, MOST_RECLAIMS};

/// A DNS subdomain, as a regular expression.
const SUBDOMAIN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
/// The part of a qualified name after the slash: 1 to 63 characters.
const NAME_PART: &str = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?";
/// A qualified name has a prefix of at most 253 characters, a slash and a name of at most 63.
const QUALIFIED_NAME_LENGTH: u32 = 253 + 1 + 63;

/// A rule that holds for `self`.
fn rule(cel: impl Into<String>, message: impl Into<String>) -> Rule {
    Rule { message: Some(kube::core::Message::Message(message.into())), ..Rule::new(cel) }
        .reason(Reason::FieldValueInvalid)
}

/// A text of at most `max` characters that obeys rules. These refuse the empty text too: with `minLength` beside them
/// one slip would be reported twice.
fn ruled_text(max: u32, rules: impl IntoIterator<Item = Rule>) -> Schema {
    ruled(text(0, max), rules)
}

/// Hangs rules on a schema.
fn ruled(mut schema: Schema, rules: impl IntoIterator<Item = Rule>) -> Schema {
    add_rules(&mut schema, rules);
    schema
}

fn add_rules(schema: &mut Schema, rules: impl IntoIterator<Item = Rule>) {
    let list = schema.ensure_object().entry("x-kubernetes-validations").or_insert_with(|| json!([]));
    if let Value::Array(list) = list {
        list.extend(rules.into_iter().map(|rule| json!(rule)));
    }
}

/// A text of `min` to `max` characters.
fn text(min: u32, max: u32) -> Schema {
    match min {
        0 => json_schema!({ "type": "string", "maxLength": max }),
        _ => json_schema!({ "type": "string", "minLength": min, "maxLength": max }),
    }
}

/// A list that is replaced whole.
fn atomic_list(max: usize, items: &Schema) -> Schema {
    json_schema!({ "type": "array", "maxItems": max, "items": items, "x-kubernetes-list-type": "atomic" })
}

/// A map of texts.
fn map(max: usize, values: &Schema) -> Schema {
    json_schema!({ "type": "object", "maxProperties": max, "additionalProperties": values })
}

fn described(mut schema: Schema, description: &str) -> Schema {
    schema.insert("description".to_owned(), description.into());
    schema
}

fn nullable(mut schema: Schema) -> Schema {
    schema.insert("nullable".to_owned(), true.into());
    schema
}

/// The name of an object.
pub(super) fn object_name(_: &mut SchemaGenerator) -> Schema {
    ruled_text(
        253,
        [rule(
            format!("self.matches(r'^{SUBDOMAIN}$')"),
            "must be the name of an object: lower-case letters, digits, '-' and '.', like risk-grid-kubeconfig",
        )],
    )
}

/// A name that fits a label value as well.
pub(super) fn short_name(_: &mut SchemaGenerator) -> Schema {
    ruled_text(
        63,
        [rule(
            format!("self.matches(r'^{SUBDOMAIN}$')"),
            "must be the name of an object: lower-case letters, digits, '-' and '.', like ws-17",
        )],
    )
}

/// `group/version`.
pub(super) fn api_version(_: &mut SchemaGenerator) -> Schema {
    ruled_text(
        317,
        [rule(
            format!("self.matches(r'^{SUBDOMAIN}/[a-z0-9]([-a-z0-9]*[a-z0-9])?$')"),
            "must be group/version, like infrastructure.cluster.x-k8s.io/v1beta2",
        )],
    )
}

/// A kind.
pub(super) fn kind(_: &mut SchemaGenerator) -> Schema {
    ruled_text(
        63,
        [rule(
            "self.matches(r'^[A-Za-z]([-A-Za-z0-9]*[A-Za-z0-9])?$')",
            "must be a kind as the cluster serves it: letters and digits, like RemoteMachine",
        )],
    )
}

// Written by the controller alone: bounds without rules.

/// One word or name.
pub(super) fn word(_: &mut SchemaGenerator) -> Schema {
    text(0, 317)
}

/// One sentence.
pub(super) fn line(_: &mut SchemaGenerator) -> Schema {
    text(0, 1024)
}

/// As long as the message of a condition may be.
pub(super) fn message(_: &mut SchemaGenerator) -> Schema {
    text(0, 32_768)
}

/// How many.
pub(super) fn count(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "format": "int64", "minimum": 0 })
}

/// What a leaving waits for: the first of many is enough.
pub(super) fn blockers(generator: &mut SchemaGenerator) -> Schema {
    atomic_list(MOST_BLOCKERS, &generator.subschema_for::<Blocker>())
}

/// When reclaims were.
pub(super) fn instants(_: &mut SchemaGenerator) -> Schema {
    atomic_list(MOST_RECLAIMS, &json_schema!({ "type": "string", "format": "date-time" }))
}

pub(super) fn part_kinds(generator: &mut SchemaGenerator) -> Schema {
    atomic_list(MOST_PART_KINDS, &generator.subschema_for::<PartKind>())
}

/// Conditions, one of each type.
pub(super) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 32,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "description": "One aspect of the object's state.",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": { "type": "string", "maxLength": 316, "description": "What it is about." },
                "status": {
                    "type": "string", "enum": ["True", "False", "Unknown"],
                    "description": "Whether it holds."
                },
                "observedGeneration": {
                    "type": "integer", "format": "int64", "minimum": 0,
                    "description": "The generation it was computed from."
                },
                "lastTransitionTime": {
                    "type": "string", "format": "date-time",
                    "description": "When `status` last changed."
                },
                "reason": {
                    "type": "string", "minLength": 1, "maxLength": 1024,
                    "description": "Why, in one CamelCase word for tools."
                },
                "message": { "type": "string", "maxLength": 32768, "description": "Why, for people." }
            }
        }
    })
}
