//! The manifests: rendered, applied, and what the tests look for in them.

use std::path::{Path, PathBuf};
use std::process::Command;

use k8s_openapi::api::core::v1::{Container, Pod, PodTemplateSpec};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::harness::{self, ControlPlanes, manifests};
use crate::world;

/// A file or directory of the repository.
pub fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

/// What `kubectl apply -k` sends.
pub fn rendered(planes: &ControlPlanes, base: &str) -> Vec<Value> {
    let output = Command::new(&planes.binaries().kubectl).arg("kustomize").arg(path(base)).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    manifests::documents(&String::from_utf8(output.stdout).unwrap()).unwrap()
}

/// Of several documents the one of that kind and name.
pub fn named(objects: &[Value], kind: &str, name: &str) -> Value {
    let is_it = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
    objects.iter().find(is_it).unwrap_or_else(|| panic!("no {kind} {name}")).clone()
}

/// `kubectl` against one plane, as its administrator; what it prints. What it warns of is an error here.
pub fn kubectl(planes: &ControlPlanes, plane: &harness::Plane, args: &[&str]) -> String {
    let mut command = Command::new(&planes.binaries().kubectl);
    command.args(args).arg("--kubeconfig").arg(plane.kubeconfig()).current_dir(path(""));
    // Its cache of what is served must not be another cluster's.
    let output = command.env("HOME", planes.dir()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.is_empty(), "kubectl {args:?}: {told}");
    String::from_utf8(output.stdout).unwrap()
}

/// The pair, with everything installed in both clusters by the words of the documentation. Once.
pub async fn installed() -> &'static ControlPlanes {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    let planes = harness::shared().await;
    INSTALLED
        .get_or_init(|| async {
            let bases = [
                (planes.management(), "manifests"),
                (planes.workload(), "manifests/workload"),
                (planes.workload(), "manifests/agent"),
            ];
            for (plane, base) in bases {
                kubectl(planes, plane, &["apply", "-k", base]);
            }
            // The groups of the other tests. This also makes the management cluster a workload cluster, and so takes
            // the label off its namespace that is looked for here: it is put back.
            world::installed().await;
            for (plane, base) in bases {
                kubectl(planes, plane, &["apply", "--server-side", "--force-conflicts", "-k", base]);
            }
        })
        .await;
    planes
}

/// A pod as the template's controller would make it.
pub fn pod_of(template: &Value) -> Pod {
    let template: PodTemplateSpec = serde_json::from_value(template.clone()).unwrap();
    let mut pod = Pod { metadata: template.metadata.unwrap_or_default(), spec: template.spec, status: None };
    pod.metadata.generate_name = Some("made-".to_owned());
    pod
}

/// The only container of a pod.
pub fn container(pod: &Pod) -> &Container {
    let [only] = &pod.spec.as_ref().unwrap().containers[..] else { panic!("more than one container") };
    only
}

/// What the kubelet would put into a container's environment. Panics at what it does not know, so that nothing is left out.
pub fn environment(pod: &Pod, name: &str, namespace: &str, objects: &[Value]) -> Vec<(String, String)> {
    let container = container(pod);
    let mut variables = Vec::new();
    for from in container.env_from.iter().flatten() {
        let map = from.config_map_ref.as_ref().expect("envFrom a ConfigMap");
        let map = named(objects, "ConfigMap", &map.name);
        for (key, value) in map["data"].as_object().unwrap() {
            variables.push((key.clone(), value.as_str().expect("a string").to_owned()));
        }
    }
    for variable in container.env.iter().flatten() {
        let from = variable.value_from.as_ref().and_then(|from| from.field_ref.as_ref());
        let value = match (&variable.value, from.map(|field| field.field_path.as_str())) {
            (Some(value), None) => value.clone(),
            (None, Some("metadata.name")) => name.to_owned(),
            (None, Some("metadata.namespace")) => namespace.to_owned(),
            (None, Some("spec.nodeName")) => "node-1".to_owned(),
            other => panic!("{}: {other:?}", variable.name),
        };
        variables.retain(|(name, _)| *name != variable.name);
        variables.push((variable.name.clone(), value));
    }
    variables
}

/// Whether these labels carry all of those.
pub fn selects(selector: &Value, labels: &Value) -> bool {
    let wanted = selector.as_object().unwrap();
    assert_ne!(*selector, json!({}), "a selector that takes everything");
    wanted.iter().all(|(key, value)| labels[key] == *value)
}
