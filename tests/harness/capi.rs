//! Cluster API's core manager on the management plane, with its CRDs and webhooks.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::apiserver::Ground;
use super::binaries::ClusterApi;
use super::process::{Component, Spec, ready};
use super::{Result, manifests, ports};

/// The user it calls as on the management plane.
pub const USER: &str = "capi-core";

/// Which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// The oldest that we speak to.
    V1_10,
    /// Today's.
    V1_14,
}

impl Release {
    /// The version in which it keeps Machines and Clusters.
    pub fn version(self) -> &'static str {
        match self {
            Self::V1_10 => "v1beta1",
            Self::V1_14 => "v1beta2",
        }
    }

    async fn locate(self, ground: &Ground) -> Result<ClusterApi> {
        let binaries = ground.binaries.clone();
        match self {
            Self::V1_10 => tokio::task::spawn_blocking(move || binaries.capi_v1_10()).await?,
            Self::V1_14 => Ok(binaries.capi),
        }
    }
}

/// Installs and starts it, in the place of another release if there is one; the component and the port of its webhooks.
pub async fn start(
    ground: &Ground,
    release: Release,
    server: &str,
    client: &Client,
    extra: &[String],
) -> Result<(Component, u16)> {
    let files = release.locate(ground).await?;
    let webhooks = ground.path("capi-webhooks");
    std::fs::create_dir_all(&webhooks)?;
    std::fs::copy(ground.path("serving.crt"), webhooks.join("tls.crt"))?;
    std::fs::copy(ground.path("serving.key"), webhooks.join("tls.key"))?;
    ground.kubeconfig("capi.kubeconfig", server, USER, &["system:masters"])?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "capi-system"}});
    manifests::install(client, vec![namespace]).await?;
    let mut tries = 0;
    loop {
        let port = ports::free();
        // The CRDs name the port, so another port means to install them anew.
        let crds = crds(ground, &files, port)?;
        // A manager does not start without its kinds. Where there are objects already they cannot be listed before it
        // does: those that another release has stored it converts itself.
        if is_there(client).await? {
            manifests::put_all(client, crds.clone()).await?;
        } else {
            manifests::install(client, crds.clone()).await?;
        }
        let mut capi = Component::start(&ground.dir, spec(ground, &files, port, extra))?;
        match ready(&mut capi, Duration::from_secs(180), async || ports::open(port).await).await {
            Ok(()) => {
                manifests::install(client, crds).await?;
                forget_webhooks(client).await?;
                manifests::install(client, webhook_configurations(ground, &files, port)?).await?;
                return Ok((capi, port));
            }
            Err(trouble) => {
                tries += 1;
                if tries > 3 || !capi.lost_its_port() {
                    return Err(trouble);
                }
            }
        }
    }
}

async fn is_there(client: &Client) -> Result<bool> {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    Ok(crds.get_metadata_opt("machines.cluster.x-k8s.io").await?.is_some())
}

/// Those of another release, whose manager no longer answers.
async fn forget_webhooks(client: &Client) -> Result<()> {
    let (all, one_by_one) = (ListParams::default(), DeleteParams::default());
    let mutating: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    for name in mutating.list_metadata(&all).await?.iter().map(ResourceExt::name_any) {
        if name == "mutating-webhook-configuration" {
            mutating.delete(&name, &one_by_one).await?;
        }
    }
    let validating: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    for name in validating.list_metadata(&all).await?.iter().map(ResourceExt::name_any) {
        if name == "validating-webhook-configuration" {
            validating.delete(&name, &one_by_one).await?;
        }
    }
    Ok(())
}

fn spec(ground: &Ground, files: &ClusterApi, port: u16, extra: &[String]) -> Spec {
    let mut args = vec![
        format!("--webhook-port={port}"),
        format!("--webhook-cert-dir={}", ground.path("capi-webhooks").display()),
        format!("--health-addr=127.0.0.1:{}", ports::free()),
        "--diagnostics-address=127.0.0.1:0".to_owned(),
        "--insecure-diagnostics=true".to_owned(),
        "--leader-elect=false".to_owned(),
        "--kube-api-qps=200".to_owned(),
        "--kube-api-burst=400".to_owned(),
        "--v=2".to_owned(),
    ];
    args.extend_from_slice(extra);
    // No POD_NAME: with it, the manager would try to reach the workload cluster from inside.
    let env = vec![("KUBECONFIG".to_owned(), ground.path("capi.kubeconfig").display().to_string())];
    Spec { name: "capi-core".to_owned(), program: files.program.clone(), args, env }
}

fn client_config(ground: &Ground, port: u16, path: &str) -> Value {
    let ca = STANDARD.encode(ground.authority.certificate());
    json!({"url": format!("https://127.0.0.1:{port}{path}"), "caBundle": ca})
}

fn crds(ground: &Ground, files: &ClusterApi, port: u16) -> Result<Vec<Value>> {
    let mut crds = files.crds()?;
    for crd in &mut crds {
        if let Some(webhook) = crd.pointer_mut("/spec/conversion/webhook") {
            webhook["clientConfig"] = client_config(ground, port, "/convert");
        }
    }
    Ok(crds)
}

fn webhook_configurations(ground: &Ground, files: &ClusterApi, port: u16) -> Result<Vec<Value>> {
    let mut all = files.webhooks()?;
    for configuration in &mut all {
        for webhook in configuration["webhooks"].as_array_mut().into_iter().flatten() {
            let path = webhook["clientConfig"]["service"]["path"].as_str().unwrap_or("/").to_owned();
            webhook["clientConfig"] = client_config(ground, port, &path);
        }
    }
    Ok(all)
}
