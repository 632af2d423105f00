//! Objects stored under the predecessor's looser schema: they stay readable and editable, and can be deleted.

use std::io::Write;
use std::process::Stdio;

use fivespot::api::names::FINALIZER;
use fivespot::api::scheduled_machine::ScheduledMachine;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::{api, cases, create, kubectl, namespace, said, server};
use crate::harness::ControlPlanes;

const NAMESPACE: &str = "migrated";
const LONG_NAME: &str = "a-name-of-seventy-characters-which-no-label-of-a-machine-could-hold-70";

/// The predecessor's definition and objects of its time, some of which our rules refuse.
pub(super) async fn as_the_predecessor_left_it(planes: &ControlPlanes) {
    let mut apply = kubectl(planes)
        .args(["apply", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kubectl");
    apply.stdin.take().expect("its input").write_all(include_bytes!("predecessor.yaml")).expect("to write");
    let applied = apply.wait_with_output().expect("kubectl");
    assert!(applied.status.success(), "{}", said(&applied));
    let wait =
        ["wait", "--for=condition=Established", "crd/scheduledmachines.5spot.finos.org", "--timeout=30s"];
    assert!(kubectl(planes).args(wait).output().expect("kubectl").status.success());
    let client = planes.management().client().await;
    namespace(&client, NAMESPACE).await;
    for object in [loose("loose"), loose(LONG_NAME), loose("deleted")] {
        create(&client, NAMESPACE, &object, false).await.expect("an object of the predecessor's");
    }
}

/// Nothing of this would our rules let in.
fn loose(name: &str) -> Value {
    let mut object = cases::good("ScheduledMachine");
    object["metadata"] = json!({ "name": name, "finalizers": [FINALIZER] });
    cases::merge(
        &mut object["spec"],
        &json!({
            "gracefulShutdownTimeout": " 5m ",
            "nodeDrainTimeout": "48h",
            "schedule": { "daysOfWeek": ["mon, tue"], "hoursOfDay": ["24"] },
            "nodeTaints": [
                { "key": "kubernetes.io/x", "effect": "NoSchedule" },
                { "key": "same", "effect": "NoSchedule" },
                { "key": "same", "effect": "NoSchedule", "value": "twice" },
            ],
            "bootstrapSpec": { "apiVersion": "v1" },
            "machineTemplate": { "labels": { "cluster.x-k8s.io/set-name": "x" } },
        }),
    );
    object
}

#[tokio::test]
async fn an_object_that_our_rules_refuse_can_still_be_edited_elsewhere() {
    let client = server().await.management().client().await;
    let machines = api(&client, NAMESPACE, "ScheduledMachine");
    let params = PatchParams::default();
    for name in ["loose", LONG_NAME] {
        let stored = serde_json::to_value(machines.get(name).await.unwrap()).unwrap();
        let decoded: ScheduledMachine = serde_json::from_value(stored).unwrap();
        assert_eq!(decoded.spec.schedule.hours_of_day, ["24"]);
        let label = Patch::Merge(json!({"metadata": {"labels": {"team": "risk"}}}));
        machines.patch(name, &params, &label).await.unwrap();
        let status = Patch::Merge(json!({"status": {"phase": "Error", "observedGeneration": 1}}));
        machines.patch_status(name, &params, &status).await.unwrap();
        let elsewhere = Patch::Merge(json!({"spec": {"killSwitch": true, "priority": 9}}));
        machines.patch(name, &params, &elsewhere).await.unwrap();
        let here = Patch::Merge(json!({"spec": {"nodeDrainTimeout": "49h"}}));
        let refusal = machines.patch(name, &params, &here).await.unwrap_err();
        assert!(refusal.to_string().contains("at most 24h"), "{refusal}");
        let repaired = Patch::Merge(json!({"spec": {
            "nodeDrainTimeout": "24h", "schedule": {"daysOfWeek": ["mon,tue"], "hoursOfDay": ["23"]},
        }}));
        machines.patch(name, &params, &repaired).await.unwrap();
    }
}

#[tokio::test]
async fn an_object_that_our_rules_refuse_can_still_lose_its_finalizer() {
    let client = server().await.management().client().await;
    let machines = api(&client, NAMESPACE, "ScheduledMachine");
    machines.delete("deleted", &DeleteParams::default()).await.unwrap();
    let released = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    machines.patch("deleted", &PatchParams::default(), &released).await.unwrap();
    assert!(machines.get_opt("deleted").await.unwrap().is_none());
}
