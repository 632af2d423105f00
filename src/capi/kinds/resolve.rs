//! From `apiVersion` and `kind` to a resource, by asking the API server.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIGroup, APIResource};
use kube::{Client, core::discovery::ApiResource};
use tokio::time::timeout;

use super::Id;
use crate::watch::{Cause, Outage};

/// One call of discovery.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a kind cannot be used, or not yet; see the variants of [`super::KindView`] of the same names.
pub(super) enum Refusal {
    NotServed(String),
    NotAllowed(String),
    Unreachable(String),
}

/// A namespaced kind that is served.
pub(super) struct Found {
    pub(super) resource: ApiResource,
    /// It is served in this version, and not in the one that was asked for; in words.
    pub(super) instead: Option<String>,
}

/// What can be said without asking: group names are compared exactly, and the version becomes part of a URL.
pub(super) fn admit(allowed_groups: &[String], api_version: &str) -> Result<(), Refusal> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    if !allowed_groups.iter().any(|allowed| allowed == group) {
        let shown = if group.is_empty() { "the core group" } else { group };
        return Err(Refusal::NotAllowed(format!(
            "API group {shown} is not among the allowed ones ({}): use a kind of these, or allow the group (--allowed-api-groups)",
            allowed_groups.join(", ")
        )));
    }
    if version.is_empty() || !version.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
        return Err(Refusal::NotServed(format!("apiVersion {api_version} is not of the form group/version")));
    }
    Ok(())
}

/// The resource of an allowed kind, by its plural as the server has it: in the version asked for, or else in another.
///
/// # Errors
/// Why not.
pub(super) async fn find(client: &Client, id: &Id) -> Result<Found, Refusal> {
    let Id { api_version, kind, .. } = id;
    let (group, asked) = api_version.split_once('/').unwrap_or(("", api_version));
    let in_version = match listed(client, api_version).await? {
        Some(resources) => match of_kind(&resources, kind) {
            Some(resource) => {
                return Ok(Found { resource: resource_of(group, asked, resource)?, instead: None });
            }
            None => format!("{api_version} has no kind {kind}"),
        },
        None => format!("{api_version} is not served"),
    };
    for version in versions(client, group).await?.iter().filter(|version| *version != asked) {
        let resources = listed(client, &format!("{group}/{version}")).await?.unwrap_or_default();
        if let Some(resource) = of_kind(&resources, kind) {
            let why = format!("{in_version}: it is served as {version}, correct apiVersion");
            return Ok(Found { resource: resource_of(group, version, resource)?, instead: Some(why) });
        }
    }
    Err(Refusal::NotServed(format!("{in_version}: install its provider or correct apiVersion and kind")))
}

fn of_kind<'a>(resources: &'a [APIResource], kind: &str) -> Option<&'a APIResource> {
    resources.iter().find(|resource| resource.kind == *kind && !resource.name.contains('/'))
}

fn resource_of(group: &str, version: &str, resource: &APIResource) -> Result<ApiResource, Refusal> {
    let kind = &resource.kind;
    if !resource.namespaced {
        return Err(Refusal::NotAllowed(format!("{kind} is not namespaced: use a namespaced kind")));
    }
    Ok(ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: format!("{group}/{version}"),
        kind: kind.clone(),
        plural: resource.name.clone(),
    })
}

/// `None`: no such version.
async fn listed(client: &Client, api_version: &str) -> Result<Option<Vec<APIResource>>, Refusal> {
    known(bounded(client.list_api_group_resources(api_version)).await.map(|list| list.resources))
}

async fn versions(client: &Client, group: &str) -> Result<Vec<String>, Refusal> {
    let request = http::Request::get(format!("/apis/{group}"))
        .body(Vec::new())
        .map_err(|error| Refusal::NotServed(format!("API group {group:?}: {error}")))?;
    let found = known(bounded(client.request::<APIGroup>(request)).await)?;
    let versions = found.map(|group| group.versions).unwrap_or_default();
    Ok(versions.into_iter().map(|version| version.version).collect())
}

fn known<T>(answer: Result<T, Outage>) -> Result<Option<T>, Refusal> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(outage) if outage.cause == Cause::Missing => Ok(None),
        Err(outage) => Err(Refusal::Unreachable(outage.message)),
    }
}

async fn bounded<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, Outage> {
    match timeout(CALL_TIMEOUT, call).await {
        Ok(answer) => answer.map_err(|error| Outage::from(&error)),
        Err(_elapsed) => Err(Outage::no_answer()),
    }
}
