//! What `clusterctl move` does, write for write: Cluster API 1.14, `cmd/clusterctl/client/cluster/mover.go` and
//! `objectgraph.go`. The target is another namespace, as with its namespace mutator.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::harness::{Tenant, provider};

const DELETE_FOR_MOVE: &str = "clusterctl.cluster.x-k8s.io/delete-for-move";
/// On a CRD: all objects of the kind move; on an object: this one does.
const MOVE: &str = "clusterctl.cluster.x-k8s.io/move";
/// `allSecretPurposes` of `util/secret`: a Secret is a Cluster's by its name only with one of these.
const PURPOSES: [&str; 6] = ["kubeconfig", "ca", "etcd", "sa", "proxy", "apiserver-etcd-client"];

/// One object.
#[derive(Clone, Debug)]
pub struct Moving {
    resource: ApiResource,
    object: DynamicObject,
    /// Uids of those that own it, by reference or (a Cluster's Secrets) by name.
    owners: BTreeSet<String>,
    is_forced: bool,
}

impl Moving {
    /// Kind and name.
    pub fn named(&self) -> (String, String) {
        (self.resource.kind.clone(), self.object.name_any())
    }

    fn uid(&self) -> String {
        self.object.uid().unwrap()
    }
}

/// All objects of a namespace that `clusterctl` sees.
pub struct Graph {
    source: Tenant,
    nodes: Vec<Moving>,
    new_uids: BTreeMap<String, String>,
}

/// Kinds whose CRDs `clusterctl init` labels: those of Cluster API and its providers.
fn providers_kinds() -> Vec<ApiResource> {
    vec![
        provider::kind("cluster.x-k8s.io", "v1beta2", "Cluster"),
        provider::machine(),
        provider::infrastructure("StubMachine"),
        provider::infrastructure("StubCluster"),
        provider::bootstrap(),
        provider::control_plane(),
    ]
}

impl Graph {
    /// Discovery: kinds by the labels of their CRDs, and all Secrets.
    pub async fn discover(tenant: &Tenant) -> Self {
        let crds: Api<CustomResourceDefinition> = Api::all(tenant.management.clone());
        let seen = ListParams::default().labels("clusterctl.cluster.x-k8s.io");
        let mut kinds: Vec<(ApiResource, bool)> =
            providers_kinds().into_iter().map(|kind| (kind, false)).collect();
        for crd in crds.list(&seen).await.unwrap() {
            let version = crd.spec.versions.iter().find(|version| version.storage).unwrap();
            let kind = provider::kind(&crd.spec.group, &version.name, &crd.spec.names.kind);
            let is_forced = crd.labels().contains_key(MOVE);
            kinds.retain(|(known, _)| known.kind != kind.kind);
            kinds.push((kind, is_forced));
        }
        kinds.push((provider::kind("", "v1", "Secret"), false));
        let mut nodes = Vec::new();
        for (resource, is_forced) in kinds {
            for object in tenant.api(&resource).list(&ListParams::default()).await.unwrap() {
                let owners = object.owner_references().iter().map(|owner| owner.uid.clone()).collect();
                let is_forced = is_forced || object.labels().contains_key(MOVE);
                nodes.push(Moving { resource: resource.clone(), object, owners, is_forced });
            }
        }
        let mut graph = Self { source: tenant.clone(), nodes, new_uids: BTreeMap::new() };
        graph.own_softly();
        graph
    }

    /// A Secret without an owner belongs to the Cluster that it is named after, if it is one of Cluster API's own.
    fn own_softly(&mut self) {
        let clusters: Vec<(String, String)> =
            self.clusters().iter().map(|node| (node.object.name_any(), node.uid())).collect();
        for node in
            self.nodes.iter_mut().filter(|node| node.resource.kind == "Secret" && node.owners.is_empty())
        {
            let name = node.object.name_any();
            let is_of = |cluster: &str| PURPOSES.iter().any(|purpose| name == format!("{cluster}-{purpose}"));
            let owner = clusters.iter().find(|(cluster, _)| is_of(cluster));
            node.owners.extend(owner.map(|(_, uid)| uid.clone()));
        }
    }

    fn clusters(&self) -> Vec<&Moving> {
        self.nodes.iter().filter(|node| node.resource.kind == "Cluster").collect()
    }

    /// What moves, owners before what they own. What has an owner that does not move stays behind, without a word.
    pub fn sequence(&self) -> Vec<Vec<&Moving>> {
        let mut reached: BTreeSet<String> = self.clusters().iter().map(|node| node.uid()).collect();
        loop {
            let more: Vec<String> = self
                .nodes
                .iter()
                .filter(|node| !reached.contains(&node.uid()) && !node.owners.is_disjoint(&reached))
                .map(Moving::uid)
                .collect();
            if more.is_empty() {
                break;
            }
            reached.extend(more);
        }
        let moves: Vec<&Moving> =
            self.nodes.iter().filter(|node| node.is_forced || reached.contains(&node.uid())).collect();
        let mut placed = BTreeSet::new();
        let mut groups = Vec::new();
        loop {
            // A map's order is any order: the worst for us is ours before its Cluster.
            let mut group: Vec<&Moving> = moves
                .iter()
                .filter(|node| !placed.contains(&node.uid()) && node.owners.is_subset(&placed))
                .copied()
                .collect();
            group.sort_by_key(|node| node.resource.kind == "Cluster");
            if group.is_empty() {
                return groups;
            }
            placed.extend(group.iter().map(|node| node.uid()));
            groups.push(group);
        }
    }

    /// `spec.paused: true` on every Cluster.
    pub async fn pause_source(&self) {
        self.pause(&self.source, &json!(true)).await;
    }

    /// And `null` on every Cluster of the target, at the end.
    pub async fn resume_target(&self, target: &Tenant) {
        self.pause(target, &Value::Null).await;
    }

    async fn pause(&self, tenant: &Tenant, paused: &Value) {
        for cluster in self.clusters() {
            let patch = Patch::Merge(json!({"spec": {"paused": paused}}));
            tenant
                .clusters()
                .patch(&cluster.object.name_any(), &PatchParams::default(), &patch)
                .await
                .unwrap();
        }
    }

    /// Each object as it is now, without its status and with the new uids of its owners.
    pub async fn create_on(&mut self, target: &Tenant) {
        let groups: Vec<Vec<Moving>> =
            self.sequence().into_iter().map(|group| group.into_iter().cloned().collect()).collect();
        for node in groups.into_iter().flatten() {
            let name = node.object.name_any();
            let mut object = self.source.api(&node.resource).get(&name).await.unwrap();
            let owners = object.metadata.owner_references.take().unwrap_or_default();
            object.metadata.owner_references = Some(
                owners
                    .into_iter()
                    .map(|mut owner| {
                        owner.uid = self.new_uids[&owner.uid].clone();
                        owner
                    })
                    .collect(),
            );
            let meta = &mut object.metadata;
            (meta.resource_version, meta.generate_name, meta.managed_fields) = (None, None, None);
            meta.namespace = Some(target.namespace.clone());
            let made = create_or_update(&target.api(&node.resource), object).await;
            self.new_uids.insert(node.uid(), made.uid().unwrap());
        }
    }

    /// The uid of the copy.
    pub fn new_uid(&self, kind: &str, name: &str) -> Option<String> {
        let node = self.nodes.iter().find(|node| node.named() == (kind.to_owned(), name.to_owned()))?;
        self.new_uids.get(&node.uid()).cloned()
    }

    /// From the last group to the first: annotated, deleted, and all finalizers taken off.
    pub async fn delete_from_source(&self) {
        for group in self.sequence().into_iter().rev() {
            // Again the worst for us: the Cluster before what it pauses.
            for node in group.into_iter().rev() {
                self.delete(node).await;
            }
        }
    }

    async fn delete(&self, node: &Moving) {
        let (api, name) = (self.source.api(&node.resource), node.object.name_any());
        // The garbage collector may have been faster.
        let Some(live) = api.get_opt(&name).await.unwrap() else { return };
        // `clusterctl` replaces the whole map of annotations: whatever else was said there is gone with it.
        let mut annotations: BTreeMap<String, Value> =
            live.annotations().keys().map(|key| (key.clone(), Value::Null)).collect();
        annotations.insert(DELETE_FOR_MOVE.to_owned(), json!(""));
        let marked = json!({"metadata": {"annotations": annotations}});
        gone_is_fine(api.patch(&name, &PatchParams::default(), &Patch::Merge(&marked)).await);
        gone_is_fine(api.delete(&name, &DeleteParams::default()).await);
        if !live.finalizers().is_empty() {
            let bare = json!({"metadata": {"finalizers": []}});
            gone_is_fine(api.patch(&name, &PatchParams::default(), &Patch::Merge(&bare)).await);
        }
    }
}

/// What is there already is written over: the stub provider makes a machine's bootstrap Secret, pause or not.
async fn create_or_update(api: &Api<DynamicObject>, mut object: DynamicObject) -> DynamicObject {
    let name = object.name_any();
    match api.create(&PostParams::default(), &object).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let there = api.get(&name).await.unwrap();
            (object.metadata.uid, object.metadata.resource_version) = (there.uid(), there.resource_version());
            api.replace(&name, &PostParams::default(), &object).await.unwrap()
        }
        made => made.unwrap_or_else(|trouble| panic!("{name}: {trouble}")),
    }
}

/// `clusterctl` tries again and then finds that there is nothing left to do.
fn gone_is_fine<T>(answer: kube::Result<T>) {
    match answer {
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        other => drop(other.unwrap()),
    }
}
