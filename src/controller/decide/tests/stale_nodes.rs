//! Nodes that a Machine left behind: whose they are, and how long a deletion waits for them.

use super::given::{Given, NODE, given, stands, t};
use crate::api::condition::{Phase, types};
use crate::api::status::{DesiredState, NodeRef, Rule};
use crate::controller::decide::decide;
use crate::controller::report::{Failure, Report};
use crate::controller::snapshot::{Claim, Node};
use crate::controller::status::derive;
use crate::workload::Reach;

fn node(given: Given, change: impl FnOnce(&mut Node)) -> Given {
    given.with(|s| change(s.node.as_mut().unwrap()))
}

fn claim(machine: &str, namespace: &str) -> Claim {
    Claim { machine: machine.to_owned(), namespace: Some(namespace.to_owned()) }
}

/// The Machine went while its Node could not be seen; now it can be seen again.
fn left() -> Given {
    let away = given().lent().passed().at("18:00").with(|s| s.reach = Reach::Unreachable("away".to_owned()));
    let node = given().lent().s.node;
    let gone = away.passed().gone().at("18:06").passed();
    assert!(gone.s.status.last_run.as_ref().unwrap().gone_at.is_some());
    gone.with(|s| (s.reach, s.node) = (Reach::Connected, node)).at("18:30")
}

/// The same of a Node whose uid nobody ever saw.
fn left_unseen() -> Given {
    left().with(|s| s.status.node_ref = Some(NodeRef { name: "ws-1".to_owned(), ..NodeRef::default() }))
}

#[test]
fn a_node_is_ours_by_uid_or_by_the_provider_id_of_a_machine_that_is_there() {
    let lent = given().lent();
    assert_eq!(lent.s.own_node().unwrap().uid, NODE);
    let joined_again = node(lent.clone(), |node| node.uid = "new".into());
    assert_eq!(joined_again.s.own_node().unwrap().uid, "new");
    let other_host = node(joined_again.clone(), |node| node.provider_id = Some("x".into()));
    assert!(other_host.s.own_node().is_none());
    assert!(joined_again.with(|s| s.machine = None).s.own_node().is_none(), "another's, on the same host");
    // What an earlier run of somebody else left written on it says less than our Machine does, and more than the host.
    let claimed = node(lent, |node| node.claimed_by = Some(claim("ws-2", "lab")));
    assert!(claimed.s.own_node().is_some(), "our Machine names it");
    let unnamed = claimed.with(|s| s.machine.as_mut().unwrap().node = None);
    assert!(unnamed.s.own_node().is_none());
}

#[test]
fn a_node_left_behind_goes_unless_somebody_else_has_it_now() {
    type Change = fn(&mut Node);
    let before: Change = |node| node.created_at = Some(t("09:01"));
    let rows: [(&str, Given, Change, bool); 10] = [
        ("by its uid", left(), |_| {}, true),
        (
            "by its uid, and our Machine's claim",
            left(),
            |node| node.claimed_by = Some(claim("ws-1", "lab")),
            true,
        ),
        (
            "a claim without a namespace",
            left(),
            |node| node.claimed_by = Some(Claim { machine: "ws-1".into(), namespace: None }),
            true,
        ),
        ("taken over by another Machine", left(), |node| node.claimed_by = Some(claim("ws-2", "lab")), false),
        ("by a namesake elsewhere", left(), |node| node.claimed_by = Some(claim("ws-1", "office")), false),
        ("made anew under its name", left(), |node| node.uid = "new".into(), false),
        ("never seen: there when the run ended", left_unseen(), before, true),
        ("never seen: came later", left_unseen(), |node| node.created_at = Some(t("18:10")), false),
        ("never seen: nobody knows since when", left_unseen(), |_| {}, false),
        (
            "never seen: another's",
            left_unseen(),
            |node| (node.created_at, node.claimed_by) = (Some(t("09:01")), Some(claim("ws-2", "lab"))),
            false,
        ),
    ];
    for (name, given, change, goes) in rows {
        let seen = node(given, change);
        assert_eq!(seen.effects(), if goes { vec!["delete_node"] } else { vec![] }, "{name}");
        if !goes {
            assert_eq!(seen.passed().s.status.node_ref, None, "{name}: nothing of ours is left to remember");
        }
    }
}

#[test]
fn a_run_that_just_ended_leaves_its_own_node() {
    let vanished = node(given().lent(), |node| node.created_at = Some(t("09:01"))).with(|s| {
        s.machine = None;
        s.children.iter_mut().for_each(|child| child.object = None);
        s.status.node_ref.as_mut().unwrap().uid = None;
    });
    assert_eq!(vanished.s.status.last_run.as_ref().unwrap().closed_at, None);
    assert_eq!(vanished.effects(), ["delete_node"]);
}

#[test]
fn a_deletion_waits_for_a_node_as_long_as_was_promised_and_no_longer() {
    let deleted = left().with(|s| s.object.deleted_at = Some(t("18:30"))).passed();
    let promised = deleted.decide().leaving.unwrap().gone_by.unwrap();
    assert_eq!(promised, t("2026-11-02T18:41:30Z"));
    let soon = deleted.clone().at("18:41");
    assert_eq!(soon.effects(), ["delete_node"]);
    assert_eq!(soon.standing(), stands(Phase::ShuttingDown, "False", "WaitingForMachineDeletion"));
    assert_eq!(
        soon.decide().wake.after(soon.s.now).map(|left| left.as_secs()),
        Some(30),
        "it wakes at the end"
    );
    let over = deleted.with(|s| s.now = promised);
    assert_eq!(over.effects(), ["delete_node", "remove_finalizer"], "still tried, and not waited for");
    let going = node(over.clone(), |node| node.deleting = true);
    assert_eq!(going.effects(), ["remove_finalizer"], "held by somebody's finalizer");
    // The last step fails: the next pass is not at the beginning again.
    let failure = Failure {
        reason: "ReadFailed",
        message: String::new(),
        class: crate::controller::error::Class::Transient,
    };
    let decision = decide(&over.s);
    let status = derive(&over.s, &decision, &Report { failure: Some(failure), ..Report::default() });
    let again = over.with(|s| s.status = status);
    assert_eq!(again.effects(), ["delete_node", "remove_finalizer"]);
    assert!(again.condition(types::HAND_BACK_OVERDUE).is_some());
}

#[test]
fn nothing_waits_for_the_nodes_of_a_cluster_that_is_being_deleted() {
    let cluster_goes = |given: Given| given.with(|s| s.cluster.as_mut().unwrap().deleting = true);
    assert!(cluster_goes(left()).decide().is_gone);
    let both = cluster_goes(left().with(|s| s.object.deleted_at = Some(t("18:30"))));
    assert_eq!(both.decide().ruling.rule, Rule::Deletion);
    assert_eq!(both.effects(), ["remove_finalizer"]);
    // Without a deletion it is waited for however long that takes: the next run would meet it.
    let kept = left().passed().at("2026-11-02T23:00:00Z");
    assert_eq!((kept.effects(), kept.decide().is_gone), (vec!["delete_node"], false));
    assert_eq!(kept.decide().ruling.state, DesiredState::Inactive);
}
