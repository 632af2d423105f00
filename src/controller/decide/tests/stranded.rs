use super::given::{Given, MACHINE, given, own_child, t};
use crate::controller::effect::{Effect, UnseenKind};
use crate::controller::snapshot::{Service, Snapshot};

const WHY: &str = "infrastructure.cluster.x-k8s.io/v1 has no kind StubMachine: install its provider";

/// Cluster API waits for the host, and then the definition of the host's kind is gone.
fn waits() -> Given {
    given().lent().passed().at("18:06").deleting("WaitingForInfrastructureDeletion", "* StubMachine: waiting")
}

fn is_lost(snapshot: &mut Snapshot) {
    let child = &mut snapshot.children[1];
    (child.service, child.resource, child.object) = (Service::NotServed(WHY.to_owned()), None, None);
}

fn is_deleted(snapshot: &mut Snapshot) {
    snapshot.object.deleted_at = Some(t("18:00"));
}

fn message(given: &Given) -> String {
    given.decide().standing.message
}

#[test]
fn a_part_whose_kind_is_served_no_more_is_named_beside_what_cluster_api_says() {
    let waiting = message(&waits());
    assert!(waiting.starts_with("* StubMachine: waiting; back by "), "{waiting}");
    let lost = waits().with(is_lost);
    let said = format!("* StubMachine: waiting; Cluster API cannot see it: {WHY}");
    assert!(
        message(&lost).starts_with(&format!("{said}; a deletion of this object ends without it; back by "))
    );
    let elsewhere = lost.clone().with(|s| s.children[1].resource = given().s.children[1].resource.clone());
    assert_eq!(message(&elsewhere), waiting, "served in another version");
    let by = lost.clone().with(is_deleted).decide().leaving.unwrap().gone_by.unwrap();
    assert!(
        message(&lost.with(is_deleted)).starts_with(&format!("{said}; without it the Machine is let go at "))
    );
    assert!(by > t("18:06"));
}

#[test]
fn a_machine_that_cluster_api_cannot_end_is_let_go_at_the_promise_and_not_before() {
    let lost = waits().with(is_lost).with(is_deleted);
    let by = lost.decide().leaving.unwrap().gone_by.unwrap();
    assert_eq!(lost.effects(), [""; 0]);
    assert_eq!(lost.decide().wake.after(t("18:06")), by.duration_since(t("18:06")).try_into().ok());
    let late = lost.with(|s| s.now = by);
    let unseen =
        vec![UnseenKind { group: "infrastructure.cluster.x-k8s.io".into(), kind: "StubMachine".into() }];
    let released = Effect::ReleaseMachine { uid: MACHINE.to_owned(), unseen };
    assert_eq!(late.decide().effects, [released]);
    let ejected = late.clone().with(|s| s.target.kill_switch = true);
    assert!(!ejected.effects().contains(&"release_machine"), "its own promise is later");
    let kept = |what: fn(&mut Snapshot)| {
        assert_eq!(late.clone().with(what).effects(), [""; 0]);
    };
    kept(|s| s.object.deleted_at = None);
    kept(|s| s.children[1].object = Some(own_child()));
    kept(|s| s.children[1].service = Service::Resolving);
    kept(|s| s.children[1].service = Service::Unreachable("no route".to_owned()));
}

#[test]
fn a_host_is_not_forgotten_for_the_sake_of_its_bootstrap() {
    let lost = waits().with(is_deleted).with(|s| {
        let child = &mut s.children[0];
        (child.service, child.resource, child.object) = (Service::NotServed(WHY.to_owned()), None, None);
    });
    let late = lost.clone().with(|s| s.now = t("23:00"));
    assert_eq!(late.effects(), [""; 0], "the host is still there");
    let gone = late.with(|s| s.children[1].object = None);
    assert_eq!(gone.effects(), ["release_machine"]);
}

fn is_torn(snapshot: &mut Snapshot) {
    snapshot.cluster = None;
    snapshot.children[1].object = Some(own_child());
}

#[test]
fn without_its_cluster_the_host_is_given_back_first_and_then_the_machine_is_let_go() {
    let torn = waits().with(is_torn);
    let by = torn.decide().leaving.unwrap().gone_by.unwrap();
    let said = "; Cluster API ends no Machine without its Cluster, and grid is gone; without it the host is given back at ";
    assert!(message(&torn).contains(said), "{}", message(&torn));
    assert_eq!(torn.effects(), [""; 0], "it may be made again");
    let late = torn.with(|s| s.now = by);
    assert_eq!(late.effects(), ["delete_child"]);
    let going = late.clone().with(|s| s.children[1].object.as_mut().unwrap().deleting = true);
    assert_eq!(going.effects(), [""; 0]);
    assert!(message(&going).ends_with("; StubMachine is being deleted without it"), "{}", message(&going));
    let given_back = late.clone().with(|s| s.children[1].object = None);
    let released = Effect::ReleaseMachine { uid: MACHINE.to_owned(), unseen: vec![] };
    assert_eq!(given_back.decide().effects, [released]);
    let back = late.with(|s| s.cluster.clone_from(&given().s.cluster));
    assert_eq!(back.effects(), [""; 0], "Cluster API goes on");
}

#[test]
fn in_an_open_window_the_promise_is_that_of_the_deletion() {
    let deleted = given().lent().deleting("WaitingForPreDrainHook", "a hook").with(is_torn);
    let deleted = deleted.with(|s| s.machine.as_mut().unwrap().deleted_at = Some(t("12:00")));
    assert_eq!(deleted.clone().at("12:01").effects(), [""; 0]);
    let late = deleted.at("12:30");
    assert_eq!(late.effects(), ["patch_machine", "delete_child"], "and no drain is waited for");
    assert!(message(&late).starts_with("the window is open again; what has begun completes"));
}

#[test]
fn a_host_of_a_group_that_is_allowed_no_more_is_not_taken_for_gone() {
    let hidden = |snapshot: &mut Snapshot| {
        snapshot.cluster = None;
        let child = &mut snapshot.children[1];
        (child.service, child.object) = (Service::NotAllowed("not allowed".to_owned()), None);
    };
    let late = waits().with(hidden).with(|s| s.now = t("23:00"));
    assert_eq!(late.effects(), [""; 0]);
}
