//! The tables of objects, and the good objects that each row changes.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

/// A row of a table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    pub(super) name: String,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    metadata: Option<Value>,
    #[serde(default)]
    spec: Option<Value>,
    #[serde(default)]
    schedule: Option<Value>,
    #[serde(default)]
    windows: Option<Value>,
    #[serde(default)]
    exceptions: Option<Value>,
    #[serde(default)]
    taints: Option<Value>,
    /// The field that a refusal must name.
    #[serde(default)]
    pub(super) field: String,
    /// What it must say.
    #[serde(default)]
    pub(super) says: String,
    /// The field that the controller names, where that is another.
    #[serde(default)]
    pub(super) controller: Option<String>,
    /// Which of the two finds the fault, if not both: `admission` or `controller`.
    #[serde(default)]
    pub(super) only: Option<String>,
}

pub(super) fn read(table: &str) -> Vec<Case> {
    serde_saphyr::from_str(table).expect("a table of cases")
}

/// An object without fault and without anything that it need not say.
pub(super) fn good(kind: &str) -> Value {
    let spec = match kind {
        "MachineHold" => {
            json!({ "scheduledMachine": "ws-17", "state": "Inactive", "reason": "release night" })
        }
        _ => json!({
            "clusterName": "risk-grid",
            "schedule": { "daysOfWeek": ["mon-fri"], "hoursOfDay": ["9-17"] },
            "bootstrapSpec": {
                "apiVersion": "bootstrap.cluster.x-k8s.io/v1beta1",
                "kind": "K0sWorkerConfig",
                "spec": { "version": "v1.33.1+k0s.0" },
            },
            "infrastructureSpec": {
                "apiVersion": "infrastructure.cluster.x-k8s.io/v1beta1",
                "kind": "RemoteMachine",
                "spec": { "address": "192.0.2.17", "port": 22 },
            },
        }),
    };
    json!({
        "apiVersion": "5spot.finos.org/v1alpha1",
        "kind": kind,
        "metadata": { "name": "good" },
        "spec": spec,
    })
}

impl Case {
    /// The object of this row.
    pub(super) fn object(&self) -> Value {
        let mut object = good(self.kind.as_deref().unwrap_or("ScheduledMachine"));
        if let Some(schedule) = &self.schedule {
            object["spec"]["schedule"] = schedule.clone();
        }
        for (field, part) in [("windows", &self.windows), ("exceptions", &self.exceptions)] {
            if let Some(part) = part {
                object["spec"]["schedule"][field] = part.clone();
            }
        }
        if let Some(taints) = &self.taints {
            object["spec"]["nodeTaints"] = taints.clone();
        }
        for (field, part) in [("spec", &self.spec), ("metadata", &self.metadata)] {
            if let Some(part) = part {
                merge(&mut object[field], part);
            }
        }
        fill_in(&mut object);
        object
    }
}

/// RFC 7386.
pub(super) fn merge(into: &mut Value, patch: &Value) {
    let (Value::Object(into), Value::Object(patch)) = (&mut *into, patch) else {
        *into = patch.clone();
        return;
    };
    for (key, value) in patch {
        if value.is_null() {
            into.remove(key);
        } else if value.is_object() {
            merge(into.entry(key).or_insert_with(|| json!({})), value);
        } else {
            into.insert(key.clone(), value.clone());
        }
    }
}

/// `<64>` stands for 64 letters, `<65 entries>` and `<101 items>` for a map and a list of so many, `<null>` for null.
fn fill_in(value: &mut Value) {
    match value {
        Value::String(text) => *value = filled(text),
        Value::Array(items) => items.iter_mut().for_each(fill_in),
        Value::Object(fields) => {
            let old = std::mem::take(fields);
            for (key, mut value) in old {
                fill_in(&mut value);
                let key = filled(&key);
                fields.insert(key.as_str().unwrap_or_default().to_owned(), value);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn filled(text: &str) -> Value {
    let Some((before, rest)) = text.split_once('<') else {
        return json!(text);
    };
    let (what, after) = rest.split_once('>').expect("a closing bracket");
    let count = |what: &str| what.parse::<usize>().expect("a count");
    match what.split_once(' ') {
        None if what == "null" => Value::Null,
        None => json!(format!("{before}{}{after}", "a".repeat(count(what)))),
        Some((items, "items")) => (0..count(items)).map(|n| format!("item-{n}")).collect(),
        Some((entries, _)) => {
            json!((0..count(entries)).map(|n| (format!("key-{n}"), "x")).collect::<BTreeMap<_, _>>())
        }
    }
}
