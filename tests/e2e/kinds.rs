//! Bootstrap and infrastructure of any kind: found by discovery, judged by its definition, never lost.

use http::Method;
use kube::Api;
use kube::ResourceExt;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use crate::faults::is_call;
use crate::harness::proxy::status_body;
use crate::harness::{Tenant, eventually, gone, manifests, provider};
use crate::world::{PATIENCE, World, closed, is_true, open, said, uid};

const CRDS: &str = "customresourcedefinitions";

/// A kind like one of the stub provider's, which nobody serves.
fn like(kind: &str, new: &str, plural: &str) -> Value {
    let all = provider::crds().unwrap();
    let found = all.iter().find(|crd| crd["spec"]["names"]["kind"] == kind).unwrap();
    let singular = kind.to_lowercase();
    let text = found.to_string().replace(&format!("{singular}s"), plural);
    serde_json::from_str(&text.replace(kind, new).replace(&singular, &new.to_lowercase())).unwrap()
}

fn definition(kind: &str, plural: &str) -> (ApiResource, String) {
    let resource = ApiResource { plural: plural.to_owned(), ..provider::infrastructure(kind) };
    let name = format!("{plural}.{}", resource.group);
    (resource, name)
}

async fn patch_definition(tenant: &Tenant, name: &str, patch: Value) {
    let crds: Api<DynamicObject> = Api::all_with(
        tenant.management.clone(),
        &provider::kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition"),
    );
    crds.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

#[tokio::test]
async fn a_kind_with_an_irregular_plural_is_made_and_goes_with_its_metadata() {
    let world = World::start("plural").await;
    let (resource, _) = definition("StubProxy", "stubproxies");
    let crd = like("StubMachine", "StubProxy", "stubproxies");
    manifests::install(&world.tenant.management, vec![crd]).await.unwrap();
    let name = world.tenant.unique("ws");
    let metadata = json!({"labels": {"rack": "b4"}, "annotations": {"asset": "17"}});
    let part = json!({"kind": "StubProxy", "metadata": metadata, "spec": {"address": "10.0.0.7"}});
    world.create(&name, json!({"infrastructureSpec": part, "bootstrapSpec": {"metadata": metadata}})).await;
    world.until(&name, "made", |sm| sm.data["status"]["machineRef"].is_object()).await;
    let proxies = world.tenant.api(&resource);
    let made = proxies.get(&name).await.unwrap();
    assert_eq!(made.data["spec"]["address"], "10.0.0.7");
    for part in [made, world.tenant.stub_configs().get(&name).await.unwrap()] {
        assert_eq!((&*part.labels()["rack"], &*part.annotations()["asset"]), ("b4", "17"));
    }
    world.delete(&name).await;
    gone(&world.scheduled_machines(), &name, PATIENCE).await;
    assert!(proxies.get_opt(&name).await.unwrap().is_none());
    world.until_nothing_left(&name).await;
}

#[tokio::test]
async fn what_is_no_machine_is_refused_before_anything_is_made() {
    let world = World::start("refused").await;
    let mut scoped = like("StubMachine", "ScopedMachine", "scopedmachines");
    scoped["spec"]["scope"] = json!("Cluster");
    let mut plain = like("StubMachine", "PlainMachine", "plainmachines");
    plain["metadata"]["labels"] = json!({});
    manifests::install(&world.tenant.management, vec![scoped, plain]).await.unwrap();
    for (kind, words) in [
        ("StubCluster", "not an infrastructure machine"),
        ("ScopedMachine", "not namespaced"),
        ("PlainMachine", "no Cluster API contract"),
    ] {
        let name = world.tenant.unique("ws");
        world.create(&name, json!({"infrastructureSpec": {"kind": kind}})).await;
        let refused = world.until(&name, "refused", |sm| said(sm, "Ready").0 == "KindNotAllowed").await;
        let (_, message) = said(&refused, "Ready");
        assert!(message.contains(kind) && message.contains(words), "{message}");
        assert!(is_true(&refused, "Stalled") && said(&refused, "ReferencesValid").0 == "KindNotAllowed");
        world.delete(&name).await;
        gone(&world.scheduled_machines(), &name, PATIENCE).await;
    }
    let made = world.calls().verb("create").only(|call| call.resource != "events");
    assert!(made.is_empty(), "{made}");
}

#[tokio::test]
async fn a_part_without_metadata_of_its_own_has_a_label_and_an_annotation_all_the_same() {
    let world = World::start("bare-part").await;
    let name = world.tenant.unique("ws");
    world.create(&name, json!({})).await;
    let some = |object: &DynamicObject| !object.labels().is_empty() && !object.annotations().is_empty();
    eventually(&world.tenant.stub_machines(), &name, "made with both", PATIENCE, some).await;
    world.until_settled(&name, "Active").await;
    let mark = world.mark;
    let made = world.tenant.planes().management().audit().after(mark).by(&world.user).on("stubmachines");
    assert!(made.verb("patch").is_empty(), "from the start, not afterwards: {made}");
}

#[tokio::test]
async fn a_kind_is_judged_anew_when_its_definition_changes() {
    let world = World::start("judged").await;
    let (_, crd_name) = definition("JudgedMachine", "judgedmachines");
    let crd = like("StubMachine", "JudgedMachine", "judgedmachines");
    manifests::install(&world.tenant.management, vec![crd]).await.unwrap();
    let name = world.tenant.unique("ws");
    world.create(&name, json!({"infrastructureSpec": {"kind": "JudgedMachine"}})).await;
    let made = world.until(&name, "made", |sm| sm.data["status"]["machineRef"].is_object()).await;
    assert!(is_true(&made, "ReferencesValid"), "{}", made.data["status"]);

    let label = |value: Value| {
        json!({"metadata": {"labels": {"cluster.x-k8s.io/v1beta1": value.clone(),
                                                              "cluster.x-k8s.io/v1beta2": value}}})
    };
    patch_definition(&world.tenant, &crd_name, label(Value::Null)).await;
    let refused = world.until(&name, "refused", |sm| said(sm, "ReferencesValid").0 == "KindNotAllowed").await;
    let (_, message) = said(&refused, "ReferencesValid");
    assert!(message.contains("JudgedMachine") && message.contains("contract"), "{message}");
    patch_definition(&world.tenant, &crd_name, label(json!("v1"))).await;
    let again = world.until(&name, "fit again", |sm| is_true(sm, "ReferencesValid")).await;
    assert_eq!(again.data["status"]["machineRef"], made.data["status"]["machineRef"], "nothing was replaced");
    assert!(world.calls().verb("delete").is_empty(), "{}", world.calls().verb("delete"));
    // Noticed by watches alone.
    assert!(world.calls().on(CRDS).verb("get").is_empty(), "{}", world.calls().on(CRDS));

    world.delete(&name).await;
    gone(&world.scheduled_machines(), &name, PATIENCE).await;
    world.until_nothing_left(&name).await;
}

#[tokio::test]
async fn a_part_made_just_before_a_crash_is_found_after_an_edit_of_its_kind() {
    let (mut world, proxy) = World::start_through("forgotten").await;
    let spare = like("StubConfig", "SpareConfig", "spareconfigs");
    manifests::install(&world.tenant.management, vec![spare]).await.unwrap();
    let name = world.tenant.unique("ws");
    world.create(&name, json!({"schedule": closed()})).await;
    world.until_settled(&name, "Inactive").await;
    // Both parts, and then the end: no Machine, and no record of the parts.
    let status = format!("/scheduledmachines/{name}/status");
    for (method, end) in [(Method::POST, "/machines".to_owned()), (Method::PATCH, status)] {
        let body = status_body(500, "InternalError", "not today");
        proxy.answer(1000, 500, body, move |entry| is_call(entry, &method, &end));
    }
    world.edit(&name, json!({"schedule": open()})).await;
    eventually(&world.tenant.stub_configs(), &name, "made", PATIENCE, |_| true).await;
    let stub = eventually(&world.tenant.stub_machines(), &name, "made", PATIENCE, |_| true).await;
    world.controller.kill();
    let status = world.scheduled_machines().get(&name).await.unwrap().data["status"].clone();
    assert!(status["bootstrapRef"].is_null(), "{status}");

    world.edit(&name, json!({"bootstrapSpec": {"kind": "SpareConfig"}})).await;
    world.controller = World::prepare_for(&world.tenant, &world.user).start();
    world.until(&name, "made", |sm| sm.data["status"]["machineRef"].is_object()).await;
    gone(&world.tenant.stub_configs(), &name, PATIENCE).await;
    let machine = world.tenant.machines().get(&name).await.unwrap();
    assert_eq!(machine.data["spec"]["bootstrap"]["configRef"]["kind"], "SpareConfig");
    assert_eq!(world.machines_created(&name), 1);
    let deleted = world.calls().verb("delete").on("stubconfigs").accepted();
    assert_eq!(deleted.len(), 1, "{deleted}");
    // A part that no Machine ever had is taken over by the new one as it stands.
    assert_eq!(uid(&world.tenant.stub_machines().get(&name).await.unwrap()), uid(&stub));

    world.delete(&name).await;
    gone(&world.scheduled_machines(), &name, PATIENCE).await;
    let spares: Api<DynamicObject> =
        world.tenant.api(&provider::kind("bootstrap.cluster.x-k8s.io", "v1", "SpareConfig"));
    assert!(spares.get_opt(&name).await.unwrap().is_none());
}

#[tokio::test]
async fn edits_of_both_kinds_while_it_is_lent_orphan_nothing() {
    let world = World::start("re-kinded").await;
    let crds = vec![
        like("StubConfig", "EditedConfig", "editedconfigs"),
        like("StubMachine", "EditedMachine", "editedmachines"),
    ];
    manifests::install(&world.tenant.management, crds).await.unwrap();
    let name = world.tenant.unique("ws");
    world.create(&name, json!({})).await;
    let lent = world.until_settled(&name, "Active").await;
    world
        .edit(&name, json!({"bootstrapSpec": {"kind": "EditedConfig"}, "infrastructureSpec": {"kind": "EditedMachine"}}))
        .await;
    let pending =
        world.until(&name, "told", |sm| said(sm, "TemplateCurrent").0 == "PendingNextMachine").await;
    assert_eq!(pending.data["status"]["machineRef"], lent.data["status"]["machineRef"]);
    assert_eq!(
        pending.data["status"]["bootstrapRef"]["kind"], "StubConfig",
        "what there is, not what will be"
    );
    world.edit(&name, json!({"schedule": {"enabled": false}})).await;
    world.until_settled(&name, "Disabled").await;
    world.until_nothing_left(&name).await;
    world.edit(&name, json!({"schedule": {"enabled": true}})).await;
    let next = world.until(&name, "made of today's", |sm| is_true(sm, "TemplateCurrent")).await;
    let machine = world.tenant.machines().get(&name).await.unwrap();
    assert_eq!(machine.data["spec"]["infrastructureRef"]["kind"], "EditedMachine");
    assert_eq!(next.data["status"]["infrastructureRef"]["kind"], "EditedMachine");
    assert!(world.tenant.stub_machines().get_opt(&name).await.unwrap().is_none());
}

#[tokio::test]
async fn an_edit_of_the_api_version_alone_orphans_nothing() {
    let world = World::start("re-versioned").await;
    let (resource, _) = definition("VersionedMachine", "versionedmachines");
    let mut crd = like("StubMachine", "VersionedMachine", "versionedmachines");
    let mut second = crd["spec"]["versions"][0].clone();
    (second["name"], second["storage"]) = (json!("v2"), json!(false));
    crd["spec"]["versions"].as_array_mut().unwrap().push(second);
    for contract in ["cluster.x-k8s.io/v1beta1", "cluster.x-k8s.io/v1beta2"] {
        crd["metadata"]["labels"][contract] = json!("v1_v2");
    }
    manifests::install(&world.tenant.management, vec![crd]).await.unwrap();
    let part = |version: &str| {
        let api_version = format!("infrastructure.cluster.x-k8s.io/{version}");
        json!({"infrastructureSpec": {"apiVersion": api_version, "kind": "VersionedMachine"}})
    };
    let name = world.tenant.unique("ws");
    world.create(&name, part("v1")).await;
    let made = world.until(&name, "made", |sm| sm.data["status"]["machineRef"].is_object()).await;
    let versioned = world.tenant.api(&resource);
    let first = uid(&versioned.get(&name).await.unwrap());
    world.edit(&name, part("v2")).await;
    let seen = world
        .until(&name, "seen", |sm| sm.data["status"]["observedGeneration"] == sm.metadata.generation.unwrap())
        .await;
    assert!(is_true(&seen, "ReferencesValid"), "{}", seen.data["status"]);
    assert_eq!(seen.data["status"]["machineRef"], made.data["status"]["machineRef"], "nothing was replaced");
    assert_eq!(uid(&versioned.get(&name).await.unwrap()), first);
    world.edit(&name, json!({"schedule": {"enabled": false}})).await;
    world.until_settled(&name, "Disabled").await;
    assert!(versioned.get_opt(&name).await.unwrap().is_none());
    world.edit(&name, json!({"schedule": {"enabled": true}})).await;
    world.until(&name, "made anew", |sm| is_true(sm, "TemplateCurrent")).await;
    assert_ne!(uid(&versioned.get(&name).await.unwrap()), first);
    world.delete(&name).await;
    gone(&world.scheduled_machines(), &name, PATIENCE).await;
    assert!(versioned.get_opt(&name).await.unwrap().is_none());
}

/// As docs/cluster-api.md has it for a provider of one's own: the flag, and the rights by a role of its own.
#[tokio::test]
async fn a_group_that_was_allowed_besides_the_known_ones_serves_like_them() {
    let (tenant, user, setup) = World::prepare("extra-group").await;
    let group = "infrastructure.example.com";
    let mut crd = like("StubMachine", "ExtraMachine", "extramachines");
    crd["metadata"]["name"] = json!(format!("extramachines.{group}"));
    crd["spec"]["group"] = json!(group);
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": format!("{user}-extra")},
        "rules": [{"apiGroups": [group], "resources": ["extramachines"],
                   "verbs": ["get", "list", "watch", "create", "patch", "delete"]}],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": format!("{user}-extra")},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": format!("{user}-extra")},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    });
    manifests::install(&tenant.management, vec![crd, role, binding]).await.unwrap();
    let part = json!({"infrastructureSpec": {"apiVersion": format!("{group}/v1"), "kind": "ExtraMachine"}});
    let name = tenant.unique("ws");
    let mut world = World::with(tenant, user, setup.start());
    world.create(&name, part).await;
    let refused = world.until(&name, "refused", |sm| said(sm, "Ready").0 == "KindNotAllowed").await;
    assert!(said(&refused, "Ready").1.contains("allowed-api-groups"), "{}", said(&refused, "Ready").1);

    world.controller.kill();
    let setup = World::prepare_for(&world.tenant, &world.user);
    world.controller = setup.arg("--allowed-api-groups").arg(group).start();
    let extra = world.tenant.api(&provider::kind(group, "v1", "ExtraMachine"));
    eventually(&extra, &name, "made", PATIENCE, |_| true).await;
    world.until(&name, "made", |sm| sm.data["status"]["machineRef"].is_object()).await;
    world.delete(&name).await;
    gone(&world.scheduled_machines(), &name, PATIENCE).await;
    assert!(extra.get_opt(&name).await.unwrap().is_none());
    world.until_nothing_left(&name).await;
}
