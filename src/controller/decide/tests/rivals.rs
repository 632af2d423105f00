//! A re-used host and the Nodes that carry its provider id.

use serde_json::json;

use super::given::{Given, HOST, NODE, SM, given, says};
use crate::api::status::NodeRef;
use crate::controller::snapshot::Rival;

fn rival(name: &str) -> Rival {
    Rival { name: name.to_owned(), uid: format!("uid-of-{name}"), ..Rival::default() }
}

/// Of an earlier run, its host gone.
fn stale(name: &str) -> Rival {
    Rival { is_older: true, is_silent: true, ..rival(name) }
}

/// The Machine has its host and waits for its Node, which is one of these.
fn among(rivals: Vec<Rival>) -> Given {
    given().machine().with(|s| {
        let machine = s.machine.as_mut().unwrap();
        machine.provider_id = Some(HOST.to_owned());
        machine.conditions = vec![says("NodeHealthy", "Unknown", "InspectionFailed", "several nodes")];
        s.rivals = rivals;
    })
}

fn message(given: &Given) -> String {
    let (_, status, reason) = given.standing();
    assert_eq!((status.as_str(), reason.as_str()), ("False", "WaitingForNode"));
    given.status().message.unwrap()
}

#[test]
fn a_stale_node_that_is_provably_ours_goes() {
    let marked = Rival { carries_our_mark: true, ..stale("old") };
    for others in [vec![], vec![rival("new")]] {
        let both: Vec<Rival> = others.into_iter().chain([marked.clone()]).collect();
        let given = among(both);
        assert_eq!(given.effects(), ["delete_node"]);
        assert!(message(&given).contains("Node old of an earlier run"));
    }
    let going = among(vec![Rival { deleting: true, ..marked }]);
    assert!(going.effects().is_empty() && message(&going).contains("Node old"));
    let recorded = among(vec![Rival { uid: NODE.to_owned(), ..stale("old") }]).with(|s| {
        s.status.node_ref =
            Some(NodeRef { name: "old".into(), uid: Some(NODE.into()), ..NodeRef::default() });
    });
    assert_eq!(recorded.effects(), ["delete_node"], "known from the last run by its uid");
}

#[test]
fn one_that_cluster_api_took_for_the_machines_stays_until_there_is_another() {
    let marked = Rival { carries_our_mark: true, ..stale("old") };
    let taken = |rivals| among(rivals).with(|s| s.machine.as_mut().unwrap().node = Some("old".to_owned()));
    let alone = taken(vec![marked.clone()]);
    assert!(alone.effects().is_empty() && message(&alone).contains("kubectl delete node old"));
    assert_eq!(taken(vec![rival("new"), marked]).effects(), ["delete_node"]);
}

#[test]
fn a_node_of_somebody_else_is_named_and_never_touched() {
    for (rivals, words) in [
        (vec![stale("theirs")], "kubectl delete node theirs"),
        (vec![rival("new"), stale("theirs")], "Nodes new and theirs have the same host"),
        (vec![rival("new"), rival("newer")], "Nodes new and newer have the same host"),
    ] {
        let given = among(rivals);
        assert!(given.effects().is_empty());
        assert!(message(&given).contains(words), "{}", message(&given));
    }
}

#[test]
fn a_node_that_lives_is_left_alone_whoever_made_it() {
    // A kubelet of the same name takes an old Node object for its own, and registers no other while it runs.
    let reused = Rival { is_silent: false, carries_our_mark: true, ..stale("ws-1") };
    let young = Rival { is_older: false, carries_our_mark: true, ..stale("ws-1") };
    for only in [reused, young] {
        let given = among(vec![only]);
        assert!(given.effects().is_empty());
        assert_eq!(message(&given), "several nodes", "Cluster API's own words");
    }
}

#[test]
fn while_it_leaves_nobody_is_in_its_way() {
    let marked = Rival { carries_our_mark: true, ..stale("old") };
    let leaving = among(vec![marked]).set("/schedule/enabled", json!(false));
    assert!(!leaving.effects().contains(&"delete_node"), "{SM}: {:?}", leaving.effects());
}
