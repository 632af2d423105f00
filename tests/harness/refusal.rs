//! An API server that refuses to create or delete something, as an admission webhook or a quota would.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use super::plane::{Plane, client_from};
use super::{Result, runtime};

/// A refusal in force. It ends with [`Refusal::lift`], or at the latest a moment after it is dropped.
#[derive(Debug)]
pub struct Refusal {
    kubeconfig: String,
    namespace: String,
    name: String,
    lifted: bool,
}

/// From now on the server answers 403 with `message` to whoever creates that resource (plural, without group)
/// in that namespace. Returns when it does.
pub async fn refuse_creates(plane: &Plane, namespace: &str, resource: &str, message: &str) -> Refusal {
    refuse(plane, namespace, "CREATE", resource, message).await
}

/// The same for whoever deletes it.
pub async fn refuse_deletes(plane: &Plane, namespace: &str, resource: &str, message: &str) -> Refusal {
    refuse(plane, namespace, "DELETE", resource, message).await
}

async fn refuse(plane: &Plane, namespace: &str, verb: &str, resource: &str, message: &str) -> Refusal {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("refusal-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let refusal = Refusal {
        kubeconfig: plane.admin().to_owned(),
        namespace: namespace.to_owned(),
        name,
        lifted: false,
    };
    let client = plane.client().await;
    refusal.install(&client, verb, resource, message).await.expect("an admission policy");
    refusal.until(&client, true).await;
    refusal
}

impl Refusal {
    async fn install(&self, client: &Client, verb: &str, resource: &str, message: &str) -> Result<()> {
        let name = &self.name;
        // A ConfigMap of the policy's name is refused too: a dry run of one tells when the policy is in
        // force, without a valid object of every kind.
        let probe_only =
            format!("request.resource.resource == '{resource}' || object.metadata.name == '{name}'");
        let policy: ValidatingAdmissionPolicy = serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {"resourceRules": [
                    {"apiGroups": ["*"], "apiVersions": ["*"], "resources": [resource], "operations": [verb]},
                    {"apiGroups": [""], "apiVersions": ["*"], "resources": ["configmaps"], "operations": ["CREATE"]},
                ]},
                "matchConditions": [{"name": "resource-or-probe", "expression": probe_only}],
                "validations": [{"expression": "false", "message": message, "reason": "Forbidden"}],
            },
        }))?;
        let binding: ValidatingAdmissionPolicyBinding = serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {
                "policyName": name,
                "validationActions": ["Deny"],
                "matchResources": {"namespaceSelector": {
                    "matchLabels": {"kubernetes.io/metadata.name": self.namespace},
                }},
            },
        }))?;
        Api::all(client.clone()).create(&PostParams::default(), &policy).await?;
        Api::all(client.clone()).create(&PostParams::default(), &binding).await?;
        Ok(())
    }

    /// Ends it; returns when the server does as it is asked again.
    pub async fn lift(mut self) {
        self.lifted = true;
        let client = client_from(&self.kubeconfig).await.expect("a client");
        remove(&client, &self.name).await.expect("the policy to be removed");
        self.until(&client, false).await;
    }

    async fn until(&self, client: &Client, refused: bool) {
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), &self.namespace);
        let probe: ConfigMap =
            serde_json::from_value(json!({"metadata": {"name": self.name}})).expect("a probe");
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        let deadline = Instant::now() + Duration::from_secs(240);
        loop {
            let answer = api.create(&dry_run, &probe).await;
            if answer.is_err() == refused {
                return;
            }
            assert!(Instant::now() < deadline, "admission policy {} has no effect: {answer:?}", self.name);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn remove(client: &Client, name: &str) -> Result<()> {
    let params = DeleteParams::default();
    Api::<ValidatingAdmissionPolicyBinding>::all(client.clone()).delete(name, &params).await?;
    Api::<ValidatingAdmissionPolicy>::all(client.clone()).delete(name, &params).await?;
    Ok(())
}

impl Drop for Refusal {
    fn drop(&mut self) {
        if self.lifted {
            return;
        }
        let (kubeconfig, name) = (self.kubeconfig.clone(), self.name.clone());
        drop(runtime::spawn(async move { remove(&client_from(&kubeconfig).await?, &name).await }));
    }
}
