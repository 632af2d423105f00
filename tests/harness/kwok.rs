//! kwok plays the kubelets of the workload cluster.

use std::fmt::Write as _;
use std::time::Duration;

use super::apiserver::Ground;
use super::process::{Component, Spec, start_ready};
use super::{Result, ports};

/// A Node with this annotation has a kubelet.
pub const ANNOTATION_NODE: (&str, &str) = ("kwok.x-k8s.io/node", "fake");

/// A pod with this annotation takes that long to end (`"5s"`), whatever its grace period; others end at once.
pub const ANNOTATION_POD_DELETE_DELAY: &str = "harness/delete-delay";

/// kwok's own stages for the end of a pod draw a delay at random up to the grace period.
const POD_DELETE: &str = r#"
---
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata: {name: pod-delete}
spec:
  resourceRef: {apiGroup: v1, kind: Pod}
  selector:
    matchExpressions:
    - {key: .metadata.deletionTimestamp, operator: Exists}
    - {key: '.metadata.annotations["harness/delete-delay"]', operator: DoesNotExist}
  next: {delete: true}
---
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata: {name: pod-delete-slowly}
spec:
  resourceRef: {apiGroup: v1, kind: Pod}
  selector:
    matchExpressions:
    - {key: .metadata.deletionTimestamp, operator: Exists}
    - {key: '.metadata.annotations["harness/delete-delay"]', operator: Exists}
  delay:
    durationMilliseconds: 0
    durationFrom: {expressionFrom: '.metadata.annotations["harness/delete-delay"]'}
  next: {delete: true}
"#;

/// Starts it on the workload server.
pub async fn start(ground: &Ground, server: &str) -> Result<Component> {
    let kubeconfig = ground.kubeconfig("kwok.kubeconfig", server, "kwok", &["system:masters"])?;
    let mut stages = ground.binaries.kwok_stages()?;
    stages.write_str(POD_DELETE)?;
    let config = ground.path("kwok.yaml");
    std::fs::write(&config, stages)?;
    let spec = || {
        let port = ports::free();
        let (key, value) = ANNOTATION_NODE;
        let args = vec![
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--config={}", config.display()),
            "--manage-all-nodes=false".to_owned(),
            format!("--manage-nodes-with-annotation-selector={key}={value}"),
            // The heartbeat stage is enough for the node lifecycle controller.
            "--node-lease-duration-seconds=0".to_owned(),
            format!("--server-address=127.0.0.1:{port}"),
            "--cidr=10.98.0.1/24".to_owned(),
            "--node-ip=10.98.0.1".to_owned(),
        ];
        (Spec { name: "kwok".to_owned(), program: ground.binaries.kwok.clone(), args, env: Vec::new() }, port)
    };
    let (kwok, _) = start_ready(&ground.dir, Duration::from_secs(180), spec, ports::open).await?;
    Ok(kwok)
}
