//! `rule.rs`: each rule over the next one, and since when.

use serde_json::json;

use super::given::{Given, given, t};
use crate::api::status::{DesiredState, Manner, Rule};
use crate::controller::decide::rule::{Ruling, ruling};
use DesiredState::{Active, AsIs, Inactive};

fn of(given: &Given) -> Ruling {
    ruling(&given.s)
}

#[test]
fn each_rule_wins_over_all_that_come_after_it() {
    // From the last to the first: each row adds a reason to what the rows before it already have.
    let outside = given().at("20:00");
    let window = given();
    let holiday = json!([{"date": "2026-11-02", "state": "Inactive", "reason": "holiday"}]);
    let exception = window.clone().set("/schedule/exceptions", holiday);
    let invalid = exception.clone().set("/schedule/timezone", json!("Mars/Base"));
    let disabled = invalid.clone().set("/schedule/enabled", json!(false));
    let paused = disabled.clone().set("/paused", json!(true));
    let killed = paused.clone().set("/killSwitch", json!(true));
    let cluster = killed.clone().with(|s| s.cluster.as_mut().unwrap().deleting = true);
    let deletion = cluster.clone().with(|s| s.object.deleted_at = Some(t("09:59")));
    let rows = [
        (outside, Rule::OutsideWindows, Inactive, None),
        (window, Rule::Window, Active, Some("spec.schedule.hoursOfDay")),
        (exception, Rule::Exception, Inactive, Some("spec.schedule.exceptions[0]")),
        (invalid, Rule::ScheduleInvalid, Inactive, Some("spec.schedule")),
        (disabled, Rule::Disabled, Inactive, Some("spec.schedule.enabled")),
        (paused, Rule::Paused, AsIs, Some("spec.paused")),
        (killed, Rule::KillSwitch, Inactive, Some("spec.killSwitch")),
        (cluster, Rule::ClusterDeleting, Inactive, None),
        (deletion, Rule::Deletion, Inactive, None),
    ];
    for (given, rule, state, path) in rows {
        let ruling = of(&given);
        let field = ruling.source.as_ref().and_then(|source| source.field_path.as_deref());
        assert_eq!((ruling.rule, ruling.state, field), (rule, state, path));
    }
}

#[test]
fn the_manner_is_eject_while_the_kill_switch_is_on_under_any_rule() {
    let deleted = given().with(|s| s.object.deleted_at = Some(t("09:59")));
    assert_eq!(of(&deleted).manner, Manner::Graceful);
    let killed = deleted.set("/killSwitch", json!(true));
    assert_eq!((of(&killed).manner, of(&killed).rule), (Manner::Eject, Rule::Deletion));
}

#[test]
fn an_edge_of_the_clock_counts_from_the_edge_also_after_an_outage() {
    let late = given().lent().at("20:00");
    assert_eq!(of(&late).since, t("18:00"));
}

#[test]
fn an_edit_counts_from_now_where_the_edge_of_the_new_timetable_lies_back() {
    let edited = given().lent().at("12:00").edit("/schedule/hoursOfDay", json!(["9-10"]));
    assert_eq!((of(&edited).since, of(&edited).state), (t("12:00"), Inactive));
}

#[test]
fn a_kill_switch_taken_back_counts_from_now() {
    let back = given().lent().was(Inactive, Rule::KillSwitch, "11:00").at("12:00");
    assert_eq!((of(&back).since, of(&back).rule_since, of(&back).state), (t("12:00"), t("12:00"), Active));
}

#[test]
fn the_state_keeps_its_since_when_only_the_rule_changes() {
    let batch = json!([{"from": "2026-11-02T12:00", "to": "2026-11-02T13:00", "state": "Active"}]);
    let exception = given().lent().set("/schedule/exceptions", batch).at("12:00");
    let ruling = of(&exception);
    assert_eq!((ruling.rule, ruling.since, ruling.rule_since), (Rule::Exception, t("09:00"), t("12:00")));
}

#[test]
fn a_deletion_counts_from_the_deletion() {
    let deleted = given().lent().at("10:30").with(|s| s.object.deleted_at = Some(t("10:00")));
    assert_eq!(of(&deleted).since, t("10:00"));
}

#[test]
fn a_clock_set_back_by_up_to_five_minutes_does_not_undo_an_edge() {
    let closed = given().was(Inactive, Rule::OutsideWindows, "18:00");
    for (now, state) in [("17:55", Inactive), ("17:54", Active)] {
        assert_eq!(of(&closed.clone().at(now)).state, state, "{now}");
    }
    let back = closed.at("17:57");
    let (status, tuesday) = (back.status(), t("2026-11-03T09:00:00Z"));
    assert_eq!((status.in_schedule, status.next_activation), (Some(false), Some(tuesday)));
    assert_eq!((status.next_cleanup, status.next.unwrap().at), (Some(t("2026-11-03T18:00:00Z")), tuesday));
    assert_eq!(back.decide().wake.after(t("17:57")), Some(std::time::Duration::from_secs(15 * 3600 + 180)));
}

/// A lent machine whose schedule is edited to garbage at noon, after a pass that promised 18:00.
fn garbage() -> Given {
    given().lent().passed().at("12:00").edit("/schedule/timezone", json!("Mars/Base"))
}

#[test]
fn a_schedule_that_cannot_be_read_lets_the_machine_stay_until_the_end_last_promised() {
    let stays = garbage();
    assert_eq!(of(&stays).state, Active);
    assert_eq!(of(&stays).next.unwrap().at, t("18:00"));
    let stays = stays.passed();
    assert_eq!(stays.s.status.next_cleanup, Some(t("18:00")));
    let leaves = stays.at("18:00");
    assert_eq!((of(&leaves).state, of(&leaves).since), (Inactive, t("18:00")));
    // The promise has come true; nothing is promised any more.
    let leaves = leaves.passed();
    assert_eq!(leaves.s.status.next_cleanup, None);
    assert_eq!(of(&leaves.at("18:01")).state, Inactive);
}

#[test]
fn a_schedule_that_cannot_be_read_opens_nothing() {
    assert_eq!(of(&given().set("/schedule", json!({}))).state, Inactive);
    let without_machine = garbage().with(|s| s.machine = None);
    assert_eq!(of(&without_machine).state, Inactive);
    let leaving = given().lent().at("18:01").passed().edit("/schedule", json!({}));
    assert_eq!(of(&leaving).state, Inactive);
}

#[test]
fn without_a_promised_end_an_unreadable_schedule_keeps_what_is_lent() {
    let endless = garbage().with(|s| s.status.next_cleanup = None);
    assert_eq!((of(&endless).state, of(&endless).next), (Active, None));
}

#[test]
fn a_pause_does_not_break_the_promise_of_an_unreadable_schedule() {
    let paused = garbage().passed().edit("/paused", json!(true)).passed();
    assert_eq!(of(&paused).state, AsIs);
    let resumed = paused.edit("/paused", json!(false));
    assert_eq!((of(&resumed).state, of(&resumed).next.unwrap().at), (Active, t("18:00")));
    let leaving = given().lent().at("18:01").passed().edit("/paused", json!(true)).passed();
    let resumed = leaving.edit("/paused", json!(false)).edit("/schedule", json!({}));
    assert_eq!(of(&resumed).state, Inactive, "it was on its way out");
}

#[test]
fn an_edit_to_garbage_in_an_outage_that_outlasts_the_promise_still_leaves_a_grace() {
    let late = garbage().at("18:30");
    assert_eq!((of(&late).state, of(&late).since), (Inactive, t("18:30")));
    let known = garbage().passed().at("18:30");
    assert_eq!((of(&known).state, of(&known).since), (Inactive, t("18:00")));
}
