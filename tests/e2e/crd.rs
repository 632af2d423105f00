//! The CRDs against a real API server: they install, they refuse what is wrong and say what, they keep what is right.
//!
//! On a server of their own, which first holds the predecessor's schema, as a migrating user's does.

mod accepted;
mod cases;
mod installed;
mod refused;
mod stored;

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::harness::wait::asked_until;
use crate::harness::{ControlPlanes, Options, runtime};

/// The server after an upgrade from the predecessor's definitions.
async fn server() -> &'static ControlPlanes {
    static SERVER: OnceCell<ControlPlanes> = OnceCell::const_new();
    let start = || async {
        let started = runtime::run(|| async {
            let planes = ControlPlanes::start(Options { cluster_api: false, ..Options::default() })
                .await
                .expect("an API server");
            stored::as_the_predecessor_left_it(&planes).await;
            let applied = kubectl_apply_printed(&planes, "yaml", &[]);
            assert!(applied.status.success(), "{}", said(&applied));
            until_in_force(&planes).await;
            planes
        });
        started.await.expect("a server with our definitions")
    };
    SERVER.get_or_init(start).await
}

/// `5spot crd print --format <format> | kubectl apply <flags> -f -`
fn kubectl_apply_printed(planes: &ControlPlanes, format: &str, flags: &[&str]) -> Output {
    let mut print = Command::new(env!("CARGO_BIN_EXE_5spot"))
        .args(["crd", "print", "--format", format])
        .stdout(Stdio::piped())
        .spawn()
        .expect("5spot");
    let printed = print.stdout.take().expect("its output");
    let applied = kubectl(planes).arg("apply").args(flags).args(["-f", "-"]).stdin(printed).output();
    assert!(print.wait().expect("5spot").success());
    applied.expect("kubectl")
}

fn kubectl(planes: &ControlPlanes) -> Command {
    let mut kubectl = Command::new(&planes.binaries().kubectl);
    kubectl.arg("--kubeconfig").arg(planes.management().kubeconfig());
    kubectl
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A definition that is Established may still be served with its old schema for a moment.
async fn until_in_force(planes: &ControlPlanes) {
    let client = planes.management().client().await;
    let mut bad = cases::good("ScheduledMachine");
    bad["spec"]["schedule"] = json!({});
    let mut hold = cases::good("MachineHold");
    hold["spec"]["reason"] = json!("");
    let patience = Duration::from_secs(240);
    for object in [bad, hold] {
        asked_until("in force: the new definitions", patience, async || {
            let outcome = create(&client, "default", &object, true).await;
            matches!(outcome, Err(kube::Error::Api(refusal)) if refusal.code == 422)
        })
        .await;
    }
}

fn api(client: &Client, namespace: &str, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource {
        group: "5spot.finos.org".to_owned(),
        version: "v1alpha1".to_owned(),
        api_version: "5spot.finos.org/v1alpha1".to_owned(),
        kind: kind.to_owned(),
        plural: format!("{}s", kind.to_lowercase()),
    };
    Api::namespaced_with(client.clone(), namespace, &resource)
}

async fn create(
    client: &Client,
    namespace: &str,
    object: &Value,
    dry_run: bool,
) -> kube::Result<DynamicObject> {
    let kind = object["kind"].as_str().expect("a kind");
    let object: DynamicObject = serde_json::from_value(object.clone()).expect("an object");
    let params = PostParams { dry_run, ..PostParams::default() };
    api(client, namespace, kind).create(&params, &object).await
}

/// A namespace of one's own.
async fn namespace(client: &Client, name: &str) {
    let namespace: k8s_openapi::api::core::v1::Namespace =
        serde_json::from_value(json!({"metadata": {"name": name}})).expect("a namespace");
    Api::all(client.clone()).create(&PostParams::default(), &namespace).await.expect("a new namespace");
}
