//! Who may write which ScheduledMachine: the shipped policy, asked by people with and without rights.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::harness::wait::asked_until;
use crate::world::{World, merge, scheduled_machine, spec};

/// For roles, bindings and the policy itself to be known to the API server's own caches.
const PATIENCE: Duration = Duration::from_secs(240);
const INFRASTRUCTURE: &str = "infrastructure.cluster.x-k8s.io";
const BOOTSTRAP: &str = "bootstrap.cluster.x-k8s.io";
const BINDING: &str = "scheduledmachine-validation-binding";

/// Somebody in a world's namespace.
struct Person<'a> {
    world: &'a World,
    name: String,
    machines: Api<DynamicObject>,
}

impl<'a> Person<'a> {
    /// Who may edit ScheduledMachines, and nothing else.
    async fn new(world: &'a World, name: &str) -> Self {
        let name = format!("{name}-{}", world.tenant.namespace);
        let client: Client = world.tenant.management_plane().client_as(&name, &[]).await;
        let machines = Api::namespaced_with(client, &world.tenant.namespace, &scheduled_machine());
        let person = Self { world, name, machines };
        let verbs = json!(["get", "create", "update", "patch", "delete"]);
        person
            .may(
                json!({"apiGroups": ["5spot.finos.org"], "resources": ["scheduledmachines"], "verbs": verbs}),
            )
            .await;
        person
    }

    /// One more right, in the namespace.
    async fn may(&self, rule: Value) {
        let (client, namespace) = (&self.world.tenant.management, &self.world.tenant.namespace);
        let name = self.world.tenant.unique("right");
        let granted: Role =
            serde_json::from_value(json!({"metadata": {"name": name}, "rules": [rule]})).unwrap();
        let binding: RoleBinding = serde_json::from_value(json!({
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": self.name}],
        }))
        .unwrap();
        let params = PostParams::default();
        Api::namespaced(client.clone(), namespace).create(&params, &granted).await.unwrap();
        Api::namespaced(client.clone(), namespace).create(&params, &binding).await.unwrap();
    }

    async fn may_create(&self, group: &str, resource: &str) {
        self.may(json!({"apiGroups": [group], "resources": [resource], "verbs": ["create"]})).await;
    }

    /// Creates the usual ScheduledMachine with these fields put over it; the server's words, if it refuses.
    async fn creates(&self, name: &str, over: Value, dry_run: bool) -> Result<(), String> {
        let mut spec = spec(&self.world.tenant.cluster);
        merge(&mut spec, over);
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "5spot.finos.org/v1alpha1", "kind": "ScheduledMachine",
            "metadata": {"name": name}, "spec": spec,
        }))
        .unwrap();
        let params = PostParams { dry_run, ..PostParams::default() };
        said(self.machines.create(&params, &object).await)
    }

    async fn patches(&self, name: &str, patch: Value) -> Result<(), String> {
        said(self.machines.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await)
    }

    /// A PUT of what is there with this put over it; tried again where the controller has written its status meanwhile.
    async fn puts(&self, name: &str, over: impl Fn(&mut DynamicObject)) {
        asked_until("let put it", PATIENCE, async || {
            let mut object = self.machines.get(name).await.unwrap();
            over(&mut object);
            match self.machines.replace(name, &PostParams::default(), &object).await {
                Err(kube::Error::Api(status)) if status.code == 409 => false,
                taken => taken.map(|_| true).expect("a lawful PUT"),
            }
        })
        .await;
    }

    /// Tries until the server answers as it should once it knows of the rights.
    async fn until_told(&self, name: &str, over: Value, words: &[&str]) {
        let what = format!("told {words:?}");
        asked_until(&what, PATIENCE, async || {
            let told = self.creates(name, over.clone(), true).await.err().unwrap_or_default();
            words.iter().all(|word| told.contains(word))
        })
        .await;
    }

    async fn until_let(&self, name: &str, over: Value) {
        asked_until("let in", PATIENCE, async || self.creates(name, over.clone(), true).await.is_ok()).await;
    }
}

/// A refusal of the policy is a 403; anything else that is not success has no place here.
fn said(outcome: kube::Result<DynamicObject>) -> Result<(), String> {
    match outcome {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 403 => Err(status.message),
        Err(other) => panic!("neither done nor forbidden: {other}"),
    }
}

#[tokio::test]
async fn whoever_may_not_create_the_kinds_is_told_which_right_is_missing_until_it_is_there() {
    let world = World::start("asker").await;
    let alice = Person::new(&world, "alice").await;
    let (name, namespace) =
        (world.tenant.unique("ws"), format!("in namespace \"{}\"", world.tenant.namespace));
    let user = format!("user \"{}\"", alice.name);
    let right = "grant verb create on stubconfigs.bootstrap.cluster.x-k8s.io";
    alice
        .until_told(&name, json!({}), &["spec.bootstrapSpec (kind StubConfig)", &user, right, &namespace])
        .await;
    alice.may_create(BOOTSTRAP, "stubconfigs").await;
    let right = "grant verb create on stubmachines.infrastructure.cluster.x-k8s.io";
    let words = ["spec.infrastructureSpec (kind StubMachine)", &user, right, &namespace];
    alice.until_told(&name, json!({}), &words).await;
    alice.may_create(INFRASTRUCTURE, "stubmachines").await;
    alice.until_let(&name, json!({})).await;

    let secret = json!({"kubeconfigSecretRef": {"name": "hers"}});
    let told = alice.creates(&name, secret.clone(), true).await.unwrap_err();
    let right = "grant verb get on secrets \"hers\"";
    assert!(
        told.contains("spec.kubeconfigSecretRef") && told.contains(right) && told.contains(&user),
        "{told}"
    );
    alice
        .may(
            json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["hers"], "verbs": ["get"]}),
        )
        .await;
    alice.until_let(&name, secret).await;

    alice.creates(&name, json!({}), false).await.unwrap();
    world.until_settled(&name, "Active").await;
    let audit = world.tenant.planes().management().audit().after(world.mark);
    let hers = audit.by(&alice.name).verb("create").on("scheduledmachines");
    let lasting = hers.accepted().only(|call| !call.uri.contains("dryRun"));
    assert_eq!(lasting.len(), 1, "{hers}");
    assert!(hers.only(|call| call.code == 403).len() >= 3, "{hers}");
    for resource in ["stubconfigs", "stubmachines", "machines"] {
        assert_eq!(
            world.calls().verb("create").on(resource).accepted().len(),
            1,
            "made by the controller: {resource}"
        );
        assert!(audit.by(&alice.name).on(resource).is_empty(), "she made it herself");
    }
}

#[tokio::test]
async fn edits_that_ask_for_nothing_new_stay_open_to_people_without_those_rights() {
    let world = World::start("editor").await;
    let bob = Person::new(&world, "bob").await;
    let name = world.tenant.unique("ws");
    world.create(&name, json!({})).await;
    world.until_settled(&name, "Active").await;
    // The policy is in force, and his first right is known.
    bob.until_told("another", json!({}), &["spec.bootstrapSpec"]).await;

    for patch in [
        json!({"metadata": {"labels": {"team": "risk"}, "annotations": {"note": "x"}}}),
        json!({"metadata": {"finalizers": ["5spot.finos.org/scheduledmachine", "example.com/his"]}}),
        json!({"metadata": {"finalizers": ["5spot.finos.org/scheduledmachine"]}}),
        json!({"spec": {"priority": 9, "nodeDrainTimeout": "5s", "schedule": {"hoursOfDay": ["0-22", "23"]}}}),
        json!({"spec": {"machineTemplate": {"labels": {"team": "risk"}}}}),
        json!({"spec": {"killSwitch": true}}),
    ] {
        bob.patches(&name, patch.clone()).await.unwrap_or_else(|told| panic!("{patch}: {told}"));
    }
    world.until_settled(&name, "Terminated").await;
    bob.patches(&name, json!({"spec": {"killSwitch": false}})).await.unwrap();
    world.until_settled(&name, "Active").await;
    bob.puts(&name, |_| {}).await;

    for (patch, words) in [
        (json!({"bootstrapSpec": {"spec": {"x": 1}}}), "spec.bootstrapSpec (kind StubConfig)"),
        (json!({"infrastructureSpec": {"spec": {"x": 1}}}), "spec.infrastructureSpec (kind StubMachine)"),
        (json!({"infrastructureSpec": {"kind": "Other"}}), "grant verb create on others.infrastructure"),
        (json!({"kubeconfigSecretRef": {"name": "not-his"}}), "grant verb get on secrets \"not-his\""),
    ] {
        let told = bob.patches(&name, json!({"spec": patch})).await.unwrap_err();
        assert!(told.contains(words), "{patch}: {told}");
    }
    world
        .edit(&name, json!({"kubeconfigSecretRef": {"name": format!("{}-kubeconfig", world.tenant.cluster)}}))
        .await;
    bob.patches(&name, json!({"spec": {"kubeconfigSecretRef": null}})).await.expect("back to the default");
    // As a client writes it that spells out what is absent.
    bob.puts(&name, |object| object.data["spec"]["kubeconfigSecretRef"] = Value::Null).await;

    let audit = world.tenant.planes().management().audit().after(world.mark);
    let refused = audit.by(&bob.name).verb("patch").on("scheduledmachines").only(|call| call.code == 403);
    assert_eq!(refused.len(), 4, "{refused}");
    // Finalizer and status of a whole life, with none of its writes refused.
    let own = world.calls().on("scheduledmachines").writes();
    assert!(own.len() > 3 && own.only(|call| call.code >= 300).is_empty(), "{own}");
}

#[tokio::test]
async fn a_kind_whose_plural_is_another_is_named_on_the_binding() {
    let world = World::start("plural").await;
    let carol = Person::new(&world, "carol").await;
    let name = world.tenant.unique("ws");
    let proxy = json!({"infrastructureSpec": {"kind": "StubProxy"}});
    carol.may_create(BOOTSTRAP, "stubconfigs").await;
    carol.may_create(INFRASTRUCTURE, "stubproxies").await;
    let words = [
        "grant verb create on stubproxys.infrastructure",
        "infrastructure.cluster.x-k8s.io/StubProxy=<resource>",
    ];
    carol.until_told(&name, proxy.clone(), &words).await;

    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(world.tenant.management.clone());
    let annotated =
        json!({"metadata": {"annotations": {"infrastructure.cluster.x-k8s.io/StubProxy": "stubproxies"}}});
    bindings.patch(BINDING, &PatchParams::default(), &Patch::Merge(annotated)).await.unwrap();
    carol.until_let(&name, proxy).await;
    // Another kind goes by its own name as before.
    let told = carol.creates(&name, json!({}), true).await.unwrap_err();
    assert!(told.contains("grant verb create on stubmachines.infrastructure"), "{told}");
}

#[tokio::test]
async fn the_policy_is_part_of_the_default_install() {
    let world = World::start("install").await;
    let planes = world.tenant.planes();
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
    let applied = Command::new(&planes.binaries().kubectl)
        .arg("--kubeconfig")
        .arg(planes.management().kubeconfig())
        .args(["apply", "--dry-run=server", "--server-side", "--force-conflicts", "-k"])
        .arg(&manifests)
        .output()
        .unwrap();
    let shown =
        format!("{}{}", String::from_utf8_lossy(&applied.stdout), String::from_utf8_lossy(&applied.stderr));
    assert!(applied.status.success(), "{shown}");
    for object in [
        "customresourcedefinition.apiextensions.k8s.io/scheduledmachines.5spot.finos.org",
        "customresourcedefinition.apiextensions.k8s.io/machineholds.5spot.finos.org",
        "clusterrole.rbac.authorization.k8s.io/5spot-controller",
        "validatingadmissionpolicy.admissionregistration.k8s.io/scheduledmachine-validation",
        "validatingadmissionpolicybinding.admissionregistration.k8s.io/scheduledmachine-validation-binding",
    ] {
        assert!(shown.contains(object), "{object} in {shown}");
    }
}
