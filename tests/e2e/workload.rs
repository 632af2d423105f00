//! The way to a workload cluster: its kubeconfig, its credentials, its silence.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::{Node, Secret, ServiceAccount};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::harness::wait::asked_until;
use crate::harness::{Tunnel, eventually, manifests};
use crate::world::{
    PATIENCE, WORKLOAD_GROUP, World, condition, is_true, narrow_kubeconfig, narrow_secret, said,
};

const CONDITION: &str = "WorkloadReachable";

/// The Secret under test.
fn own() -> Value {
    json!({"kubeconfigSecretRef": {"name": "own"}})
}

impl World {
    async fn until_reach(&self, name: &str, reason: &str) -> String {
        let status = if reason == "Connected" { "True" } else { "False" };
        let sm = self
            .until(name, &format!("{CONDITION}={status}/{reason}"), |sm| {
                condition(sm, CONDITION).is_some_and(|c| c["status"] == status && c["reason"] == reason)
            })
            .await;
        said(&sm, CONDITION).1
    }

    fn narrow(&self) -> String {
        narrow_kubeconfig(&self.tenant, &self.user)
    }

    fn workload_server(&self) -> &'static str {
        self.tenant.planes().workload().server()
    }
}

/// The same, with another user.
fn with_user(kubeconfig: &str, user: &str) -> String {
    let (head, _) = kubeconfig.split_once("users:").unwrap();
    format!("{head}users: [{{name: test, user: {user}}}]\n")
}

fn is_cordoned(node: &Node) -> bool {
    node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true))
}

/// Out, as far as its cordon, and in again.
async fn works_on_its_node(world: &World, name: &str) {
    world.edit(name, json!({"gracefulShutdownTimeout": "10m", "schedule": {"enabled": false}})).await;
    eventually(&world.nodes(), name, "cordoned", PATIENCE, is_cordoned).await;
    world.edit(name, json!({"schedule": {"enabled": true}})).await;
    eventually(&world.nodes(), name, "free again", PATIENCE, |node| !is_cordoned(node)).await;
}

#[tokio::test]
async fn each_state_of_the_way_is_told_and_nothing_falls_back_to_the_default() {
    let world = World::start("reach").await;
    let (name, tenant) = (world.tenant.unique("ws"), &world.tenant);
    world.create(&name, own()).await;
    let told = world.until_reach(&name, "KubeconfigMissing").await;
    assert!(told.contains(&format!("{}/own", tenant.namespace)), "{told}");
    world.until_settled(&name, "Active").await;

    tenant.put_kubeconfig("own", "{}").await;
    world.until_reach(&name, "KubeconfigInvalid").await;
    let file = with_user(&world.narrow(), "{tokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token}");
    tenant.put_kubeconfig("own", &file).await;
    let told =
        world.until(&name, "told of the field", |sm| said(sm, CONDITION).1.contains("tokenFile")).await;
    assert_eq!(said(&told, CONDITION).0, "KubeconfigInvalid");
    assert!(world.workload_calls().is_empty(), "nobody was called so far: {}", world.workload_calls());

    let closed = world.narrow().replace(world.workload_server(), "https://127.0.0.1:1");
    tenant.put_kubeconfig("own", &closed).await;
    world.until_reach(&name, "Unreachable").await;
    let stranger = tenant.planes().workload().issue_kubeconfig("nobody-knows-me", &[]);
    tenant.put_kubeconfig("own", &stranger).await;
    let told = world.until_reach(&name, "Unauthorized").await;
    assert!(told.contains("nodes"), "a right that is missing is named: {told}");
    tenant.put_kubeconfig("own", &with_user(&world.narrow(), "{token: worth-nothing}")).await;
    world.until(&name, "told of 401", |sm| said(sm, CONDITION).1.contains("401")).await;

    tenant.put_kubeconfig("own", &world.narrow()).await;
    world.until_reach(&name, "Connected").await;
    works_on_its_node(&world, &name).await;
    world.edit(&name, json!({"kubeconfigSecretRef": {"name": "own", "key": "other"}})).await;
    let told = world.until_reach(&name, "KubeconfigMissing").await;
    assert!(told.contains("other"), "{told}");
    let secrets: Api<Secret> = Api::namespaced(tenant.management.clone(), &tenant.namespace);
    world.edit(&name, json!({"kubeconfigSecretRef": {"name": "own", "key": "value"}})).await;
    world.until_reach(&name, "Connected").await;
    secrets.delete("own", &DeleteParams::default()).await.unwrap();
    world.until_reach(&name, "KubeconfigMissing").await;
    let calls = world.workload_calls().by(&tenant.workload_user);
    assert!(calls.is_empty(), "the default was used: {calls}");
}

#[tokio::test]
async fn without_a_reference_cluster_apis_own_kubeconfig_is_used() {
    let world = World::start("default").await;
    let name = world.tenant.unique("ws");
    world.create(&name, json!({"kubeconfigSecretRef": null})).await;
    world.until_settled(&name, "Active").await;
    world.until_reach(&name, "Connected").await;
    works_on_its_node(&world, &name).await;
    let writes = world.workload_calls().by(&world.tenant.workload_user).on("nodes").writes();
    assert_eq!(writes.accepted().len(), 2, "{writes}");
}

#[tokio::test]
async fn new_credentials_and_a_new_endpoint_are_used_without_a_restart() {
    let world = World::start("rotated").await;
    let (name, tenant) = (world.tenant.unique("ws"), &world.tenant);
    let plane = tenant.planes().workload();
    let users = [format!("{}-first", world.user), format!("{}-second", world.user)];
    let kubeconfig = |user: &str| plane.issue_kubeconfig(user, &[WORKLOAD_GROUP]);
    tenant.put_kubeconfig("own", &kubeconfig(&users[0])).await;
    world.create(&name, own()).await;
    world.until_settled(&name, "Active").await;
    world.until_reach(&name, "Connected").await;
    works_on_its_node(&world, &name).await;

    let calls = |user: &str| plane.audit().after(world.workload_mark).by(user);
    tenant.put_kubeconfig("own", &kubeconfig(&users[1])).await;
    asked_until("watching as the second", PATIENCE, async || {
        !calls(&users[1]).on("nodes").verb("watch").is_empty()
    })
    .await;
    let rotated = Timestamp::now();
    works_on_its_node(&world, &name).await;
    assert!(calls(&users[0]).since(rotated).is_empty(), "{}", calls(&users[0]).since(rotated));
    assert_eq!(calls(&users[1]).on("nodes").writes().accepted().len(), 2, "{}", calls(&users[1]));

    // The same server by another way; only this one can go dark.
    let tunnel = Tunnel::start(plane.port()).await;
    let elsewhere = kubeconfig(&users[1]).replace(plane.server(), &tunnel.server());
    let moved = Timestamp::now();
    tenant.put_kubeconfig("own", &elsewhere).await;
    asked_until("listing through the tunnel", PATIENCE, async || {
        !calls(&users[1]).since(moved).on("nodes").verb("list").accepted().is_empty()
    })
    .await;
    world.until_reach(&name, "Connected").await;
    tunnel.go_dark();
    world.edit(&name, json!({"schedule": {"enabled": false}})).await;
    let told = world.until_reach(&name, "Unreachable").await;
    assert!(told.contains("did not answer"), "{told}");
    tunnel.mend();
    world.until_reach(&name, "Connected").await;
    eventually(&world.nodes(), &name, "cordoned late", PATIENCE, is_cordoned).await;
}

#[tokio::test]
async fn many_objects_share_one_connection_and_one_watch() {
    let world = World::start("shared").await;
    let user = format!("{}-alone", world.user);
    let plane = world.tenant.planes().workload();
    world.tenant.put_kubeconfig("own", &plane.issue_kubeconfig(&user, &[WORKLOAD_GROUP])).await;
    let began = Timestamp::now();
    let names: Vec<String> = (0..6).map(|_| world.tenant.unique("ws")).collect();
    for name in &names {
        world.create(name, own()).await;
    }
    for name in &names {
        world.until_settled(name, "Active").await;
        world.until_reach(name, "Connected").await;
    }
    let calls = plane.audit().after(world.workload_mark).by(&user);
    // A watch is renewed by the minute.
    let minutes = usize::try_from(Timestamp::now().duration_since(began).as_secs() / 60).unwrap();
    // One; and one more where a connection was given up on a busy machine.
    assert!((1..=2).contains(&calls.verb("list").len()), "{calls}");
    assert!((1..=minutes + 2).contains(&calls.verb("watch").len()), "{minutes} minutes: {calls}");
    let rest = calls.only(|call| call.verb != "list" && call.verb != "watch");
    assert!(rest.is_empty(), "{rest}");
    let secrets = world.calls().on("secrets").named("own");
    assert!(secrets.verb("list").len() <= 1 && secrets.verb("get").is_empty(), "{secrets}");
}

/// One after the other, as kubectl does: a token Secret before its account is removed again.
async fn apply(world: &World, access: &[Value]) {
    for object in access {
        manifests::install(&world.tenant.workload, vec![object.clone()]).await.unwrap();
    }
}

/// A binding counts a moment after it was made: until the API server's own caches show it.
async fn until_honoured(world: &World, user: &str) {
    let reviews: Api<SubjectAccessReview> = Api::all(world.tenant.workload.clone());
    let rights = [
        ("list", "", "nodes", ""),
        ("patch", "", "nodes", ""),
        ("list", "", "pods", ""),
        ("create", "", "configmaps", "5spot-system"),
        ("list", "coordination.k8s.io", "leases", "5spot-system"),
    ];
    for (verb, group, resource, namespace) in rights {
        let attributes = json!({"verb": verb, "group": group, "resource": resource, "namespace": namespace});
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {},
            "spec": {"user": user, "resourceAttributes": attributes},
        });
        let review: SubjectAccessReview = serde_json::from_value(review).unwrap();
        asked_until(&format!("allowed to {verb} {resource}"), PATIENCE, async || {
            let answer = reviews.create(&PostParams::default(), &review).await.unwrap();
            answer.status.is_some_and(|status| status.allowed)
        })
        .await;
    }
}

/// As `docs/workload-access.md` says.
async fn recipe(world: &World) -> String {
    let secrets: Api<Secret> = Api::namespaced(world.tenant.workload.clone(), "5spot-system");
    let secret = eventually(&secrets, "5spot-controller-token", "filled", PATIENCE, |secret| {
        secret.data.as_ref().is_some_and(|data| data.contains_key("token") && data.contains_key("ca.crt"))
    })
    .await;
    let token = String::from_utf8(secret.data.unwrap()["token"].0.clone()).unwrap();
    with_user(&world.narrow(), &format!("{{token: {token}}}"))
}

#[tokio::test]
async fn the_documented_access_suffices_and_can_be_revoked_and_renewed() {
    let world = World::start("recipe").await;
    let (name, tenant) = (world.tenant.unique("ws"), &world.tenant);
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/workload/access.yaml");
    let access = manifests::documents(&std::fs::read_to_string(path).unwrap()).unwrap();
    apply(&world, &access).await;
    let user = "system:serviceaccount:5spot-system:5spot-controller";
    until_honoured(&world, user).await;
    tenant.put_kubeconfig("own", &recipe(&world).await).await;
    let over = json!({"kubeconfigSecretRef": {"name": "own"},
                      "nodeTaints": [{"key": "lent", "effect": "NoSchedule"}], "killIfCommands": ["java"]});
    world.create(&name, over).await;
    world.until_settled(&name, "Active").await;
    world.until(&name, "tainted", |sm| is_true(sm, "NodeTainted")).await;
    world.until(&name, "given its rules", |sm| said(sm, "AgentReady").0 == "NotInstalled").await;
    works_on_its_node(&world, &name).await;
    let calls = tenant.planes().workload().audit().after(world.workload_mark).by(user);
    assert_eq!(calls.on("nodes").writes().accepted().len(), 4, "{calls}");
    assert_eq!(calls.on("configmaps").writes().accepted().len(), 1, "{calls}");
    assert!(calls.only(|call| call.code == 403).is_empty(), "{calls}");

    let secrets: Api<Secret> = Api::namespaced(tenant.workload.clone(), "5spot-system");
    secrets.delete("5spot-controller-token", &DeleteParams::default()).await.unwrap();
    // Its own account too: API servers remember tokens for some seconds.
    let accounts: Api<ServiceAccount> = Api::namespaced(tenant.workload.clone(), "5spot-system");
    accounts.delete("5spot-controller", &DeleteParams::default()).await.unwrap();
    // One edit after the other, each once the one before was taken note of.
    asked_until("revoked", PATIENCE, async || {
        let value = tenant.unique("v");
        let taint = json!({"key": "lent", "value": value, "effect": "NoSchedule"});
        world.edit(&name, json!({"nodeTaints": [taint]})).await;
        let is_revoked =
            |sm: &DynamicObject| condition(sm, CONDITION).is_some_and(|c| c["reason"] == "Unauthorized");
        let is_applied = |sm: &DynamicObject| {
            let first = &sm.data["status"]["appliedNodeTaints"][0];
            first["value"] == value.as_str() && first.get("pending").is_none()
        };
        let seen = world.until(&name, "tainted or revoked", |sm| is_revoked(sm) || is_applied(sm)).await;
        is_revoked(&seen)
    })
    .await;
    apply(&world, &access).await;
    tenant.put_kubeconfig("own", &recipe(&world).await).await;
    world.until_reach(&name, "Connected").await;
    works_on_its_node(&world, &name).await;
}

#[tokio::test]
async fn a_right_that_is_missing_is_told_and_holds_up_nothing_else() {
    let world = World::start("rightless").await;
    let (name, tenant) = (world.tenant.unique("ws"), &world.tenant);
    let reader = "only-reads-nodes";
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": reader},
        "rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]}],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": reader},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": reader},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": reader}],
    });
    manifests::install(&tenant.workload, vec![role, binding]).await.unwrap();
    let kubeconfig = tenant.planes().workload().issue_kubeconfig(&world.user, &[reader]);
    tenant.put_kubeconfig("own", &kubeconfig).await;
    let over = json!({"kubeconfigSecretRef": {"name": "own"},
                      "nodeTaints": [{"key": "lent", "effect": "NoSchedule"}]});
    world.create(&name, over).await;
    let told = world.until(&name, "told", |sm| said(sm, "NodeTainted").0 == "PatchFailed").await;
    assert!(said(&told, "NodeTainted").1.contains("forbidden"), "{:?}", said(&told, "NodeTainted"));
    world.until_settled(&name, "Active").await;
    world.edit(&name, json!({"schedule": {"enabled": false}})).await;
    world.until_settled(&name, "Disabled").await;
    world.until_nothing_left(&name).await;
    let tried = world.workload_calls().on("nodes").writes();
    assert!(tried.len() < 12, "patiently: {tried}");
}

#[tokio::test]
async fn a_management_cluster_can_be_its_own_workload_cluster() {
    let world = World::start("selfhosted").await;
    let (name, tenant) = (world.tenant.unique("ws"), &world.tenant);
    let plane = tenant.management_plane();
    let cluster = format!("{}-self", tenant.namespace);
    let admin = plane.issue_kubeconfig(&format!("{}-self-capi", tenant.namespace), &["system:masters"]);
    tenant.make_cluster(&cluster, &admin).await;
    let user = format!("{}-self", world.user);
    tenant.put_kubeconfig("self", &plane.issue_kubeconfig(&user, &[WORKLOAD_GROUP])).await;
    let over = json!({
        "clusterName": cluster, "kubeconfigSecretRef": {"name": "self"},
        "nodeTaints": [{"key": "lent", "effect": "NoSchedule"}],
    });
    world.create(&name, over).await;
    let stub = eventually(&tenant.stub_machines(), &name, "claimed", PATIENCE, |stub| {
        stub.data["spec"]["providerID"].is_string()
    })
    .await;
    let nodes: Api<Node> = Api::all(tenant.management.clone());
    let node = json!({"metadata": {"name": name}, "spec": {"providerID": stub.data["spec"]["providerID"]}});
    nodes.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
    // A kubelet's words: Cluster API wants to hear of all four.
    let at = "2026-01-01T00:00:00Z";
    let conditions =
        [("Ready", "True"), ("MemoryPressure", "False"), ("DiskPressure", "False"), ("PIDPressure", "False")];
    let conditions = conditions.map(|(kind, status)| {
        json!({"type": kind, "status": status, "reason": "Test", "message": "", "lastHeartbeatTime": at, "lastTransitionTime": at})
    });
    let ready = json!({"status": {"conditions": conditions}});
    nodes.patch_status(&name, &PatchParams::default(), &Patch::Merge(ready)).await.unwrap();
    world.until_settled(&name, "Active").await;
    world.until(&name, "tainted", |sm| is_true(sm, "NodeTainted")).await;
    world.edit(&name, json!({"gracefulShutdownTimeout": "20s", "schedule": {"enabled": false}})).await;
    let node = eventually(&nodes, &name, "cordoned", PATIENCE, is_cordoned).await;
    assert!(node.annotations().contains_key("5spot.finos.org/cordoned-by"));
    world.until_settled(&name, "Disabled").await;
    crate::harness::gone(&nodes, &name, PATIENCE).await;
    let writes = plane.audit().after(world.mark).by(&user).on("nodes").writes();
    assert!(writes.accepted().len() >= 2, "{writes}");
    // The stub's Node on the other plane is nobody's here.
    assert!(world.workload_calls().is_empty(), "{}", world.workload_calls());
    world.nodes().delete(&name, &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn a_cluster_that_swallows_calls_is_noticed_and_delays_no_deletion() {
    let world = World::start("swallow").await;
    let (name, tenant) = (world.tenant.unique("ws"), &world.tenant);
    let tunnel = Tunnel::start(tenant.planes().workload().port()).await;
    let through = world.narrow().replace(world.workload_server(), &tunnel.server());
    tenant.put_kubeconfig(&narrow_secret(tenant), &through).await;
    world.create(&name, json!({})).await;
    world.until_settled(&name, "Active").await;
    world.until_reach(&name, "Connected").await;
    tunnel.go_dark();
    world.edit(&name, json!({"killSwitch": true})).await;
    crate::harness::gone(&tenant.machines(), &name, PATIENCE).await;
    let deleted = world.calls().on("machines").verb("delete").iter().next().unwrap().received;
    // From when the server had it, not from when a busy test asked for it.
    let edits = tenant.management_plane().audit().after(world.mark).on("scheduledmachines").verb("patch");
    let edits = edits.named(&name).only(|call| call.user != world.user);
    assert_eq!(edits.len(), 1, "{edits}");
    let at = edits.iter().next().unwrap().received;
    let took = deleted.duration_since(at);
    eprintln!("swallowed calls: from the kill switch to the DELETE {took:#}");
    assert!(took < SignedDuration::from_secs(2), "{took:#}");
    world.until_reach(&name, "Unreachable").await;
    tunnel.mend();
    tokio::time::timeout(Duration::from_secs(120), world.until_reach(&name, "Connected"))
        .await
        .expect("it recovers by itself");
    world.until_settled(&name, "Terminated").await;
}
