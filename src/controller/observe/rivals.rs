//! Nodes that carry the provider id of our Machine, read while Cluster API has not made one of them the Machine's.

use k8s_openapi::api::core::v1::Node as CoreNode;
use kube::ResourceExt;
use kube::runtime::reflector::Store;

use crate::api::names;
use crate::capi::machine::Machine;
use crate::controller::snapshot::{Object, Rival};

/// Asked only while the Machine is not ready, so that no pass at rest goes through all Nodes of a cluster.
pub(super) fn rivals(
    nodes: Option<&Store<CoreNode>>,
    machine: Option<&Machine>,
    object: &Object,
) -> Vec<Rival> {
    let (Some(nodes), Some(machine)) = (nodes, machine) else { return Vec::new() };
    let Some(id) = machine.provider_id.as_deref().filter(|_| !machine.is_ready()) else {
        return Vec::new();
    };
    let has_id =
        |node: &CoreNode| node.spec.as_ref().is_some_and(|spec| spec.provider_id.as_deref() == Some(id));
    let mut found: Vec<Rival> =
        nodes.state_filter(has_id).iter().map(|node| rival(node, machine, object)).collect();
    // The order of a store is none, and a message that names them must not change with it.
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn rival(node: &CoreNode, machine: &Machine, object: &Object) -> Rival {
    let annotation = |key: &str| node.annotations().get(key).map(String::as_str);
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.and_then(|all| all.iter().find(|condition| condition.type_ == "Ready"));
    let created_at = node.metadata.creation_timestamp.as_ref().map(|at| at.0);
    // Cluster API writes these four on the Node of a Machine that we control.
    let was_our_machines = annotation(names::ANNOTATION_NODE_MACHINE) == Some(&object.name)
        && annotation(names::ANNOTATION_NODE_CLUSTER_NAMESPACE) == Some(&object.namespace)
        && annotation(names::ANNOTATION_NODE_OWNER_KIND) == Some("ScheduledMachine")
        && annotation(names::ANNOTATION_NODE_OWNER_NAME) == Some(&object.name);
    Rival {
        name: node.name_any(),
        uid: node.uid().unwrap_or_default(),
        resource_version: node.resource_version().unwrap_or_default(),
        is_older: created_at < machine.created_at,
        is_silent: ready.is_none_or(|ready| ready.status == "Unknown"),
        carries_our_mark: was_our_machines || annotation(names::ANNOTATION_CORDONED_BY) == Some(&object.uid),
        deleting: node.metadata.deletion_timestamp.is_some(),
    }
}
