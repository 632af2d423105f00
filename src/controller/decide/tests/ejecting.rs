//! `eject.rs`: in the middle of every stage, and what is left of it on a Node that stays.

use k8s_openapi::api::core::v1::Taint;
use serde_json::json;

use super::draining::{asked, draining, ending, pod, refused};
use super::given::{Given, SM, given, t};
use crate::api::condition::Phase;
use crate::api::status::LeavingStage;
use crate::controller::attempt::describe;
use crate::controller::effect::Effect;
use crate::controller::snapshot::pods::{Attempt, Outcome, Pod, Pods, Verb};
use crate::workload::Reach;

fn kill(given: Given) -> Given {
    given.edit("/killSwitch", json!(true))
}

fn foreign() -> Taint {
    Taint { key: "lent".to_owned(), effect: "NoSchedule".to_owned(), ..Taint::default() }
}

fn ours() -> Taint {
    Taint { key: "5spot.finos.org/ejecting".to_owned(), effect: "NoExecute".to_owned(), ..Taint::default() }
}

fn on_node(taints: Vec<Taint>, cordoned_by: Option<&str>) -> Given {
    given().lent().with(|s| {
        let node = s.node.as_mut().unwrap();
        (node.taints, node.unschedulable) = (taints, cordoned_by.is_some());
        // An admin's cordon has no record.
        node.cordoned_by = cordoned_by.filter(|by| *by != "admin").map(str::to_owned);
    })
}

#[test]
fn in_the_middle_of_every_stage() {
    let two = || vec![pod("a"), ending("b", 30)];
    let rows: [(&str, Given, &[&str]); 6] = [
        (
            "lent",
            given().lent().with(|s| s.pods = Pods::Known(two())),
            &["patch_machine", "delete_machine", "eject_node", "delete_pod", "delete_pod"],
        ),
        (
            "in its grace",
            given().lent().at("18:01").passed().with(|s| s.pods = Pods::Unasked),
            &["patch_machine", "delete_machine", "eject_node"],
        ),
        (
            "in its drain",
            draining(two()),
            &["patch_machine", "delete_machine", "eject_node", "delete_pod", "delete_pod"],
        ),
        (
            "drained by Cluster API",
            draining(two()).deleting("DrainingNode", "x"),
            &["patch_machine", "eject_node", "delete_pod", "delete_pod"],
        ),
        (
            "being deleted",
            draining(vec![]).deleting("WaitingForInfrastructureDeletion", ""),
            &["patch_machine", "eject_node"],
        ),
        (
            "out of reach",
            draining(two()).with(|s| s.reach = Reach::Unreachable("x".into())),
            &["patch_machine", "delete_machine"],
        ),
    ];
    for (name, given, effects) in rows {
        let killed = kill(given);
        assert_eq!(killed.effects(), effects, "{name}");
        let decision = killed.decide();
        assert_eq!(decision.leaving.unwrap().stage, LeavingStage::Eject, "{name}");
        assert_eq!(decision.standing.phase, Phase::EmergencyRemove, "{name}");
        assert_eq!(decision.pods_of.as_deref(), Some("ws-1"), "{name}");
    }
}

#[test]
fn the_filter_is_the_drains_and_one_that_is_ending_is_hurried_once() {
    let pods = vec![
        pod("a"),
        Pod { controller: Some("DaemonSet".to_owned()), ..pod("daemon") },
        Pod { is_mirror: true, ..pod("mirror") },
        Pod { is_finished: true, ..pod("finished") },
        ending("slow", 600),
        ending("hurried", 1),
    ];
    let killed = kill(given().lent().with(|s| s.pods = Pods::Known(pods)));
    assert_eq!(asked(&killed), ["delete a", "delete slow"]);
}

#[test]
fn the_pause_of_an_eviction_puts_no_deletion_off_and_that_of_a_deletion_does() {
    let after = |verb: Verb| {
        let tried = Attempt { verb, outcome: Outcome::Accepted, tries: 1, again_at: t("18:07") };
        kill(draining(vec![Pod { tried: Some(tried), ..pod("a") }]))
    };
    assert_eq!(asked(&kill(draining(vec![refused("a", "18:07")]))), ["delete a"]);
    assert_eq!(asked(&after(Verb::Evict)), ["delete a"]);
    assert!(asked(&after(Verb::Delete)).is_empty());
    assert_eq!(asked(&after(Verb::Delete).at("18:07")), ["delete a"]);
}

#[test]
fn an_eviction_that_is_out_puts_no_deletion_off_and_a_deletion_does() {
    let out = |verb: Verb| kill(draining(vec![Pod { underway: Some(verb), ..pod("a") }]));
    assert_eq!(asked(&out(Verb::Evict)), ["delete a"]);
    assert!(asked(&out(Verb::Delete)).is_empty());
}

#[test]
fn a_node_that_is_not_shown_as_written_holds_up_nothing_but_what_is_written_to_it() {
    let behind = |given: Given| kill(given).with(|s| s.is_node_behind = true);
    let draining = behind(draining(vec![pod("a")]));
    assert_eq!(draining.effects(), ["patch_machine", "delete_machine", "delete_pod"]);
    assert!(draining.decide().wake.after(draining.s.now).unwrap().as_secs() <= 1);
    assert_eq!(behind(given().lent()).effects(), ["patch_machine", "delete_machine"]);
    let grace = given().lent().at("18:01").with(|s| s.is_node_behind = true);
    assert!(grace.effects().is_empty());
}

#[test]
fn other_pods_are_another_attempt_and_the_same_ones_are_not() {
    let attempt = |pods: Vec<Pod>| {
        let given = draining(pods);
        describe(&given.s, &"", &given.decide())
    };
    assert_eq!(attempt(vec![pod("a"), pod("b")]), attempt(vec![pod("a"), pod("b")]));
    assert_ne!(attempt(vec![pod("a"), pod("b")]), attempt(vec![pod("b"), pod("c")]));
}

#[test]
fn the_taint_joins_those_of_others_and_a_cordon_of_an_admin_stays_his() {
    let edit = |given: Given| {
        let effects = kill(given).decide().effects;
        effects.into_iter().find_map(|effect| match effect {
            Effect::EjectNode { cordons, taints, .. } => Some((cordons, taints)),
            _ => None,
        })
    };
    assert_eq!(edit(on_node(vec![foreign()], None)), Some((true, vec![foreign(), ours()])));
    assert_eq!(edit(on_node(vec![], Some("admin"))), Some((false, vec![ours()])));
    assert_eq!(edit(on_node(vec![ours()], None)), Some((true, vec![ours()])));
    assert_eq!(edit(on_node(vec![ours()], Some(SM))), None, "done");
}

#[test]
fn a_node_that_stays_loses_what_is_ours_and_nothing_else() {
    let given_back = |given: Given| {
        let effects = given.decide().effects;
        effects.into_iter().find_map(|effect| match effect {
            Effect::Uncordon { lifts, taints, .. } => Some((lifts, taints)),
            _ => None,
        })
    };
    assert_eq!(given_back(on_node(vec![foreign(), ours()], Some(SM))), Some((true, Some(vec![foreign()]))));
    assert_eq!(given_back(on_node(vec![ours()], Some("admin"))), Some((false, Some(vec![]))));
    assert_eq!(given_back(on_node(vec![foreign()], Some(SM))), Some((true, None)));
    assert_eq!(given_back(on_node(vec![foreign()], Some("admin"))), None);
    // `clusterctl move` makes the object anew; the record on the Node names the one before.
    assert_eq!(given_back(on_node(vec![foreign()], Some("uid-before-a-move"))), Some((true, None)));
    let in_grace = on_node(vec![ours()], Some(SM)).at("18:01");
    assert_eq!(
        given_back(in_grace),
        Some((false, Some(vec![]))),
        "off by now: gracefully, so the cordon stays"
    );
}

#[test]
fn under_a_pause_of_cluster_api_only_the_node_half_runs() {
    let paused = |given: Given| given.with(|s| s.cluster.as_mut().unwrap().paused = true);
    let killed = kill(paused(given().lent().with(|s| s.pods = Pods::Known(vec![pod("a")]))));
    assert_eq!(killed.effects(), ["eject_node", "delete_pod"]);
    assert!(killed.decide().effects.iter().all(Effect::is_on_node));
    assert_eq!(killed.standing().2, "BlockedByPause");
    assert!(paused(given().lent().at("18:01")).effects().is_empty(), "a graceful one waits");
    let called_off = |taints: Vec<Taint>| paused(on_node(taints, Some(SM))).effects();
    assert_eq!(called_off(vec![foreign(), ours()]), ["uncordon"], "pods may come again");
    assert!(called_off(vec![foreign()]).is_empty(), "that of a grace stands still");
    let moving = kill(given().lent().with(|s| s.object.is_moving = true));
    assert!(moving.effects().is_empty(), "let go, untouched");
}
