//! From what the user asks for to objects and patches. Infallible.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::core::{ApiResource, DynamicObject, TypeMeta};
use serde_json::{Map, Value, json};

use crate::api::names;
use crate::capi::encode::{ContractRef, MachineSpec, encode_limits};
use crate::capi::kinds::Role;
use crate::capi::machine::{Cluster, DeletionLimits, Machine};
use crate::controller::effect::Effect;
use crate::controller::snapshot::{Child, Object, Snapshot};
use crate::controller::target::{Limits, Template, Templates};

/// The bootstrap or infrastructure object. Labels only: Cluster API makes the Machine its controller, and fails for
/// good where another one is already.
pub fn child(
    snapshot: &Snapshot,
    templates: &Templates,
    cluster: &Cluster,
    role: Role,
    resource: &ApiResource,
) -> DynamicObject {
    let template = template(templates, role);
    let mut labels = template.labels.clone();
    labels.extend(own_labels(snapshot, cluster));
    let mut annotations = template.annotations.clone();
    annotations.insert(names::ANNOTATION_MANAGED_BY.to_owned(), names::FIELD_MANAGER.to_owned());
    DynamicObject {
        types: Some(TypeMeta { api_version: resource.api_version.clone(), kind: resource.kind.clone() }),
        metadata: metadata(snapshot, labels, annotations),
        data: json!({ "spec": template.spec }),
    }
}

/// The Machine, with its references, bounds and owners.
pub fn machine(snapshot: &Snapshot, templates: &Templates, cluster: &Cluster) -> DynamicObject {
    let mut labels = templates.machine_labels.clone();
    labels.extend(own_labels(snapshot, cluster));
    let mut annotations = templates.machine_annotations.clone();
    annotations.insert(names::ANNOTATION_TEMPLATE_HASH.to_owned(), template_hash(templates));
    let reference = |template: &Template| ContractRef {
        api_version: template.api_version.clone(),
        kind: template.kind.clone(),
        name: snapshot.object.name.clone(),
        namespace: snapshot.object.namespace.clone(),
    };
    let spec = MachineSpec {
        cluster_name: snapshot.target.cluster_name.clone(),
        bootstrap: reference(&templates.bootstrap),
        infrastructure: reference(&templates.infrastructure),
        limits: limits(snapshot.target.limits),
        version: templates.version.clone(),
        failure_domain: templates.failure_domain.clone(),
        min_ready_seconds: templates.min_ready_seconds,
        readiness_gates: templates.readiness_gates.iter().map(|gate| json!(gate)).collect(),
    };
    let version = snapshot.capi.version();
    let resource = version.machine();
    let mut metadata = metadata(snapshot, labels, annotations);
    metadata.owner_references = Some(owners(snapshot, cluster));
    DynamicObject {
        types: Some(TypeMeta { api_version: resource.api_version, kind: resource.kind }),
        metadata,
        data: json!({ "spec": spec.encode(version) }),
    }
}

/// Puts back labels and owners that somebody stripped (the garbage collector does, with `--cascade=orphan`), and bounds
/// that were edited since. `None` when all is as it should be.
pub fn machine_repair(snapshot: &Snapshot, machine: &Machine) -> Option<Effect> {
    let cluster = snapshot.cluster.as_ref()?;
    let mut metadata = Map::new();
    // An eject that was called off before its DELETE.
    let excluded: BTreeMap<&str, Value> = withdrawn(machine).collect();
    if !excluded.is_empty() {
        metadata.insert("annotations".to_owned(), json!(excluded));
    }
    let labels: BTreeMap<String, String> = own_labels(snapshot, cluster)
        .into_iter()
        .filter(|(key, value)| machine.labels.get(key) != Some(value))
        .collect();
    if !labels.is_empty() {
        metadata.insert("labels".to_owned(), json!(labels));
    }
    let wanted = owners(snapshot, cluster);
    let missing = wanted.iter().any(|owner| !machine.owners.iter().any(|has| same_owner(has, owner)));
    if missing {
        let foreign = machine.owners.iter().filter(|has| !wanted.iter().any(|owner| has.kind == owner.kind));
        // The server takes one controller only; whoever adopted a Machine of ours meanwhile stays as a plain owner.
        let plain = foreign.map(|has| OwnerReference { controller: None, ..has.clone() });
        let all: Vec<OwnerReference> = wanted.iter().cloned().chain(plain).collect();
        metadata.insert("ownerReferences".to_owned(), json!(all));
    }
    let mut patch = Map::new();
    patch.extend(limits_patch(snapshot, machine));
    if metadata.is_empty() && patch.is_empty() {
        return None;
    }
    if missing {
        // A list is replaced whole: only as it was read.
        metadata.insert("resourceVersion".to_owned(), json!(machine.resource_version));
    }
    Some(patch_machine(machine, metadata, patch))
}

/// Puts our labels on a part that is ours without them: made by the predecessor, stripped by somebody, or brought by
/// `clusterctl move`, with the uid that the ScheduledMachine had there.
pub fn child_relabel(snapshot: &Snapshot, child: &Child) -> Option<Effect> {
    let (resource, object, cluster) =
        (child.resource.as_ref()?, child.object.as_ref()?, snapshot.cluster.as_ref()?);
    let is_wrong = object.uid_label.as_ref() != Some(&snapshot.object.uid)
        || object.name_label.as_ref() != Some(&snapshot.object.name);
    (is_wrong && !object.deleting && snapshot.owns_child(child, object)).then(|| Effect::PatchChild {
        resource: resource.clone(),
        patch: json!({ "metadata": { "uid": object.uid, "labels": own_labels(snapshot, cluster) } }),
    })
}

/// Puts back the labels by which we find the Machine; without the first it is in no watch of ours. For one that is on
/// its way out: [`machine_repair`] does the same, and more, for one that stays.
pub fn machine_relabel(snapshot: &Snapshot, machine: &Machine) -> Option<Effect> {
    let object = &snapshot.object;
    let lost: BTreeMap<&str, &String> =
        [(names::LABEL_SCHEDULED_MACHINE, &object.name), (names::LABEL_SCHEDULED_MACHINE_UID, &object.uid)]
            .into_iter()
            .filter(|(key, value)| machine.labels.get(*key) != Some(*value))
            .collect();
    let metadata = Map::from_iter([("labels".to_owned(), json!(lost))]);
    (!lost.is_empty()).then(|| patch_machine(machine, metadata, Map::new()))
}

/// What the Machine must carry before its DELETE: today's bounds, and what Cluster API is to leave out. `None` when it
/// carries all of it.
pub fn machine_farewell(
    snapshot: &Snapshot,
    machine: &Machine,
    no_drain: bool,
    no_volumes: bool,
) -> Option<Effect> {
    let excluded =
        [(no_drain, names::ANNOTATION_EXCLUDE_DRAIN), (no_volumes, names::ANNOTATION_EXCLUDE_VOLUMES)];
    let is_wanted = |key: &str| excluded.iter().any(|(wanted, name)| *wanted && *name == key);
    let missing = excluded
        .into_iter()
        .filter(|(wanted, key)| *wanted && !machine.annotations.contains_key(*key))
        .map(|(_, key)| (key, json!(names::FIELD_MANAGER)));
    // Once the Machine is going, what was left out stays left out.
    let withdrawn = withdrawn(machine).filter(|(key, _)| machine.deleted_at.is_none() && !is_wanted(key));
    let missing: BTreeMap<&str, Value> = missing.chain(withdrawn).collect();
    let mut metadata = Map::new();
    let mut patch = Map::new();
    if !missing.is_empty() {
        metadata.insert("annotations".to_owned(), json!(missing));
    }
    patch.extend(limits_patch(snapshot, machine));
    (!metadata.is_empty() || !patch.is_empty()).then(|| patch_machine(machine, metadata, patch))
}

/// `spec` of a patch that puts the bounds right.
fn limits_patch(snapshot: &Snapshot, machine: &Machine) -> Option<(String, Value)> {
    let wanted = limits(snapshot.target.limits);
    (machine.limits != wanted)
        .then(|| ("spec".to_owned(), Value::Object(encode_limits(&wanted, snapshot.capi.version()))))
}

/// Takes back what [`machine_farewell`] put on: its value says that it was us, an admin's own word stays.
fn withdrawn(machine: &Machine) -> impl Iterator<Item = (&'static str, Value)> {
    [names::ANNOTATION_EXCLUDE_DRAIN, names::ANNOTATION_EXCLUDE_VOLUMES]
        .into_iter()
        .filter(|key| machine.annotations.get(*key).is_some_and(|by| by == names::FIELD_MANAGER))
        .map(|key| (key, Value::Null))
}

fn patch_machine(
    machine: &Machine,
    mut metadata: Map<String, Value>,
    mut patch: Map<String, Value>,
) -> Effect {
    // The uid makes the server refuse the patch where the name has a new bearer.
    metadata.insert("uid".to_owned(), json!(machine.uid));
    patch.insert("metadata".to_owned(), Value::Object(metadata));
    Effect::PatchMachine { uid: machine.uid.clone(), patch: Value::Object(patch) }
}

/// Whether the Machine was built from today's templates; `None` for a Machine that does not say.
pub fn is_template_current(templates: &Templates, machine: &Machine) -> Option<bool> {
    let built = machine.annotations.get(names::ANNOTATION_TEMPLATE_HASH)?;
    Some(*built == template_hash(templates))
}

/// Bounds as Cluster API has them.
pub fn limits(limits: Limits) -> DeletionLimits {
    DeletionLimits {
        drain: Some(limits.drain),
        volume_detach: Some(limits.volume_detach),
        node_deletion: Some(limits.node_deletion),
    }
}

fn template(templates: &Templates, role: Role) -> &Template {
    match role {
        Role::Bootstrap => &templates.bootstrap,
        Role::Infrastructure => &templates.infrastructure,
    }
}

fn metadata(
    snapshot: &Snapshot,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
) -> ObjectMeta {
    ObjectMeta {
        name: Some(snapshot.object.name.clone()),
        namespace: Some(snapshot.object.namespace.clone()),
        labels: Some(labels),
        annotations: Some(annotations),
        ..ObjectMeta::default()
    }
}

fn own_labels(snapshot: &Snapshot, cluster: &Cluster) -> BTreeMap<String, String> {
    let object = &snapshot.object;
    let mut labels = BTreeMap::from([
        (names::LABEL_SCHEDULED_MACHINE.to_owned(), object.name.clone()),
        (names::LABEL_SCHEDULED_MACHINE_UID.to_owned(), object.uid.clone()),
        (names::LABEL_CLUSTER_NAME.to_owned(), snapshot.target.cluster_name.clone()),
    ]);
    if let Some(filter) = &cluster.watch_filter {
        labels.insert(names::LABEL_WATCH_FILTER.to_owned(), filter.clone());
    }
    labels
}

/// The controller owner keeps MachineSets from adopting the Machine; with it Cluster API adds no Cluster owner, without
/// which a Cluster's deletion would wait for the Machine and never delete it.
fn owners(snapshot: &Snapshot, cluster: &Cluster) -> Vec<OwnerReference> {
    let owner = OwnerReference {
        api_version: snapshot.capi.version().api_version(),
        kind: "Cluster".to_owned(),
        name: snapshot.target.cluster_name.clone(),
        uid: cluster.uid.clone(),
        controller: None,
        block_owner_deletion: None,
    };
    vec![controller(&snapshot.object), owner]
}

/// The ScheduledMachine as the controller of what is made for it.
pub fn controller(object: &Object) -> OwnerReference {
    OwnerReference {
        api_version: names::API_VERSION.to_owned(),
        kind: "ScheduledMachine".to_owned(),
        name: object.name.clone(),
        uid: object.uid.clone(),
        controller: Some(true),
        // With true, who makes it needs a right to the owner's finalizers.
        block_owner_deletion: Some(false),
    }
}

/// The version counts: after an upgrade of Cluster API the garbage collector cannot follow one that is no longer served.
fn same_owner(a: &OwnerReference, b: &OwnerReference) -> bool {
    a.uid == b.uid
        && a.api_version == b.api_version
        && a.controller.unwrap_or(false) == b.controller.unwrap_or(false)
}

/// FNV-1a over the templates with sorted keys: the same on every replica and in every release.
fn template_hash(templates: &Templates) -> String {
    let part = |template: &Template| {
        json!([template.api_version, template.kind, template.labels, template.annotations, template.spec])
    };
    let whole = json!([
        part(&templates.bootstrap),
        part(&templates.infrastructure),
        templates.machine_labels,
        templates.machine_annotations,
        templates.version,
        templates.failure_domain,
        templates.min_ready_seconds,
        templates.readiness_gates,
    ]);
    let mut hash = 0xcbf2_9ce4_8422_2325;
    digest(&whole, &mut hash);
    format!("{hash:016x}")
}

fn digest(value: &Value, hash: &mut u64) {
    match value {
        Value::Array(items) => {
            mix(b"[", hash);
            for item in items {
                digest(item, hash);
            }
            mix(b"]", hash);
        }
        Value::Object(fields) => {
            // Not every build of serde_json keeps its maps sorted.
            let sorted: BTreeMap<&String, &Value> = fields.iter().collect();
            mix(b"{", hash);
            for (key, value) in sorted {
                mix(key.as_bytes(), hash);
                mix(b":", hash);
                digest(value, hash);
            }
            mix(b"}", hash);
        }
        Value::String(text) => {
            mix(b"\"", hash);
            mix(text.as_bytes(), hash);
            mix(b"\"", hash);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {
            mix(value.to_string().as_bytes(), hash);
            mix(b",", hash);
        }
    }
}

fn mix(bytes: &[u8], hash: &mut u64) {
    for byte in bytes {
        *hash = (*hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
}
