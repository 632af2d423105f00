//! Every standing as kstatus reads it: settled is `Current`, also when that is off, held or paused.

pub(super) mod reading;

use serde_json::{Value, json};

use super::given::{Given, child, given, hold, reclaim_hold, t};
use crate::api::machine_hold::HoldState;
use crate::api::status::ScheduledMachineStatus;
use crate::capi::kinds::Role;
use crate::controller::error::Class;
use crate::controller::report::{Failure, Report};
use crate::controller::snapshot::{ChildObject, Object, Service};
use crate::controller::status::derive;
use reading::verdict;

/// The object as its readers see it after a pass.
pub(super) fn seen(object: &Object, status: &ScheduledMachineStatus) -> Value {
    json!({
        "apiVersion": "5spot.finos.org/v1alpha1", "kind": "ScheduledMachine",
        "metadata": {"generation": object.generation, "deletionTimestamp": object.deleted_at},
        "status": status,
    })
}

fn without_nulls(mut value: Value) -> Value {
    if value["metadata"]["deletionTimestamp"].is_null() {
        value["metadata"].as_object_mut().unwrap().remove("deletionTimestamp");
    }
    value
}

fn reads(given: &Given) -> &'static str {
    verdict(&without_nulls(seen(&given.s.object, &given.status())))
}

fn held(given: Given, state: HoldState) -> Given {
    given.with(|s| s.holds.push(hold("h", state, "09:00", None, None)))
}

fn all_are(wanted: &str, rows: Vec<(&str, Given)>) {
    for (name, given) in rows {
        assert_eq!(reads(&given), wanted, "{name}: {:#?}", given.status().conditions);
    }
}

#[test]
fn what_is_as_it_should_be_is_current_also_when_that_is_off() {
    all_are(
        "Current",
        vec![
            ("lent", given().lent()),
            ("outside windows", given().at("20:00")),
            (
                "by an exception",
                given().set("/schedule/exceptions", json!([{"date": "2026-11-02", "state": "Inactive"}])),
            ),
            ("disabled", given().set("/schedule/enabled", json!(false))),
            ("killed", given().set("/killSwitch", json!(true))),
            ("paused while in", given().lent().set("/paused", json!(true))),
            ("paused while out", given().set("/paused", json!(true))),
            ("held off", held(given(), HoldState::Inactive)),
            ("held as it is, lent", held(given().lent(), HoldState::AsIs)),
            ("held as it is, off", held(given().at("20:00"), HoldState::AsIs)),
            ("kept out by a freeze", held(given(), HoldState::NoNew)),
            ("held in", held(given().lent().at("20:00"), HoldState::Active)),
            ("taken back by its owner", given().with(|s| s.holds.push(reclaim_hold("r", "09:00", None)))),
            ("off without its Cluster", given().at("20:00").with(|s| s.cluster = None)),
            ("off beside a Cluster that goes", given().with(|s| s.cluster.as_mut().unwrap().deleting = true)),
            ("off with templates that have faults", given().at("20:00").set("/bootstrapSpec", json!(null))),
            ("lent from older templates", given().lent().edit("/infrastructureSpec/spec", json!({"b": 3}))),
        ],
    );
}

#[test]
fn what_is_under_way_or_waits_is_in_progress() {
    let service = |service: Service| given().with(|s| s.children[0].service = service);
    all_are(
        "InProgress",
        vec![
            ("first sight", given().with(|s| s.object.has_finalizer = false)),
            ("making it", given()),
            ("waiting for its turn", given().with(|s| s.waits_for_turn = true)),
            ("waiting for the Cluster", given().with(|s| s.cluster = None)),
            ("looking up the kinds", service(Service::Resolving)),
            ("joining", given().machine()),
            ("in, with a hiccup", given().lent().with(|s| s.machine.as_mut().unwrap().conditions.clear())),
            ("the one before is going", given().lent().deleting("DrainingNode", "")),
            ("grace", given().lent().at("18:01")),
            ("draining", given().lent().at("18:06").deleting("DrainingNode", "pods")),
            ("going", given().lent().at("18:06")),
            ("overdue", given().lent().at("19:00").deleting("DrainingNode", "pods")),
            ("held off, in its grace", held(given().lent(), HoldState::Inactive)),
            ("held as it is, half way", held(given().machine(), HoldState::AsIs)),
            ("ejected", given().lent().set("/killSwitch", json!(true))),
            ("Cluster API is paused", given().lent().with(|s| s.cluster.as_mut().unwrap().paused = true)),
            ("paused while joining", given().machine().set("/paused", json!(true))),
            ("paused while going", given().lent().set("/paused", json!(true)).deleting("DrainingNode", "")),
        ],
    );
}

#[test]
fn what_needs_a_person_has_failed() {
    let service = |service: Service| given().with(|s| s.children[0].service = service);
    let foreign = ChildObject { uid: "foreign".to_owned(), ..ChildObject::default() };
    all_are(
        "Failed",
        vec![
            ("templates with faults", given().set("/bootstrapSpec", json!(null))),
            ("a schedule that cannot be read, off", given().set("/schedule", json!({}))),
            ("a schedule that cannot be read, lent", given().lent().passed().edit("/schedule", json!({}))),
            ("a kind that nobody serves", service(Service::NotServed("x".into()))),
            ("a kind that is not allowed", service(Service::NotAllowed("x".into()))),
            ("a name that is taken", given().with(|s| s.children[0].object = Some(foreign))),
        ],
    );
}

#[test]
fn whatever_is_deleted_is_terminating() {
    let deleted = |given: Given| given.with(|s| s.object.deleted_at = Some(t("10:00")));
    let old = child(Role::Bootstrap, "OldConfig", false);
    all_are(
        "Terminating",
        vec![
            ("lent", deleted(given().lent())),
            ("off", deleted(given().at("20:00"))),
            ("stalled", deleted(given().set("/schedule", json!({})))),
            ("an old kind looked up", deleted(given()).with(|s| s.children.push(old))),
        ],
    );
}

#[test]
fn a_call_that_failed_is_in_progress_unless_the_name_is_taken() {
    let failed = |reason: &'static str| {
        let failure = Failure { reason, message: "refused".to_owned(), class: Class::Permanent };
        let report = Report { failure: Some(failure), ..Report::default() };
        let given = given();
        let status = derive(&given.s, &given.decide(), &report);
        verdict(&without_nulls(seen(&given.s.object, &status)))
    };
    for reason in ["CreateFailed", "UpdateFailed", "DeleteFailed", "ApiTimeout", "ReadFailed"] {
        assert_eq!(failed(reason), "InProgress", "{reason}");
    }
    assert_eq!(failed("NameTaken"), "Failed");
}

#[test]
fn what_nobody_has_looked_at_yet_is_in_progress() {
    let edited = given().lent().passed().edit("/priority", json!(9));
    assert_eq!(verdict(&without_nulls(seen(&edited.s.object, &edited.s.status))), "InProgress", "an edit");
    // As the definitions' defaults have it.
    let created = json!({"metadata": {"generation": 1}, "status": {"observedGeneration": -1}});
    assert_eq!(verdict(&created), "InProgress", "a creation");
}
