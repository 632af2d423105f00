//! The harness itself: what the other tests stand on.

use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;

use crate::harness::{self, eventually, gone, provider};

const PATIENCE: Duration = Duration::from_secs(60);

/// A StubConfig, a StubMachine and a Machine of that name.
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
