//! Who asks for a turn, who is expected to, and what it says while it waits.

use kube::core::DynamicObject;
use kube::runtime::reflector::store::Writer;
use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::given::{Given, given, stands, t};
use crate::api::condition::Phase;
use crate::controller::hold::index::Holds;
use crate::controller::snapshot::Service;
use crate::controller::turn::{Opening, Permit, Turn, Turns};
use crate::controller::watch::{Key, Waker, scheduled_machine_resource};

fn opening(given: &Given) -> Opening {
    Opening::of(&given.s, &given.decide())
}

fn waiting(given: Given) -> Given {
    given.with(|s| s.waits_for_turn = true)
}

#[test]
fn who_makes_a_machine_asks_and_who_will_is_expected() {
    let rows = [
        ("in its window", given(), Opening::Now),
        ("lent", given().lent(), Opening::Never),
        ("before its window", given().at("08:00"), Opening::At(t("09:00"))),
        ("after it", given().at("20:00"), Opening::At(t("2026-11-03T09:00:00Z"))),
        ("disabled", given().at("08:00").set("/schedule/enabled", json!(false)), Opening::Never),
        ("killed", given().set("/killSwitch", json!(true)), Opening::Never),
        ("waiting for its Cluster", given().with(|s| s.cluster = None), Opening::Never),
        (
            "of a kind being looked up",
            given().with(|s| s.children[0].service = Service::Resolving),
            Opening::At(t("10:00")),
        ),
        (
            "off, of a kind being looked up",
            given().at("20:00").with(|s| s.children[0].service = Service::Resolving),
            Opening::At(t("2026-11-03T09:00:00Z")),
        ),
        ("leaving", given().lent().at("18:01"), Opening::At(t("2026-11-03T09:00:00Z"))),
    ];
    for (name, given, expected) in rows {
        assert_eq!(opening(&given), expected, "{name}");
    }
}

#[test]
fn who_waits_makes_nothing_and_begins_no_run() {
    let waits = waiting(given());
    assert_eq!(waits.standing(), stands(Phase::Pending, "False", "WaitingForTurn"));
    assert!(waits.effects().is_empty());
    let after = waits.passed();
    assert_eq!((after.s.status.last_run.clone(), after.s.status.timers.clone()), (None, None));
    let later = after.at("10:05").with(|s| s.waits_for_turn = false);
    assert_eq!(later.status().last_run.unwrap().opened_at, Some(t("10:05")), "it begins when it is made");
}

#[test]
fn what_keeps_it_from_being_made_is_told_before_the_turn() {
    let rows = [
        (given().with(|s| s.cluster = None), "WaitingForCluster"),
        (given().set("/bootstrapSpec", json!(null)), "SpecInvalid"),
        (given().with(|s| s.children[0].service = Service::NotServed("x".into())), "KindNotServed"),
    ];
    for (given, reason) in rows {
        assert_eq!(waiting(given).standing().2, reason);
    }
}

#[test]
fn a_machine_that_is_there_and_one_that_leaves_wait_for_no_turn() {
    assert_eq!(waiting(given().lent()).standing(), stands(Phase::Active, "True", "Active"));
    assert_eq!(waiting(given().lent().at("18:06")).effects(), ["delete_machine"]);
    assert_eq!(
        waiting(given().lent().set("/killSwitch", json!(true))).effects()[..2],
        ["patch_machine", "delete_machine"]
    );
}

/// Turns for one machine at a time, and the keys that they wake.
fn one_at_a_time() -> (Turns, UnboundedReceiver<Key>) {
    let (keys, woken) = unbounded_channel();
    let objects = Writer::<DynamicObject>::new(scheduled_machine_resource()).as_reader();
    let (hold_keys, _) = tokio::sync::mpsc::unbounded_channel();
    (Turns::new(1, Waker::new(keys, hold_keys, objects, Holds::default())), woken)
}

fn named(name: &str) -> Given {
    given().with(|s| name.clone_into(&mut s.object.name))
}

fn ask(turns: &Turns, given: &Given) -> Option<Permit> {
    match turns.ask(&given.s, &given.decide()) {
        Turn::Go(permit) => Some(permit.expect("it makes a machine")),
        Turn::Wait(_) => None,
    }
}

#[tokio::test]
async fn a_pass_that_ends_in_whatever_way_gives_its_turn_back_and_wakes_the_next() {
    let (turns, mut woken) = one_at_a_time();
    let (first, second) = (named("ws-1"), named("ws-2"));
    for _ in 0..3 {
        let permit = ask(&turns, &first).expect("nobody is before it");
        assert!(ask(&turns, &second).is_none());
        assert!(woken.try_recv().is_err(), "nobody is woken for nothing");
        // Cancelled in the middle of a call that never ends.
        let mut pass = Box::pin(async move {
            let _permit = permit;
            std::future::pending::<()>().await;
        });
        assert!(futures::poll!(&mut pass).is_pending());
        drop(pass);
        assert_eq!(woken.try_recv().unwrap().name, "ws-2");
        drop(ask(&turns, &second).expect("it was called"));
    }
    assert!(woken.try_recv().is_err());
}

#[tokio::test]
async fn who_waits_and_is_deleted_or_turned_off_makes_room() {
    let (turns, mut woken) = one_at_a_time();
    let (first, second, third) = (named("ws-1"), named("ws-2"), named("ws-3"));
    let permit = ask(&turns, &first);
    assert!(ask(&turns, &second).is_none() && ask(&turns, &third).is_none());
    let deleted = second.with(|s| s.object.deleted_at = Some(t("10:00")));
    assert!(matches!(turns.ask(&deleted.s, &deleted.decide()), Turn::Go(None)));
    drop(permit);
    assert_eq!(woken.try_recv().unwrap().name, "ws-3");
    turns.retain(|who| who.1 != "ws-3");
    assert!(ask(&turns, &named("ws-4")).is_some(), "one that vanished holds up nobody");
}
