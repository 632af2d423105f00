//! `open.rs` and what stands before it: every branch a row.

use serde_json::json;

use super::given::{Given, MACHINE, child, given, own_child, says, stands, t};
use crate::api::condition::Phase;
use crate::api::status::{DesiredState, LastRun, ObjectRef, Rule};
use crate::capi::kinds::Role;
use crate::controller::snapshot::{Child, ChildObject, Service};

type Row = (&'static str, Given, (Phase, &'static str, &'static str), &'static [&'static str]);

fn holds(rows: Vec<Row>) {
    for (name, given, (phase, ready, reason), effects) in rows {
        assert_eq!(given.standing(), stands(phase, ready, reason), "{name}");
        assert_eq!(given.effects(), effects, "{name}");
    }
}

fn served(service: Service) -> Given {
    given().with(|s| s.children[1].service = service)
}

fn first_child(object: ChildObject) -> Given {
    given().with(|s| s.children[0].object = Some(object))
}

fn foreign() -> ChildObject {
    ChildObject { uid: "foreign".to_owned(), ..ChildObject::default() }
}

fn old_kind(given: Given, change: impl FnOnce(&mut Child)) -> Given {
    given.with(|s| {
        let mut old = child(Role::Bootstrap, "OldConfig", false);
        old.object = Some(own_child());
        change(&mut old);
        s.status.bootstrap_ref = Some(ObjectRef {
            api_version: old.api_version.clone(),
            kind: old.kind.clone(),
            ..ObjectRef::default()
        });
        s.children.push(old);
    })
}

#[test]
fn what_stands_before_everything_else() {
    let fresh = given().with(|s| s.object.has_finalizer = false);
    let capi = given().lent().with(|s| s.cluster.as_mut().unwrap().paused = true);
    let moving = given().lent().with(|s| s.object.is_moving = true);
    let moved = moving.clone().with(|s| s.object.deleted_at = Some(t("10:00")));
    let paused = given().lent().set("/paused", json!(true));
    holds(vec![
        (
            "a finalizer before anything else",
            fresh,
            (Phase::Pending, "False", "Starting"),
            &["add_finalizer"],
        ),
        ("CAPI pause", capi.clone(), (Phase::Active, "False", "BlockedByPause"), &[]),
        (
            "CAPI pause over deletion",
            capi.with(|s| s.object.deleted_at = Some(t("10:00"))),
            (Phase::Active, "False", "BlockedByPause"),
            &[],
        ),
        (
            "paused by annotation, not even a finalizer",
            given().with(|s| (s.object.has_finalizer, s.object.is_paused) = (false, true)),
            (Phase::Pending, "False", "BlockedByPause"),
            &[],
        ),
        ("moving", moving, (Phase::Active, "False", "BlockedByPause"), &[]),
        ("moved away", moved, (Phase::Active, "False", "BlockedByPause"), &["remove_finalizer"]),
        ("paused while in", paused.clone(), (Phase::Active, "True", "Paused"), &[]),
        ("paused while out", given().set("/paused", json!(true)), (Phase::Pending, "True", "Paused"), &[]),
        (
            "paused while going",
            paused.clone().deleting("DrainingNode", ""),
            (Phase::Active, "Unknown", "Paused"),
            &[],
        ),
        (
            "paused while cordoned",
            paused.clone().with(|s| {
                s.node.as_mut().unwrap().cordoned_by = Some(s.object.uid.clone());
            }),
            (Phase::Active, "Unknown", "Paused"),
            &[],
        ),
        (
            "paused while coming",
            given().machine().set("/paused", json!(true)),
            (Phase::Pending, "Unknown", "Paused"),
            &[],
        ),
        (
            "paused between two creates",
            first_child(own_child()).set("/paused", json!(true)),
            (Phase::Pending, "Unknown", "Paused"),
            &[],
        ),
    ]);
}

#[test]
fn a_machine_that_is_missing() {
    const ALL: &[&str] = &["create_bootstrap", "create_infrastructure", "create_machine"];
    let no_cluster = given().with(|s| s.cluster = None);
    let cluster = |change: fn(&mut crate::capi::machine::Cluster)| {
        given().with(|s| change(s.cluster.as_mut().unwrap()))
    };
    holds(vec![
        (
            "everything is made, the Machine last",
            given(),
            (Phase::Pending, "False", "WaitingForBootstrap"),
            ALL,
        ),
        (
            "what is there already is not made again",
            first_child(own_child()),
            (Phase::Pending, "False", "WaitingForBootstrap"),
            &ALL[1..],
        ),
        (
            "templates with faults",
            given().set("/bootstrapSpec", json!(null)),
            (Phase::Error, "False", "SpecInvalid"),
            &[],
        ),
        ("no Cluster", no_cluster, (Phase::Pending, "False", "WaitingForCluster"), &[]),
        (
            "Cluster without infrastructure",
            cluster(|c| c.infrastructure_provisioned = false),
            (Phase::Pending, "False", "WaitingForCluster"),
            &[],
        ),
        (
            "Cluster without control plane",
            cluster(|c| c.control_plane_initialized = false),
            (Phase::Pending, "False", "WaitingForCluster"),
            &[],
        ),
        ("kind being looked up", served(Service::Resolving), (Phase::Pending, "False", "Starting"), &[]),
        (
            "kind not known now",
            served(Service::Unreachable("x".into())),
            (Phase::Pending, "False", "Starting"),
            &[],
        ),
        (
            "kind not served",
            served(Service::NotServed("x".into())),
            (Phase::Error, "False", "KindNotServed"),
            &[],
        ),
        (
            "kind not allowed",
            served(Service::NotAllowed("x".into())),
            (Phase::Error, "False", "KindNotAllowed"),
            &[],
        ),
        ("a namesake of a part", first_child(foreign()), (Phase::Error, "False", "NameTaken"), &[]),
        (
            "a namesake of the Machine",
            given().machine().with(|s| {
                let machine = s.machine.as_mut().unwrap();
                (machine.labels, machine.owners, machine.uid) =
                    (std::collections::BTreeMap::default(), vec![], "foreign".into());
            }),
            (Phase::Error, "False", "NameTaken"),
            &[],
        ),
    ]);
}

#[test]
fn what_an_earlier_run_left_goes_first() {
    let stale = || {
        given().lent().with(|s| s.machine = None).with(|s| {
            s.children.iter_mut().for_each(|child| child.object = None);
        })
    };
    let of_old_machine = ChildObject { machine_uid: Some("old".to_owned()), ..own_child() };
    holds(vec![
        (
            "a part on its way out",
            first_child(ChildObject { deleting: true, ..own_child() }),
            (Phase::Pending, "False", "WaitingForBootstrap"),
            &[],
        ),
        (
            "a part of a Machine that vanished is the collector's",
            first_child(of_old_machine),
            (Phase::Pending, "False", "WaitingForBootstrap"),
            &[],
        ),
        (
            "a part of a kind edited away",
            old_kind(given(), |_| {}),
            (Phase::Pending, "False", "WaitingForBootstrap"),
            &["delete_child"],
        ),
        (
            "a kind edited away that is not known yet",
            old_kind(given(), |old| {
                (old.object, old.service) = (None, Service::Resolving);
            }),
            (Phase::Pending, "False", "WaitingForBootstrap"),
            &[],
        ),
        (
            "while the templates have faults nothing is taken down",
            old_kind(given(), |_| {}).set("/bootstrapSpec", json!(null)),
            (Phase::Error, "False", "SpecInvalid"),
            &[],
        ),
        ("a stale Node", stale(), (Phase::Pending, "False", "WaitingForNode"), &["delete_node"]),
        (
            "a stale Node on its way out",
            stale().with(|s| s.node.as_mut().unwrap().deleting = true),
            (Phase::Pending, "False", "WaitingForNode"),
            &[],
        ),
        (
            "the Node of somebody else on the same host",
            stale().with(|s| s.node.as_mut().unwrap().uid = "other".into()),
            (Phase::Pending, "False", "WaitingForBootstrap"),
            &[],
        ),
        (
            "the books of the last run are closed before the next",
            given().lent().gone(),
            (Phase::Pending, "False", "WaitingForBootstrap"),
            &[],
        ),
    ]);
    let closed = given().lent().gone();
    assert!(closed.decide().is_gone);
    let closed = closed.passed();
    assert_eq!((&closed.s.status.machine_ref, &closed.s.status.node_ref), (&None, &None));
    assert_eq!(closed.effects().last(), Some(&"create_machine"));
}

#[test]
fn a_machine_that_is_there_is_followed() {
    let joining = |kind: &str| {
        let said = says(kind, "False", "NotReady", "* a\n* b");
        given().machine().with(|s| s.machine.as_mut().unwrap().conditions = vec![said])
    };
    let hiccup = given().lent().with(|s| {
        s.machine.as_mut().unwrap().conditions = vec![says("NodeHealthy", "False", "NodeNotReady", "disk")];
    });
    holds(vec![
        ("no word yet", given().machine(), (Phase::Pending, "False", "WaitingForNode"), &[]),
        ("bootstrap", joining("BootstrapConfigReady"), (Phase::Pending, "False", "WaitingForBootstrap"), &[]),
        (
            "infrastructure",
            joining("InfrastructureReady"),
            (Phase::Pending, "False", "WaitingForInfrastructure"),
            &[],
        ),
        ("node", joining("NodeHealthy"), (Phase::Pending, "False", "WaitingForNode"), &[]),
        ("in", given().lent(), (Phase::Active, "True", "Active"), &[]),
        ("in, with a hiccup", hiccup, (Phase::Active, "False", "WaitingForNode"), &[]),
        (
            "stripped of its labels",
            given().lent().with(|s| s.machine.as_mut().unwrap().owners.clear()),
            (Phase::Active, "True", "Active"),
            &["patch_machine"],
        ),
        (
            "re-opened in its grace",
            given().lent().with(|s| {
                let node = s.node.as_mut().unwrap();
                (node.unschedulable, node.cordoned_by) = (true, Some(s.object.uid.clone()));
            }),
            (Phase::Active, "True", "Active"),
            &["uncordon"],
        ),
        (
            "cordoned by an admin",
            given().lent().with(|s| s.node.as_mut().unwrap().unschedulable = true),
            (Phase::Active, "True", "Active"),
            &[],
        ),
        (
            "the old Machine is still going",
            given().lent().deleting("DrainingNode", "pods"),
            (Phase::Pending, "False", "WaitingForMachineDeletion"),
            &[],
        ),
    ]);
    assert_eq!(joining("NodeHealthy").status().message.unwrap(), "* a * b");
}

#[test]
fn reopening_cancels_the_grace_and_opens_no_new_run() {
    let leaving = given().lent().at("18:01").passed();
    assert_eq!(leaving.s.status.last_run.as_ref().unwrap().closed_at, Some(t("18:00")));
    let back = leaving.edit("/schedule/hoursOfDay", json!(["9-20"])).passed();
    let status = &back.s.status;
    assert_eq!(status.timers.as_ref().unwrap().shutdown_started_at, None);
    let run = LastRun {
        node: Some("ws-1".into()),
        provider_id: Some(super::given::HOST.into()),
        opened_at: Some(t("09:00")),
        ready_at: Some(t("09:05")),
        ..LastRun::default()
    };
    assert_eq!(status.last_run, Some(run));
    assert_eq!((status.leaving.clone(), back.standing().0), (None, Phase::Active));
}

#[test]
fn a_reopening_after_the_delete_keeps_the_books_of_the_old_run_open_until_it_is_gone() {
    let going = given().lent().at("18:10").passed().deleting("DrainingNode", "").passed();
    assert_eq!(going.s.status.leaving.as_ref().unwrap().gone_by, Some(t("2026-11-02T18:11:30Z")));
    let back = going.edit("/schedule/hoursOfDay", json!(["9-20"])).at("18:12").passed();
    let run = back.s.status.last_run.clone().unwrap();
    assert_eq!((run.closed_at, run.ended_by), (Some(t("18:00")), Some(Rule::OutsideWindows)));
    assert!(back.condition("HandBackOverdue").is_none(), "nobody waits for it any more");
    let gone = back.gone().at("18:15").passed();
    let run = gone.s.status.last_run.clone().unwrap();
    assert_eq!((run.gone_at, run.late_by_seconds), (Some(t("18:15")), Some(210)));
    let next = gone.passed();
    assert_eq!(next.s.status.last_run.unwrap().opened_at, Some(t("18:15")));
}

#[test]
fn a_machine_deleted_by_hand_ends_its_run_without_a_rule_and_a_new_one_follows() {
    let going = given().lent().deleting("Deleting", "").passed();
    assert_eq!(going.s.machine.as_ref().unwrap().uid, MACHINE);
    let gone = going.gone().at("10:02").passed();
    let run = gone.s.status.last_run.clone().unwrap();
    assert_eq!((run.closed_at, run.gone_at, run.ended_by), (Some(t("10:00")), Some(t("10:02")), None));
    assert_eq!(gone.effects().len(), 3);
    assert_eq!(gone.s.status.decision.unwrap().state, DesiredState::Active);
}

#[test]
fn a_finalizer_that_somebody_took_off_goes_back_and_the_timers_stand() {
    let stripped = given().lent().at("18:01").passed().with(|s| s.object.has_finalizer = false);
    assert_eq!(stripped.effects(), ["add_finalizer"]);
    assert_eq!(stripped.status().timers.unwrap().shutdown_started_at, Some(t("18:00")));
}

#[test]
fn a_part_that_outlived_its_machine_stays_in_the_books() {
    let bonded = given().machine().with(|s| s.machine = None);
    let part = |deleting: bool| ChildObject { deleting, ..own_child() };
    let left =
        bonded.with(|s| s.children[0].object = Some(part(false))).with(|s| s.children[1].object = None);
    assert!(left.decide().is_gone);
    let closed = left.passed();
    assert_eq!(closed.s.status.machine_ref, None);
    assert_eq!(closed.s.status.bootstrap_ref.as_ref().unwrap().uid, Some(own_child().uid));
    assert_eq!(closed.effects(), ["create_infrastructure", "create_machine"]);
}
