//! What the server must refuse, field and words.

use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::{api, cases, create, namespace, server};

/// Field and message of each cause of a refusal.
fn causes(refusal: kube::Error) -> Vec<(String, String)> {
    match refusal {
        kube::Error::Api(status) if status.code == 422 => {
            let causes = status.details.map(|details| details.causes).unwrap_or_default();
            causes.into_iter().map(|cause| (cause.field, cause.message)).collect()
        }
        other => panic!("not a refusal: {other}"),
    }
}

/// What the server adds to a fault of type: that the rules could not be asked.
fn is_remark((field, message): &(String, String)) -> bool {
    field == "<nil>"
        && (message.contains("some validation rules were not checked")
            || message.contains("Checked value must be"))
}

#[tokio::test]
async fn each_bad_object_is_refused_with_the_field_and_the_right_words() {
    let client = server().await.management().client().await;
    let cases = cases::read(include_str!("refused.yaml"));
    let mut wrong = Vec::new();
    for case in &cases {
        assert!(matches!(case.only.as_deref(), None | Some("admission")), "{}: {:?}", case.name, case.only);
        match create(&client, "default", &case.object(), true).await {
            Ok(_) => wrong.push(format!("{}: accepted", case.name)),
            Err(refusal) => {
                let mut faults = causes(refusal);
                faults.retain(|cause| !is_remark(cause));
                // One fault, one field: a second would send the reader looking for a fault that is not there.
                assert_ne!(case.controller.as_ref(), Some(&case.field), "{}: says nothing new", case.name);
                let only_there = faults.iter().all(|(field, _)| *field == case.field);
                if !only_there || !faults.iter().any(|(_, message)| message.contains(&case.says)) {
                    wrong.push(format!(
                        "{}: expected {}: {}; said {faults:#?}",
                        case.name, case.field, case.says
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert!(cases.len() >= 190, "the table lost rows: {}", cases.len());
}

#[tokio::test]
async fn a_machine_does_not_change_its_cluster() {
    let client = server().await.management().client().await;
    namespace(&client, "immutable").await;
    let machines = api(&client, "immutable", "ScheduledMachine");
    create(&client, "immutable", &cases::good("ScheduledMachine"), false).await.unwrap();
    let patch = |spec: serde_json::Value| Patch::Merge(json!({ "spec": spec }));
    let params = PatchParams::default();
    let refusal = machines.patch("good", &params, &patch(json!({"clusterName": "other"}))).await.unwrap_err();
    let causes = causes(refusal);
    let (field, message) = &causes[0];
    assert_eq!((causes.len(), field.as_str()), (1, "spec.clusterName"), "{causes:?}");
    assert!(message.contains("clusterName is immutable"), "{message}");
    // All else may be edited, the same name included.
    let all_else = json!({
        "clusterName": "risk-grid", "priority": 9, "killSwitch": true, "nodeDrainTimeout": "1h",
        "nodeTaints": [{"key": "lent", "effect": "NoSchedule"}], "killIfCommands": ["idea"],
        "schedule": {"enabled": false, "hoursOfDay": ["10"]},
        "infrastructureSpec": {"kind": "Metal3Machine", "spec": {"address": null}},
    });
    machines.patch("good", &params, &patch(all_else)).await.unwrap();
    // An edit is checked like a creation.
    let bad = patch(json!({"schedule": {"hoursOfDay": ["25"]}}));
    let refusal = machines.patch("good", &params, &bad).await.unwrap_err();
    assert!(refusal.to_string().contains("must be hours from 0 to 23"), "{refusal}");
}
