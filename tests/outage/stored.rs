//! Objects that were stored before our rules stood: what admission refuses today, the controller reads all the same.

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{DynamicObject, PostParams};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use fivespot::api::crd;

use crate::harness::{self, Controller, manifests};
use crate::world::{self, World, is_true, merge, open, said};

/// Schedules that cannot be written any more, and what is to be said of each.
fn cases() -> [(&'static str, Value, &'static str); 4] {
    let none = json!({"daysOfWeek": null, "hoursOfDay": null});
    let half = json!([{"days": ["mon"], "from": "09:00"}]);
    [
        ("hour-25", json!({"hoursOfDay": ["25"]}), "spec.schedule.hoursOfDay[0]"),
        ("empty", none.clone(), "spec.schedule"),
        (
            "half-window",
            json!({"daysOfWeek": null, "hoursOfDay": null, "windows": half}),
            "spec.schedule.windows[0]",
        ),
        (
            "half-exception",
            json!({"exceptions": [{"from": "2099-01-01T10:00", "state": "Active"}]}),
            "spec.schedule.exceptions[0]",
        ),
    ]
}

const NAMESPACE: &str = "stored";

/// Under definitions without rules; those with rules follow when the first world is made.
pub async fn before_the_rules() {
    static STORED: OnceCell<()> = OnceCell::const_new();
    STORED.get_or_init(store).await;
}

async fn store() {
    let client = harness::shared().await.management().client().await;
    let mut definitions: Vec<Value> = crd::definitions().iter().map(|crd| json!(crd)).collect();
    for definition in &mut definitions {
        loosen(definition);
    }
    manifests::install(&client, definitions).await.unwrap();
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": NAMESPACE}})).unwrap();
    Api::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
    let api: Api<DynamicObject> = Api::namespaced_with(client, NAMESPACE, &world::scheduled_machine());
    for (name, schedule, _) in cases() {
        let mut object = json!({
            "apiVersion": "5spot.finos.org/v1alpha1", "kind": "ScheduledMachine",
            "metadata": {"name": name}, "spec": world::spec("none"),
        });
        merge(&mut object["spec"]["schedule"], schedule);
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        api.create(&PostParams::default(), &object).await.unwrap();
    }
}

/// Takes the rules away, and that a window has two ends.
fn loosen(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.remove("x-kubernetes-validations");
            if fields.get("required").is_some_and(|required| *required == json!(["from", "to"])) {
                fields.remove("required");
            }
            fields.values_mut().for_each(loosen);
        }
        Value::Array(items) => items.iter_mut().for_each(loosen),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[tokio::test]
async fn what_was_stored_before_the_rules_is_told_and_opens_nothing() {
    let _turn = crate::turn().await;
    let (mut tenant, user, _) = World::prepare("rules").await;
    NAMESPACE.clone_into(&mut tenant.namespace);
    let kubeconfig = tenant.management_plane().issue_kubeconfig(&user, &[world::GROUP]);
    let setup = Controller::setup(tenant.planes(), &kubeconfig).watch_namespace(NAMESPACE);
    let world = World::with(tenant, user, setup.start());
    for (name, _, path) in cases() {
        let told = |sm: &DynamicObject| is_true(sm, "Stalled") && sm.data["status"]["phase"] == "Error";
        let bad = world.until(name, "stalled", told).await;
        let (reason, message) = said(&bad, "Stalled");
        assert_eq!(reason, "SpecInvalid");
        assert!(message.contains(path), "{name}: {message}");
        assert_eq!(world.machines_created(name), 0);
        let good = merged(open());
        world.edit(name, json!({"schedule": good})).await;
        let right = world.until(name, "put right", |sm| !is_true(sm, "Stalled")).await;
        assert_eq!(right.data["status"]["decision"]["state"], "Active");
        // Its Cluster is another matter.
        assert_eq!(said(&right, "ReferencesValid").0, "ClusterNotFound");
        world.delete(name).await;
        harness::gone(&world.scheduled_machines(), name, world::PATIENCE).await;
    }
}

fn merged(mut schedule: Value) -> Value {
    schedule["windows"] = Value::Null;
    schedule
}
