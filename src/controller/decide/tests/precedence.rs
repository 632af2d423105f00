//! One precedence: every combination of the rules, against a statement of them that walks from minute to minute.
//!
//! It is Monday 10:00. Holds end at 14:00 and reclaims at 16:00, or never; the deletion began at 09:59.

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde_json::{Value, json};

use super::given::{Given, given, hold, reclaim_hold, t};
use crate::api::machine_hold::HoldState;
use crate::api::status::{DesiredState, Leaving, LeavingStage, Manner, Rule};
use crate::controller::decide::rule::ruling;
use crate::controller::effect::Effect;
use DesiredState::{Active, AsIs, Inactive};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timetable {
    /// 9 to 18.
    Open,
    /// 12 to 18.
    Closed,
    /// The same, but open from 9 to 11 by an exception.
    ExceptionActive,
    /// 9 to 18, but closed from 9 to 11 by an exception.
    ExceptionInactive,
    /// Nobody can read it; before, it was open until 18:00.
    Garbage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Foreseen,
    Never,
}

#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a rule of its own")]
struct Case {
    deletion: bool,
    cluster_deleting: bool,
    kill_switch: bool,
    reclaim: Option<End>,
    paused: bool,
    hold: Option<(HoldState, End)>,
    disabled: bool,
    timetable: Timetable,
    lent: bool,
    capi_paused: bool,
}

fn cases() -> Vec<Case> {
    const FLAGS: [bool; 2] = [false, true];
    let ends = [End::Foreseen, End::Never];
    let reclaims: Vec<Option<End>> = [None].into_iter().chain(ends.map(Some)).collect();
    let states = [HoldState::Active, HoldState::Inactive, HoldState::AsIs, HoldState::NoNew];
    let holds: Vec<Option<(HoldState, End)>> = [None]
        .into_iter()
        .chain(states.into_iter().flat_map(|state| ends.map(|end| Some((state, end)))))
        .collect();
    let timetables = [
        Timetable::Open,
        Timetable::Closed,
        Timetable::ExceptionActive,
        Timetable::ExceptionInactive,
        Timetable::Garbage,
    ];
    let mut cases = Vec::new();
    for bits in 0..128_u8 {
        let flag = |bit: u8| FLAGS[usize::from(bits >> bit & 1)];
        for reclaim in &reclaims {
            for hold in &holds {
                for timetable in timetables {
                    cases.push(Case {
                        deletion: flag(0),
                        cluster_deleting: flag(1),
                        kill_switch: flag(2),
                        reclaim: *reclaim,
                        paused: flag(3),
                        hold: *hold,
                        disabled: flag(4),
                        timetable,
                        lent: flag(5),
                        capi_paused: flag(6),
                    });
                }
            }
        }
    }
    cases
}

/// The rules, said once more and as plainly as can be: state and rule at a minute, for a machine that is in or not.
fn said(case: &Case, at: Timestamp, lent: bool) -> (DesiredState, Rule) {
    let before = |end: End, time: &str| end == End::Never || at < t(time);
    if case.deletion {
        return (Inactive, Rule::Deletion);
    }
    if case.cluster_deleting {
        return (Inactive, Rule::ClusterDeleting);
    }
    if case.kill_switch {
        return (Inactive, Rule::KillSwitch);
    }
    if case.reclaim.is_some_and(|end| before(end, "16:00")) {
        return (Inactive, Rule::Reclaim);
    }
    if case.paused {
        return (AsIs, Rule::Paused);
    }
    let otherwise = if case.disabled {
        (Inactive, Rule::Disabled)
    } else {
        timetable(case.timetable, at, lent && case.lent)
    };
    match case.hold.filter(|(_, end)| before(*end, "14:00")) {
        Some((HoldState::Active, _)) => (Active, Rule::Hold),
        Some((HoldState::Inactive, _)) => (Inactive, Rule::Hold),
        Some((HoldState::AsIs, _)) => (AsIs, Rule::Hold),
        // It speaks up only where something would join.
        Some((HoldState::NoNew, _)) if otherwise.0 == Active && !lent => (Inactive, Rule::Hold),
        Some((HoldState::NoNew, _)) | None => otherwise,
    }
}

fn timetable(timetable: Timetable, at: Timestamp, lent: bool) -> (DesiredState, Rule) {
    let civil = at.to_zoned(TimeZone::UTC);
    let (is_monday, hour) = (civil.day() == 2, civil.hour());
    let by_exception = is_monday && (9..11).contains(&hour);
    let window = |from: i8| {
        if (from..18).contains(&hour) { (Active, Rule::Window) } else { (Inactive, Rule::OutsideWindows) }
    };
    match timetable {
        Timetable::ExceptionActive if by_exception => (Active, Rule::Exception),
        Timetable::ExceptionInactive if by_exception => (Inactive, Rule::Exception),
        Timetable::Open | Timetable::ExceptionInactive => window(9),
        Timetable::Closed | Timetable::ExceptionActive => window(12),
        Timetable::Garbage if lent && at < t("18:00") => (Active, Rule::ScheduleInvalid),
        Timetable::Garbage => (Inactive, Rule::ScheduleInvalid),
    }
}

fn build(case: &Case) -> Given {
    let exception = |state: &str| json!([{"from": "2026-11-02T09:00", "to": "2026-11-02T11:00", "state": state, "reason": "x"}]);
    let hours = |hours: &str, exceptions: Value| json!({"daysOfWeek": ["mon-fri"], "hoursOfDay": [hours], "exceptions": exceptions});
    let schedule = match case.timetable {
        Timetable::Open | Timetable::Garbage => hours("9-17", Value::Null),
        Timetable::Closed => hours("12-17", Value::Null),
        Timetable::ExceptionActive => hours("12-17", exception("Active")),
        Timetable::ExceptionInactive => hours("9-17", exception("Inactive")),
    };
    let base = given();
    let base = if case.lent { base.lent() } else { base.was(Inactive, Rule::OutsideWindows, "09:00") };
    let base = base.set("/schedule", schedule).with(|s| {
        s.status.next_cleanup = Some(t("18:00"));
        s.status.in_schedule = Some(true);
    });
    let base = if case.timetable == Timetable::Garbage {
        base.set("/schedule/timezone", json!("Mars/Base"))
    } else {
        base
    };
    let ends = |end: End, at: &'static str| (end == End::Foreseen).then_some(at);
    let base = base.set("/schedule/enabled", json!(!case.disabled));
    let base = base.set("/paused", json!(case.paused)).set("/killSwitch", json!(case.kill_switch));
    base.with(|s| {
        s.object.deleted_at = case.deletion.then(|| t("09:59"));
        let cluster = s.cluster.as_mut().unwrap();
        (cluster.deleting, cluster.paused) = (case.cluster_deleting, case.capi_paused);
        s.holds.extend(case.hold.map(|(state, end)| hold("h", state, "09:30", None, ends(end, "14:00"))));
        s.holds.extend(case.reclaim.map(|end| reclaim_hold("r", "09:40", ends(end, "16:00"))));
    })
}

/// What the clock alone does from 10:00 on: the first change of state, and the first at which a machine that is in
/// goes.
fn ahead(case: &Case) -> (Option<(Timestamp, DesiredState, Rule)>, Option<Timestamp>) {
    let mut at = t("10:00");
    let (mut state, _) = said(case, at, case.lent);
    let seeks_end = state != Inactive;
    let mut lent = state == Active || (state == AsIs && case.lent);
    let mut first = None;
    while at < t("2026-11-04T02:00:00Z") {
        at += SignedDuration::from_mins(1);
        let (now, rule) = said(case, at, lent);
        lent = now == Active || (now == AsIs && lent);
        if now != state {
            first = first.or(Some((at, now, rule)));
            if seeks_end && now == Inactive {
                return (first, Some(at));
            }
        }
        state = now;
    }
    (first, None)
}

/// The opening that an endless `NoNew` keeps from happening.
fn kept_out(case: &Case) -> Option<(Timestamp, Rule)> {
    let is_above = case.deletion || case.cluster_deleting || case.kill_switch || case.paused || case.disabled;
    let is_endless = case.hold == Some((HoldState::NoNew, End::Never)) && case.reclaim != Some(End::Never);
    if is_above || !is_endless || case.timetable == Timetable::Garbage {
        return None;
    }
    let mut at = if case.reclaim.is_some() { t("16:00") } else { t("10:00") };
    let mut was = timetable(case.timetable, at, false).0;
    loop {
        at += SignedDuration::from_mins(1);
        let (state, rule) = timetable(case.timetable, at, false);
        if state == Active && was == Inactive {
            return Some((at, rule));
        }
        was = state;
    }
}

#[test]
fn the_first_rule_that_matches_decides_and_everything_that_is_said_of_it_is_true() {
    let cases = cases();
    assert_eq!(cases.len(), 128 * 3 * 9 * 5);
    for case in &cases {
        check(case);
    }
}

fn check(case: &Case) {
    let given = build(case);
    let (decision, status) = (given.decide(), given.status());
    let (state, rule) = said(case, t("10:00"), case.lent);
    let decided = status.decision.as_ref().unwrap();
    assert_eq!((decided.state, decided.rule), (state, rule), "{case:?}");

    let eject = case.kill_switch || case.reclaim.is_some();
    let manner = if eject { Manner::Eject } else { Manner::Graceful };
    assert_eq!(decided.manner, manner, "{case:?}");

    let name = decided.source.as_ref().and_then(|source| source.name.as_deref());
    let path = decided.source.as_ref().and_then(|source| source.field_path.as_deref());
    assert_eq!((name, path), read(case, rule), "{case:?}");
    let source = decided.source.as_ref().and_then(|source| source.kind.as_deref());
    let by_hold = matches!(rule, Rule::Reclaim | Rule::Hold);
    let by_nothing = matches!(rule, Rule::Deletion | Rule::ClusterDeleting | Rule::OutsideWindows);
    let kind = if by_hold { Some("MachineHold") } else { (!by_nothing).then_some("ScheduledMachine") };
    assert_eq!(source, kind, "{case:?}");
    let command = status.message.as_ref().unwrap().contains("kubectl delete machinehold -n lab");
    assert_eq!(command, by_hold, "{case:?}: {:?}", status.message);

    let (change, leaves_at) = ahead(case);
    let blocked = change.is_none().then(|| kept_out(case)).flatten();
    let next = status.next.as_ref().map(|next| (next.at, next.state, next.rule));
    assert_eq!(next, change.or(blocked.map(|(at, rule)| (at, Active, rule))), "{case:?}");
    assert_eq!(decided.until, change.map(|(at, ..)| at), "{case:?}");
    let stands_in_the_way = match (&status.next, case.capi_paused, blocked) {
        (Some(_), true, _) => Some("paused Cluster grid"),
        (Some(_), false, Some(_)) => Some("MachineHold h"),
        (None, ..) | (Some(_), false, None) => None,
    };
    let said_of_it = status.next.as_ref().and_then(|next| next.blocked_by.as_deref());
    assert_eq!(said_of_it, stands_in_the_way, "{case:?}");
    let text = status.next_text.as_ref().unwrap();
    assert_eq!(text.starts_with("never"), status.next.is_none(), "{case:?}: {text}");

    // On the way out exactly while a machine is there that should not be, and may be touched.
    let leaves = state == Inactive && case.lent && !case.capi_paused;
    assert_eq!(status.leaving.is_some(), leaves, "{case:?}");
    let span = given.s.target.hand_back_span();
    let gone_by = status.leaving.as_ref().map(|leaving| said_of_leaving(case, rule, leaving));
    let hand_back = match state {
        Inactive => gone_by,
        Active | AsIs => leaves_at.filter(|_| case.lent && !case.capi_paused).map(|at| at + span),
    };
    assert_eq!(status.hand_back_by, hand_back, "{case:?}");
    touches(case, state, eject, &decision.effects);
    let edges = change.iter().map(|(at, ..)| *at).min();
    let wakes = decision.wake.after(t("10:00")).map(|after| t("10:00") + after);
    assert!(edges.is_none_or(|edge| wakes.is_some_and(|at| at <= edge)), "{case:?}: {wakes:?}");
}

/// Name and field of what a rule read.
fn read(case: &Case, rule: Rule) -> (Option<&'static str>, Option<&'static str>) {
    let of_object = |path: &'static str| (Some("ws-1"), Some(path));
    match rule {
        Rule::Deletion | Rule::ClusterDeleting | Rule::OutsideWindows => (None, None),
        Rule::KillSwitch => of_object("spec.killSwitch"),
        Rule::Reclaim => (Some("r"), Some("spec.state")),
        Rule::Hold => (Some("h"), Some("spec.state")),
        Rule::Paused => of_object("spec.paused"),
        Rule::Disabled => of_object("spec.schedule.enabled"),
        Rule::ScheduleInvalid => of_object("spec.schedule"),
        Rule::Exception => of_object("spec.schedule.exceptions[0]"),
        Rule::Window if matches!(case.timetable, Timetable::Garbage) => (None, None),
        Rule::Window => of_object("spec.schedule.hoursOfDay"),
    }
}

/// What is said of a leaving, worked out from the fields of the spec; when the owner has it at the latest.
fn said_of_leaving(case: &Case, rule: Rule, leaving: &Leaving) -> Timestamp {
    // `given()` has a grace and a drain of five minutes each, and Cluster API's own limits are ours.
    let (grace, drain) = (SignedDuration::from_mins(5), SignedDuration::from_mins(5));
    let after = SignedDuration::from_secs(60 + 30);
    let eject = case.kill_switch || case.reclaim.is_some();
    assert_eq!(leaving.stage == LeavingStage::Eject, eject, "{case:?}");
    let since = if case.deletion { t("09:59") } else { t("10:00") };
    assert_eq!(leaving.since, since, "{case:?}");
    let (grace_ends_at, drain_ends_at, gone_by) = if eject {
        (None, None, t("10:00") + SignedDuration::from_secs(30))
    } else if rule == Rule::ClusterDeleting {
        (Some(since), Some(since), since + SignedDuration::from_secs(30))
    } else {
        (Some(since + grace), Some(since + grace + drain), since + grace + drain + after)
    };
    let said = (leaving.grace_ends_at, leaving.drain_ends_at, leaving.gone_by);
    assert_eq!(said, (grace_ends_at, drain_ends_at, Some(gone_by)), "{case:?}");
    gone_by
}

/// What may be written at all.
fn touches(case: &Case, state: DesiredState, eject: bool, effects: &[Effect]) {
    let node_only = effects.iter().all(Effect::is_on_node);
    if case.capi_paused {
        let may_eject = eject && state == Inactive;
        assert!(node_only && (may_eject || effects.is_empty()), "{case:?}: {effects:?}");
    } else if state == AsIs {
        assert!(effects.is_empty(), "{case:?}: {effects:?}");
    } else if state == Active {
        assert!(!effects.iter().any(Effect::is_destructive), "{case:?}: {effects:?}");
    }
}

#[test]
fn an_object_that_is_being_moved_is_let_go_under_every_rule() {
    for case in cases() {
        let effects = build(&case).with(|s| s.object.is_moving = true).effects();
        let allowed: &[&str] = if case.deletion { &["remove_finalizer"] } else { &[] };
        assert_eq!(effects, allowed, "{case:?}");
    }
}

#[test]
fn a_second_look_at_what_was_just_decided_changes_nothing() {
    for case in cases() {
        let once = build(&case).passed();
        let (first, second) = (ruling(&once.s), ruling(&once.clone().passed().s));
        assert_eq!(first, second, "{case:?}");
        assert_eq!(once.s.status, once.clone().passed().s.status, "{case:?}");
    }
}
