//! `status.rs`: what is promised, what is remembered, and when it is forgotten.

use serde_json::json;

use super::given::{HOST, given, t};
use crate::api::status::{DesiredState, LastRun, Rule};
use crate::api::taint::AppliedTaint;
use crate::controller::status::patch;

#[test]
fn the_next_change_and_its_words() {
    let rows = [
        (given().lent(), Some("18:00"), "leaves Mon 18:00 UTC"),
        (given().at("20:00"), Some("2026-11-03T09:00:00Z"), "joins Tue 09:00 UTC"),
        (given().set("/killSwitch", json!(true)), None, "never (kill switch)"),
        (given().set("/schedule/enabled", json!(false)), None, "never (disabled)"),
        (given().set("/paused", json!(true)), None, "never (paused)"),
        (given().set("/schedule", json!({})), None, "never (schedule invalid)"),
        (given().with(|s| s.object.deleted_at = Some(t("10:00"))), None, "never (being deleted)"),
        (
            given().with(|s| s.cluster.as_mut().unwrap().deleting = true),
            None,
            "never (Cluster being deleted)",
        ),
    ];
    for (given, next, text) in rows {
        let status = given.status();
        assert_eq!(status.next.as_ref().map(|next| next.at), next.map(t), "{text}");
        assert_eq!(status.next_text.as_deref(), Some(text));
        assert_eq!(status.decision.unwrap().until, next.map(t));
    }
    let far = given().set("/schedule", json!({"windows": [{"from": "mon 19:00", "to": "mon 20:00"}]}));
    let text = far.at("20:00").status().next_text;
    assert_eq!(text.as_deref(), Some("joins Mon 2026-11-09 19:00 UTC"), "a weekday alone would say today");
}

#[test]
fn the_timetable_is_told_under_every_rule() {
    for given in [given(), given().set("/killSwitch", json!(true)), given().set("/paused", json!(true))] {
        let status = given.status();
        assert_eq!(status.in_schedule, Some(true));
        assert_eq!(status.next_cleanup, Some(t("18:00")));
        assert_eq!(status.next_activation, Some(t("2026-11-03T09:00:00Z")));
    }
}

#[test]
fn the_owner_is_told_when_she_has_it_back_at_the_latest() {
    assert_eq!(given().status().hand_back_by, None, "nothing is lent yet");
    assert_eq!(given().lent().status().hand_back_by, Some(t("2026-11-02T18:11:30Z")));
    assert_eq!(given().lent().at("18:03").status().hand_back_by, Some(t("2026-11-02T18:11:30Z")));
    assert_eq!(given().at("20:00").status().hand_back_by, None);
}

#[test]
fn a_run_is_opened_ready_closed_and_gone_and_how_late_it_was() {
    let opened = given().at("09:00").passed();
    let run = LastRun { opened_at: Some(t("09:00")), ..LastRun::default() };
    assert_eq!(opened.s.status.last_run, Some(run.clone()));
    assert_eq!(opened.s.status.last_scheduled_time, Some(t("09:00")));
    let lent = given().lent().with(|s| s.status = opened.s.status.clone()).at("09:02").passed();
    let run = LastRun {
        ready_at: Some(t("09:02")),
        node: Some("ws-1".to_owned()),
        provider_id: Some(HOST.to_owned()),
        ..run
    };
    assert_eq!(lent.s.status.last_run, Some(run.clone()));
    let closed = lent.at("18:00").passed();
    let run = LastRun { closed_at: Some(t("18:00")), ended_by: Some(Rule::OutsideWindows), ..run };
    assert_eq!(closed.s.status.last_run, Some(run.clone()));
    let gone = closed.gone().at("18:12").passed();
    let run = LastRun { gone_at: Some(t("18:12")), late_by_seconds: Some(30), ..run };
    assert_eq!(gone.s.status.last_run, Some(run.clone()));
    let rest = gone.at("19:00").passed();
    assert_eq!(rest.s.status.last_run, Some(run));
}

#[test]
fn what_points_at_a_machine_is_cleared_when_it_is_gone() {
    let taint: AppliedTaint = serde_json::from_value(json!({"key": "lent", "effect": "NoSchedule"})).unwrap();
    let lent = given().lent().with(|s| s.status.applied_node_taints = vec![taint]).at("18:00").passed();
    let status = &lent.s.status;
    assert!(status.machine_ref.is_some() && status.node_ref.is_some() && status.bootstrap_ref.is_some());
    assert_eq!(status.provider_id.as_deref(), Some(HOST));
    let gone = lent.gone().at("20:00").passed();
    let status = serde_json::to_value(&gone.s.status).unwrap();
    for field in [
        "machineRef",
        "bootstrapRef",
        "infrastructureRef",
        "nodeRef",
        "providerID",
        "appliedNodeTaints",
        "timers",
        "leaving",
        "handBackBy",
    ] {
        assert!(status.get(field).is_none(), "{field}: {status}");
    }
}

#[test]
fn a_machine_that_went_while_frozen_is_remembered_until_the_thaw() {
    let paused = given().lent().set("/paused", json!(true)).passed().gone().passed();
    assert_eq!(paused.s.status.decision.as_ref().unwrap().state, DesiredState::AsIs);
    assert!(paused.s.status.machine_ref.is_some());
    let thawed = paused.edit("/paused", json!(false)).at("11:00").passed();
    assert_eq!(thawed.s.status.last_run.as_ref().unwrap().gone_at, Some(t("11:00")));
}

#[test]
fn the_status_survives_its_own_wire_form() {
    for given in [given(), given().lent(), given().lent().at("18:01"), given().at("20:00")] {
        let first = given.passed();
        let before = serde_json::to_value(&first.s.status).unwrap();
        if first.decide().effects.is_empty() {
            assert_eq!(patch(&before, &serde_json::to_value(first.status()).unwrap()), None);
        }
    }
}
