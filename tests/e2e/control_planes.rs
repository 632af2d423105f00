//! The harness itself: what the other tests stand on.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::json;

use crate::harness::controller::Setup;
use crate::harness::plane::client_from;
use crate::harness::proxy::{Entry, status_body};
use crate::harness::refusal::refuse_creates;
use crate::harness::wait::asked_until;
use crate::harness::{self, Behaviour, FaultProxy, Options, eventually, gone, provider};

const PATIENCE: Duration = Duration::from_secs(60);

/// A `StubConfig`, a `StubMachine` and a `Machine` of that name.
async fn make_machine(tenant: &harness::Tenant, name: &str, stub: serde_json::Value) {
    let (config, machine) = (provider::bootstrap(), provider::infrastructure("StubMachine"));
    tenant.create(&config, json!({"metadata": {"name": name}, "spec": {}})).await;
    tenant.create(&machine, json!({"metadata": {"name": name}, "spec": {"stub": stub}})).await;
    let spec = json!({
        "clusterName": tenant.cluster,
        "bootstrap": {"configRef": {"apiGroup": config.group, "kind": config.kind, "name": name}},
        "infrastructureRef": {"apiGroup": machine.group, "kind": machine.kind, "name": name},
    });
    tenant.create(&provider::machine(), json!({"metadata": {"name": name}, "spec": spec})).await;
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

#[tokio::test]
async fn a_machine_becomes_a_node_and_leaves_nothing() {
    let planes = harness::shared().await;
    let tenant = planes.tenant("machine").await;
    let mark = planes.management().audit().mark();
    let name = tenant.unique("host");
    make_machine(&tenant, &name, json!({})).await;

    let machines = tenant.machines();
    let running = eventually(&machines, &name, "running", PATIENCE, |machine| {
        machine.data["status"]["phase"] == "Running"
    })
    .await;
    assert_eq!(running.data["status"]["nodeRef"]["name"], name.as_str());
    let nodes: Api<Node> = Api::all(tenant.workload.clone());
    eventually(&nodes, &name, "ready", PATIENCE, is_ready).await;

    machines.delete(&name, &DeleteParams::default()).await.unwrap();
    gone(&machines, &name, PATIENCE).await;
    gone(&tenant.stub_machines(), &name, PATIENCE).await;
    gone(&tenant.stub_configs(), &name, PATIENCE).await;
    gone(&nodes, &name, PATIENCE).await;

    let calls = planes.management().audit().after(mark).within(&tenant.namespace);
    let created = calls.on("machines").verb("create");
    assert_eq!(created.by("admin").named(&name).len(), 1, "{created}");
    assert!(!calls.by(provider::USER).on("stubmachines").writes().is_empty(), "{calls}");
}

#[tokio::test]
async fn a_machine_that_fails_says_so() {
    let tenant = harness::shared().await.tenant("failing").await;
    let name = tenant.unique("host");
    make_machine(&tenant, &name, json!({"fail": "no such host"})).await;
    eventually(&tenant.machines(), &name, "told of the failure", PATIENCE, |machine| {
        let conditions = machine.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|c| c["type"] == "InfrastructureReady" && c["message"] == "no such host")
    })
    .await;
}

#[tokio::test]
async fn a_host_that_does_not_end_holds_its_machine() {
    let tenant = harness::shared().await.tenant("holding").await;
    let name = tenant.unique("host");
    tenant.behave(Behaviour { hold_finalizer: true, never_provisions: true, ..Behaviour::default() });
    make_machine(&tenant, &name, json!({})).await;
    let machines = tenant.machines();
    let stubs = tenant.stub_machines();
    eventually(&stubs, &name, "claimed", PATIENCE, |stub| stub.data["spec"]["providerID"].is_string()).await;
    eventually(&machines, &name, "held", PATIENCE, |machine| machine.metadata.finalizers.is_some()).await;
    machines.delete(&name, &DeleteParams::default()).await.unwrap();
    eventually(&stubs, &name, "being deleted", PATIENCE, |stub| stub.metadata.deletion_timestamp.is_some())
        .await;
    assert!(machines.get_opt(&name).await.unwrap().is_some());
    tenant.behave(Behaviour::default());
    gone(&machines, &name, PATIENCE).await;
}

#[tokio::test]
async fn creation_can_be_refused_in_one_namespace() {
    let planes = harness::shared().await;
    let (tenant, other) = (planes.tenant("refused").await, planes.tenant("allowed").await);
    let refusal = refuse_creates(planes.management(), &tenant.namespace, "stubmachines", "no quota").await;
    let stub = |name: &str| {
        let object = json!({
            "apiVersion": "infrastructure.cluster.x-k8s.io/v1", "kind": "StubMachine",
            "metadata": {"name": name}, "spec": {},
        });
        serde_json::from_value::<kube::api::DynamicObject>(object).unwrap()
    };
    let name = tenant.unique("host");
    let answer = tenant.stub_machines().create(&PostParams::default(), &stub(&name)).await;
    let Err(kube::Error::Api(status)) = answer else { panic!("{answer:?}") };
    assert_eq!(status.code, 403);
    assert!(status.message.contains("no quota"), "{}", status.message);
    other.stub_machines().create(&PostParams::default(), &stub(&name)).await.unwrap();
    refusal.lift().await;
    tenant.stub_machines().create(&PostParams::default(), &stub(&name)).await.unwrap();
}

fn config_map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()
}

#[tokio::test]
async fn the_proxy_swallows_an_answer_and_the_log_knows_who_asked() {
    let planes = harness::shared().await;
    let tenant = planes.tenant("proxy").await;
    let proxy = FaultProxy::start(planes.management(), "through-proxy", &["system:masters"]).await;
    let client = client_from(proxy.kubeconfig()).await.unwrap();
    let api: Api<ConfigMap> = Api::namespaced(client, &tenant.namespace);
    let audit = planes.management().audit();
    let mark = audit.mark();

    api.create(&PostParams::default(), &config_map("one")).await.unwrap();
    let struck = proxy.kill_after_write(1, || ());
    assert!(api.create(&PostParams::default(), &config_map("two")).await.is_err());
    assert!(struck.within(PATIENCE).await.forwarded);
    assert!(api.get_opt("two").await.unwrap().is_some(), "{}", proxy.shown());

    let struck = proxy.kill_before_write(1, || ());
    assert!(api.create(&PostParams::default(), &config_map("three")).await.is_err());
    struck.within(PATIENCE).await;
    assert!(api.get_opt("three").await.unwrap().is_none(), "{}", proxy.shown());

    proxy.answer(1, 409, status_body(409, "Conflict", "somebody was faster"), Entry::is_write);
    let answer = api.create(&PostParams::default(), &config_map("four")).await;
    assert!(matches!(&answer, Err(kube::Error::Api(status)) if status.code == 409), "{answer:?}");
    api.create(&PostParams::default(), &config_map("four")).await.unwrap();

    proxy.cut();
    assert!(api.list(&ListParams::default()).await.is_err());
    proxy.mend();
    assert!(api.list(&ListParams::default()).await.unwrap().items.len() >= 3);

    let made = |calls: &harness::audit::Calls| calls.by("through-proxy").verb("create").len() == 3;
    let calls = audit.until(mark, "three creations", PATIENCE, made).await;
    assert_eq!(calls.by("through-proxy").writes().len(), 3, "{}", calls.by("through-proxy"));
}

#[tokio::test]
async fn a_watch_runs_through_the_proxy() {
    let planes = harness::shared().await;
    let tenant = planes.tenant("proxied-watch").await;
    let proxy = FaultProxy::start(planes.management(), "watcher", &["system:masters"]).await;
    let through: Api<ConfigMap> =
        Api::namespaced(client_from(proxy.kubeconfig()).await.unwrap(), &tenant.namespace);
    let waiting = eventually(&through, "late", "there", PATIENCE, |_| true);
    let direct: Api<ConfigMap> = Api::namespaced(tenant.management.clone(), &tenant.namespace);
    let making = async {
        let is_watched = async || proxy.journal().iter().any(|entry| entry.path.contains("watch=true"));
        asked_until("watched", PATIENCE, is_watched).await;
        direct.create(&PostParams::default(), &config_map("late")).await.unwrap();
    };
    tokio::join!(waiting, making);
}

#[tokio::test]
async fn an_api_server_comes_back_and_a_kept_pair_stays_until_it_is_stopped() {
    let planes =
        harness::ControlPlanes::start(Options { cluster_api: false, ..Options::default() }).await.unwrap();
    let management = planes.management();
    let api: Api<ConfigMap> = Api::namespaced(management.client().await, "default");
    api.create(&PostParams::default(), &config_map("before")).await.unwrap();
    management.stop_apiserver();
    assert!(api.get("before").await.is_err());
    management.restart_apiserver().await;
    api.get("before").await.unwrap();

    let (dir, kubeconfig) = (planes.dir().to_path_buf(), management.admin().to_owned());
    let stop = planes.keep().unwrap();
    drop(planes);
    let api: Api<ConfigMap> = Api::namespaced(client_from(&kubeconfig).await.unwrap(), "default");
    api.get("before").await.unwrap();
    assert!(std::process::Command::new(stop).status().unwrap().success());
    assert!(api.get("before").await.is_err());
    assert!(!dir.exists());
}

#[tokio::test]
async fn controllers_end_as_they_are_told() {
    let planes = harness::shared().await;
    let sleeper = Setup::of(planes, "sleeper", "sleep").arg("1000").env("HARNESS", "x").start();
    assert!(sleeper.ended().is_none());
    let status = sleeper.terminate(PATIENCE).await;
    assert_eq!(status.signal(), Some(15), "{status}");
    let again = sleeper.again();
    assert_ne!(again.pid(), sleeper.pid());
    again.kill();
    assert_eq!(again.ended().and_then(|status| status.signal()), Some(9));
}

#[tokio::test]
#[should_panic(expected = "never not there after 3s; last seen:\nnot there")]
async fn who_waits_in_vain_is_told_for_what() {
    let client = harness::shared().await.management().client().await;
    let api: Api<ConfigMap> = Api::namespaced(client, "default");
    eventually(&api, "never", "there", Duration::from_secs(3), |_| true).await;
}
