//! `leave.rs`: grace, deletion, what is left, the end. Every branch a row.

use serde_json::json;

use super::given::{Given, child, given, own_child, stands, t};
use crate::api::condition::Phase;
use crate::api::status::{LeavingStage, ObjectRef, Timers};
use crate::capi::kinds::Role;
use crate::controller::effect::Effect;
use crate::controller::snapshot::{ChildObject, Service};
use crate::workload::Reach;
use LeavingStage::{Deletion, Drain, Eject, Grace};

type Row = (&'static str, Given, (Phase, &'static str), Option<LeavingStage>, &'static [&'static str]);

fn holds(rows: Vec<Row>) {
    for (name, given, (phase, reason), stage, effects) in rows {
        let ready = if reason == "WaitingForMachineDeletion" || stage.is_some() { "False" } else { "True" };
        assert_eq!(given.standing(), stands(phase, ready, reason), "{name}");
        assert_eq!(given.decide().leaving.map(|leaving| leaving.stage), stage, "{name}");
        assert_eq!(given.effects(), effects, "{name}");
    }
}

fn no_node(given: Given) -> Given {
    given.with(|s| {
        s.node = None;
        s.machine.as_mut().unwrap().node = None;
    })
}

#[test]
fn a_machine_that_was_moved_keeps_its_grace_until_cluster_api_names_its_node_again() {
    let moved = |change: fn(&mut crate::controller::snapshot::Snapshot)| {
        given().lent().at("18:01").with(|s| s.machine.as_mut().unwrap().node = None).with(change)
    };
    let without_status = moved(|s| s.machine.as_mut().unwrap().conditions.clear());
    let with_node = moved(|s| s.rivals = vec![crate::controller::snapshot::Rival::default()]);
    let connecting = moved(|s| s.reach = Reach::Connecting);
    for given in [without_status.clone(), with_node, connecting] {
        assert_eq!(given.standing(), stands(Phase::ShuttingDown, "False", "GracePeriodActive"));
        assert!(!given.effects().contains(&"delete_machine"));
    }
    // Nor is a drain of what is not known yet taken for done, but it ends.
    assert_eq!(without_status.clone().at("18:06").standing().2, "NodeDraining");
    assert!(without_status.at("18:10").effects().contains(&"delete_machine"));
    let booting = moved(|_| ());
    assert!(booting.effects().contains(&"delete_machine"), "nobody ever joined");
}

#[test]
fn a_machine_that_should_leave() {
    let closed = || given().lent().at("18:00");
    let over = || given().lent().at("18:05");
    let killed = || given().lent().set("/killSwitch", json!(true));
    let going = || (Phase::ShuttingDown, "WaitingForMachineDeletion");
    let ejected = || (Phase::EmergencyRemove, "WaitingForMachineDeletion");
    holds(vec![
        (
            "cordoned at the edge",
            closed(),
            (Phase::ShuttingDown, "GracePeriodActive"),
            Some(Grace),
            &["cordon"],
        ),
        (
            "an admin's cordon stays",
            closed().with(|s| s.node.as_mut().unwrap().unschedulable = true),
            (Phase::ShuttingDown, "GracePeriodActive"),
            Some(Grace),
            &[],
        ),
        (
            "a Node that cannot be reached",
            closed().with(|s| s.reach = Reach::Unreachable("x".into())),
            (Phase::ShuttingDown, "GracePeriodActive"),
            Some(Grace),
            &[],
        ),
        (
            "the last instant of the grace",
            given().lent().at("2026-11-02T18:04:59.999Z"),
            (Phase::ShuttingDown, "GracePeriodActive"),
            Some(Grace),
            &["cordon"],
        ),
        ("the grace is over", over(), going(), Some(Deletion), &["delete_machine"]),
        (
            "no grace wanted",
            closed().set("/gracefulShutdownTimeout", json!("0s")),
            going(),
            Some(Deletion),
            &["delete_machine"],
        ),
        (
            "no drain wanted",
            over().set("/nodeDrainTimeout", json!("0s")),
            going(),
            Some(Deletion),
            &["patch_machine", "delete_machine", "cordon"],
        ),
        ("no Node to be graceful to", no_node(closed()), going(), Some(Deletion), &["delete_machine"]),
        ("kill switch", killed(), ejected(), Some(Eject), &["patch_machine", "delete_machine", "eject_node"]),
        (
            "kill switch in the middle of a drain",
            killed().deleting("DrainingNode", ""),
            (Phase::EmergencyRemove, "NodeDraining"),
            Some(Eject),
            &["patch_machine", "eject_node"],
        ),
        (
            "deletion is graceful",
            given().lent().with(|s| s.object.deleted_at = Some(t("09:58"))),
            (Phase::ShuttingDown, "GracePeriodActive"),
            Some(Grace),
            &["cordon"],
        ),
        (
            "a Cluster being deleted has no grace",
            given().lent().with(|s| s.cluster.as_mut().unwrap().deleting = true),
            going(),
            Some(Deletion),
            &["delete_machine"],
        ),
        (
            "disabled is graceful",
            given().lent().edit("/schedule/enabled", json!(false)),
            (Phase::ShuttingDown, "GracePeriodActive"),
            Some(Grace),
            &["cordon"],
        ),
        (
            "draining",
            over().deleting("DrainingNode", "1 pod"),
            (Phase::ShuttingDown, "NodeDraining"),
            Some(Drain),
            &[],
        ),
        ("being deleted", over().deleting("DeletingNode", ""), going(), Some(Deletion), &[]),
    ]);
}

#[test]
fn what_the_machine_did_not_take_with_it() {
    let left = |object: ChildObject| given().at("20:00").with(|s| s.children[0].object = Some(object));
    let stale = || {
        given().lent().gone().at("20:00").with(|s| {
            s.node = given().lent().s.node;
        })
    };
    let old = |service: Service| {
        given().at("20:00").with(|s| {
            let old = child(Role::Bootstrap, "OldConfig", false);
            s.status.bootstrap_ref = Some(ObjectRef {
                api_version: old.api_version.clone(),
                kind: old.kind.clone(),
                ..ObjectRef::default()
            });
            s.children.push(crate::controller::snapshot::Child { service, ..old });
        })
    };
    let going = || (Phase::ShuttingDown, "WaitingForMachineDeletion");
    let settled = || (Phase::Inactive, "Inactive");
    holds(vec![
        ("a part goes by itself", left(own_child()), going(), Some(Deletion), &["delete_child"]),
        (
            "a part on its way out",
            left(ChildObject { deleting: true, ..own_child() }),
            going(),
            Some(Deletion),
            &[],
        ),
        (
            "a namesake is not touched",
            left(ChildObject { uid: "foreign".into(), ..ChildObject::default() }),
            settled(),
            None,
            &[],
        ),
        ("a stale Node", stale(), going(), Some(Deletion), &["delete_node"]),
        (
            "the Node of somebody else on the same host",
            stale().with(|s| s.node.as_mut().unwrap().uid = "other".into()),
            settled(),
            None,
            &[],
        ),
        (
            "the Nodes of a Cluster being deleted go with it",
            stale().with(|s| s.cluster.as_mut().unwrap().deleting = true),
            settled(),
            None,
            &[],
        ),
        ("a kind that is not known now is not gone", old(Service::Resolving), going(), Some(Deletion), &[]),
        (
            "a kind of today that nothing was made of",
            given().at("20:00").with(|s| s.children[0].service = Service::Resolving),
            settled(),
            None,
            &[],
        ),
        ("a kind that is gone", old(Service::NotServed(String::new())), settled(), None, &[]),
    ]);
}

#[test]
fn where_it_ends() {
    let off = || given().at("20:00");
    let deleted = || off().with(|s| s.object.deleted_at = Some(t("19:00")));
    let rows = [
        (off(), Phase::Inactive, "True", "Inactive"),
        (off().set("/killSwitch", json!(true)), Phase::Terminated, "True", "Terminated"),
        (off().set("/schedule/enabled", json!(false)), Phase::Disabled, "True", "Disabled"),
        (off().set("/schedule", json!({})), Phase::Error, "False", "SpecInvalid"),
        (deleted(), Phase::Inactive, "True", "Inactive"),
        (off().with(|s| s.cluster.as_mut().unwrap().deleting = true), Phase::Inactive, "True", "Inactive"),
    ];
    for (given, phase, ready, reason) in rows {
        assert_eq!(given.standing(), stands(phase, ready, reason));
        assert!(given.decide().is_gone);
    }
    assert_eq!(off().effects().len(), 0);
    assert_eq!(deleted().effects(), ["remove_finalizer"]);
    let Effect::RemoveFinalizer { kinds } = &deleted().decide().effects[0] else { panic!() };
    let kinds: Vec<&str> = kinds.iter().map(|kind| kind.kind.as_str()).collect();
    assert_eq!(kinds, ["Machine", "StubConfig", "StubMachine"]);
    let looking = deleted().with(|s| s.children[0].service = Service::Resolving);
    assert_eq!((looking.effects().len(), looking.decide().is_gone), (0, false));
}

#[test]
fn without_our_finalizer_a_deleted_object_still_takes_its_machine_down() {
    let released = given().at("20:00").with(|s| {
        (s.object.deleted_at, s.object.has_finalizer) = (Some(t("19:00")), false);
    });
    assert_eq!((released.effects().len(), released.decide().is_gone), (0, true));
    let stripped = given().lent().with(|s| {
        (s.object.deleted_at, s.object.has_finalizer) = (Some(t("09:00")), false);
    });
    assert_eq!(stripped.effects(), ["patch_machine", "delete_machine", "cordon"]);
}

#[test]
fn the_grace_is_counted_from_the_edge_after_an_outage_and_from_now_after_an_edit_or_a_thaw() {
    let ends = |given: Given| given.decide().leaving.unwrap().grace_ends_at.unwrap();
    assert_eq!(ends(given().lent().at("18:03")), t("18:05"), "an outage");
    let edited = given().lent().at("12:00").edit("/schedule/hoursOfDay", json!(["9-10"]));
    assert_eq!(ends(edited.clone()), t("12:05"), "an edit");
    assert_eq!(ends(edited.passed().at("12:03")), t("12:05"), "stored");
    let paused = given().lent().at("18:03").passed().edit("/paused", json!(true)).passed();
    assert_eq!(paused.s.status.timers.as_ref().unwrap().shutdown_started_at, None);
    assert_eq!(ends(paused.edit("/paused", json!(false)).at("18:30")), t("18:35"), "a pause");
    let capi = given().lent().passed().with(|s| s.cluster.as_mut().unwrap().paused = true).passed();
    let thawed = |given: Given| given.with(|s| s.cluster.as_mut().unwrap().paused = false).at("18:30");
    assert_eq!(ends(thawed(capi.clone())), t("18:35"), "the edge fell into an outage within the pause");
    assert_eq!(ends(thawed(capi.at("18:00").passed())), t("18:35"), "the edge fell into the pause");
}

#[test]
fn a_change_to_eject_cancels_the_grace_at_once_and_a_change_back_restores_it() {
    let leaving = given().lent().at("18:01").passed();
    let ejected = leaving.edit("/killSwitch", json!(true)).at("18:02");
    assert_eq!(ejected.effects(), ["patch_machine", "delete_machine", "eject_node"]);
    // The DELETE failed, and the user thought again.
    let back = ejected.passed().edit("/killSwitch", json!(false)).at("18:03");
    assert_eq!(back.decide().leaving.unwrap().stage, Grace);
    assert_eq!(back.decide().leaving.unwrap().grace_ends_at, Some(t("18:05")));
}

#[test]
fn what_leaves_at_once_is_promised_from_the_rule_on_and_no_promise_is_broken_at_its_first_instant() {
    let promised = |given: &Given| given.decide().leaving.unwrap().gone_by.unwrap();
    let killed = given().lent().at("18:01").passed().edit("/killSwitch", json!(true)).at("18:04");
    assert_eq!(promised(&killed), t("2026-11-02T18:04:30Z"), "late in a grace");
    let undrained = given().lent().edit("/nodeDrainTimeout", json!("0s")).passed().at("18:05");
    assert!(promised(&undrained) > undrained.s.now, "no drain: the promise is not the instant of the DELETE");
}

#[test]
fn a_kill_switch_in_the_middle_of_a_deletion_is_not_overdue_at_its_first_instant() {
    let promised = |given: &Given| given.decide().leaving.unwrap().gone_by.unwrap();
    let deleted = given().lent().with(|s| s.object.deleted_at = Some(t("09:58"))).passed().at("10:02");
    let going = given().lent().with(|s| s.cluster.as_mut().unwrap().deleting = true).passed().at("10:02");
    for leaving in [deleted, going] {
        let killed = leaving.passed().edit("/killSwitch", json!(true));
        assert_eq!(promised(&killed), t("2026-11-02T10:02:30Z"), "{:?}", killed.decide().ruling.rule);
        let later = killed.passed().at("10:04");
        assert_eq!(promised(&later), t("2026-11-02T10:02:30Z"), "it stays");
        let back = later.edit("/killSwitch", json!(false)).passed();
        assert_eq!(back.s.status.timers.as_ref().unwrap().eject_started_at, None);
    }
}

#[test]
fn a_promise_knows_of_volumes_and_an_eject_does_not_wait_for_them() {
    let wait =
        |given: Given| given.edit("/machineTemplate", json!({"spec": {"nodeVolumeDetachTimeout": "10m"}}));
    let promised = |given: &Given| given.decide().leaving.unwrap().gone_by.unwrap();
    let leaving = wait(given().lent().at("18:00"));
    assert_eq!(promised(&leaving), t("2026-11-02T18:20:30Z"));
    let lent = wait(given().lent()).status();
    assert_eq!(lent.hand_back_by, Some(promised(&leaving)), "promised before it begins");
    let killed = wait(given().lent()).edit("/killSwitch", json!(true));
    assert_eq!(promised(&killed), t("2026-11-02T10:00:30Z"));
}

#[test]
fn a_start_stored_by_a_clock_that_was_a_day_ahead_counts_no_more() {
    let leaving = given().lent().at("18:01").with(|s| {
        s.status.timers =
            Some(Timers { shutdown_started_at: Some(t("2026-11-03T18:00:00Z")), ..Timers::default() });
    });
    let ends = leaving.decide().leaving.unwrap().grace_ends_at.unwrap();
    assert!(ends <= t("18:06"), "{ends}");
}

#[test]
fn a_node_that_nobody_can_see_is_remembered_and_goes_when_it_is_seen_again() {
    let away = |given: Given| given.with(|s| s.reach = Reach::Unreachable("away".to_owned()));
    let gone =
        away(given().lent().passed().at("18:00").passed()).with(|s| (s.machine, s.node) = (None, None));
    let gone =
        gone.with(|s| s.children.iter_mut().for_each(|child| child.object = None)).at("18:06").passed();
    assert_eq!(gone.s.status.phase, Some(Phase::Inactive));
    assert!(gone.s.status.node_ref.is_some());
    let absent = gone.clone().with(|s| s.reach = Reach::Connected).passed();
    assert_eq!(absent.s.status.node_ref, None);
    let node = given().lent().s.node;
    let back = gone.with(|s| (s.reach, s.node) = (Reach::Connected, node.clone()));
    assert_eq!(back.effects(), ["delete_node"]);
}

#[test]
fn wakes_are_the_end_of_the_grace_the_promise_and_the_next_edge() {
    let wakes = |given: &Given| given.s.now + given.decide().wake.after(given.s.now).unwrap();
    let promised = t("2026-11-02T18:11:30Z");
    assert_eq!(wakes(&given().lent()), t("18:00"));
    assert_eq!(wakes(&given().lent().at("18:01")), t("18:05"));
    assert_eq!(wakes(&given().lent().at("18:06")), promised, "deleting");
    let drains = |given: Given| given.deleting("DrainingNode", "");
    assert_eq!(wakes(&drains(given().lent().at("18:06"))), t("18:10"), "the end of its drain");
    assert_eq!(wakes(&drains(given().lent().at("18:10"))), promised);
    let left = given().at("18:06").with(|s| {
        s.children[0].object = Some(ChildObject { deleting: true, ..own_child() });
        s.status.timers = Some(Timers { shutdown_started_at: Some(t("18:00")), ..Timers::default() });
    });
    assert_eq!(wakes(&left), promised, "a part that will not go is overdue too");
    assert_eq!(wakes(&given().lent().at("18:12")), t("2026-11-03T09:00:00Z"));
    let disabled = given().set("/schedule/enabled", json!(false));
    assert_eq!(wakes(&disabled), t("18:00"), "inSchedule follows the timetable under every rule");
}

#[test]
fn cluster_apis_drain_ends_with_the_limit_whenever_it_began() {
    let says = |reason: &'static str| given().lent().at("18:10").deleting(reason, "");
    for reason in ["Deleting", "WaitingForPreDrainHook", "DrainingNode", "InternalError"] {
        assert_eq!(says(reason).effects(), ["patch_machine"], "{reason}");
        assert!(says(reason).at("18:09").effects().is_empty(), "{reason}");
        let Effect::PatchMachine { patch, .. } = &says(reason).decide().effects[0] else { panic!() };
        let annotations = patch["metadata"]["annotations"].as_object().unwrap();
        let keys: Vec<&String> = annotations.keys().collect();
        assert_eq!(keys, ["machine.cluster.x-k8s.io/exclude-node-draining"], "volumes are waited for");
    }
    for reason in ["WaitingForVolumeDetach", "WaitingForInfrastructureDeletion", "DeletingNode"] {
        assert!(says(reason).effects().is_empty(), "{reason}: it drains no more");
    }
    assert!(no_node(says("Deleting")).effects().is_empty(), "nothing to drain");
    let going = says("Deleting").with(|s| s.cluster.as_mut().unwrap().deleting = true);
    assert!(going.effects().is_empty(), "Cluster API drains no Node of such a Cluster");
}

#[test]
fn an_overlong_word_of_cluster_api_fits_the_status() {
    let pods = "pod\n".repeat(20_000);
    let given = given().lent().at("18:06").deleting("DrainingNode", &pods);
    let status = given.status();
    assert!(status.leaving.unwrap().blocked_by[0].reason.chars().count() <= 1024);
    assert!(status.message.unwrap().chars().count() <= 32_768);
}
