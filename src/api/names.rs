//! Every name that crosses a process border, spelled once.
//!
//! Manifests, other tools and the predecessor's users rely on these; a test holds the manifests against them.

/// API group of our kinds.
pub const GROUP: &str = "5spot.finos.org";
/// The one version served.
pub const VERSION: &str = "v1alpha1";
/// `apiVersion` of our kinds.
pub const API_VERSION: &str = "5spot.finos.org/v1alpha1";

/// Held by a ScheduledMachine for as long as anything of it may exist.
pub const FINALIZER: &str = "5spot.finos.org/scheduledmachine";

/// Label on Machine, bootstrap and infrastructure object: name of the ScheduledMachine.
pub const LABEL_SCHEDULED_MACHINE: &str = "5spot.finos.org/scheduled-machine";
/// Label on the same three: uid of the ScheduledMachine. This one says *ours*.
pub const LABEL_SCHEDULED_MACHINE_UID: &str = "5spot.finos.org/scheduled-machine-uid";
/// The predecessor's examples put this label on their Machines; of our domain it is the one that users may set.
pub const LABEL_SCHEDULED_BY: &str = "5spot.finos.org/scheduled-by";
/// Cluster API's label that ties an object to its Cluster.
pub const LABEL_CLUSTER_NAME: &str = "cluster.x-k8s.io/cluster-name";
/// Cluster API's sharding label, copied from the Cluster so that a filtered manager sees our objects.
pub const LABEL_WATCH_FILTER: &str = "cluster.x-k8s.io/watch-filter";

/// On a Node: uid of the ScheduledMachine that cordoned it. Without it a cordon is an admin's, and stays.
pub const ANNOTATION_CORDONED_BY: &str = "5spot.finos.org/cordoned-by";
/// On a Node whose owner wants it now: no pod without a toleration stays.
pub const TAINT_EJECTING: &str = "5spot.finos.org/ejecting";
/// On a Node: which taints are ours, written by the same call as they. The predecessor's name.
pub const ANNOTATION_APPLIED_TAINTS: &str = "5spot.finos.org/applied-taints";
/// Put on every bootstrap and infrastructure object: some providers write into the annotation map without asking
/// whether there is one (`k0smotron` copies the pool entry's annotations into a nil map and panics).
pub const ANNOTATION_MANAGED_BY: &str = "5spot.finos.org/managed-by";
/// On the Machine: a digest of the templates it was built from.
pub const ANNOTATION_TEMPLATE_HASH: &str = "5spot.finos.org/template-hash";
/// Cluster API: leave this object alone.
pub const ANNOTATION_CAPI_PAUSED: &str = "cluster.x-k8s.io/paused";
/// `clusterctl move` is deleting the source copy: let go, untouched.
pub const ANNOTATION_DELETE_FOR_MOVE: &str = "clusterctl.cluster.x-k8s.io/delete-for-move";
/// The finalizer of Cluster API on its Machines.
pub const FINALIZER_CAPI_MACHINE: &str = "machine.cluster.x-k8s.io";
/// Cluster API leaves the drain out. Only its presence counts.
pub const ANNOTATION_EXCLUDE_DRAIN: &str = "machine.cluster.x-k8s.io/exclude-node-draining";
/// Cluster API does not wait for volumes. Only its presence counts.
pub const ANNOTATION_EXCLUDE_VOLUMES: &str = "machine.cluster.x-k8s.io/exclude-wait-for-node-volume-detach";
/// On a pod: how Cluster API's drain is to treat it.
pub const LABEL_POD_DRAIN: &str = "cluster.x-k8s.io/drain";
/// The kubelet's, on its pictures of static pods.
pub const ANNOTATION_MIRROR_POD: &str = "kubernetes.io/config.mirror";
/// Cluster API writes these on each Node it has matched to a Machine.
pub const ANNOTATION_NODE_MACHINE: &str = "cluster.x-k8s.io/machine";
/// See [`ANNOTATION_NODE_MACHINE`].
pub const ANNOTATION_NODE_CLUSTER_NAMESPACE: &str = "cluster.x-k8s.io/cluster-namespace";

/// See [`ANNOTATION_NODE_MACHINE`]: kind of the Machine's controller.
pub const ANNOTATION_NODE_OWNER_KIND: &str = "cluster.x-k8s.io/owner-kind";
/// See [`ANNOTATION_NODE_MACHINE`]: name of the Machine's controller.
pub const ANNOTATION_NODE_OWNER_NAME: &str = "cluster.x-k8s.io/owner-name";

/// On a Node, by the controller: the agent's pod is to run there, with this value.
pub const LABEL_RECLAIM_AGENT: &str = "5spot.finos.org/reclaim-agent";
/// Value of [`LABEL_RECLAIM_AGENT`].
pub const RECLAIM_AGENT_ENABLED: &str = "enabled";
/// On a Node, by the agent: the owner wants the machine back. Only the value [`RECLAIM_REQUESTED`] asks.
pub const ANNOTATION_RECLAIM_REQUESTED: &str = "5spot.finos.org/reclaim-requested";
/// Value of [`ANNOTATION_RECLAIM_REQUESTED`].
pub const RECLAIM_REQUESTED: &str = "true";
/// Written with the request: which of the owner's programs was seen.
pub const ANNOTATION_RECLAIM_REASON: &str = "5spot.finos.org/reclaim-reason";
/// Written with the request: when it was seen, RFC 3339.
pub const ANNOTATION_RECLAIM_REQUESTED_AT: &str = "5spot.finos.org/reclaim-requested-at";
/// Where the agent, its rules and its Lease are, in a workload cluster. The predecessor's, and fixed.
pub const AGENT_NAMESPACE: &str = "5spot-system";
/// The key in an agent's ConfigMap that holds its rules.
pub const RULES_KEY: &str = "reclaim.toml";
/// On every ConfigMap with an agent's rules; the predecessor's. One without them is somebody else's.
pub const LABELS_OF_RULES: [(&str, &str); 2] =
    [("app.kubernetes.io/name", "5spot"), ("app.kubernetes.io/component", "reclaim-agent")];
/// On an agent's Lease: how it learns of programs, `netlink` or `poll`.
pub const ANNOTATION_AGENT_DETECTOR: &str = "5spot.finos.org/agent-detector";
/// On an agent's Lease: why it polls although it was to be told by the kernel; absent otherwise.
pub const ANNOTATION_AGENT_FALLBACK: &str = "5spot.finos.org/agent-fallback";
/// On an agent's Lease: [`AGENT_RULES_OK`], or what is wrong with its rules.
pub const ANNOTATION_AGENT_RULES: &str = "5spot.finos.org/agent-rules";
/// Value of [`ANNOTATION_AGENT_RULES`] while the rules of the ConfigMap are in force.
pub const AGENT_RULES_OK: &str = "ok";
/// Field manager of everything an agent writes.
pub const AGENT_FIELD_MANAGER: &str = "5spot-reclaim-agent";

/// Name of the ConfigMap with the rules of the agent on a Node, and of that agent's Lease.
pub fn agent_object(node: &str) -> String {
    format!("reclaim-agent-{node}")
}

/// On a Lease of a leader election: the name that all Leases of that election begin with.
pub const LABEL_ELECTION: &str = "5spot.finos.org/election";
/// On the same: into how many parts the objects are shared out, by whoever wrote it.
pub const LABEL_SHARDS: &str = "5spot.finos.org/shards";
/// On the same: the replica that it belongs to is there, and asks for it; its holder's name.
pub const ANNOTATION_ASKED_FOR: &str = "5spot.finos.org/asked-for-by";

/// Cluster API's core group.
pub const CAPI_GROUP: &str = "cluster.x-k8s.io";
/// The `CustomResourceDefinition` of Machines.
pub const CAPI_MACHINES: &str = "machines.cluster.x-k8s.io";
/// The `CustomResourceDefinition` of Clusters.
pub const CAPI_CLUSTERS: &str = "clusters.cluster.x-k8s.io";

/// Field manager of everything the controller writes.
pub const FIELD_MANAGER: &str = "5spot-controller";
/// Reporter of our Events.
pub const EVENT_REPORTER: &str = "5spot-controller";
/// User agent of every client of ours.
pub const AGENT: &str = concat!("5spot/", env!("CARGO_PKG_VERSION"));
