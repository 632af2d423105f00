//! Every block of YAML in the pages is taken by an API server.

use std::fs;

use fivespot::api::names;
use serde_json::{Value, json};

use super::shipped::{installed, kubectl, path};
use crate::harness::{ControlPlanes, manifests};
use crate::world::{merge, spec};

/// Blocks of YAML, with the page they are of.
fn blocks() -> Vec<(String, String)> {
    let (mut pages, mut found) = (vec![path("README.md")], Vec::new());
    let mut rest = vec![path("docs")];
    while let Some(dir) = rest.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { &mut rest } else { &mut pages }.push(path);
        }
    }
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for block in text.split("\n```yaml\n").skip(1) {
            let block = block.split("\n```").next().unwrap();
            found.push((page.display().to_string(), format!("{block}\n")));
        }
    }
    found
}

/// A part of a spec, within the rest of one; whole objects as they are.
fn whole(page: &str, mut object: Value) -> Value {
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    if kind.is_empty() {
        let mut whole = spec("risk-grid");
        merge(&mut whole, json!({"schedule": {"daysOfWeek": null, "hoursOfDay": null}}));
        if object.get("schedule").is_none() {
            object["schedule"] = json!({"exceptions": [{"date": "2099-01-01", "state": "Active"}]});
        }
        let known = |field: &String| {
            [
                "schedule",
                "killIfCommands",
                "reclaim",
                "kubeconfigSecretRef",
                "gracefulShutdownTimeout",
                "nodeDrainTimeout",
            ]
            .contains(&field.as_str())
        };
        assert!(object.as_object().unwrap().keys().all(known), "{page}: what is {object}?");
        merge(&mut whole, object);
        object = json!({"kind": "ScheduledMachine", "spec": whole});
    }
    if object["apiVersion"].is_null() {
        object["apiVersion"] = json!(names::API_VERSION);
    }
    if object["metadata"]["name"].is_null() {
        object["metadata"]["name"] = json!("of-a-page");
    }
    object
}

/// Whether the API server takes it, without keeping it; `false`: there is no such kind here.
fn is_tried(planes: &ControlPlanes, page: &str, object: &Value) -> bool {
    let dir = tempfile::tempdir_in(planes.dir()).unwrap();
    match object["kind"].as_str().unwrap() {
        // Of the Prometheus operator.
        "ServiceMonitor" => false,
        "Kustomization" => {
            // Beside a copy of the manifests, where a reader would put it.
            let copied =
                std::process::Command::new("cp").arg("-rL").arg(path("manifests")).arg(dir.path()).status();
            assert!(copied.unwrap().success());
            fs::write(dir.path().join("kustomization.yaml"), object.to_string()).unwrap();
            let base = dir.path().display().to_string();
            let rendering = kubectl(planes, planes.management(), &["kustomize", &base]);
            assert!(rendering.contains("image: registry.example.com/5spot:v0.1.0"), "{page}: {rendering}");
            true
        }
        _ => {
            let file = dir.path().join("object.json");
            fs::write(&file, object.to_string()).unwrap();
            let file = file.display().to_string();
            let mut args = vec!["create", "--dry-run=server", "-o", "name", "-f", &file];
            let is_placed = object["metadata"]["namespace"].is_string();
            args.extend(if is_placed { &[][..] } else { &["-n", "machines"] });
            kubectl(planes, planes.management(), &args);
            true
        }
    }
}

#[tokio::test]
async fn every_block_of_yaml_is_taken() {
    let planes = installed().await;
    kubectl(planes, planes.management(), &["create", "namespace", "machines"]);
    let mut tried = 0;
    for (page, block) in blocks() {
        for object in manifests::documents(&block).unwrap_or_else(|error| panic!("{page}: {error}\n{block}"))
        {
            tried += usize::from(is_tried(planes, &page, &whole(&page, object)));
        }
    }
    assert!(tried >= 13, "only {tried} blocks found: the look for them is broken");
}
