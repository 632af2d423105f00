//! `build.rs`: what is made, what is repaired, what is put on before a DELETE.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};

use super::given::{Given, MACHINE, SM, given};
use crate::api::names;
use crate::capi::machine::Machine;
use crate::controller::build::{is_template_current, machine, machine_farewell, machine_repair};
use crate::controller::effect::Effect;

fn patch(effect: Option<Effect>) -> Option<Value> {
    effect.map(|effect| match effect {
        Effect::PatchMachine { uid, patch } if uid == MACHINE => patch,
        other => panic!("{other:?}"),
    })
}

pub(super) fn repair(given: &Given) -> Option<Value> {
    patch(machine_repair(&given.s, given.s.machine.as_ref().unwrap()))
}

pub(super) fn farewell(given: &Given, no_drain: bool, no_volumes: bool) -> Option<Value> {
    patch(machine_farewell(&given.s, given.s.machine.as_ref().unwrap(), no_drain, no_volumes))
}

fn change(given: Given, change: impl FnOnce(&mut Machine)) -> Given {
    given.with(|s| change(s.machine.as_mut().unwrap()))
}

#[test]
fn a_new_machine_is_all_that_cluster_api_needs() {
    let given = given()
        .set(
            "/machineTemplate",
            json!({"labels": {"team": "grid"}, "annotations": {"note": "x"},
            "spec": {"version": "v1.33.0", "nodeVolumeDetachTimeout": "90s"}}),
        )
        .with(|s| s.cluster.as_mut().unwrap().watch_filter = Some("blue".to_owned()));
    let templates = given.s.target.templates.clone().unwrap();
    let mut made =
        serde_json::to_value(machine(&given.s, &templates, given.s.cluster.as_ref().unwrap())).unwrap();
    let annotations = made["metadata"]["annotations"].as_object_mut().unwrap();
    assert!(annotations.remove(names::ANNOTATION_TEMPLATE_HASH).is_some());
    assert_eq!(
        made,
        json!({
            "apiVersion": "cluster.x-k8s.io/v1beta2",
            "kind": "Machine",
            "metadata": {
                "name": "ws-1",
                "namespace": "lab",
                "labels": {
                    "team": "grid",
                    "5spot.finos.org/scheduled-machine": "ws-1",
                    "5spot.finos.org/scheduled-machine-uid": SM,
                    "cluster.x-k8s.io/cluster-name": "grid",
                    "cluster.x-k8s.io/watch-filter": "blue",
                },
                "annotations": {"note": "x"},
                "ownerReferences": [
                    {"apiVersion": "5spot.finos.org/v1alpha1", "kind": "ScheduledMachine", "name": "ws-1",
                     "uid": SM, "controller": true, "blockOwnerDeletion": false},
                    {"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster", "name": "grid",
                     "uid": "uid-of-the-cluster"},
                ],
            },
            "spec": {
                "clusterName": "grid",
                "version": "v1.33.0",
                "bootstrap": {"configRef":
                    {"apiGroup": "bootstrap.cluster.x-k8s.io", "kind": "StubConfig", "name": "ws-1"}},
                "infrastructureRef":
                    {"apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "StubMachine", "name": "ws-1"},
                "deletion": {"nodeDrainTimeoutSeconds": 300, "nodeVolumeDetachTimeoutSeconds": 90,
                             "nodeDeletionTimeoutSeconds": 990},
            },
        })
    );
}

#[test]
fn parts_have_labels_but_no_owner() {
    let decision = given().decide();
    let Effect::CreateChild { object, .. } = &decision.effects[0] else { panic!() };
    assert_eq!(object.metadata.owner_references, None);
    assert_eq!(object.data["spec"], json!({"a": 1}));
    let labels = object.metadata.labels.as_ref().unwrap();
    assert_eq!(labels[names::LABEL_SCHEDULED_MACHINE_UID], SM);
    assert!(object.metadata.annotations.as_ref().is_some_and(|map| !map.is_empty()));
}

#[test]
fn a_machine_as_it_should_be_needs_no_repair() {
    assert_eq!(repair(&given().lent()), None);
    let more = change(given().lent(), |m| {
        m.labels.insert("somebody".to_owned(), "else".to_owned());
        m.owners.push(OwnerReference { kind: "Other".to_owned(), uid: "o".to_owned(), ..Default::default() });
    });
    assert_eq!(repair(&more), None);
}

#[test]
fn what_is_missing_is_put_back_and_nothing_else() {
    let label = change(given().lent(), |m| drop(m.labels.remove(names::LABEL_SCHEDULED_MACHINE)));
    let labels = json!({"5spot.finos.org/scheduled-machine": "ws-1"});
    assert_eq!(repair(&label), Some(json!({"metadata": {"uid": MACHINE, "labels": labels}})));

    let limits = given().lent().set("/nodeDrainTimeout", json!("1m"));
    let bounds = json!({"nodeDrainTimeoutSeconds": 60, "nodeVolumeDetachTimeoutSeconds": 60,
                        "nodeDeletionTimeoutSeconds": 720});
    assert_eq!(repair(&limits), Some(json!({"metadata": {"uid": MACHINE}, "spec": {"deletion": bounds}})));
}

#[test]
fn owners_are_put_back_beside_those_of_others_and_only_one_controls() {
    let adopted = change(given().lent(), |m| {
        m.owners = vec![OwnerReference {
            kind: "MachineSet".to_owned(),
            uid: "set".to_owned(),
            controller: Some(true),
            ..Default::default()
        }];
    });
    let patch = repair(&adopted).unwrap();
    assert_eq!(patch["metadata"]["resourceVersion"], json!("7"), "a list is replaced as it was read");
    let owners: Vec<OwnerReference> =
        serde_json::from_value(patch["metadata"]["ownerReferences"].clone()).unwrap();
    let kinds: Vec<_> = owners.iter().map(|owner| (owner.kind.as_str(), owner.controller)).collect();
    assert_eq!(kinds, [("ScheduledMachine", Some(true)), ("Cluster", None), ("MachineSet", None)]);
    assert_eq!(repair(&change(adopted, |m| m.owners = owners)), None, "once is enough");
}

#[test]
fn a_farewell_is_said_once() {
    let lent = given().lent();
    assert_eq!(farewell(&lent, false, false), None);
    let key = names::ANNOTATION_EXCLUDE_DRAIN;
    let first = farewell(&lent, true, false).unwrap();
    assert_eq!(first, json!({"metadata": {"uid": MACHINE, "annotations": {key: names::FIELD_MANAGER}}}));
    let said = change(lent, |m| drop(m.annotations.insert(key.to_owned(), names::FIELD_MANAGER.to_owned())));
    assert_eq!(farewell(&said, true, false), None);
    let both = farewell(&said, true, true).unwrap();
    assert!(both["metadata"]["annotations"].get(names::ANNOTATION_EXCLUDE_VOLUMES).is_some());
}

#[test]
fn an_eject_that_was_called_off_is_taken_back_but_an_admins_word_stays() {
    let key = names::ANNOTATION_EXCLUDE_DRAIN;
    let put =
        |by: &str| change(given().lent(), |m| drop(m.annotations.insert(key.to_owned(), by.to_owned())));
    let back = Some(json!({"metadata": {"uid": MACHINE, "annotations": {key: null}}}));
    assert_eq!(repair(&put(names::FIELD_MANAGER)), back, "re-opened");
    assert_eq!(farewell(&put(names::FIELD_MANAGER), false, false), back, "leaves gracefully after all");
    assert_eq!((repair(&put("true")), farewell(&put("true"), false, false)), (None, None));
    let going = put(names::FIELD_MANAGER).deleting("Deleting", "");
    assert_eq!(farewell(&going, false, false), None, "a deletion is not slowed down again");
}

#[test]
fn the_template_hash_depends_on_content_and_not_on_the_order_of_keys() {
    let spec = |text: &str| given().set("/bootstrapSpec/spec", serde_json::from_str(text).unwrap());
    let built = spec(r#"{"a": {"x": 1, "y": [1, 2]}, "b": "2"}"#).lent();
    let current = |given: Given| {
        is_template_current(given.s.target.templates.as_ref().unwrap(), built.s.machine.as_ref().unwrap())
    };
    assert_eq!(current(spec(r#"{"b": "2", "a": {"y": [1, 2], "x": 1}}"#)), Some(true));
    for other in [r#"{"a": {"x": 1, "y": [2, 1]}, "b": "2"}"#, r#"{"a": {"x": 1, "y": [1, 2]}, "b": 2}"#] {
        assert_eq!(current(spec(other)), Some(false), "{other}");
    }
    let silent = change(built.clone(), |m| m.annotations.clear());
    let templates = silent.s.target.templates.as_ref().unwrap();
    assert_eq!(is_template_current(templates, silent.s.machine.as_ref().unwrap()), None);
}
