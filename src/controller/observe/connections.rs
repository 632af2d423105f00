//! Which connections to workload clusters somebody has a use for.

use std::collections::HashSet;
use std::sync::Arc;

use kube::ResourceExt;
use kube::core::DynamicObject;
use kube::runtime::reflector::{ObjectRef, Store};
use serde_json::Value;

use super::{World, connection_key};
use crate::capi::core::CoreView;
use crate::capi::version::Version;
use crate::controller::target::Target;
use crate::workload::ConnectionKey;

impl World {
    /// Those of objects whose Cluster is there: without it no pass looks at its connection, and the credentials of a
    /// cluster that was deleted would be dialled for ever. All of them while nobody knows which Clusters are there.
    pub fn connections(&self) -> HashSet<ConnectionKey> {
        in_use(&self.scheduled_machines.state(), &self.core.view())
    }
}

fn in_use(objects: &[Arc<DynamicObject>], core: &CoreView) -> HashSet<ConnectionKey> {
    let has_cluster = |namespace: &str, spec: &Value| match core {
        CoreView::Served { version, clusters, .. } => {
            let name = spec.get("clusterName").and_then(Value::as_str).unwrap_or_default();
            is_there(clusters, *version, namespace, name)
        }
        CoreView::Resolving | CoreView::NotServed(_) | CoreView::Unspoken(_) => true,
    };
    let connection = |object: &Arc<DynamicObject>| {
        let (namespace, spec) = (object.namespace()?, object.data.get("spec")?);
        has_cluster(&namespace, spec).then(|| connection_key(&namespace, Target::kubeconfig_of(spec)))
    };
    objects.iter().filter_map(connection).collect()
}

fn is_there(clusters: &Store<DynamicObject>, version: Version, namespace: &str, name: &str) -> bool {
    clusters.get(&ObjectRef::new_with(name, version.cluster()).within(namespace)).is_some()
}

#[cfg(test)]
mod tests {
    use kube::runtime::reflector::store::Writer;
    use kube::runtime::watcher::Event;
    use serde_json::json;

    use super::*;

    fn object(name: &str, spec: &Value) -> DynamicObject {
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": "lab"}, "spec": spec})).unwrap()
    }

    #[test]
    fn a_cluster_that_is_gone_is_dialled_no_more() {
        let version = Version::V1Beta2;
        let (machines, mut clusters) = (Writer::new(version.machine()), Writer::new(version.cluster()));
        clusters.apply_watcher_event(&Event::Apply(object("grid", &json!({}))));
        let objects = [
            ("a", json!({"clusterName": "grid"})),
            ("b", json!({"clusterName": "grid", "kubeconfigSecretRef": {"name": "own"}})),
            ("c", json!({"clusterName": "deleted"})),
            ("d", json!({})),
        ];
        let objects: Vec<_> = objects.iter().map(|(name, spec)| Arc::new(object(name, spec))).collect();
        let used = |core: &CoreView| {
            let mut secrets: Vec<String> = in_use(&objects, core).into_iter().map(|key| key.secret).collect();
            secrets.sort();
            secrets
        };
        let known =
            CoreView::Served { version, machines: machines.as_reader(), clusters: clusters.as_reader() };
        assert_eq!(used(&known), ["grid-kubeconfig", "own"]);
        for unknown in [CoreView::Resolving, CoreView::Unspoken(String::new())] {
            assert_eq!(used(&unknown), ["-kubeconfig", "deleted-kubeconfig", "grid-kubeconfig", "own"]);
        }
    }
}
