//! Of everything that the API server has to give, an agent's token may have what is written down, and no more.

use std::collections::BTreeSet;

use futures::StreamExt;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResource;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::confined::{ONLY_OWN, ONLY_REQUEST, with_all_roles};
use super::desk::{Desk, NAMESPACE};

const VERBS: [&str; 8] = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];
/// What no resource has of its own, and roles can give all the same.
const ODD: [(&str, &str, &str); 6] = [
    ("", "users", "impersonate"),
    ("", "groups", "impersonate"),
    ("", "serviceaccounts", "impersonate"),
    ("rbac.authorization.k8s.io", "clusterroles", "escalate"),
    ("rbac.authorization.k8s.io", "clusterroles", "bind"),
    ("certificates.k8s.io", "signers", "approve"),
];

/// One kind of object that the server has, with its subresources.
struct Found {
    group: String,
    version: String,
    resource: APIResource,
}

async fn discovered(client: &Client) -> Vec<Found> {
    let mut found = Vec::new();
    let mut add = |group: &str, version: &str, list: Vec<APIResource>| {
        found.extend(list.into_iter().map(|resource| Found {
            group: group.to_owned(),
            version: version.to_owned(),
            resource,
        }));
    };
    add("", "v1", client.list_core_api_resources("v1").await.unwrap().resources);
    for group in client.list_api_groups().await.unwrap().groups {
        for version in &group.versions {
            let list = client.list_api_group_resources(&version.group_version).await.unwrap();
            add(&group.name, &version.version, list.resources);
        }
    }
    found
}

/// In its namespace, elsewhere, everywhere; `*` stands for the last.
type Right = (String, String, String, String);

async fn may(client: &Client, right: Right) -> Option<Right> {
    let (place, group, resource, verb) = right.clone();
    let (resource, subresource) = match resource.split_once('/') {
        Some((resource, sub)) => (resource.to_owned(), Some(sub.to_owned())),
        None => (resource, None),
    };
    let namespace = (place != "*").then_some(place);
    let attributes = ResourceAttributes {
        namespace,
        group: Some(group),
        resource: Some(resource),
        subresource,
        verb: Some(verb),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec {
        resource_attributes: Some(attributes),
        ..SelfSubjectAccessReviewSpec::default()
    };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answer = reviews.create(&PostParams::default(), &review).await.unwrap();
    answer.status.unwrap().allowed.then_some(right)
}

#[tokio::test]
async fn of_everything_the_server_has_its_roles_give_what_is_written_down() {
    let desk = Desk::new().await;
    let client = desk.client(&desk.token).await;
    let found = discovered(&desk.admin).await;
    assert!(found.len() > 80, "only {} resources are discovered", found.len());
    let mut rights: BTreeSet<Right> = BTreeSet::new();
    let mut ask = |group: &str, resource: &str, verb: &str| {
        for place in [NAMESPACE, "default", "*"] {
            rights.insert((place.to_owned(), group.to_owned(), resource.to_owned(), verb.to_owned()));
        }
    };
    for Found { group, resource, .. } in &found {
        for verb in VERBS {
            ask(group, &resource.name, verb);
        }
    }
    for (group, resource, verb) in ODD {
        ask(group, resource, verb);
    }
    let asked = rights.len();
    let answers = futures::stream::iter(rights).map(|right| may(&client, right)).buffer_unordered(16);
    let allowed: BTreeSet<Right> = answers.filter_map(|right| async { right }).collect().await;
    eprintln!("{asked} questions over {} resources, {} allowed", found.len(), allowed.len());

    let mut expected = BTreeSet::new();
    let mut give = |places: &[&str], group: &str, resource: &str, verbs: &[&str]| {
        for (place, verb) in places.iter().flat_map(|place| verbs.iter().map(move |verb| (place, verb))) {
            let right = (*place, group, resource, *verb);
            expected.insert((right.0.to_owned(), right.1.to_owned(), right.2.to_owned(), right.3.to_owned()));
        }
    };
    let everywhere = [NAMESPACE, "default", "*"];
    // What docs/agent-in-the-cluster.md says.
    give(&everywhere, "", "nodes", &["get", "patch"]);
    give(&[NAMESPACE], "", "configmaps", &["get", "list", "watch"]);
    give(&[NAMESPACE], "coordination.k8s.io", "leases", &["create", "patch"]);
    // What Kubernetes lets everybody ask about himself.
    give(&everywhere, "authentication.k8s.io", "selfsubjectreviews", &["create"]);
    give(&everywhere, "authorization.k8s.io", "selfsubjectaccessreviews", &["create"]);
    give(&everywhere, "authorization.k8s.io", "selfsubjectrulesreviews", &["create"]);
    let more: Vec<_> = allowed.difference(&expected).collect();
    let less: Vec<_> = expected.difference(&allowed).collect();
    assert!(more.is_empty() && less.is_empty(), "more: {more:?}; less: {less:?}");
}

/// Policies that policies are not asked about.
const UNASKED: &str = "admissionregistration.k8s.io";

#[tokio::test]
async fn of_every_kind_of_object_there_is_the_policy_lets_none_be_changed_whatever_the_roles() {
    let desk = Desk::new().await;
    let client = with_all_roles(&desk).await;
    let (mut tried, mut passed) = (Vec::new(), Vec::new());
    for Found { group, version, resource } in discovered(&desk.admin).await {
        let can = |verb: &str| resource.verbs.iter().any(|has| has == verb);
        if resource.name.contains('/') || !can("list") || !can("patch") {
            continue;
        }
        let what = ApiResource {
            api_version: if group.is_empty() { version.clone() } else { format!("{group}/{version}") },
            group,
            version,
            kind: resource.kind,
            plural: resource.name,
        };
        let all: Api<DynamicObject> = Api::all_with(desk.admin.clone(), &what);
        let Some(object) = all.list(&ListParams::default().limit(1)).await.unwrap().items.pop() else {
            continue;
        };
        let api: Api<DynamicObject> = match object.namespace() {
            Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &what),
            None => Api::all_with(client.clone(), &what),
        };
        let params = PatchParams { dry_run: true, ..PatchParams::default() };
        let label = Patch::Merge(json!({"metadata": {"labels": {"stolen": "yes"}}}));
        let name = format!("{} {}", what.api_version, what.plural);
        match api.patch(&object.name_any(), &params, &label).await {
            Err(kube::Error::Api(status)) if status.code == 403 || status.code == 422 => {
                let is_ours = status.message.contains(ONLY_OWN) || status.message.contains(ONLY_REQUEST);
                assert!(is_ours, "{name}: {}", status.message);
                tried.push(name);
            }
            // Gone meanwhile, with the test that had made it.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => panic!("{name}: {error}"),
            Ok(_) => {
                assert_eq!(what.group, UNASKED, "{name}: changed");
                passed.push(name);
            }
        }
    }
    eprintln!("refused: {tried:?}; not asked about: {passed:?}");
    for kind in ["v1 nodes", "v1 pods", "v1 configmaps", "v1 serviceaccounts", "v1 namespaces"] {
        assert!(tried.iter().any(|name| name == kind), "{kind} among {tried:?}");
    }
    assert!(tried.len() > 15, "only {tried:?}");
    assert!(
        !passed.is_empty(),
        "policies are asked about policies: docs/agent-in-the-cluster.md says they are not"
    );
}
