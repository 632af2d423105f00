//! A stolen token of an agent can ask for its own machine, and nothing more.

use std::fmt::Debug;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Secret};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};

use super::desk::{Desk, NAMESPACE, REASON, REQUESTED, REQUESTED_AT, USER};
use crate::harness::wait::asked_until;

pub const ONLY_OWN: &str = "may write annotations of its own Node and its own Lease, nothing else";
pub const ONLY_REQUEST: &str = "may change nothing of its Node but the annotations of a request";
const ONLY_THREE: &str = "may change no annotation of its Node but those of a request";
const ONLY_ASK: &str = "may not take one back";
const ONLY_ITS_NODES: &str = "belongs to its Node and to nobody else";
const ONLY_FARES: &str = "says how the agent fares";

fn request() -> Value {
    json!({REQUESTED: "true", REASON: "test", REQUESTED_AT: "2026-01-01T00:00:00Z"})
}

fn with(over: Value) -> Value {
    let mut patch = json!({"metadata": {"annotations": request()}});
    put(&mut patch, over);
    patch
}

/// Over a merge patch, in which a null says something.
fn put(into: &mut Value, over: Value) {
    match (into, over) {
        (Value::Object(into), Value::Object(over)) => {
            over.into_iter().for_each(|(key, value)| put(into.entry(key).or_insert(Value::Null), value));
        }
        (into, over) => *into = over,
    }
}

/// The server's words, of a refusal.
#[track_caller]
fn refusal<T: Debug>(outcome: kube::Result<T>) -> String {
    match outcome {
        Err(kube::Error::Api(status)) if status.code == 403 || status.code == 422 => status.message,
        other => panic!("not refused: {other:?}"),
    }
}

async fn patches(client: &Client, node: &str, patch: &Value) -> kube::Result<Node> {
    Api::<Node>::all(client.clone()).patch(node, &PatchParams::default(), &Patch::Merge(patch)).await
}

fn lease(name: &str) -> Lease {
    serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"holderIdentity": "x"}})).unwrap()
}

#[tokio::test]
async fn a_token_asks_for_its_own_machine_and_changes_nothing_else() {
    let (desk, other) = (Desk::new().await, Desk::new().await);
    let client = desk.client(&desk.token).await;
    // Before there is anything to take back.
    for (patch, says) in [
        (with(json!({"metadata": {"labels": {"lent": "no"}}})), ONLY_REQUEST),
        (with(json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}})), ONLY_REQUEST),
        (with(json!({"metadata": {"labels": null}})), ONLY_REQUEST),
        (with(json!({"metadata": {"finalizers": ["a.example/b"]}})), ONLY_REQUEST),
        (
            with(json!({"metadata": {"ownerReferences":
                [{"apiVersion": "v1", "kind": "Node", "name": other.node, "uid": "u"}]}})),
            ONLY_REQUEST,
        ),
        (with(json!({"spec": {"unschedulable": true}})), ONLY_REQUEST),
        (with(json!({"spec": {"taints": [{"key": "a", "effect": "NoExecute"}]}})), ONLY_REQUEST),
        (with(json!({"metadata": {"annotations": {"more": "1"}}})), ONLY_THREE),
        (with(json!({"metadata": {"annotations": {"of": "me"}}})), ONLY_THREE),
        (with(json!({"metadata": {"annotations": {"of": null}}})), ONLY_THREE),
        (with(json!({"metadata": {"annotations": {"cluster.x-k8s.io/machine": "m"}}})), ONLY_THREE),
        (with(json!({"metadata": {"annotations": {REQUESTED: "false"}}})), ONLY_ASK),
        (with(json!({"metadata": {"annotations": {REASON: null}}})), ONLY_ASK),
        (with(json!({"metadata": {"annotations": {REASON: "x".repeat(2000)}}})), ONLY_ASK),
    ] {
        let told = refusal(patches(&client, &desk.node, &patch).await);
        assert!(told.contains(says), "{patch}: {told}");
    }
    let told = refusal(patches(&client, &other.node, &with(json!({}))).await);
    assert!(told.contains(ONLY_OWN), "{told}");

    let node = patches(&client, &desk.node, &with(json!({}))).await.unwrap();
    assert_eq!(node.metadata.annotations.unwrap()[REQUESTED], "true");
    let back = json!({"metadata": {"annotations": {REQUESTED: null, REASON: null, REQUESTED_AT: null}}});
    let told = refusal(patches(&client, &desk.node, &back).await);
    assert!(told.contains(ONLY_ASK), "{told}");
    // The same once more is no change, and lawful.
    patches(&client, &desk.node, &with(json!({}))).await.unwrap();
    assert_eq!(other.nodes().get(&other.node).await.unwrap().metadata.annotations.unwrap().len(), 1);
}

/// Metadata that no agent's Lease has, and what is said of it.
fn odd_leases(desk: &Desk, other: &Desk) -> Vec<(Value, &'static str)> {
    let owner = |kind: &str, node: &str| {
        let api = if kind == "Node" { "v1" } else { "apps/v1" };
        json!({"apiVersion": api, "kind": kind, "name": node, "uid": "u"})
    };
    let fares = |value: &str| json!({"annotations": {"5spot.finos.org/agent-rules": value}});
    vec![
        (json!({"labels": {"a": "b"}}), ONLY_ITS_NODES),
        (json!({"finalizers": ["a.example/b"]}), ONLY_ITS_NODES),
        (json!({"ownerReferences": [owner("Node", &other.node)]}), ONLY_ITS_NODES),
        (json!({"ownerReferences": [owner("DaemonSet", &desk.node)]}), ONLY_ITS_NODES),
        (
            json!({"ownerReferences": [owner("Node", &desk.node), {"apiVersion": "v1", "kind": "Node",
                "name": desk.node, "uid": "v"}]}),
            ONLY_ITS_NODES,
        ),
        (json!({"annotations": {"more": "1"}}), ONLY_FARES),
        (fares(&"x".repeat(2000)), ONLY_FARES),
    ]
}

#[tokio::test]
async fn a_token_renews_its_own_lease_and_no_other() {
    let (desk, other) = (Desk::new().await, Desk::new().await);
    let client = desk.client(&desk.token).await;
    let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    let params = PostParams::default();
    let told = refusal(leases.create(&params, &lease(&other.object())).await);
    assert!(told.contains(ONLY_OWN), "{told}");
    for (metadata, says) in odd_leases(&desk, &other) {
        let mut odd = json!({"metadata": {"name": desk.object()}, "spec": {"holderIdentity": "x"}});
        put(&mut odd["metadata"], metadata);
        let told = refusal(leases.create(&params, &serde_json::from_value(odd.clone()).unwrap()).await);
        assert!(told.contains(says), "{odd}: {told}");
    }
    leases.create(&params, &lease(&desk.object())).await.unwrap();
    for (metadata, says) in odd_leases(&desk, &other) {
        let odd = Patch::Merge(json!({"metadata": metadata}));
        let told = refusal(leases.patch(&desk.object(), &PatchParams::default(), &odd).await);
        assert!(told.contains(says), "{odd:?}: {told}");
    }
    // What somebody else has put there stays, and does not keep the agent from renewing.
    let theirs =
        json!({"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}, "finalizers": ["e.example/f"]}});
    desk.leases().patch(&desk.object(), &PatchParams::default(), &Patch::Merge(theirs)).await.unwrap();
    let renewal = Patch::Merge(json!({"spec": {"holderIdentity": "y"},
        "metadata": {"annotations": {"5spot.finos.org/agent-rules": "ok", "5spot.finos.org/agent-fallback": null}}}));
    let renewed = leases.patch(&desk.object(), &PatchParams::default(), &renewal).await.unwrap();
    assert_eq!(renewed.metadata.annotations.unwrap().len(), 2);
    let nobodys = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    desk.leases().patch(&desk.object(), &PatchParams::default(), &nobodys).await.unwrap();
    desk.leases().create(&params, &lease(&other.object())).await.unwrap();
    let told = refusal(leases.patch(&other.object(), &PatchParams::default(), &renewal).await);
    assert!(told.contains(ONLY_OWN), "{told}");
    // Elsewhere not even under that name; and nothing of what roles alone keep it from.
    let elsewhere: Api<Lease> = Api::namespaced(client.clone(), "default");
    refusal(elsewhere.create(&params, &lease(&desk.object())).await);
    refusal(leases.delete(&desk.object(), &DeleteParams::default()).await);
    refusal(Api::<Node>::all(client.clone()).delete(&desk.node, &DeleteParams::default()).await);
    refusal(Api::<Secret>::namespaced(client, NAMESPACE).list(&kube::api::ListParams::default()).await);
}

#[tokio::test]
async fn a_token_that_names_no_node_may_write_nothing() {
    let desk = Desk::new().await;
    let secret: Secret = serde_json::from_value(json!({"metadata": {"name": desk.object()}})).unwrap();
    let secrets: Api<Secret> = Api::namespaced(desk.admin.clone(), NAMESPACE);
    let secret = secrets.create(&PostParams::default(), &secret).await.unwrap();
    let (name, uid) = (secret.metadata.name.unwrap(), secret.metadata.uid.unwrap());
    let token = desk.issue(json!({"apiVersion": "v1", "kind": "Secret", "name": name, "uid": uid})).await;
    let client = desk.client(&token).await;
    let told = refusal(patches(&client, &desk.node, &with(json!({}))).await);
    assert!(told.contains("does not say on which Node"), "{told}");
    let leases: Api<Lease> = Api::namespaced(client, NAMESPACE);
    refusal(leases.create(&PostParams::default(), &lease(&desk.object())).await);
}

/// An administrator in the agent's clothes: what the policy refuses, no role can give.
pub async fn with_all_roles(desk: &Desk) -> Client {
    let kubeconfig = Kubeconfig::from_yaml(desk.planes.workload().admin()).unwrap();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    config.auth_info.impersonate = Some(USER.to_owned());
    config.auth_info.impersonate_groups = Some(vec!["system:masters".to_owned()]);
    let node_claim = "impersonate-extra-authentication.kubernetes.io%2fnode-name";
    config.headers.push((node_claim.parse().unwrap(), desk.node.parse().unwrap()));
    Client::try_from(config).unwrap()
}

#[tokio::test]
async fn no_role_gives_an_agent_more() {
    let desk = Desk::new().await;
    let client = with_all_roles(&desk).await;
    let (nodes, params): (Api<Node>, _) = (Api::all(client.clone()), PatchParams::default());
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": desk.object()}})).unwrap();
    let status = Patch::Merge(json!({"status": {"conditions": []}}));
    let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    desk.leases().create(&PostParams::default(), &lease(&desk.object())).await.unwrap();
    let elsewhere: Api<Lease> = Api::namespaced(client.clone(), "default");
    let post = PostParams::default();
    for told in [
        refusal(nodes.patch_status(&desk.node, &params, &status).await),
        refusal(nodes.delete(&desk.node, &DeleteParams::default()).await),
        refusal(maps.create(&post, &map).await),
        refusal(leases.delete(&desk.object(), &DeleteParams::default()).await),
        refusal(elsewhere.create(&post, &lease(&desk.object())).await),
    ] {
        assert!(told.contains(ONLY_OWN), "{told}");
    }
    patches(&client, &desk.node, &with(json!({}))).await.unwrap();
    // Nobody else is held to anything.
    asked_until("let", super::desk::PATIENCE, async || {
        patches(&desk.admin, &desk.node, &json!({"metadata": {"labels": {"lent": "no"}}})).await.is_ok()
    })
    .await;
}
