//! The tests' reading of kstatus' rules against kstatus itself, and `kubectl wait`, which many scripts end with.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use futures::{StreamExt, pin_mut};
use kube::Api;
use kube::core::DynamicObject;
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::harness::{build, gone};
use crate::world::{PATIENCE, World, closed, is_true, open};

#[path = "../../src/controller/decide/tests/kstatus/reading.rs"]
mod reading;

/// Builds `tests/kstatus`, a Go module of one file.
fn program(dir: &Path) -> PathBuf {
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join("kstatus");
    build::check_go(&fs::read_to_string(module.join("go.mod")).unwrap()).unwrap();
    let program = dir.join("kstatus");
    let built = Command::new("go")
        .args(["build", "-trimpath", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(module)
        .env("CGO_ENABLED", "0")
        .env("GOTOOLCHAIN", "local")
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    program
}

/// All that the rules look at, in every combination.
fn objects() -> Vec<Value> {
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "reason": "R", "message": "m", "lastTransitionTime": "2026-11-02T10:00:00Z"});
    let said = |kind: &str, statuses: &[&str]| -> Vec<Option<Value>> {
        statuses.iter().map(|status| Some(condition(kind, status))).chain([None]).collect()
    };
    let mut objects = Vec::new();
    for deleted in [false, true] {
        for observed in [None, Some(-1), Some(1), Some(2)] {
            for ready in said("Ready", &["True", "False", "Unknown"]) {
                for reconciling in said("Reconciling", &["True", "False"]) {
                    for stalled in said("Stalled", &["True", "False"]) {
                        let mut conditions: Vec<Value> =
                            [&ready, &reconciling, &stalled].into_iter().flatten().cloned().collect();
                        for _ in 0..2 {
                            objects.push(object(deleted, observed, &conditions));
                            conditions.reverse();
                        }
                    }
                }
            }
        }
    }
    objects.push(json!({"apiVersion": "5spot.finos.org/v1alpha1", "kind": "ScheduledMachine", "metadata": {"name": "x"}}));
    objects
}

fn object(deleted: bool, observed: Option<i64>, conditions: &[Value]) -> Value {
    let mut object = json!({
        "apiVersion": "5spot.finos.org/v1alpha1", "kind": "ScheduledMachine",
        "metadata": {"name": "x", "namespace": "y", "generation": 2}, "status": {"conditions": conditions},
    });
    if deleted {
        object["metadata"]["deletionTimestamp"] = json!("2026-11-02T10:00:00Z");
    }
    if let Some(observed) = observed {
        object["status"]["observedGeneration"] = json!(observed);
    }
    object
}

/// What the library itself makes of them.
fn verdicts(objects: &[Value]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let mut running = Command::new(program(dir.path()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    running.stdin.take().unwrap().write_all(json!(objects).to_string().as_bytes()).unwrap();
    let answered = running.wait_with_output().unwrap();
    assert!(answered.status.success());
    let verdicts: Vec<String> = serde_json::from_slice(&answered.stdout).unwrap();
    assert_eq!(verdicts.len(), objects.len());
    verdicts
}

#[test]
fn the_tests_read_kstatus_as_kstatus_does() {
    let objects = objects();
    let verdicts = verdicts(&objects);
    for (object, verdict) in objects.iter().zip(&verdicts) {
        assert_eq!(reading::verdict(object), verdict, "{object:#}");
    }
    for word in ["Current", "InProgress", "Failed", "Terminating"] {
        assert!(verdicts.iter().any(|verdict| verdict == word), "{word} never came up");
    }
}

#[tokio::test]
async fn kubectl_wait_for_ready_returns_for_machines_that_are_rightly_off_and_stay_current() {
    let world = World::start("wait").await;
    let off = [
        (json!({"schedule": closed()}), "Inactive"),
        (json!({"schedule": {"enabled": false}}), "Disabled"),
        (json!({"killSwitch": true}), "Terminated"),
        (json!({"paused": true}), "Pending"),
    ];
    for (over, phase) in off {
        let name = world.tenant.unique("ws");
        let created = world.create(&name, over).await;
        // Before the controller has looked at it: a tool that asks now must wait.
        let unseen = json!({"metadata": {"generation": 1}, "status": created.data["status"]});
        assert_eq!(reading::verdict(&unseen), "InProgress", "{}", created.data["status"]);
        let planes = world.tenant.planes();
        let (kubectl, kubeconfig) =
            (planes.binaries().kubectl.clone(), planes.management().kubeconfig().to_owned());
        let (machine, namespace) = (format!("scheduledmachine/{name}"), world.tenant.namespace.clone());
        let waited = tokio::task::spawn_blocking(move || {
            Command::new(kubectl)
                .arg("--kubeconfig")
                .arg(kubeconfig)
                .args(["wait", "--for=condition=Ready", "--timeout=150s", "-n", &namespace, &machine])
                .output()
                .unwrap()
        });
        let waited = waited.await.unwrap();
        assert!(waited.status.success(), "{phase}: {}", String::from_utf8_lossy(&waited.stderr));
        let sm = world.scheduled_machines().get(&name).await.unwrap();
        assert_eq!(sm.data["status"]["phase"], phase);
        let mut whole = serde_json::to_value(&sm).unwrap();
        whole["metadata"]["managedFields"].take();
        assert_eq!(reading::verdict(&whole), "Current", "{phase}: {}", sm.data["status"]);
        assert_eq!(world.machines_created(&name), 0);
    }
}

/// Every version of an object that its watchers get to see.
fn record(machines: Api<DynamicObject>, name: &str) -> (Arc<Mutex<Vec<Value>>>, JoinHandle<()>) {
    let (seen, name) = (Arc::new(Mutex::new(Vec::new())), name.to_owned());
    let versions = seen.clone();
    let task = tokio::spawn(async move {
        let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let stream = watcher(machines, only).default_backoff().applied_objects();
        pin_mut!(stream);
        while let Some(next) = stream.next().await {
            if let Ok(mut object) = next {
                object.metadata.managed_fields = None;
                versions.lock().unwrap().push(serde_json::to_value(object).unwrap());
            }
        }
    });
    (seen, task)
}

/// What should be read of a version, by its phase alone.
fn expected(object: &Value) -> &'static str {
    let status = &object["status"];
    let is_settled = ["Active", "Inactive"].iter().any(|phase| status["phase"] == *phase);
    let ready = status["conditions"].as_array().and_then(|all| all.iter().find(|c| c["type"] == "Ready"));
    let is_ready = ready.is_some_and(|ready| ready["status"] == "True");
    let is_seen = status["observedGeneration"] == object["metadata"]["generation"];
    match &object["metadata"]["deletionTimestamp"] {
        Value::Null if status["phase"] == "Error" && is_seen => "Failed",
        Value::Null if is_settled && is_ready && is_seen => "Current",
        Value::Null => "InProgress",
        _ => "Terminating",
    }
}

#[tokio::test]
async fn a_whole_life_reads_right_at_every_moment() {
    let world = World::start("life").await;
    let name = world.tenant.unique("ws");
    let (seen, task) = record(world.scheduled_machines(), &name);
    world.create(&name, json!({"schedule": closed(), "gracefulShutdownTimeout": "2s"})).await;
    world.until_settled(&name, "Inactive").await;
    world.edit(&name, json!({ "schedule": open() })).await;
    world.until_settled(&name, "Active").await;
    world.edit(&name, json!({ "schedule": closed() })).await;
    world.until_settled(&name, "Inactive").await;
    world.edit(&name, json!({ "schedule": open(), "infrastructureSpec": {"kind": "NeverMachine"} })).await;
    world.until(&name, "stalled", |sm| is_true(sm, "Stalled")).await;
    world.delete(&name).await;
    gone(&world.scheduled_machines(), &name, PATIENCE).await;
    task.abort();

    let versions = seen.lock().unwrap().clone();
    let told = verdicts(&versions);
    for (object, verdict) in versions.iter().zip(&told) {
        assert_eq!(verdict, expected(object), "{object:#}");
    }
    // In this order, whatever else came in between (a Node that is not healthy for a moment, say).
    let mut rest = told.iter();
    let story = [
        "InProgress",
        "Current",
        "InProgress",
        "Current",
        "InProgress",
        "Current",
        "InProgress",
        "Failed",
        "Terminating",
    ];
    for chapter in story {
        assert!(rest.any(|verdict| verdict == chapter), "{chapter} is missing in {told:?}");
    }
}
