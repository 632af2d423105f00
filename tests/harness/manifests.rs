//! Objects from YAML into an API server.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde_json::Value;

use super::Result;

/// The documents of a YAML stream, without the empty ones.
pub fn documents(yaml: &str) -> Result<Vec<Value>> {
    // Without limits: Cluster API's CRDs are larger than what the reader takes from strangers.
    let options = serde_saphyr::options! { budget: None };
    let all: Vec<Value> = serde_saphyr::from_multiple_with_options(yaml, options)?;
    Ok(all.into_iter().filter(|doc| !doc.is_null()).collect())
}

/// Creates the objects side by side, or applies those that exist, and waits until CRDs among them are served.
pub async fn install(client: &Client, objects: Vec<Value>) -> Result<()> {
    let crds: Vec<String> = objects
        .iter()
        .filter(|object| object["kind"] == "CustomResourceDefinition")
        .filter_map(|object| object["metadata"]["name"].as_str().map(str::to_owned))
        .collect();
    put_all(client, objects).await?;
    served(client, &crds).await
}

/// Creates or applies the objects side by side, and waits for nothing.
pub async fn put_all(client: &Client, objects: Vec<Value>) -> Result<()> {
    let created = stream::iter(objects.into_iter().map(|object| put(client, object)));
    created.buffer_unordered(8).try_collect().await
}

async fn put(client: &Client, object: Value) -> Result<()> {
    let object: DynamicObject = serde_json::from_value(object)?;
    let types = object.types.clone().ok_or("an object without kind")?;
    let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(&types)?);
    let name = object.metadata.name.clone().ok_or("an object without name")?;
    let api: Api<DynamicObject> = match &object.metadata.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    match api.create(&PostParams::default(), &object).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let params = PatchParams::apply("harness").force();
            api.patch(&name, &params, &Patch::Apply(&object)).await?;
        }
        Err(trouble) => return Err(format!("{} {name}: {trouble}", types.kind).into()),
        Ok(_) => {}
    }
    Ok(())
}

/// Waits until these CRDs are established and their lists answered: for a moment after a CRD's creation the
/// server says `429 storage is (re)initializing`.
async fn served(client: &Client, crds: &[String]) -> Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for name in crds {
        let mut tries = 0;
        let crd = loop {
            let crd = api.get(name).await?;
            let conditions = crd.status.as_ref().and_then(|status| status.conditions.as_ref());
            if conditions
                .is_some_and(|all| all.iter().any(|c| c.type_ == "Established" && c.status == "True"))
            {
                break crd;
            }
            wait_a_little(&mut tries, name, &"not established").await?;
        };
        // The stored version needs no conversion, whose webhook may not be up yet.
        let Some(version) = crd.spec.versions.iter().find(|v| v.storage && v.served) else { continue };
        let kind = GroupVersionKind::gvk(&crd.spec.group, &version.name, &crd.spec.names.kind);
        let resource = ApiResource::from_gvk_with_plural(&kind, &crd.spec.names.plural);
        let objects: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        while let Err(error) = objects.list_metadata(&ListParams::default().limit(1)).await {
            wait_a_little(&mut tries, name, &error).await?;
        }
    }
    Ok(())
}

async fn wait_a_little(tries: &mut u32, name: &str, why: &(dyn std::fmt::Display + Sync)) -> Result<()> {
    *tries += 1;
    if *tries > 4800 {
        return Err(format!("{name} is not served: {why}").into());
    }
    // Established is not served: for a second the lists of a new kind fail, and a watch of it fails as well.
    tokio::time::sleep(Duration::from_millis(50)).await;
    Ok(())
}
