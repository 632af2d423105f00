//! Keys of labels and annotations that templates may set, as [`crate::api::keys`] has them, and syntax of their values.

use kube::core::Rule;
use schemars::{Schema, SchemaGenerator};

use super::{NAME_PART, SUBDOMAIN, map, rule, ruled, ruled_text, text};
use crate::api::keys::{FREE, FREE_BELOW, RESERVED};
use crate::api::names;

/// Most labels, and most annotations, of one template.
const ENTRIES: usize = 64;
/// What stands before a domain in the names of those below it.
const BELOW: &str = r"([^/]*\.)?";

/// Labels of the Machine.
pub(in crate::api) fn machine_labels(_: &mut SchemaGenerator) -> Schema {
    labels(&reserved_on_machine())
}

/// Annotations of the Machine.
pub(in crate::api) fn machine_annotations(_: &mut SchemaGenerator) -> Schema {
    annotations(&reserved_on_machine())
}

/// Labels of an in-line object.
pub(in crate::api) fn inline_labels(_: &mut SchemaGenerator) -> Schema {
    labels(&reserved_below())
}

/// Annotations of an in-line object.
pub(in crate::api) fn inline_annotations(_: &mut SchemaGenerator) -> Schema {
    annotations(&reserved_below())
}

/// A key `k` of the reserved domains themselves, or below Cluster API's, but for those that are free.
fn reserved_on_machine() -> String {
    let (reserved, acting) = (pattern(&RESERVED), below(names::CAPI_GROUP));
    let free = FREE_BELOW.into_iter().filter(|free| free.ends_with(names::CAPI_GROUP)).map(below);
    let free = free.collect::<Vec<_>>().join("|");
    format!("k.matches(r'^({reserved}|{acting})/') && !k.matches(r'^({free})/')")
}

/// A key `k` of the reserved domains or below them, but for those that are free.
fn reserved_below() -> String {
    let (reserved, free, free_below) = (pattern(&RESERVED), pattern(&FREE), FREE_BELOW.map(below).join("|"));
    format!("k.matches(r'^{BELOW}({reserved})/') && !k.matches(r'^({free}|{free_below})/')")
}

/// A key `k` of our own domain.
fn ours() -> String {
    format!("k.matches(r'^{}/') && k != '{}'", below(names::GROUP), names::LABEL_SCHEDULED_BY)
}

fn below(domain: &str) -> String {
    format!("{BELOW}{}", pattern(&[domain]))
}

fn pattern(domains: &[&str]) -> String {
    domains.join("|").replace('.', r"\.")
}

/// A label's value.
pub(super) fn label_value() -> Schema {
    ruled_text(
        63,
        [rule(
            format!("self.matches(r'^({NAME_PART})?$')"),
            "must be empty or letters, digits, '-', '_' and '.', beginning and ending with a letter or digit",
        )],
    )
}

/// Whether a text is a qualified name.
pub(super) fn is_qualified(subject: &str) -> String {
    format!("{subject}.matches(r'^({SUBDOMAIN}/)?{NAME_PART}$')")
}

fn labels(reserved: &str) -> Schema {
    ruled(map(ENTRIES, &label_value()), key_rules(reserved))
}

fn annotations(reserved: &str) -> Schema {
    // As much as Kubernetes allows all annotations of an object together.
    ruled(map(ENTRIES, &text(0, 256 * 1024)), key_rules(reserved))
}

fn key_rules(reserved: &str) -> [Rule; 3] {
    [
        no_key(
            &format!("!({})", is_qualified("k")),
            "keys must be qualified names like example.com/pool: letters, digits, '-', '_' and '.', at most 63 of them after an \
             optional lower-case domain",
        ),
        no_key(&ours(), "keys under 5spot.finos.org/ belong to 5spot, use a domain of your own"),
        no_key(
            reserved,
            "keys under kubernetes.io/, k8s.io/ and cluster.x-k8s.io/ belong to Kubernetes and Cluster API, use a domain of \
             your own",
        ),
    ]
}

/// No key `k` may be such. To name the key in the message would cost the server more than it allows.
fn no_key(fault: &str, message: &str) -> Rule {
    rule(format!("self.all(k, !({fault}))"), message)
}
