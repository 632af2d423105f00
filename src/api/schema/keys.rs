//! Keys of labels and annotations that templates may set, and syntax of their values.
//!
//! The in-line objects' metadata is ours to define, so the whole rule stands at admission. `machineTemplate` is older:
//! keys in sub-domains of the reserved domains were accepted there and worked, so admission lets them pass and the
//! controller reports them.

use kube::core::Rule;
use schemars::{Schema, SchemaGenerator};

use super::{NAME_PART, SUBDOMAIN, map, rule, ruled, ruled_text, text};

/// Most labels, and most annotations, of one template.
const ENTRIES: usize = 64;

/// Our own domain. `scheduled-by` stands in published examples and means nothing to us.
const OURS: &str = r"k.matches(r'^([^/]*\.)?5spot\.finos\.org/') && k != '5spot.finos.org/scheduled-by'";
/// The reserved domains themselves.
const RESERVED: &str = r"k.matches(r'^(kubernetes\.io|k8s\.io|cluster\.x-k8s\.io)/')";
/// The reserved domains and everything below them, but for what is meant to reach the Node.
const RESERVED_BELOW: &str = concat!(
    r"k.matches(r'^([^/]*\.)?(kubernetes\.io|k8s\.io|cluster\.x-k8s\.io)/')",
    r" && !k.matches(r'^(node-role\.kubernetes\.io|topology\.kubernetes\.io",
    r"|([^/]*\.)?node-restriction\.kubernetes\.io|([^/]*\.)?node\.cluster\.x-k8s\.io)/')",
);

/// Labels of the Machine.
pub(in crate::api) fn machine_labels(_: &mut SchemaGenerator) -> Schema {
    labels(RESERVED)
}

/// Annotations of the Machine.
pub(in crate::api) fn machine_annotations(_: &mut SchemaGenerator) -> Schema {
    annotations(RESERVED)
}

/// Labels of an in-line object.
pub(in crate::api) fn inline_labels(_: &mut SchemaGenerator) -> Schema {
    labels(RESERVED_BELOW)
}

/// Annotations of an in-line object.
pub(in crate::api) fn inline_annotations(_: &mut SchemaGenerator) -> Schema {
    annotations(RESERVED_BELOW)
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
        no_key(OURS, "keys under 5spot.finos.org/ belong to 5spot, use a domain of your own"),
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
