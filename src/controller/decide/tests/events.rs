//! Which Events come of which pass: one for each transition, none at rest.

use serde_json::{Value, json};

use super::given::{Given, given};
use crate::controller::events;
use crate::controller::snapshot::Service;

/// Type, reason and the beginning of the note of each.
fn told(given: &Given) -> Vec<(String, String, String)> {
    let events = events::of_pass(&given.s, &given.status(), "pod-7");
    let text = |text: Option<String>| text.unwrap_or_default();
    events
        .into_iter()
        .map(|event| {
            assert_eq!(event.reporting_instance.as_deref(), Some("pod-7"));
            assert_eq!(event.regarding.as_ref().unwrap().uid.as_ref(), Some(&given.s.object.uid));
            let note = text(event.note);
            let step = note.split(':').next().unwrap_or_default().to_owned();
            (text(event.type_), text(event.reason), step)
        })
        .collect()
}

fn tells(given: &Given, kind: &str, reason: &str, step: &str) {
    assert_eq!(told(given), [(kind.to_owned(), reason.to_owned(), step.to_owned())]);
    assert_eq!(told(&given.clone().passed()), [], "once");
}

#[test]
fn each_change_of_phase_is_told_once() {
    tells(&given().with(|s| s.object.has_finalizer = false), "Normal", "Starting", "new -> Pending");
    tells(&given().at("20:00"), "Normal", "Inactive", "new -> Inactive");
    tells(&given().lent().passed().at("18:00"), "Normal", "GracePeriodActive", "Active -> ShuttingDown");
    let killed = given().lent().passed().edit("/killSwitch", json!(true));
    tells(&killed, "Warning", "WaitingForMachineDeletion", "Active -> EmergencyRemove");
    tells(&given().at("08:00").passed().at("09:00"), "Normal", "WaitingForBootstrap", "Inactive -> Pending");
}

#[test]
fn another_trouble_is_told_and_the_same_is_not() {
    let not_served = |words: &str| {
        let service = Service::NotServed(words.to_owned());
        given().with(|s| s.children[0].service = service)
    };
    tells(&not_served("x"), "Warning", "KindNotServed", "new -> Error");
    let other_words =
        not_served("x").passed().with(|s| s.children[0].service = Service::NotServed("y".to_owned()));
    assert_eq!(told(&other_words), []);
    let another = not_served("x").passed().set("/bootstrapSpec", Value::Null);
    tells(&another, "Warning", "SpecInvalid", "Error -> Error");
}

#[test]
fn a_late_hand_back_is_a_warning_of_its_own() {
    let going = given().lent().at("18:06").deleting("DrainingNode", "").passed();
    let late = going.at("2026-11-02T18:11:30Z");
    tells(&late, "Warning", "HandBackOverdue", "promised to its owner by 2026-11-02T18");
}
