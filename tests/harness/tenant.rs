//! A namespace and a Cluster for one test: many tests share a pair of control planes.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::plane::{ControlPlanes, Plane};
use super::provider::{self, Behaviour};
use super::wait::eventually;

/// A test's own part of the management plane. The workload plane is one for all: names of Nodes, and so of
/// Machines and whatever they are named after, must come from [`Tenant::unique`].
#[derive(Clone)]
pub struct Tenant {
    /// On the management plane, and of that name on the workload plane too.
    pub namespace: String,
    /// The Cluster.
    pub cluster: String,
    /// As `admin`.
    pub management: Client,
    /// As `admin`.
    pub workload: Client,
    /// The user in the Cluster's kubeconfig: as this one Cluster API and the controller call the workload
    /// plane; their user agents tell them apart.
    pub workload_user: String,
    planes: &'static ControlPlanes,
}

impl std::fmt::Debug for Tenant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tenant").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl ControlPlanes {
    /// A new tenant; returns when Cluster API has connected to its Cluster.
    pub async fn tenant(&'static self, name: &str) -> Tenant {
        let tenant = self.tenant_without_cluster(name).await;
        tenant.make_cluster(&tenant.cluster, &tenant.workload_kubeconfig()).await;
        tenant
    }

    /// A new tenant whose Cluster does not exist yet.
    pub async fn tenant_without_cluster(&'static self, name: &str) -> Tenant {
        let namespace = format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let tenant = Tenant {
            cluster: format!("{namespace}-cluster"),
            workload_user: format!("{namespace}-workload"),
            management: self.management().client().await,
            workload: self.workload().client().await,
            namespace,
            planes: self,
        };
        tenant.make_namespaces().await;
        tenant
    }
}

impl Tenant {
    /// A name that no other test uses.
    #[expect(clippy::unused_self, reason = "reads as what it is: unique among tenants")]
    pub fn unique(&self, prefix: &str) -> String {
        format!("{prefix}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
    }

    /// The planes it is on.
    pub fn planes(&self) -> &'static ControlPlanes {
        self.planes
    }

    /// A kubeconfig of the workload plane for [`Tenant::workload_user`].
    pub fn workload_kubeconfig(&self) -> String {
        self.planes.workload().issue_kubeconfig(&self.workload_user, &["system:masters"])
    }

    /// Objects of any kind in the namespace.
    pub fn api(&self, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.management.clone(), &self.namespace, resource)
    }

    /// Its Machines.
    pub fn machines(&self) -> Api<DynamicObject> {
        self.api(&provider::machine_in(self.planes.capi_version()))
    }

    /// Its `StubMachine`s.
    pub fn stub_machines(&self) -> Api<DynamicObject> {
        self.api(&provider::infrastructure("StubMachine"))
    }

    /// Its `StubConfig`s.
    pub fn stub_configs(&self) -> Api<DynamicObject> {
        self.api(&provider::bootstrap())
    }

    /// Its Clusters.
    pub fn clusters(&self) -> Api<DynamicObject> {
        self.api(&self.cluster_kind())
    }

    fn cluster_kind(&self) -> ApiResource {
        provider::kind("cluster.x-k8s.io", self.planes.capi_version(), "Cluster")
    }

    /// From now on its machines behave so.
    pub fn behave(&self, behaviour: Behaviour) {
        self.planes.provider().behave(&self.namespace, behaviour);
    }

    /// Creates an object from JSON.
    pub async fn create(&self, resource: &ApiResource, object: Value) -> DynamicObject {
        let mut object = object;
        object["apiVersion"] = json!(resource.api_version);
        object["kind"] = json!(resource.kind);
        let object: DynamicObject = serde_json::from_value(object).expect("an object");
        let created = self.api(resource).create(&PostParams::default(), &object).await;
        created.unwrap_or_else(|trouble| {
            panic!("cannot create {} in {}: {trouble}", resource.kind, self.namespace)
        })
    }

    /// A Secret with that kubeconfig under `value`, or with that one from now on.
    pub async fn put_kubeconfig(&self, name: &str, kubeconfig: &str) {
        let secret: Secret = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": name}, "stringData": {"value": kubeconfig},
        }))
        .expect("a secret");
        let secrets: Api<Secret> = Api::namespaced(self.management.clone(), &self.namespace);
        let params = PatchParams::apply("harness").force();
        secrets.patch(name, &params, &Patch::Apply(&secret)).await.expect("the Secret");
    }

    async fn make_namespaces(&self) {
        let namespace: Namespace =
            serde_json::from_value(json!({"metadata": {"name": self.namespace}})).expect("a namespace");
        for client in [&self.management, &self.workload] {
            let api = Api::all(client.clone());
            api.create(&PostParams::default(), &namespace).await.expect("a new namespace");
        }
    }

    /// One more Cluster in the namespace, whose kubeconfig Secret holds that text; returns when Cluster API
    /// has connected to it.
    pub async fn make_cluster(&self, cluster: &str, kubeconfig: &str) {
        // The Secret first: Cluster API tries again only after half a minute.
        let secret: Secret = serde_json::from_value(json!({
            "metadata": {
                "name": format!("{cluster}-kubeconfig"),
                "labels": {"cluster.x-k8s.io/cluster-name": cluster},
            },
            "type": "cluster.x-k8s.io/secret",
            "stringData": {"value": kubeconfig},
        }))
        .expect("a secret");
        let secrets = Api::namespaced(self.management.clone(), &self.namespace);
        secrets.create(&PostParams::default(), &secret).await.expect("the kubeconfig Secret");
        let endpoint = json!({"host": "127.0.0.1", "port": self.planes.workload().port()});
        let stub_cluster = provider::infrastructure("StubCluster");
        let control_plane = provider::control_plane();
        let is_old = self.planes.capi_version() == "v1beta1";
        let reference = |resource: &ApiResource| {
            let ApiResource { group, api_version, kind, .. } = resource;
            if is_old {
                json!({"apiVersion": api_version, "kind": kind, "name": cluster, "namespace": self.namespace})
            } else {
                json!({"apiGroup": group, "kind": kind, "name": cluster})
            }
        };
        let spec = json!({
            "controlPlaneEndpoint": endpoint,
            "infrastructureRef": reference(&stub_cluster),
            "controlPlaneRef": reference(&control_plane),
        });
        let named = |spec: Value| json!({"metadata": {"name": cluster}, "spec": spec});
        self.create(&stub_cluster, named(json!({"controlPlaneEndpoint": endpoint}))).await;
        self.create(&control_plane, named(json!({}))).await;
        self.create(&self.cluster_kind(), named(spec)).await;
        self.until_connected(cluster).await;
    }

    async fn until_connected(&self, cluster: &str) {
        let patience = Duration::from_secs(240);
        eventually(&self.clusters(), cluster, "connected", patience, |cluster| {
            let status = &cluster.data["status"];
            // In v1beta1 the conditions have another place.
            [&status["conditions"], &status["v1beta2"]["conditions"]].into_iter().any(|conditions| {
                let says = |kind: &str| {
                    let is_true = |said: &Value| said["type"] == kind && said["status"] == "True";
                    conditions.as_array().is_some_and(|all| all.iter().any(is_true))
                };
                ["RemoteConnectionProbe", "InfrastructureReady", "ControlPlaneInitialized"]
                    .into_iter()
                    .all(says)
            })
        })
        .await;
    }

    /// The management plane.
    pub fn management_plane(&self) -> &'static Plane {
        self.planes.management()
    }
}
