//! Reclaims: away at once, back when it was said, and counted.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Taint;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::given::{Given, NODE, SM, given, hold, reclaim_hold, stands, t};
use crate::api::condition::Phase;
use crate::api::machine_hold::HoldState;
use crate::api::names;
use crate::api::status::{DesiredState, Manner, ReclaimStatus, Rule, Timers};
use crate::controller::decide::rule::ruling;
use crate::controller::hold::{Entry, Hold};
use crate::controller::reclaim::rapid;
use crate::controller::reclaim::request::Note;
use crate::controller::reclaim::wish::{Tried, Unshown, Wish};
use crate::controller::report::{Recorded, Report};
use crate::controller::status::derive;
use DesiredState::{Active, Inactive};

fn reclaimed(given: Given) -> Given {
    given.with(|s| s.holds.push(reclaim_hold("ws-1-reclaim-x", "10:00", Some("12:00"))))
}

#[test]
fn a_reclaim_takes_the_machine_out_and_its_end_returns_it() {
    let out = reclaimed(given().lent()).passed();
    assert_eq!(out.s.status.phase, Some(Phase::EmergencyRemove));
    assert_eq!(out.s.status.decision.as_ref().unwrap().manner, Manner::Eject);
    let away = out.gone().at("10:01").passed();
    assert_eq!(away.standing(), stands(Phase::Disabled, "True", "Reclaimed"));
    let message = away.s.status.message.clone().unwrap();
    assert!(message.contains("reclaimed by its owner (java), until Mon 2026-11-02 12:00 UTC"), "{message}");
    assert!(message.ends_with("kubectl delete machinehold -n lab ws-1-reclaim-x"), "{message}");
    assert_eq!(away.condition("Scheduled").unwrap().1, "EmergencyReclaim");
    let ruling = ruling(&away.clone().at("12:00").s);
    assert_eq!((ruling.state, ruling.rule, ruling.since), (Active, Rule::Window, t("12:00")));
    assert_eq!(ruling.manner, Manner::Graceful);
}

fn latched(return_after: &str) -> Given {
    let given = given().set("/reclaim", json!({"returnAfter": return_after}));
    given.with(|s| s.status.timers = Some(Timers { reclaimed_at: Some(t("09:58")), ..Timers::default() }))
}

#[test]
fn without_its_hold_the_latch_keeps_a_reclaimed_machine_away_as_long() {
    for (return_after, until) in [
        ("NextWindow", Some(t("2026-11-03T09:00:00Z"))),
        ("Never", None),
        ("90m", Some(t("2026-11-02T11:28:00Z"))),
    ] {
        let given = latched(return_after);
        let found = ruling(&given.s);
        assert_eq!((found.rule, found.state, found.manner), (Rule::Reclaim, Inactive, Manner::Eject));
        assert_eq!(found.until, until, "{return_after}");
        let field = found.source.unwrap().field_path;
        assert_eq!(field.as_deref(), Some("status.timers.reclaimedAt"));
        let kept = given.passed().at("10:30").passed();
        assert_eq!(kept.s.status.timers.as_ref().and_then(|timers| timers.reclaimed_at), Some(t("09:58")));
        assert!(kept.s.status.message.as_ref().unwrap().contains("--subresource=status"));
        let Some(until) = until else { continue };
        let back = kept.with(|s| s.now = until).passed();
        assert_eq!(back.s.status.timers.as_ref().and_then(|timers| timers.reclaimed_at), None);
        assert_eq!(back.s.status.decision.as_ref().unwrap().state, Active, "{return_after}");
    }
}

#[test]
fn the_latch_gives_way_to_its_hold_and_does_not_come_back_with_its_deletion() {
    let held = latched("Never").with(|s| s.holds.push(reclaim_hold("r", "09:58", None))).passed();
    assert_eq!(held.s.status.timers.as_ref().and_then(|timers| timers.reclaimed_at), None);
    assert_eq!(held.s.status.decision.as_ref().unwrap().rule, Rule::Reclaim);
    let returned = held.with(|s| s.holds.clear());
    assert_eq!(ruling(&returned.s).rule, Rule::Window);
}

#[test]
fn the_latest_reclaim_and_those_of_a_day_are_told_also_when_their_holds_are_gone() {
    let first = reclaimed(given().lent()).passed();
    let told = first.s.status.reclaim.clone().unwrap();
    assert_eq!(
        (told.at, told.node.as_deref(), told.matched.as_deref()),
        (t("10:00"), Some("ws-1"), Some("java"))
    );
    assert_eq!(told.last_24h, Some(1));
    let second = first.at("15:00").with(|s| s.holds = vec![reclaim_hold("second", "15:00", None)]).passed();
    assert_eq!(second.s.status.reclaim.as_ref().unwrap().last_24h, Some(2));
    assert_eq!(second.s.status.reclaim.as_ref().unwrap().at, t("15:00"));
    let later = second.gone().with(|s| s.holds.clear()).passed();
    let wake = later.clone().with(|s| s.now = t("2026-11-03T09:59:00Z")).decide().wake;
    assert_eq!(wake.after(t("2026-11-03T09:59:00Z")), Some(std::time::Duration::from_secs(60)));
    let next_day = later.with(|s| s.now = t("2026-11-03T10:00:00Z")).passed().s.status.reclaim.unwrap();
    assert_eq!((next_day.at, next_day.last_24h), (t("15:00"), Some(1)));
    assert_eq!(next_day.matched.as_deref(), Some("java"));
}

#[test]
fn a_reclaim_written_twice_counts_once() {
    let held = latched("Never").passed().with(|s| s.holds.push(reclaim_hold("r", "09:58", None))).passed();
    assert_eq!(held.s.status.reclaim.unwrap().last_24h, Some(1));
}

/// What the agent writes on the Node of a lent machine.
pub(super) fn asked(reason: &str, at: &str) -> Given {
    given().lent().with(|s| {
        let note = Note { reason: reason.to_owned(), requested_at: at.to_owned() };
        s.node.as_mut().unwrap().reclaim = Some(note);
    })
}

fn java() -> Given {
    asked("process-match: java", "2026-11-02T09:59:59.25Z")
}

pub(super) fn wish(given: &Given) -> Option<Wish> {
    given.decide().effects.iter().find_map(|effect| effect.wish().cloned())
}

/// The status after a pass in which the hold was written, or not.
pub(super) fn recorded(given: Given, failure: Option<&str>) -> Given {
    let wish = wish(&given).unwrap();
    let failure = failure.map(str::to_owned);
    let recorded = Some(Recorded { asked: wish.asked.clone(), failure: failure.clone() });
    let status = derive(&given.s, &given.decide(), &Report { recorded, ..Report::default() });
    given.with(|s| {
        s.status = status;
        let again_at = t("10:05");
        let request = wish.asked.request.clone();
        s.hold_tried = failure.map(|message| Tried { request, message, again_at });
        if s.hold_tried.is_none() {
            s.holds.push(made(&wish));
        }
    })
}

fn made(wish: &Wish) -> Hold {
    let mut object = wish.hold.as_ref().clone();
    object.metadata.name = Some("ws-1-reclaim-x".to_owned());
    object.metadata.uid = Some("uid-of-it".to_owned());
    object.metadata.creation_timestamp = Some(Time(t("10:00")));
    Entry::read(&object).over("ws-1", &BTreeMap::new()).expect("a hold over its object").clone()
}

#[test]
fn a_request_on_the_node_writes_its_hold_first_and_ejects_in_the_same_pass() {
    let given = java();
    assert_eq!(given.effects(), ["write_hold", "patch_machine", "delete_machine", "eject_node"]);
    let decision = given.decide();
    assert_eq!((decision.ruling.rule, decision.ruling.manner), (Rule::Reclaim, Manner::Eject));
    let source = decision.ruling.source.clone().unwrap();
    assert_eq!((source.kind.as_deref(), source.uid.as_deref()), (Some("Node"), Some(NODE)));
    assert!(decision.ruling.message.contains("(java), on Node ws-1"), "{}", decision.ruling.message);
    let hold = wish(&given).unwrap().hold;
    assert_eq!(hold.metadata.generate_name.as_deref(), Some("ws-1-reclaim-"));
    let owner = &hold.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!((owner.uid.as_str(), owner.controller), (SM, Some(true)));
    let request = format!("{NODE}/2026-11-02T09:59:59.25Z");
    assert_eq!(
        hold.data["spec"],
        json!({
            "scheduledMachine": "ws-1", "state": "Inactive", "origin": "Reclaim",
            "until": "2026-11-03T09:00:00Z",
            "reason": "asked for on Node ws-1: java",
            "reclaim": {"request": request, "node": "ws-1", "matched": "java",
                        "requestedAt": "2026-11-02T09:59:59.25Z"},
        })
    );
}

#[test]
fn once_its_hold_is_written_a_request_is_answered_for_good() {
    let held = recorded(java(), None).passed();
    let told = held.s.status.reclaim.clone().unwrap();
    assert_eq!((told.matched.as_deref(), told.last_24h), (Some("java"), Some(1)));
    assert!(held.effects().iter().all(|effect| *effect != "write_hold"), "{:?}", held.effects());
    assert_eq!(held.s.status.timers.as_ref().and_then(|timers| timers.reclaimed_at), None);
    // Somebody returns it while its Machine is still there, and then its hold is forgotten too.
    let returned = held.with(|s| s.holds.clear());
    assert_eq!(ruling(&returned.s).rule, Rule::Window);
    assert_eq!(returned.effects(), ["clear_reclaim"]);
    let cleared = returned.with(|s| s.node.as_mut().unwrap().reclaim = None).passed();
    assert!(cleared.effects().is_empty());
    assert_eq!(cleared.s.status.reclaim.as_ref().unwrap().request, None);
    // The next one is another.
    let note = Note { reason: String::new(), requested_at: "2026-11-02T10:20:00Z".to_owned() };
    let again = cleared.at("10:20").with(|s| s.node.as_mut().unwrap().reclaim = Some(note));
    let second = recorded(again, None);
    assert_eq!(second.s.status.reclaim.unwrap().last_24h, Some(2));
}

#[test]
fn a_hold_that_cannot_be_written_is_latched_and_tried_again_also_when_the_node_is_gone() {
    let refused = recorded(java(), Some("its MachineHold cannot be written: quota"));
    let latched = refused.s.status.timers.as_ref().and_then(|timers| timers.reclaimed_at);
    assert_eq!(latched, Some(t("2026-11-02T09:59:59.25Z")));
    assert_eq!(refused.effects(), ["patch_machine", "delete_machine", "eject_node"], "not before its time");
    let gone = refused.gone().at("10:04").passed();
    assert_eq!(gone.decide().wake.after(t("10:04")).unwrap().as_secs(), 60);
    let gone = gone.at("10:05").passed();
    let message = gone.s.status.message.clone().unwrap();
    assert!(message.contains("quota") && message.contains("(java)"), "{message}");
    assert_eq!(gone.standing(), stands(Phase::Disabled, "True", "Reclaimed"));
    assert_eq!(gone.effects(), ["write_hold"]);
    let written = recorded(gone, None).passed();
    assert_eq!(written.s.status.timers, None);
    assert_eq!(
        written.s.status.decision.as_ref().unwrap().source.as_ref().unwrap().kind.as_deref(),
        Some("MachineHold")
    );
    assert_eq!(written.s.status.reclaim.as_ref().unwrap().last_24h, Some(1));
    // Ended by hand: no other hold follows it.
    assert_eq!(ruling(&written.with(|s| s.holds.clear()).s).rule, Rule::Window);
}

#[test]
fn what_was_neither_written_nor_remembered_is_remembered_by_the_next_pass() {
    let given = java();
    let request = wish(&given).unwrap().asked.request;
    let given = given.with(|s| {
        s.hold_tried = Some(Tried { request, message: "refused".to_owned(), again_at: t("10:05") });
    });
    assert_eq!(given.effects(), ["patch_machine", "delete_machine", "eject_node"]);
    let timers = given.status().timers.unwrap();
    assert_eq!(timers.reclaimed_at, Some(t("2026-11-02T09:59:59.25Z")));
}

#[test]
fn a_hold_that_is_written_and_not_shown_keeps_the_machine_away_and_is_not_written_again() {
    let status = recorded(java(), None).s.status;
    let unshown = java().with(|s| {
        s.status = status;
        let asked_at = t("2026-11-02T09:59:59.25Z");
        s.hold_written = Some(Unshown { name: "r".to_owned(), asked_at, is_overdue: true });
    });
    // The DELETE may have failed.
    assert_eq!(unshown.effects(), ["patch_machine", "delete_machine", "eject_node"]);
    assert_eq!(unshown.decide().wake.after(t("10:00")).unwrap().as_secs(), 1);
    let killed = unshown.clone().edit("/killSwitch", json!(true));
    assert_eq!(killed.effects(), ["patch_machine", "delete_machine", "eject_node"]);
    let gone = unshown.gone().at("10:05").passed();
    assert_eq!(gone.s.status.timers, None, "it is there: nothing to be latched");
    assert_eq!(gone.standing(), stands(Phase::Disabled, "True", "Reclaimed"));
    let message = gone.s.status.message.as_ref().unwrap();
    assert!(message.contains("MachineHold r is written and not shown yet"), "{message}");
    assert!(gone.effects().is_empty());
    assert_eq!(ruling(&gone.with(|s| s.hold_written = None).s).rule, Rule::Window);
}

#[test]
fn a_request_that_was_being_answered_is_not_older_than_a_machine_that_was_moved() {
    let moved = java().with(|s| {
        s.machine.as_mut().unwrap().created_at = Some(t("10:00"));
        let node = s.node.as_mut().unwrap();
        node.created_at = Some(t("08:00"));
        node.unschedulable = true;
        node.taints = vec![Taint { key: names::TAINT_EJECTING.to_owned(), ..Taint::default() }];
    });
    assert_eq!(moved.effects(), ["write_hold", "patch_machine", "delete_machine"]);
    assert_eq!(wish(&moved).unwrap().asked.at, t("10:00"));
}

#[test]
fn a_time_before_the_machine_or_before_the_last_reclaim_counts_from_when_it_was_first_seen() {
    let never = || asked("java", "2026-11-02T09:30:00Z").set("/reclaim", json!({"returnAfter": "Never"}));
    assert_eq!(wish(&never()).unwrap().asked.at, t("09:30"));
    let reclaim = ReclaimStatus {
        at: t("09:45"),
        node: None,
        matched: None,
        request: None,
        last_24h: Some(1),
        recent: vec![t("09:45")],
    };
    let repeated = never().with(|s| s.status.reclaim = Some(reclaim));
    let held = recorded(repeated, None);
    assert_eq!(held.s.status.reclaim.as_ref().unwrap().at, t("10:00"));
    assert_eq!(held.s.status.reclaim.as_ref().unwrap().last_24h, Some(2), "told as one of its own");
    let made = never().with(|s| s.machine.as_mut().unwrap().created_at = Some(t("09:40")));
    let made = made.with(|s| s.node.as_mut().unwrap().created_at = Some(t("09:41")));
    assert_eq!(wish(&made).unwrap().asked.at, t("10:00"));
}

#[test]
fn a_time_that_says_nothing_counts_from_when_it_was_first_seen() {
    for written in ["", "yesterday", "2026-11-02T10:04:00Z", "2026-11-02T11:00:00Z", "9999-01-01T00:00:00Z"] {
        let given = asked("java", written);
        let asked = wish(&given).unwrap().asked;
        assert_eq!(asked.at, t("10:00"), "{written}");
        // Under a pause nothing is written but the status, which remembers.
        let paused = given.with(|s| s.cluster.as_mut().unwrap().paused = true);
        assert_eq!(paused.effects(), ["eject_node"]);
        let later = paused.passed().at("10:10");
        let thawed = later.clone().with(|s| s.cluster.as_mut().unwrap().paused = false);
        assert_eq!(wish(&thawed).unwrap().asked.at, t("10:00"), "{written}");
        let (before, after) = (later.s.status.clone(), later.passed().s.status);
        assert_eq!(before, after, "{written}: a status that is written for ever");
    }
    // Of two without a time the second is one of its own, once the first was cleared.
    let held = recorded(asked("java", ""), None).passed();
    let over = held.clone().with(|s| s.holds[0].until = Some(t("10:01"))).at("10:02").passed();
    assert_eq!(over.effects(), ["clear_reclaim"]);
    let cleared = over.clone().with(|s| s.node.as_mut().unwrap().reclaim = None).passed();
    let again = cleared.with(|s| s.node = over.s.node.clone());
    assert!(wish(&again).is_some());
    assert_eq!(ruling(&held.s).rule, Rule::Reclaim);
}

#[test]
fn a_request_that_is_not_for_this_machine_now_asks_nothing() {
    let older = java().with(|s| {
        s.machine.as_mut().unwrap().created_at = Some(t("10:00"));
        s.node.as_mut().unwrap().created_at = Some(t("08:00"));
    });
    assert_eq!(older.effects(), ["clear_reclaim"], "left from an earlier Machine on this Node");
    let slow = older.with(|s| s.node.as_mut().unwrap().created_at = Some(t("10:00")));
    assert_eq!(ruling(&slow.s).rule, Rule::Reclaim, "a Node of this Machine whose clock is slow");
    let foreign = java().with(|s| s.node.as_mut().unwrap().uid = "another".to_owned());
    let foreign = foreign.with(|s| s.node.as_mut().unwrap().provider_id = Some("stub://another".to_owned()));
    assert!(foreign.effects().is_empty(), "{:?}", foreign.effects());
    let out = java().with(|s| s.machine = None);
    assert_ne!(ruling(&out.s).rule, Rule::Reclaim);
    let held = java().with(|s| s.holds.push(reclaim_hold("first", "09:00", None)));
    assert!(wish(&held).is_none(), "it is on its way out already");
}

#[test]
fn whatever_decides_above_a_reclaim_its_hold_is_written_unless_it_would_go_at_once() {
    let killed = java().edit("/killSwitch", json!(true));
    assert_eq!(killed.effects().first(), Some(&"write_hold"));
    let paused = java().edit("/paused", json!(true));
    assert_eq!(paused.effects().first(), Some(&"write_hold"));
    let frozen = java().with(|s| s.holds.push(hold("freeze", HoldState::AsIs, "09:00", None, None)));
    assert_eq!(frozen.effects(), ["write_hold", "patch_machine", "delete_machine", "eject_node"]);
    let leaving = java().at("18:01").passed();
    assert_eq!(leaving.s.status.phase, Some(Phase::EmergencyRemove), "in the middle of a grace");
    for deleted in [
        java().with(|s| s.object.deleted_at = Some(t("10:00"))),
        java().with(|s| s.cluster.as_mut().unwrap().deleting = true),
    ] {
        assert!(wish(&deleted).is_none());
        assert_eq!(deleted.decide().ruling.manner, Manner::Eject);
    }
}

#[test]
fn a_reclaim_that_was_missed_for_longer_than_it_lasts_counts_from_today() {
    let given = asked("java", "2026-11-02T09:30:00Z").set("/reclaim", json!({"returnAfter": "5m"}));
    let wish = wish(&given).unwrap();
    assert_eq!((wish.asked.at, wish.asked.until), (t("10:00"), Some(t("10:05"))));
    let none = asked("java", "2026-11-02T09:59:00Z").set("/reclaim", json!({"returnAfter": "0s"}));
    assert_eq!(none.effects().first(), Some(&"write_hold"));
    assert_eq!(self::wish(&none).unwrap().hold.data["spec"]["until"], "2026-11-02T10:00:01Z");
}

#[test]
fn words_from_a_node_are_made_safe_and_short() {
    let annotations = |requested: &str, reason: &str| {
        BTreeMap::from([
            (names::ANNOTATION_RECLAIM_REQUESTED.to_owned(), requested.to_owned()),
            (names::ANNOTATION_RECLAIM_REASON.to_owned(), reason.to_owned()),
        ])
    };
    for other in ["false", "True", "1", "", " true"] {
        assert_eq!(Note::read(&annotations(other, "x")), None, "{other:?} asks");
    }
    let read = |reason: &str| Note::read(&annotations("true", reason)).unwrap().reason;
    assert_eq!(read("a\u{1b}[31m\nb\t\u{202e}c\u{0}"), "a [31m b c");
    assert_eq!(read(&"\u{20ac}".repeat(100_000)).chars().count(), 200);
    let long = asked(&"x".repeat(200), "2026-11-02T09:59:59Z");
    assert!(wish(&long).unwrap().asked.reason().chars().count() <= 512);
}

#[test]
fn three_reclaims_in_ten_minutes_are_told_with_each_of_them() {
    let at = |minutes: &[&str]| {
        let recent: Vec<_> = minutes.iter().map(|minute| t(minute)).collect();
        let at = *recent.last().unwrap();
        Some(ReclaimStatus { at, node: None, matched: None, request: None, last_24h: None, recent })
    };
    let two = at(&["10:00", "10:05"]);
    let three = at(&["10:00", "10:05", "10:10"]);
    assert_eq!(rapid(two.as_ref(), three.as_ref()), Some(3));
    assert_eq!(rapid(three.as_ref(), three.as_ref()), None, "told once");
    assert_eq!(rapid(two.as_ref(), at(&["10:00", "10:05", "10:11"]).as_ref()), None);
    assert_eq!(rapid(None, at(&["10:00"]).as_ref()), None);
}
