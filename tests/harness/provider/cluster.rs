use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{DynamicObject, PostParams};
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};
use serde_json::json;

use super::{Context, Result, bootstrap, control_plane, infrastructure};

pub async fn reconcile_cluster(object: Arc<DynamicObject>, context: Arc<Context>) -> Result<Action> {
    let status = json!({"ready": true, "initialization": {"provisioned": true}});
    context.set_status(&object, &infrastructure("StubCluster"), status).await?;
    Ok(Action::await_change())
}

pub async fn reconcile_control_plane(object: Arc<DynamicObject>, context: Arc<Context>) -> Result<Action> {
    let status = json!({
        "ready": true,
        "initialized": true,
        "initialization": {"controlPlaneInitialized": true},
        // Without it Cluster API neither drains nor deletes Nodes of a Cluster without control-plane
        // Machines.
        "externalManagedControlPlane": object.data["spec"]["isExternal"].as_bool().unwrap_or(true),
    });
    context.set_status(&object, &control_plane(), status).await?;
    Ok(Action::await_change())
}

pub async fn reconcile_config(object: Arc<DynamicObject>, context: Arc<Context>) -> Result<Action> {
    let done = object.data["status"]["dataSecretName"].is_string();
    if done || object.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    if let Some(message) =
        context.behaviour(&object)?.fail.filter(|_| object.data["spec"]["stub"]["fail"].is_string())
    {
        let ready = json!({
            "type": "Ready", "status": "False", "reason": "Failed", "message": message,
            "lastTransitionTime": "2000-01-01T00:00:00Z",
        });
        context.set_status(&object, &bootstrap(), json!({"conditions": [ready]})).await?;
        return Ok(Action::await_change());
    }
    let name = format!("{}-data", object.name_any());
    let resource = bootstrap();
    let secret: Secret = serde_json::from_value(json!({
        "metadata": {"name": name, "ownerReferences": [{
            "apiVersion": resource.api_version, "kind": resource.kind,
            "name": object.name_any(), "uid": object.uid(),
        }]},
        "type": "cluster.x-k8s.io/secret",
        "stringData": {"value": "#!/bin/sh"},
    }))?;
    let secrets: Api<Secret> =
        Api::namespaced(context.management.clone(), &object.namespace().unwrap_or_default());
    match secrets.create(&PostParams::default(), &secret).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        other => drop(other?),
    }
    let mut status =
        json!({"ready": true, "dataSecretName": name, "initialization": {"dataSecretCreated": true}});
    // What was complained of has been mended.
    if object.data["status"]["conditions"].is_array() {
        status["conditions"] = json!([]);
    }
    context.set_status(&object, &bootstrap(), status).await?;
    Ok(Action::await_change())
}
