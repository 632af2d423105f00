//! Names and numbers that stand in several files of the manifests, and in the program: they agree. No control plane but for
//! its kubectl.

use std::ffi::OsString;
use std::fs;
use std::process::Command;

use fivespot::api::names;
use fivespot::cli::{self, Call, Typed};
use fivespot::config;
use serde_json::{Value, json};

use super::shipped::{container, environment, named, path, pod_of, rendered, selects};
use crate::harness::{self, manifests};

async fn controller() -> Vec<Value> {
    rendered(harness::shared().await, "manifests")
}

#[tokio::test]
async fn every_selector_finds_the_controllers_pods_and_every_port_is_one_of_theirs() {
    let objects = controller().await;
    let deployment = named(&objects, "Deployment", "5spot-controller");
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    let service = named(&objects, "Service", "controller");
    let network = named(&objects, "NetworkPolicy", "5spot-controller");
    let budget = named(&objects, "PodDisruptionBudget", "5spot-controller");
    let spread = &deployment["spec"]["template"]["spec"]["topologySpreadConstraints"];
    for selector in [
        &deployment["spec"]["selector"]["matchLabels"],
        &service["spec"]["selector"],
        &network["spec"]["podSelector"]["matchLabels"],
        &budget["spec"]["selector"]["matchLabels"],
        &spread[0]["labelSelector"]["matchLabels"],
        &spread[1]["labelSelector"]["matchLabels"],
    ] {
        assert!(selects(selector, labels), "{selector} of {labels}");
    }
    let ports = &deployment["spec"]["template"]["spec"]["containers"][0]["ports"];
    let port =
        |name: &str| ports.as_array().unwrap().iter().find(|port| port["name"] == name).unwrap().clone();
    let config = named(&objects, "ConfigMap", "5spot-config");
    for (name, variable) in [("metrics", "METRICS_PORT"), ("health", "HEALTH_PORT")] {
        assert_eq!(json!(port(name)["containerPort"].to_string()), config["data"][variable], "{name}");
    }
    assert_eq!(service["spec"]["ports"][0]["targetPort"], "metrics");
    assert_eq!(service["spec"]["ports"][0]["port"], port("metrics")["containerPort"]);
    assert_eq!(network["spec"]["ingress"][0]["ports"][0]["port"], "metrics");
    // Whatever the number of replicas, a Node can be drained.
    assert_eq!((&budget["spec"]["maxUnavailable"], budget["spec"].get("minAvailable")), (&json!(1), None));
}

#[tokio::test]
async fn the_program_takes_every_setting_that_is_shipped() {
    let objects = controller().await;
    let pod = pod_of(&named(&objects, "Deployment", "5spot-controller")["spec"]["template"]);
    let variables = environment(&pod, "5spot-controller-0", "5spot-system", &objects);
    for (name, _) in &variables {
        assert!(config::keys::CONTROLLER.iter().any(|key| key.variable == name), "{name} is no setting");
    }
    // Of the predecessor's page on configuration.
    for name in [
        "OPERATOR_INSTANCE_COUNT",
        "ENABLE_LEADER_ELECTION",
        "LEASE_NAME",
        "LEASE_DURATION_SECONDS",
        "LEASE_RENEW_DEADLINE_SECONDS",
        "METRICS_PORT",
        "HEALTH_PORT",
        "RUST_LOG",
        "POD_NAME",
        "POD_NAMESPACE",
    ] {
        assert!(variables.iter().any(|(variable, _)| variable == name), "{name} is not shipped");
    }
    let os = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let config = config::controller(&Typed::default(), os).unwrap();
    assert_eq!(
        (config.instance.as_str(), config.election.lease_namespace.as_str()),
        ("5spot-controller-0", "5spot-system")
    );
    assert!(config.is_elected);
    assert_eq!(named(&objects, "Deployment", "5spot-controller")["spec"]["replicas"], 2);
}

#[tokio::test]
async fn the_component_for_one_replica_leaves_no_moment_with_two() {
    let planes = harness::shared().await;
    // Beside a copy of the manifests, where a user's own overlay would be.
    let dir = tempfile::tempdir_in(planes.dir()).unwrap();
    let copied = Command::new("cp").arg("-rL").arg(path("manifests")).arg(dir.path()).status().unwrap();
    assert!(copied.success());
    let overlay = "resources: [manifests]\ncomponents: [manifests/single]\n";
    fs::write(dir.path().join("kustomization.yaml"), overlay).unwrap();
    let objects = rendered(planes, dir.path().to_str().unwrap());
    let deployment = named(&objects, "Deployment", "5spot-controller");
    assert_eq!(deployment["spec"]["replicas"], 1);
    assert_eq!(deployment["spec"]["strategy"], json!({"type": "Recreate"}));
    assert_eq!(named(&objects, "ConfigMap", "5spot-config")["data"]["ENABLE_LEADER_ELECTION"], "false");
}

#[tokio::test]
async fn the_agent_takes_every_setting_that_is_shipped() {
    let objects = rendered(harness::shared().await, "manifests/agent");
    let pod = pod_of(&named(&objects, "DaemonSet", "5spot-reclaim-agent")["spec"]["template"]);
    let variables = environment(&pod, "agent-0", "5spot-system", &objects);
    for (name, _) in &variables {
        assert!(config::keys::AGENT.iter().any(|key| key.variable == name), "{name} is no setting");
    }
    let os = variables.into_iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    config::agent(&Typed::default(), os).unwrap();
}

#[tokio::test]
async fn both_roles_are_of_one_image_and_are_called_by_names_that_the_program_knows() {
    let planes = harness::shared().await;
    let image = format!("localhost/5spot:v{}", env!("CARGO_PKG_VERSION"));
    for (base, kind, name, role) in [
        ("manifests", "Deployment", "5spot-controller", "controller"),
        ("manifests/agent", "DaemonSet", "5spot-reclaim-agent", "agent"),
    ] {
        let object = named(&rendered(planes, base), kind, name);
        assert_eq!(object["metadata"]["namespace"], names::AGENT_NAMESPACE);
        let pod = pod_of(&object["spec"]["template"]);
        let container = container(&pod);
        assert_eq!(container.image.as_deref(), Some(image.as_str()));
        assert_eq!(container.name, role, "the predecessor's name");
        let line: Vec<OsString> =
            container.command.iter().chain(&container.args).flatten().map(OsString::from).collect();
        let call = cli::read(line).unwrap();
        assert!(matches!((role, call), ("controller", Call::Controller(_)) | ("agent", Call::Agent(_))));
        let account = pod.spec.unwrap().service_account_name.unwrap();
        named(&rendered(planes, base), "ServiceAccount", &account);
    }
}

#[test]
fn every_file_of_the_manifests_is_part_of_something() {
    let mut files = 0;
    for entry in fs::read_dir(path("manifests")).unwrap() {
        let dir = entry.unwrap().path();
        if !dir.join("kustomization.yaml").is_file() {
            continue;
        }
        let base: Value = manifests::documents(&fs::read_to_string(dir.join("kustomization.yaml")).unwrap())
            .unwrap()
            .remove(0);
        for file in fs::read_dir(&dir).unwrap() {
            let name = file.unwrap().file_name().into_string().unwrap();
            files += 1;
            let listed = base["resources"].as_array().is_some_and(|all| all.contains(&json!(name)));
            assert!(listed || name == "kustomization.yaml", "{}/{name} is applied by nobody", dir.display());
        }
    }
    assert!(files > 15, "{files} files");
}
