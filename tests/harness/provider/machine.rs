use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::behaviour::Behaviour;
use super::{Context, FINALIZER, Result, infrastructure};
use crate::harness::kwok;

pub async fn reconcile(object: Arc<DynamicObject>, context: Arc<Context>) -> Result<Action> {
    let behaviour = context.behaviour(&object)?;
    if object.metadata.deletion_timestamp.is_some() {
        return end(&object, &context, &behaviour).await;
    }
    claim(&object, &context).await?;
    if behaviour.never_provisions || object.data["status"]["ready"] == true {
        return Ok(Action::await_change());
    }
    if let Some(message) = &behaviour.fail {
        // No time in it: the same complaint written again would be a change.
        let condition = condition("False", "Failed", message, "2000-01-01T00:00:00Z");
        let status = json!({"conditions": [condition]});
        context.set_status(&object, &infrastructure("StubMachine"), status).await?;
        return Ok(Action::await_change());
    }
    if !has_bootstrap_data(&object, &context).await? {
        return Ok(Action::await_change());
    }
    if let Some(left) = context.remaining(&object, "provisioning", behaviour.provision_after) {
        return Ok(Action::requeue(left));
    }
    provision(&object, &context, &behaviour).await?;
    Ok(Action::await_change())
}

fn condition(status: &str, reason: &str, message: &str, since: &str) -> Value {
    let (kind, transition) = ("Ready", since);
    json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": transition})
}

fn provider_id(object: &DynamicObject) -> String {
    format!("stub://{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

/// A host has one name, whichever machine it is lent as.
fn node_name(object: &DynamicObject) -> String {
    object.data["spec"]["stub"]["node"].as_str().map_or_else(|| object.name_any(), str::to_owned)
}

/// Finalizer and provider id, as soon as the object is seen. One that was moved here keeps the host that it has.
async fn claim(object: &DynamicObject, context: &Context) -> Result<()> {
    let id = object.data["spec"]["providerID"].as_str().map_or_else(|| provider_id(object), str::to_owned);
    let mut finalizers = object.finalizers().to_vec();
    let held = finalizers.iter().any(|finalizer| finalizer == FINALIZER);
    if held && object.data["spec"]["providerID"] == *id {
        return Ok(());
    }
    if !held {
        finalizers.push(FINALIZER.to_owned());
    }
    let metadata = json!({"finalizers": finalizers, "resourceVersion": object.resource_version()});
    patch(object, context, &json!({"metadata": metadata, "spec": {"providerID": id}})).await
}

async fn patch(object: &DynamicObject, context: &Context, body: &Value) -> Result<()> {
    let api = context.api(object, &infrastructure("StubMachine"));
    api.patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(body)).await?;
    Ok(())
}

async fn has_bootstrap_data(object: &DynamicObject, context: &Context) -> Result<bool> {
    let Some(owner) = object.owner_references().iter().find(|owner| owner.kind == "Machine") else {
        return Ok(false);
    };
    let machine = context.api(object, &context.machine).get_opt(&owner.name).await?;
    Ok(machine.is_some_and(|machine| machine.data["spec"]["bootstrap"]["dataSecretName"].is_string()))
}

async fn provision(object: &DynamicObject, context: &Context, behaviour: &Behaviour) -> Result<()> {
    let name = node_name(object);
    let mut node: Node = serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {"providerID": object.data["spec"]["providerID"].as_str().unwrap_or(&provider_id(object))},
    }))?;
    if !behaviour.never_ready {
        let (key, value) = kwok::ANNOTATION_NODE;
        node.annotations_mut().insert(key.to_owned(), value.to_owned());
    }
    let nodes: Api<Node> = Api::all(context.workload.clone());
    match nodes.create(&PostParams::default(), &node).await {
        // A kubelet takes a Node object of its name for its own, whoever left it there.
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        other => drop(other?),
    }
    let now = jiff::Timestamp::now().strftime("%FT%TZ").to_string();
    let status = json!({
        "ready": true,
        "initialization": {"provisioned": true},
        "addresses": [{"type": "InternalIP", "address": "10.98.0.1"}, {"type": "Hostname", "address": name}],
        "conditions": [condition("True", "Provisioned", "", &now)],
    });
    context.set_status(object, &infrastructure("StubMachine"), status).await
}

/// The end of the host, and then of the finalizer.
async fn end(object: &DynamicObject, context: &Context, behaviour: &Behaviour) -> Result<Action> {
    let others: Vec<_> = object.finalizers().iter().filter(|f| *f != FINALIZER).collect();
    if behaviour.hold_finalizer || others.len() == object.finalizers().len() {
        return Ok(Action::await_change());
    }
    if let Some(left) = context.remaining(object, "deprovisioning", behaviour.deprovision_after) {
        return Ok(Action::requeue(left));
    }
    if behaviour.deletes_node {
        let nodes: Api<Node> = Api::all(context.workload.clone());
        match nodes.delete(&node_name(object), &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            other => drop(other?),
        }
    }
    let metadata = json!({"finalizers": others, "resourceVersion": object.resource_version()});
    patch(object, context, &json!({"metadata": metadata})).await?;
    Ok(Action::await_change())
}
