//! The manifests in API servers that enforce Pod Security.

use k8s_openapi::api::core::v1::{Pod, SecurityContext};
use kube::api::PostParams;
use kube::{Api, Client};

use super::shipped::{container, installed, kubectl, named, pod_of, rendered};
use crate::harness::Plane;

const NAMESPACE: &str = "5spot-system";

/// Whether the API server would take the pod; its words if not.
async fn tried(plane: &Plane, pod: &Pod) -> Result<Pod, String> {
    let client: Client = plane.client().await;
    let pods: Api<Pod> = Api::namespaced(client, NAMESPACE);
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    Box::pin(pods.create(&dry_run, pod)).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn what_is_applied_a_second_time_is_unchanged() {
    let planes = installed().await;
    let again = kubectl(
        planes,
        planes.management(),
        &["diff", "--server-side", "--force-conflicts", "-k", "manifests"],
    );
    assert!(again.is_empty(), "{again}");
}

#[tokio::test]
async fn the_controllers_pod_passes_the_strictest_level_and_less_careful_ones_do_not() {
    let planes = installed().await;
    let objects = rendered(planes, "manifests");
    let pod = pod_of(&named(&objects, "Deployment", "5spot-controller")["spec"]["template"]);
    tried(planes.management(), &pod).await.unwrap();

    let changed = |change: fn(&mut SecurityContext)| {
        let mut pod = pod.clone();
        let container = &mut pod.spec.as_mut().unwrap().containers[0];
        change(container.security_context.as_mut().unwrap());
        pod
    };
    for (what, pod) in [
        (
            "privileged (container",
            changed(|security| {
                security.privileged = Some(true);
                security.allow_privilege_escalation = Some(true);
            }),
        ),
        ("allowPrivilegeEscalation", changed(|security| security.allow_privilege_escalation = None)),
        ("unrestricted capabilities", changed(|security| security.capabilities = None)),
    ] {
        let words = tried(planes.management(), &pod).await.expect_err(what);
        assert!(
            words.contains("violates PodSecurity \"restricted:latest\"") && words.contains(what),
            "{words}"
        );
    }
}

#[tokio::test]
async fn the_agents_pod_is_taken_where_agents_are_and_nowhere_else() {
    let planes = installed().await;
    let set = |base: &str| {
        let objects = rendered(planes, base);
        pod_of(&named(&objects, "DaemonSet", "5spot-reclaim-agent")["spec"]["template"])
    };
    for base in ["manifests/agent", "manifests/agent-poll"] {
        tried(planes.workload(), &set(base)).await.unwrap();
        let words = tried(planes.management(), &set(base)).await.expect_err("refused");
        assert!(
            words.contains("violates PodSecurity") && words.contains("host namespaces"),
            "{base}: {words}"
        );
    }
}

#[tokio::test]
async fn the_commands_that_the_predecessors_users_know_still_work() {
    let planes = installed().await;
    // Of the predecessor's page on its agent, word for word.
    let words = ["set", "env", "-n", NAMESPACE, "ds/5spot-reclaim-agent", "RECLAIM_DETECTOR=poll"];
    let dry_run = [&words[..], &["--dry-run=server", "-o", "json"]].concat();
    let set: serde_json::Value = serde_json::from_str(&kubectl(planes, planes.workload(), &dry_run)).unwrap();
    let pod = pod_of(&set["spec"]["template"]);
    let detector: Vec<_> =
        container(&pod).env.iter().flatten().filter(|env| env.name == "RECLAIM_DETECTOR").collect();
    assert_eq!(detector.len(), 1, "{detector:?}");
    assert_eq!(detector[0].value.as_deref(), Some("poll"));
    let image =
        ["set", "image", "-n", NAMESPACE, "deployment/5spot-controller", "controller=example.com/5spot:v9"];
    let dry_run =
        [&image[..], &["--dry-run=server", "-o", "jsonpath={.spec.template.spec.containers[*].image}"]]
            .concat();
    assert_eq!(kubectl(planes, planes.management(), &dry_run), "example.com/5spot:v9");
}
