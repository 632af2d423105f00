//! Holds: which counts, since when, and what follows.

use jiff::SignedDuration;
use serde_json::json;

use super::given::{Given, child, given, hold, own_child, reclaim_hold, stands, t};
use crate::api::condition::{Phase, types};
use crate::api::machine_hold::HoldState;
use crate::api::status::{DesiredState, LeavingStage, Manner, Rule};
use crate::capi::kinds::Role;
use crate::controller::decide::rule::{Ruling, ruling};
use crate::controller::hold::Hold;
use DesiredState::{Active, AsIs, Inactive};

fn of(given: &Given) -> Ruling {
    ruling(&given.s)
}

fn held(given: Given, hold: Hold) -> Given {
    given.with(|s| s.holds.push(hold))
}

fn without_holds(given: Given) -> Given {
    given.with(|s| s.holds.clear())
}

fn name(given: &Given) -> Option<String> {
    of(given).source.and_then(|source| source.name)
}

#[test]
fn of_those_in_force_the_one_made_last_decides_and_then_the_last_by_name() {
    let two = held(given(), hold("b", HoldState::Inactive, "08:00", None, None));
    let two = held(two, hold("a", HoldState::AsIs, "09:00", None, None));
    assert_eq!((of(&two).state, name(&two).as_deref()), (AsIs, Some("a")));
    let same = held(two.clone(), hold("c", HoldState::Active, "09:00", None, None));
    assert_eq!((of(&same).state, name(&same).as_deref()), (Active, Some("c")));
    let ended = held(two.clone(), hold("d", HoldState::Active, "09:30", None, Some("10:00")));
    assert_eq!(name(&ended).as_deref(), Some("a"), "it ends at 10:00 sharp");
    let to_come = held(two, hold("d", HoldState::Active, "09:30", Some("10:01"), None));
    assert_eq!(name(&to_come).as_deref(), Some("a"));
    assert_eq!(of(&to_come).next.map(|next| (next.at, next.state)), Some((t("10:01"), Active)));
}

#[test]
fn when_the_newest_ends_the_next_counts() {
    let two = held(given().lent(), hold("old", HoldState::Inactive, "08:00", None, None));
    let two = held(two, hold("new", HoldState::Active, "09:00", None, Some("12:00")));
    let next = of(&two).next.unwrap();
    assert_eq!((of(&two).state, next.at, next.state, next.rule), (Active, t("12:00"), Inactive, Rule::Hold));
    let later = two.passed().at("12:00");
    assert_eq!(
        (of(&later).state, of(&later).since, name(&later).as_deref()),
        (Inactive, t("12:00"), Some("old"))
    );
    assert_eq!(of(&later).next, None, "it has no end");
}

#[test]
fn a_hold_made_today_that_began_last_week_leaves_a_whole_grace() {
    let long_ago = Some("2026-10-26T00:00:00Z");
    let made = held(given().lent().passed(), hold("h", HoldState::Inactive, "09:59", long_ago, None));
    assert_eq!((of(&made).state, of(&made).since), (Inactive, t("10:00")));
    assert_eq!(made.standing(), stands(Phase::ShuttingDown, "False", "GracePeriodActive"));
}

#[test]
fn a_hold_that_was_announced_counts_from_its_start_also_after_an_outage() {
    let made = hold("h", HoldState::Inactive, "09:00", Some("11:00"), None);
    let announced = held(given().lent(), made).passed();
    let status = &announced.s.status;
    assert_eq!(status.next.as_ref().map(|next| (next.at, next.rule)), Some((t("11:00"), Rule::Hold)));
    assert_eq!(status.hand_back_by, Some(t("2026-11-02T11:11:30Z")));
    let late = announced.at("11:30");
    assert_eq!((of(&late).state, of(&late).since), (Inactive, t("11:00")));
}

#[test]
fn a_hold_made_during_an_outage_does_not_begin_before_it_was_made() {
    // The window closed at 18:00 as announced; the hold of 18:20 would have begun at noon.
    let made = hold("h", HoldState::Inactive, "2026-11-02T18:20:00Z", Some("12:00"), None);
    let late = held(given().lent().passed(), made).at("18:30");
    assert_eq!((of(&late).rule, of(&late).since), (Rule::Hold, t("18:00")));
}

#[test]
fn holds_that_nobody_can_read_freeze_all_but_what_no_hold_could_change() {
    let unread = |given: Given| given.with(|s| s.holds_unread = Some("forbidden".to_owned()));
    for given in [given(), given().lent(), given().lent().at("18:30")] {
        let given = unread(given);
        assert!(given.effects().is_empty());
        assert_eq!((of(&given).state, of(&given).rule), (DesiredState::AsIs, Rule::Hold));
        assert!(given.status().message.unwrap().contains("MachineHolds cannot be read: forbidden"));
    }
    let killed = unread(given().lent()).edit("/killSwitch", serde_json::json!(true));
    assert!(killed.effects().contains(&"delete_machine"));
    let deleted = unread(given().lent().at("18:30")).with(|s| s.object.deleted_at = Some(t("10:00")));
    assert!(deleted.effects().contains(&"delete_machine"));
}

#[test]
fn a_hold_that_ends_with_the_window_changes_the_rule_once() {
    let given = held(given().lent(), hold("h", HoldState::Active, "09:00", None, Some("18:00"))).passed();
    let next = given.s.status.next.clone().unwrap();
    assert_eq!((next.at, next.state, next.rule), (t("18:00"), Inactive, Rule::OutsideWindows));
    let after = given.at("18:00");
    assert_eq!((of(&after).rule, of(&after).since), (Rule::OutsideWindows, t("18:00")));
}

#[test]
fn a_hold_that_ends_in_the_window_changes_no_state() {
    let lent = held(given().lent(), hold("h", HoldState::Active, "09:00", None, Some("12:00"))).passed();
    assert_eq!(lent.s.status.next.as_ref().map(|next| next.at), Some(t("18:00")));
    assert_eq!(lent.decide().wake.after(t("10:00")), Some(std::time::Duration::from_secs(2 * 3600)));
    let after = lent.at("12:00");
    assert_eq!(
        (of(&after).rule, of(&after).since, of(&after).rule_since),
        (Rule::Window, t("09:00"), t("12:00"))
    );
}

#[test]
fn the_end_of_a_hold_is_the_edge_and_its_deletion_is_news() {
    let night = given().at("20:00").was(Active, Rule::Hold, "19:00").machine();
    let night = held(night, hold("h", HoldState::Active, "19:00", None, Some("2026-11-02T22:00:00Z")));
    let night = night.with(|s| s.status.decision.as_mut().unwrap().state = Active).passed();
    let ended = night.clone().at("22:30");
    assert_eq!((of(&ended).state, of(&ended).since), (Inactive, t("22:00")));
    let deleted = without_holds(night).at("20:30");
    assert_eq!((of(&deleted).state, of(&deleted).since), (Inactive, t("20:30")));
}

#[test]
fn the_hand_back_follows_an_active_hold_and_the_window_it_ends_in() {
    let night = |until: &str| {
        held(given().lent(), hold("h", HoldState::Active, "09:00", None, Some(until))).at("20:00").status()
    };
    let past_midnight = night("2026-11-03T02:00:00Z");
    assert_eq!(past_midnight.hand_back_by, Some(t("2026-11-03T02:11:30Z")));
    assert_eq!(past_midnight.in_schedule, Some(false));
    assert!(past_midnight.message.unwrap().contains("leaves from Tue 02:00 UTC, back by Tue 02:11 UTC"));
    let into_the_window = night("2026-11-03T10:00:00Z");
    assert_eq!(into_the_window.hand_back_by, Some(t("2026-11-03T18:11:30Z")));
    assert_eq!(into_the_window.next.unwrap().at, t("2026-11-03T18:00:00Z"));
}

#[test]
fn the_hand_back_looks_through_a_freeze_to_come() {
    let freeze = hold("h", HoldState::AsIs, "09:00", Some("17:00"), Some("20:00"));
    let frozen = held(given().lent(), freeze.clone()).status();
    assert_eq!(frozen.next.map(|next| (next.at, next.state)), Some((t("17:00"), AsIs)));
    assert_eq!(frozen.next_text.as_deref(), Some("frozen from Mon 17:00 UTC"));
    assert_eq!(frozen.hand_back_by, Some(t("2026-11-02T20:11:30Z")));
    let endless = Hold { until: None, ..freeze };
    assert_eq!(held(given().lent(), endless).status().hand_back_by, None, "nobody can promise anything");
}

#[test]
fn thawing_starts_the_grace_anew() {
    let leaving = given().lent().passed().at("18:02").passed();
    assert_eq!(leaving.s.status.leaving.as_ref().unwrap().stage, LeavingStage::Grace);
    let freeze = hold("h", HoldState::AsIs, "2026-11-02T18:03:00Z", None, Some("2026-11-02T19:00:00Z"));
    let frozen = held(leaving, freeze).at("18:04").passed();
    assert_eq!((frozen.effects(), frozen.s.status.leaving.clone()), (vec![], None));
    assert_eq!(frozen.s.status.timers.as_ref().unwrap().shutdown_started_at, None);
    let thawed = frozen.at("19:00").status();
    assert_eq!(thawed.leaving.unwrap().grace_ends_at, Some(t("19:05")));
    assert_eq!(thawed.decision.unwrap().since, t("19:00"));
}

#[test]
fn as_it_is_stands_in_every_state_and_says_whether_reality_matches() {
    let freeze = || hold("h", HoldState::AsIs, "09:00", None, None);
    let rows = [
        (given(), "True"),
        (given().at("20:00"), "True"),
        (given().lent(), "True"),
        (given().machine(), "Unknown"),
        (given().lent().deleting("DrainingNode", ""), "Unknown"),
        (
            given().lent().with(|s| s.node.as_mut().unwrap().cordoned_by = Some(s.object.uid.clone())),
            "Unknown",
        ),
    ];
    for (given, ready) in rows {
        let given = held(given, freeze());
        assert_eq!((given.effects(), given.standing().1.as_str()), (vec![], ready));
        assert_eq!(given.standing().2, "Held");
        assert_eq!(given.condition(types::SCHEDULED), Some(("Unknown".to_owned(), "Held".to_owned())));
        assert_eq!(given.status().next_text.as_deref(), Some("never (held)"));
    }
}

fn frozen(given: Given) -> Given {
    held(given, hold("freeze", HoldState::NoNew, "08:00", None, None))
}

#[test]
fn a_freeze_lets_nothing_join() {
    let parts = |given: Given| {
        given.with(|s| {
            s.children = vec![child(Role::Bootstrap, "StubConfig", true)];
            s.children[0].object = Some(own_child());
        })
    };
    // Nothing; parts without a Machine; a Machine that somebody else deleted; the same, gone.
    let rows = [
        (given(), vec![]),
        (parts(given()), vec!["delete_child"]),
        (given().lent().deleting("DrainingNode", ""), vec![]),
        (given().lent().gone(), vec![]),
    ];
    for (given, effects) in rows {
        let given = frozen(given);
        assert_eq!((of(&given).state, of(&given).rule), (Inactive, Rule::Hold));
        assert_eq!(given.effects(), effects);
        assert_eq!(given.condition(types::SCHEDULED), Some(("False".to_owned(), "Held".to_owned())));
    }
    let kept = frozen(given()).status();
    assert_eq!(kept.next_text.as_deref(), Some("joins Tue 09:00 UTC (blocked: MachineHold freeze)"));
    let message = kept.message.unwrap();
    assert!(message.contains("would join Tue 2026-11-03 09:00 UTC but for MachineHold freeze"), "{message}");
    assert!(message.ends_with("kubectl delete machinehold -n lab freeze"), "{message}");
    assert_eq!(frozen(given()).standing(), stands(Phase::Inactive, "True", "Held"));
}

#[test]
fn a_freeze_lets_stay_what_was_taken_before_also_while_it_is_still_being_built() {
    for given in [given().lent(), given().machine()] {
        let given = frozen(given);
        assert_eq!((of(&given).state, of(&given).rule), (Active, Rule::Window));
        assert_eq!(of(&given).next.map(|next| (next.at, next.state)), Some((t("18:00"), Inactive)));
        assert!(given.effects().is_empty());
    }
    let leaves = frozen(given().lent()).passed().at("18:00");
    assert_eq!((of(&leaves).rule, of(&leaves).since), (Rule::OutsideWindows, t("18:00")));
    let next = of(&leaves).next.unwrap();
    assert_eq!(
        (next.at, next.blocked_by.as_deref()),
        (t("2026-11-03T09:00:00Z"), Some("MachineHold freeze"))
    );
    assert_eq!(of(&leaves).until, None, "that opening does not happen");
    // Cordoned, but still in: a window that comes back does not join it.
    let back = leaves.passed().edit("/schedule/hoursOfDay", json!(["0-23"]));
    assert_eq!((of(&back).state, of(&back).rule), (Active, Rule::Window));
}

#[test]
fn a_freeze_that_ends_in_a_window_opens_then() {
    let end = "2026-11-03T12:00:00Z";
    let given = held(given(), hold("freeze", HoldState::NoNew, "08:00", None, Some(end)));
    let next = of(&given).next.unwrap();
    assert_eq!((next.at, next.state, next.rule, next.blocked_by), (t(end), Active, Rule::Window, None));
    let opened = given.passed().at(end);
    assert_eq!((of(&opened).state, of(&opened).since), (Active, t(end)));
    assert_eq!(opened.effects(), ["create_bootstrap", "create_infrastructure", "create_machine"]);
}

#[test]
fn a_freeze_to_come_is_seen_in_time() {
    let freeze = hold("freeze", HoldState::NoNew, "08:00", Some("2026-11-02T23:00:00Z"), None);
    let tonight = held(given(), freeze).at("20:00");
    let next = of(&tonight).next.unwrap();
    assert_eq!(
        (next.at, next.blocked_by.as_deref()),
        (t("2026-11-03T09:00:00Z"), Some("MachineHold freeze"))
    );
}

#[test]
fn a_freeze_leaves_the_other_rules_their_names() {
    let off = frozen(given()).set("/schedule/enabled", json!(false));
    assert_eq!((of(&off).rule, of(&off).next.is_none()), (Rule::Disabled, true));
    let night = frozen(given()).at("20:00");
    assert_eq!(of(&night).rule, Rule::OutsideWindows);
}

#[test]
fn a_hold_works_on_a_schedule_that_nobody_can_read() {
    let garbage = given().set("/schedule/timezone", json!("Mars/Base"));
    let lent = held(garbage.clone(), hold("h", HoldState::Active, "09:00", None, Some("12:00")));
    assert_eq!((of(&lent).state, of(&lent).until), (Active, Some(t("12:00"))));
    assert_eq!(lent.effects(), ["create_bootstrap", "create_infrastructure", "create_machine"]);
    assert_eq!(lent.condition(types::STALLED).unwrap().1, "SpecInvalid");
    // The timetable had opened nothing, so with the hold the loan ends.
    let ended = lent.passed().machine().passed().at("12:00");
    assert_eq!(
        (of(&ended).state, of(&ended).rule, of(&ended).since),
        (Inactive, Rule::ScheduleInvalid, t("12:00"))
    );
    assert_eq!(of(&held(garbage, hold("h", HoldState::AsIs, "09:00", None, None))).state, AsIs);
}

#[test]
fn an_unreadable_schedule_keeps_its_promise_under_and_after_a_hold() {
    let garbage = given().lent().passed().at("12:00").edit("/schedule/timezone", json!("Mars/Base")).passed();
    let hold = hold("h", HoldState::Active, "12:30", None, Some("14:00"));
    let given = held(garbage, hold).at("13:00").passed();
    assert_eq!((of(&given).rule, of(&given).leaves_at), (Rule::Hold, Some(t("18:00"))));
    let after = given.at("14:00");
    assert_eq!((of(&after).state, of(&after).rule), (Active, Rule::ScheduleInvalid));
    assert_eq!(after.passed().s.status.next_cleanup, Some(t("18:00")));
}

#[test]
fn a_hold_lends_a_machine_that_is_switched_off_and_gives_it_back_at_its_end() {
    let off = given().set("/schedule/enabled", json!(false));
    let lent = held(off, hold("h", HoldState::Active, "09:00", None, Some("12:00")));
    let next = of(&lent).next.unwrap();
    assert_eq!(
        (of(&lent).state, next.at, next.state, next.rule),
        (Active, t("12:00"), Inactive, Rule::Disabled)
    );
}

#[test]
fn a_leaving_that_becomes_an_eject_and_one_again_goes_on_from_where_it_began() {
    let leaving = given().lent().passed().at("18:01").passed();
    let grace_ends = leaving.s.status.leaving.as_ref().unwrap().grace_ends_at;
    let killed = leaving.edit("/killSwitch", json!(true)).passed();
    let stage = killed.s.status.leaving.as_ref().unwrap().stage;
    assert_eq!((of(&killed).manner, stage), (Manner::Eject, LeavingStage::Eject));
    let back = killed.edit("/killSwitch", json!(false)).at("18:02").status();
    let leaving = back.leaving.unwrap();
    assert_eq!((leaving.stage, leaving.grace_ends_at), (LeavingStage::Grace, grace_ends));
    assert_eq!(back.decision.unwrap().manner, Manner::Graceful);
}

#[test]
fn a_reclaim_ejects_under_every_rule_deletion_included() {
    let reclaimed = held(given().lent(), reclaim_hold("r", "09:50", None));
    for given in [
        reclaimed.clone(),
        reclaimed.clone().with(|s| s.object.deleted_at = Some(t("09:59"))),
        reclaimed.clone().with(|s| s.cluster.as_mut().unwrap().deleting = true),
        reclaimed.set("/paused", json!(true)),
    ] {
        assert_eq!((of(&given).state, of(&given).manner), (Inactive, Manner::Eject));
        assert!(given.effects().contains(&"delete_machine"), "{:?}", given.effects());
    }
}

#[test]
fn a_clock_set_back_a_little_does_not_undo_a_hold_that_began() {
    let begun = hold("h", HoldState::Inactive, "09:00", Some("12:00"), None);
    let given = held(given().lent(), begun).passed().at("12:00").passed();
    assert_eq!(of(&given.clone().at("11:57")).state, Inactive);
    assert_eq!(of(&given.at("11:54")).state, Active);
}

#[test]
fn the_promise_of_a_held_machine_is_its_span_after_the_hold() {
    let given = held(given().lent(), hold("h", HoldState::Active, "09:00", None, Some("22:00"))).at("20:00");
    let span = given.s.target.hand_back_span();
    assert_eq!(span, SignedDuration::from_secs(690));
    assert_eq!(given.status().hand_back_by, Some(t("22:00") + span));
}
