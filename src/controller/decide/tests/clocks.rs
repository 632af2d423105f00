//! Reclaims by clocks that are wrong, and by processes that did not live to tell of them.

use serde_json::json;

use super::given::{Given, NODE, reclaim_hold, t};
use super::reclaims::{asked, recorded, wish};
use crate::api::status::{ReclaimStatus, Rule, Timers};
use crate::controller::decide::rule::ruling;
use crate::controller::events;
use crate::controller::reclaim::request::Note;
use crate::controller::reclaim::{is_new, uncounted};

/// Four minutes ahead, in a world in which it is 10:00.
const AHEAD: &str = "2026-11-02T10:04:00Z";

fn never(at: &str) -> Given {
    asked("process-match: java", at).set("/reclaim", json!({"returnAfter": "Never"}))
}

fn asks(given: Given, program: &str, at: &str) -> Given {
    let note = Note { reason: format!("process-match: {program}"), requested_at: at.to_owned() };
    given.with(|s| s.node.as_mut().unwrap().reclaim = Some(note))
}

fn reclaim(given: &Given) -> ReclaimStatus {
    given.s.status.reclaim.clone().unwrap()
}

fn reasons(given: &Given) -> Vec<String> {
    let events = events::of_pass(&given.s, &given.status(), "pod-7");
    events.into_iter().filter_map(|event| event.reason).collect()
}

#[test]
fn a_clock_that_is_ahead_hides_no_later_request() {
    let first = recorded(never(AHEAD), None).passed();
    assert_eq!(reclaim(&first).at, t("10:00"), "when it was first seen");
    let returned = first.with(|s| s.holds.clear()).passed();
    assert_eq!(returned.effects(), ["clear_reclaim"], "answered for good");
    let cleared = returned.with(|s| s.node.as_mut().unwrap().reclaim = None).at("10:01").passed();
    // By a clock that has been put right.
    let again = asks(cleared, "idea", "2026-11-02T10:00:59Z");
    assert!(wish(&again).is_some());
    for failure in [None, Some("quota")] {
        let second = recorded(again.clone(), failure).passed();
        let told = reclaim(&second);
        assert_eq!((told.matched.as_deref(), told.last_24h), (Some("idea"), Some(2)), "{failure:?}");
        assert_eq!(ruling(&second.s).rule, Rule::Reclaim, "{failure:?}");
    }
}

/// The hold of a reclaim that was given a time of tomorrow, which is over, and its status.
fn after_a_wrong_clock() -> Given {
    let tomorrow = "2026-11-03T10:00:00Z";
    let mut hold = reclaim_hold("first", "09:30", Some("09:40"));
    hold.reclaim.as_mut().unwrap().requested_at = Some(t(tomorrow));
    let status = ReclaimStatus {
        at: t(tomorrow),
        node: None,
        matched: Some("java".to_owned()),
        request: None,
        last_24h: Some(1),
        recent: vec![t(tomorrow)],
    };
    asks(never(AHEAD), "idea", "2026-11-02T09:59:00Z").with(|s| {
        s.holds = vec![hold];
        s.status.reclaim = Some(status);
    })
}

#[test]
fn a_hold_of_another_request_is_no_answer_whatever_its_time() {
    let given = after_a_wrong_clock();
    let refused = recorded(given.clone(), Some("quota"));
    let told = reclaim(&refused);
    assert_eq!((told.at, told.matched.as_deref()), (t("10:00"), Some("idea")), "what is news is the latest");
    assert!(is_new(given.s.status.reclaim.as_ref(), Some(&told)).is_some());
    let kept = refused.at("10:02").passed();
    assert_eq!(kept.s.status.timers.as_ref().and_then(|timers| timers.reclaimed_at), Some(t("10:00")));
    assert_eq!(ruling(&kept.s).rule, Rule::Reclaim);
    // Neither of the two takes the other's place from pass to pass.
    assert_eq!(reclaim(&kept), told);
    assert_eq!(kept.clone().passed().s.status, kept.s.status);
    let held = recorded(given, None).passed();
    assert_eq!(held.clone().passed().s.status, held.s.status);
    assert_eq!(reclaim(&held).matched.as_deref(), Some("idea"));
    // And its own hold is.
    let late = kept.at("10:05");
    let answered = recorded(late, None).passed();
    assert_eq!(answered.s.status.timers.unwrap().reclaimed_at, None);
}

#[test]
fn what_was_latched_and_not_told_is_told_once_by_whoever_comes_after() {
    let given = never("2026-11-02T09:59:59Z");
    let refused = recorded(given.clone(), Some("quota"));
    let told = reclaim(&refused);
    let latched = uncounted(told.clone());
    assert_eq!((latched.last_24h, latched.recent.len()), (Some(0), 0));
    // As far as the one before came: its last write was the latch.
    let heir = given.with(|s| {
        s.status.timers = Some(Timers { reclaimed_at: Some(told.at), ..s.status.timers.clone().unwrap() });
        s.status.reclaim = Some(latched);
        s.hold_tried.clone_from(&refused.s.hold_tried);
    });
    assert_eq!(reasons(&heir)[..2], ["EmergencyReclaim", "HoldNotWritten"]);
    let passed = heir.passed();
    assert_eq!((reclaim(&passed).last_24h, reclaim(&passed).request), (Some(1), told.request.clone()));
    assert!(!reasons(&passed).iter().any(|reason| reason == "EmergencyReclaim"), "{:?}", reasons(&passed));
    // A day later nobody counts it any more, and nobody tells it again.
    let next_day = passed.clone().with(|s| s.now = t("2026-11-03T10:00:00Z"));
    assert!(
        !reasons(&next_day).iter().any(|reason| reason == "EmergencyReclaim"),
        "{:?}",
        reasons(&next_day)
    );
    assert_eq!(is_new(Some(&told), Some(&told)), None);
    assert!(told.request.is_some_and(|request| request.starts_with(NODE)));
}
