//! Reclaims: away at once, back when it was said, and counted.

use serde_json::json;

use super::given::{Given, given, reclaim_hold, stands, t};
use crate::api::condition::Phase;
use crate::api::status::{DesiredState, Manner, Rule, Timers};
use crate::controller::decide::rule::ruling;
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
    assert_eq!(away.standing(), stands(Phase::Inactive, "True", "Reclaimed"));
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
