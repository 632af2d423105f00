//! What depends on the version of Cluster API, or on there being one.

use serde_json::{Value, json};

use super::given::{Given, MACHINE, given, stands, t};
use super::objects::{farewell, repair};
use crate::api::condition::{Phase, types};
use crate::capi::version::{Capi, Version};
use crate::controller::build::machine;
use crate::controller::effect::Effect;

fn no_capi(given: Given) -> Given {
    given.with(|s| (s.capi, s.cluster, s.machine) = (Capi::NotServed("install it".into()), None, None))
}

#[test]
fn without_cluster_api_what_is_off_is_as_it_should_be_and_what_is_deleted_goes() {
    let open = no_capi(given());
    assert_eq!(open.standing(), stands(Phase::Error, "False", "ClusterApiNotServed"));
    assert!(open.effects().is_empty());
    let off = no_capi(given()).at("20:00");
    assert_eq!(off.standing(), stands(Phase::Inactive, "True", "Inactive"));
    assert_eq!(off.condition(types::REFERENCES_VALID).unwrap().1, "ClusterApiNotServed");
    let deleted = no_capi(given()).with(|s| s.object.deleted_at = Some(t("10:00")));
    let effects = deleted.decide().effects;
    let [Effect::RemoveFinalizer { kinds }] = effects.as_slice() else { panic!("{effects:?}") };
    let kinds: Vec<&str> = kinds.iter().map(|kind| kind.kind.as_str()).collect();
    assert_eq!(kinds, ["StubConfig", "StubMachine"], "of Machines there can be none");
}

#[test]
fn while_machines_cannot_be_read_nothing_is_taken_from_under_one() {
    let blind = |given: Given| {
        given.with(|s| (s.capi, s.cluster, s.machine) = (Capi::Unspoken("v1beta3".into()), None, None))
    };
    let over = blind(given().lent()).at("20:00");
    assert_eq!(over.standing(), stands(Phase::ShuttingDown, "False", "ClusterApiNotServed"));
    assert!(over.effects().is_empty(), "{:?}", over.effects());
    assert!(over.status().machine_ref.is_some(), "remembered");
    let deleted = blind(given()).with(|s| s.object.deleted_at = Some(t("10:00")));
    assert!(deleted.effects().is_empty(), "the finalizer stays: {:?}", deleted.effects());
    let off = blind(given()).at("20:00");
    assert_eq!(off.standing(), stands(Phase::Inactive, "True", "Inactive"), "it never had one");
}

fn older(given: Given) -> Given {
    given.with(|s| s.capi = Capi::Served(Version::V1Beta1))
}

#[test]
fn in_v1beta1_a_machine_is_made_repaired_and_bounded_in_its_own_words() {
    let given = older(given()).set("/machineTemplate", json!({"spec": {"minReadySeconds": 30}}));
    let made = given.s.target.templates.as_ref().unwrap();
    let made = machine(&given.s, made, given.s.cluster.as_ref().unwrap());
    assert_eq!(made.types.unwrap().api_version, "cluster.x-k8s.io/v1beta1");
    let reference = json!({"apiVersion": "infrastructure.cluster.x-k8s.io/v1", "kind": "StubMachine",
                           "name": "ws-1", "namespace": "lab"});
    assert_eq!(made.data["spec"]["infrastructureRef"], reference);
    assert_eq!(made.data["spec"]["minReadySeconds"], Value::Null);
    let cluster = &made.metadata.owner_references.unwrap()[1];
    assert_eq!(
        (cluster.kind.as_str(), cluster.api_version.as_str()),
        ("Cluster", "cluster.x-k8s.io/v1beta1")
    );

    let lent = given.lent();
    assert_eq!(repair(&lent), None, "what was made is as it should be");
    let edited = lent.set("/nodeDrainTimeout", json!("1m"));
    let bounds =
        json!({"nodeDrainTimeout": "60s", "nodeVolumeDetachTimeout": "60s", "nodeDeletionTimeout": "720s"});
    let patch = json!({"metadata": {"uid": MACHINE}, "spec": bounds});
    assert_eq!((repair(&edited), farewell(&edited, false, false)), (Some(patch.clone()), Some(patch)));
    let message =
        edited.status().conditions.into_iter().find(|said| said.type_ == "ReferencesValid").unwrap();
    assert!(message.message.contains("minReadySeconds is left out"), "{}", message.message);
}

#[test]
fn an_upgrade_changes_the_version_of_the_owner_and_nothing_else() {
    let upgraded = older(given()).lent().with(|s| s.capi = Capi::Served(Version::V1Beta2));
    let patch = repair(&upgraded).unwrap();
    assert_eq!(patch["metadata"]["ownerReferences"][1]["apiVersion"], "cluster.x-k8s.io/v1beta2");
    assert_eq!(patch["metadata"].as_object().unwrap().len(), 3, "{patch}");
    assert_eq!(patch.get("spec"), None);
    assert_eq!(upgraded.effects(), ["patch_machine"]);
    assert_eq!(
        upgraded.status().machine_ref.unwrap().api_version,
        "cluster.x-k8s.io/v1beta2",
        "and is told as it can be read now"
    );
}
