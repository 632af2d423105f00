//! What the server must take, and give back as it was sent.

use std::path::Path;

use fivespot::api::machine_hold::MachineHold;
use fivespot::api::scheduled_machine::ScheduledMachine;
use kube::ResourceExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{api, cases, create, kubectl, namespace, said, server};

/// The documented defaults, and nothing else, are added.
fn with_defaults(kind: &str, mut spec: Value) -> Value {
    let mut default = |path: &str, value: Value| {
        let (parent, field) = path.rsplit_once('/').unwrap_or(("", path));
        if let Some(parent) = spec.pointer_mut(parent).and_then(Value::as_object_mut) {
            parent.entry(field).or_insert(value);
        }
    };
    if kind == "MachineHold" {
        default("/origin", json!("User"));
        return spec;
    }
    default("/paused", json!(false));
    default("/killSwitch", json!(false));
    default("/priority", json!(50));
    default("/gracefulShutdownTimeout", json!("5m"));
    default("/nodeDrainTimeout", json!("5m"));
    default("/schedule/enabled", json!(true));
    default("/schedule/timezone", json!("UTC"));
    default("/reclaim/returnAfter", json!("NextWindow"));
    default("/kubeconfigSecretRef/key", json!("value"));
    spec
}

/// Instants in UTC, and without nulls, empty lists and empty maps, in which the Rust types do not tell absence apart.
fn essence(value: &Value) -> Value {
    let is_nothing = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    };
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| (key.clone(), essence(value)))
            .filter(|(_, value)| !is_nothing(value))
            .collect(),
        Value::Array(items) => items.iter().map(essence).collect(),
        Value::String(text) => text.parse::<jiff::Timestamp>().map_or_else(|_| value.clone(), |at| json!(at)),
        other => other.clone(),
    }
}

/// The Rust types read what the server stored, and lose nothing of it.
pub(super) fn assert_decodes<K: DeserializeOwned + Serialize>(name: &str, stored: &Value) {
    let decoded: K = serde_json::from_value(stored.clone()).unwrap_or_else(|e| panic!("{name}: {e}"));
    let encoded = serde_json::to_value(decoded).unwrap();
    for part in ["spec", "status"] {
        let (encoded, stored) = (essence(&encoded[part]), essence(&stored[part]));
        assert_eq!(encoded, stored, "{name}: {part}");
    }
}

async fn assert_taken(client: &kube::Client, namespace: &str, name: &str, sent: &Value) {
    let kind = sent["kind"].as_str().unwrap();
    let created = create(client, namespace, sent, false).await.unwrap_or_else(|e| panic!("{name}: {e}"));
    let stored = api(client, namespace, kind).get(&created.name_any()).await.unwrap();
    let stored = serde_json::to_value(stored).unwrap();
    assert_eq!(stored["spec"], with_defaults(kind, sent["spec"].clone()), "{name}");
    match kind {
        "MachineHold" => assert_decodes::<MachineHold>(name, &stored),
        _ => assert_decodes::<ScheduledMachine>(name, &stored),
    }
}

#[tokio::test]
async fn each_good_object_is_stored_as_it_was_sent() {
    let client = server().await.management().client().await;
    namespace(&client, "accepted").await;
    let cases = cases::read(include_str!("accepted.yaml"));
    assert!(cases.len() >= 55, "the table lost rows: {}", cases.len());
    for (number, case) in cases.iter().enumerate() {
        assert!(matches!(case.only.as_deref(), None | Some("controller")), "{}: {:?}", case.name, case.only);
        let mut object = case.object();
        if object["metadata"]["name"] == "good" {
            object["metadata"]["name"] = json!(format!("good-{number}"));
        }
        assert_taken(&client, "accepted", &case.name, &object).await;
    }
}

#[tokio::test]
async fn each_example_is_accepted() {
    let planes = server().await;
    let client = planes.management().client().await;
    namespace(&client, "examples").await;
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/examples");
    let mut examples = 0;
    for entry in std::fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let name = path.display().to_string();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.lines().take(2).all(|line| line.starts_with("# ")),
            "{name}: two lines say what it does"
        );
        // As users do it: kubectl reads YAML its own way, and refuses fields it does not know.
        let flags = ["apply", "--validate=strict", "--dry-run=server", "-n", "examples", "-f"];
        let applied = kubectl(planes).args(flags).arg(&path).output().unwrap();
        assert!(applied.status.success(), "{name}: {}", said(&applied));
        for object in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
            assert_taken(&client, "examples", &name, &object).await;
            examples += 1;
        }
    }
    assert!(examples >= 9, "{examples} examples");
}
