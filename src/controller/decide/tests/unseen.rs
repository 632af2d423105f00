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
    assert_eq!(message(&waits()), "* StubMachine: waiting");
    let lost = waits().with(is_lost);
    let said = format!("* StubMachine: waiting; Cluster API cannot see it: {WHY}");
    assert_eq!(message(&lost), format!("{said}; a deletion of this object ends without it"));
    let elsewhere = lost.clone().with(|s| s.children[1].resource = given().s.children[1].resource.clone());
    assert_eq!(message(&elsewhere), "* StubMachine: waiting", "served in another version");
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
