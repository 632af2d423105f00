//! Nothing of a Secret is ever told: not in a log, however much that says, nor on an object, in an Event or over HTTP.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};

use crate::world::{World, narrow_kubeconfig, said};

const CONDITION: &str = "WorkloadReachable";

/// Kubeconfigs that are wrong, each with something in it that nobody may see, and words that tell of it.
fn faults(good: &str, server: &str) -> Vec<(String, &'static str)> {
    let (head, _) = good.split_once("users:").unwrap();
    let user = |user: Value| format!("{head}users: [{{name: test, user: {user}}}]\n");
    let certificate =
        |key: &str| user(json!({"client-certificate-data": "canary-0", "client-key-data": key}));
    let with_login = server.replace("https://", "https://canary-user:canary-9@");
    vec![
        (user(json!({"token": "canary-1"})), "401"),
        (format!("{head}users: [{{name: test, user: {{token: canary-2"), "not a kubeconfig"),
        (user(json!({"token": "canary-3\nand more"})), "not a bearer token"),
        (certificate(&STANDARD.encode("canary-4")), "not base64 of a PEM certificate"),
        (certificate("canary-5 !"), "not base64 of a PEM certificate"),
        (
            user(json!({"username": "canary-user", "password": "canary-6"})),
            "username and password are refused",
        ),
        (
            user(json!({"exec": {"command": "x", "env": [{"name": "P", "value": "canary-7"}]}})),
            "exec is refused",
        ),
        (
            user(json!({"auth-provider": {"config": {"access-token": "canary-8"}}})),
            "auth-provider is refused",
        ),
        (good.replace(server, &with_login), "not a plain https URL"),
        (format!("{head}users: canary-10\n"), "not a kubeconfig"),
        (user(json!({"token": {"inner": "canary-11"}})), "not text"),
        (user(json!(["canary-12"])), "not a kubeconfig"),
        ("canary-13".to_owned(), "not a kubeconfig"),
    ]
}

/// What of a good kubeconfig nobody may see: its key, as it is stored and as it is read.
fn keys(good: &str) -> Vec<String> {
    let (_, rest) = good.split_once("client-key-data:").expect("a key");
    let stored = rest.split_whitespace().next().unwrap().trim_matches(['"', ',', '}']).to_owned();
    let key = String::from_utf8(STANDARD.decode(&stored).unwrap()).unwrap();
    let line = key.lines().find(|line| !line.starts_with("-----")).unwrap().to_owned();
    vec![stored, line]
}

#[tokio::test]
async fn whatever_a_kubeconfig_holds_and_however_it_is_wrong_none_of_it_is_told() {
    let (tenant, user, setup) = World::prepare("untold").await;
    // Of kube, hyper and rustls as well.
    let world = World::with(
        tenant,
        user,
        setup.env("RUST_LOG", "trace,kube_client=trace,kube_runtime=trace").start(),
    );
    let (name, tenant) = (world.tenant.unique("ws"), &world.tenant);
    let good = narrow_kubeconfig(tenant, &world.user);
    world.create(&name, json!({})).await;
    world.until(&name, "connected", |sm| said(sm, CONDITION).0 == "Connected").await;
    let mut told = String::new();
    for (at, (kubeconfig, words)) in
        faults(&good, tenant.planes().workload().server()).into_iter().enumerate()
    {
        let secret = format!("fault-{at}");
        tenant.put_kubeconfig(&secret, &kubeconfig).await;
        world.edit(&name, json!({"kubeconfigSecretRef": {"name": secret}})).await;
        let sm = world
            .until(&name, &format!("told {words:?} of {secret}"), |sm| {
                sm.data["status"]["observedGeneration"] == json!(sm.metadata.generation)
                    && said(sm, CONDITION).1.contains(words)
            })
            .await;
        told.push_str(&sm.data["status"].to_string());
        // The Secret is read, told of, and cannot be used: it stays so in all that is shown.
        told.push_str(&world.controller.health("/health/status").await.unwrap().1);
    }
    told.push_str(&world.controller.scrape().await.unwrap());
    let events: Api<Event> = Api::namespaced(tenant.management.clone(), &tenant.namespace);
    let events = events.list(&ListParams::default()).await.unwrap();
    told.push_str(&serde_json::to_string(&events.items).unwrap());

    let log = world.controller.log();
    // It did say much, of what it does with a cluster and with its Secrets.
    for expected in ["\"TRACE\"", "hyper", "fault-12"] {
        assert!(log.contains(expected), "{expected}");
    }
    for secret in keys(&good).iter().map(String::as_str).chain(["canary-"]) {
        for (place, text) in [("what is shown", told.as_str()), ("the log", log.as_str())] {
            let found = text.lines().find(|line| line.contains(secret));
            assert!(found.is_none(), "in {place}: {found:?}");
        }
    }
}
