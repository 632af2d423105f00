//! Which kinds are noted, which parts are labelled, and what a part that is missing means.

use serde_json::{Value, json};

use super::given::{Given, MACHINE, SM, given, noted, own_child, stands, t};
use crate::api::condition::Phase;
use crate::capi::kinds::Role;
use crate::controller::effect::Effect;
use crate::controller::snapshot::{ChildObject, Service};

const OTHER: &str = "OtherConfig";

fn kinds(given: &Given) -> Vec<String> {
    given.status().part_kinds.into_iter().map(|noted| noted.kind).collect()
}

/// The user names another bootstrap kind, and the caches follow.
fn other_kind(given: Given) -> Given {
    let edited = given.edit("/bootstrapSpec/kind", json!(OTHER));
    edited.with(|s| {
        s.children[0].is_wanted = false;
        s.children.insert(0, super::given::child(Role::Bootstrap, OTHER, true));
    })
}

#[test]
fn a_kind_is_noted_before_the_first_object_of_it_is_made() {
    let fresh = given().with(|s| s.status.part_kinds.clear());
    assert_eq!(fresh.standing(), stands(Phase::Pending, "False", "Starting"));
    assert!(fresh.effects().is_empty());
    let after = fresh.passed();
    assert_eq!(after.s.status.part_kinds, noted());
    assert_eq!(after.effects(), ["create_bootstrap", "create_infrastructure", "create_machine"]);
}

#[test]
fn what_is_first_seen_or_off_is_noted_without_a_pass_of_its_own() {
    for early in [given().with(|s| s.object.has_finalizer = false), given().at("20:00")] {
        assert_eq!(early.with(|s| s.status.part_kinds.clear()).status().part_kinds, noted());
    }
}

#[test]
fn a_kind_edited_away_is_remembered_until_nothing_of_it_can_be_left() {
    let made = |given: Given| given.with(|s| s.children[1].object = Some(own_child()));
    let edited = made(other_kind(given()));
    assert_eq!(kinds(&edited), [OTHER, "StubConfig", "StubMachine"]);
    assert_eq!(edited.effects(), ["delete_child"], "a part that was made of it goes before anything is made");
    // Off, and all gone.
    assert_eq!(kinds(&other_kind(given()).at("20:00")), [OTHER, "StubMachine"]);
    // Lent: its part is there, then it is not and no other is being made.
    assert_eq!(kinds(&other_kind(given().lent())), [OTHER, "StubConfig", "StubMachine"]);
    let empty = other_kind(given().lent()).with(|s| s.children[1].object = None);
    assert_eq!(kinds(&empty), [OTHER, "StubMachine"]);
    let unknown = empty.with(|s| s.children[1].service = Service::Resolving);
    assert_eq!(kinds(&unknown), [OTHER, "StubConfig", "StubMachine"]);
}

#[test]
fn a_part_of_our_machine_gets_our_label() {
    let bare = |uid_label: Option<&str>| {
        let object = ChildObject {
            uid: "part".to_owned(),
            uid_label: uid_label.map(str::to_owned),
            name_label: Some("ws-1".to_owned()),
            machine_uid: Some(MACHINE.to_owned()),
            ..ChildObject::default()
        };
        given().lent().with(|s| s.children[0].object = Some(object))
    };
    for before in [None, Some("uid-before-a-move")] {
        let effects = bare(before).decide().effects;
        let [Effect::PatchChild { resource, patch }] = effects.as_slice() else { panic!("{effects:?}") };
        assert_eq!(resource.kind, "StubConfig");
        let labels = json!({"5spot.finos.org/scheduled-machine": "ws-1",
                            "5spot.finos.org/scheduled-machine-uid": SM, "cluster.x-k8s.io/cluster-name": "grid"});
        assert_eq!(*patch, json!({"metadata": {"uid": "part", "labels": labels}}));
    }
    assert!(bare(Some(SM)).effects().is_empty());
    let unseen = |label: Option<&str>| {
        bare(Some(SM)).with(|s| s.children[0].object.as_mut().unwrap().name_label = label.map(str::to_owned))
    };
    assert_eq!(unseen(None).effects(), ["patch_child"], "it would be in no watch of ours");
    assert_eq!(unseen(Some("ws-2")).effects(), ["patch_child"]);
    let foreign =
        bare(None).with(|s| s.children[0].object.as_mut().unwrap().machine_uid = Some("other".into()));
    assert!(foreign.effects().is_empty(), "not ours to label");
}

#[test]
fn a_host_that_was_deleted_under_its_machine_is_told_and_left_to_a_person() {
    let lost = given().lent().passed().with(|s| s.children[1].object = None);
    assert_eq!(lost.standing(), stands(Phase::Error, "False", "InfrastructureDeleted"));
    assert!(lost.effects().is_empty());
    let message = lost.status().message.unwrap();
    assert!(message.contains("kubectl delete machine -n lab ws-1"), "{message}");
    assert_eq!(lost.condition("Stalled").unwrap().1, "InfrastructureDeleted");
    // Not known is not gone.
    let unknown =
        lost.clone().with(|s| (s.children[1].service, s.children[1].resource) = (Service::Resolving, None));
    assert_eq!(unknown.standing(), stands(Phase::Active, "True", "Active"));
    // It still leaves when its window closes.
    assert!(lost.at("20:00").effects().contains(&"delete_machine"));
}

#[test]
fn ours_of_a_kind_that_may_be_used_no_more_are_still_taken_down() {
    for service in [Service::NotServed("x".into()), Service::NotAllowed("x".into())] {
        let off = given().at("20:00").with(|s| {
            (s.children[1].service, s.children[1].object) = (service.clone(), Some(own_child()));
        });
        assert_eq!(off.effects(), ["delete_child"], "{service:?}");
    }
}

#[test]
fn the_last_look_goes_through_kinds_that_are_served_no_more() {
    let gone = given().with(|s| {
        s.object.deleted_at = Some(t("10:00"));
        (s.children[1].service, s.children[1].resource) = (Service::NotServed("x".into()), None);
    });
    let effects = gone.decide().effects;
    let [Effect::RemoveFinalizer { kinds }] = effects.as_slice() else { panic!("{effects:?}") };
    let looked: Vec<Value> =
        kinds.iter().map(|kind| json!(format!("{}/{}", kind.group, kind.kind))).collect();
    assert_eq!(
        looked,
        [
            "cluster.x-k8s.io/Machine",
            "bootstrap.cluster.x-k8s.io/StubConfig",
            "infrastructure.cluster.x-k8s.io/StubMachine"
        ]
    );
}
