//! Which keys of labels and annotations the user may not set: the words, and the rule as the controller applies it.
//! What admission checks is made of the same words, in `schema::keys`.
//!
//! The in-line objects' metadata is ours to define, so the whole rule stands. `machineTemplate` is older: keys in
//! sub-domains of Kubernetes' domains were accepted there and worked, and go on working. Those below Cluster API's domain
//! make it act, and are refused.

use super::names;

/// Domains whose keys Kubernetes and Cluster API write.
pub(super) const RESERVED: [&str; 3] = ["kubernetes.io", "k8s.io", names::CAPI_GROUP];
/// Domains below those that describe the Node, and are the user's to set.
pub(super) const FREE: [&str; 2] = ["node-role.kubernetes.io", "topology.kubernetes.io"];
/// Likewise, with every domain below them: Cluster API carries both families to the Node.
pub(super) const FREE_BELOW: [&str; 2] = ["node-restriction.kubernetes.io", "node.cluster.x-k8s.io"];

/// Whether a key may not stand in the metadata of an in-line object.
pub fn is_reserved_in_line(key: &str) -> bool {
    let Some(domain) = domain(key) else { return false };
    is_ours(key, domain)
        || RESERVED.into_iter().any(|reserved| is_within(domain, reserved)) && !is_free(domain)
}

/// Whether a key may not stand in `machineTemplate`.
pub fn is_reserved_on_machine(key: &str) -> bool {
    let Some(domain) = domain(key) else { return false };
    is_ours(key, domain)
        || RESERVED.contains(&domain)
        || is_within(domain, names::CAPI_GROUP) && !is_free(domain)
}

fn domain(key: &str) -> Option<&str> {
    key.split_once('/').map(|(domain, _)| domain)
}

/// `scheduled-by` stands in published examples and means nothing to us.
fn is_ours(key: &str, domain: &str) -> bool {
    is_within(domain, names::GROUP) && key != names::LABEL_SCHEDULED_BY
}

fn is_free(domain: &str) -> bool {
    FREE.contains(&domain) || FREE_BELOW.into_iter().any(|free| is_within(domain, free))
}

fn is_within(domain: &str, parent: &str) -> bool {
    domain == parent || domain.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserved_domains_and_what_makes_cluster_api_act_are_reserved_everywhere() {
        for key in [
            "kubernetes.io/x",
            "k8s.io/x",
            "cluster.x-k8s.io/set-name",
            "machine.cluster.x-k8s.io/exclude-node-draining",
            "pre-drain.delete.hook.machine.cluster.x-k8s.io/x",
            "topology.cluster.x-k8s.io/owned",
            "xnode.cluster.x-k8s.io/x",
            "5spot.finos.org/scheduled-machine",
            "x.5spot.finos.org/y",
        ] {
            assert!(is_reserved_in_line(key) && is_reserved_on_machine(key), "{key}");
        }
    }

    #[test]
    fn other_sub_domains_are_reserved_in_line_and_free_on_the_machine() {
        for key in [
            "app.kubernetes.io/name",
            "node.kubernetes.io/x",
            "apps.k8s.io/x",
            "x.node-role.kubernetes.io/y",
            "x.topology.kubernetes.io/y",
        ] {
            assert!(is_reserved_in_line(key) && !is_reserved_on_machine(key), "{key}");
        }
    }

    #[test]
    fn what_describes_the_node_and_what_is_the_users_own_is_free_everywhere() {
        for key in [
            "team",
            "example.com/x",
            "notkubernetes.io/x",
            "kubernetes.io.example/x",
            "x-k8s.io/a",
            "node-role.kubernetes.io/lent",
            "topology.kubernetes.io/zone",
            "node-restriction.kubernetes.io/a",
            "team.node-restriction.kubernetes.io/a",
            "node.cluster.x-k8s.io/a",
            "lent.node.cluster.x-k8s.io/by",
            "5spot.finos.org/scheduled-by",
        ] {
            assert!(!is_reserved_in_line(key) && !is_reserved_on_machine(key), "{key}");
        }
    }
}
