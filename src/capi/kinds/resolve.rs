//! From `apiVersion` and `kind` to a resource, by asking the API server.

use std::time::Duration;

use k8s_openapi::{
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::APIResource,
};
use kube::{Api, Client, core::discovery::ApiResource};
use tokio::time::timeout;

use super::{Id, KindView, verdict};
use crate::watch::{Cause, Outage};

/// One call: discovery of a version, or the GET of a definition.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a kind cannot be used, or not yet; see the variants of [`KindView`] of the same names.
pub(super) enum Refusal {
    NotServed(String),
    NotAllowed(String),
    Unreachable(String),
}

impl From<Refusal> for KindView {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotServed(why) => Self::NotServed(why),
            Refusal::NotAllowed(why) => Self::NotAllowed(why),
            Refusal::Unreachable(why) => Self::Unreachable(why),
        }
    }
}

/// What can be said without asking: group names are compared exactly, and the version becomes part of a URL.
pub(super) fn admit(allowed_groups: &[String], api_version: &str) -> Result<(), Refusal> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    if !allowed_groups.iter().any(|allowed| allowed == group) {
        let shown = if group.is_empty() { "the core group" } else { group };
        return Err(Refusal::NotAllowed(format!(
            "API group {shown} is not among the allowed ones ({}): use a kind of these, or have the group allowed",
            allowed_groups.join(", ")
        )));
    }
    if version.is_empty() || !version.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
        return Err(Refusal::NotServed(format!("apiVersion {api_version} is not of the form group/version")));
    }
    Ok(())
}

/// The resource of an allowed kind that is what its role asks for.
///
/// # Errors
/// Why not.
pub(super) async fn resolve(client: &Client, id: &Id) -> Result<ApiResource, Refusal> {
    let Id { role, api_version, kind } = id;
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let listed = match bounded(client.list_api_group_resources(api_version)).await {
        Ok(list) => list.resources,
        Err(outage) if outage.cause == Cause::Missing => {
            return Err(Refusal::NotServed(format!(
                "{api_version} is not served: install its provider or correct apiVersion"
            )));
        }
        Err(outage) => return Err(Refusal::Unreachable(outage.message)),
    };
    let Some(APIResource { name: plural, namespaced, .. }) =
        listed.into_iter().find(|resource| resource.kind == *kind && !resource.name.contains('/'))
    else {
        return Err(Refusal::NotServed(format!(
            "{api_version} has no kind {kind}: install its provider or correct the kind"
        )));
    };
    if !namespaced {
        return Err(Refusal::NotAllowed(format!("{kind} is not namespaced: use a namespaced kind")));
    }
    let name = format!("{plural}.{group}");
    let definition = match bounded(Api::<CustomResourceDefinition>::all(client.clone()).get_opt(&name)).await
    {
        Ok(Some(definition)) => definition,
        Ok(None) => {
            return Err(Refusal::NotAllowed(format!(
                "{kind} has no CustomResourceDefinition {name}: use a kind of a Cluster API provider"
            )));
        }
        Err(outage) => return Err(Refusal::Unreachable(outage.message)),
    };
    verdict(*role, &definition, version).map_err(Refusal::NotAllowed)?;
    Ok(ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: api_version.clone(),
        kind: kind.clone(),
        plural,
    })
}

async fn bounded<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, Outage> {
    match timeout(CALL_TIMEOUT, call).await {
        Ok(answer) => answer.map_err(|error| Outage::from(&error)),
        Err(_elapsed) => Err(Outage::no_answer()),
    }
}
