//! Cluster API's core manager on the management plane, with its CRDs and webhooks.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kube::Client;
use serde_json::{Value, json};

use super::apiserver::Ground;
use super::process::{Component, Spec, ready};
use super::{Result, manifests, ports};

/// The user it calls as on the management plane.
pub const USER: &str = "capi-core";

/// Installs and starts it; the component and the port of its webhooks.
pub async fn start(
    ground: &Ground,
    server: &str,
    client: &Client,
    extra: &[String],
) -> Result<(Component, u16)> {
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
        manifests::install(client, crds(ground, port)?).await?;
        let mut capi = Component::start(&ground.dir, spec(ground, port, extra))?;
        match ready(&mut capi, Duration::from_secs(60), async || ports::open(port).await).await {
            Ok(()) => {
                manifests::install(client, webhook_configurations(ground, port)?).await?;
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

fn spec(ground: &Ground, port: u16, extra: &[String]) -> Spec {
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
    Spec { name: "capi-core".to_owned(), program: ground.binaries.capi.clone(), args, env }
}

fn client_config(ground: &Ground, port: u16, path: &str) -> Value {
    let ca = STANDARD.encode(ground.authority.certificate());
    json!({"url": format!("https://127.0.0.1:{port}{path}"), "caBundle": ca})
}

fn crds(ground: &Ground, port: u16) -> Result<Vec<Value>> {
    let mut crds = ground.binaries.capi_crds()?;
    for crd in &mut crds {
        if let Some(webhook) = crd.pointer_mut("/spec/conversion/webhook") {
            webhook["clientConfig"] = client_config(ground, port, "/convert");
        }
    }
    Ok(crds)
}

fn webhook_configurations(ground: &Ground, port: u16) -> Result<Vec<Value>> {
    let mut all = ground.binaries.capi_webhooks()?;
    for configuration in &mut all {
        for webhook in configuration["webhooks"].as_array_mut().into_iter().flatten() {
            let path = webhook["clientConfig"]["service"]["path"].as_str().unwrap_or("/").to_owned();
            webhook["clientConfig"] = client_config(ground, port, &path);
        }
    }
    Ok(all)
}
