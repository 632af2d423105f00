//! The parser: what it lets pass, what it refuses and how it names it, and that nothing makes it panic.

use fivespot::api::schedule::{self as raw, ExceptionState};
use fivespot::schedule::{Fault, Schedule};
use proptest::prelude::*;

use crate::dice::Dice;
use crate::model::Focus;

fn parse(json: &str) -> Result<Schedule, Vec<Fault>> {
    Schedule::parse(&serde_json::from_str(json).unwrap())
}

fn said(json: &str) -> Vec<String> {
    parse(json).unwrap_err().iter().map(ToString::to_string).collect()
}

/// The value a fault's path leads to.
fn at_path<'a>(object: &'a serde_json::Value, path: &str) -> Option<&'a serde_json::Value> {
    let pointer = path.replace(['.', '['], "/").replace(']', "");
    object.pointer(&format!("/{pointer}"))
}

/// Every fault leads to a field that is there; a schedule without faults survives its normal form.
fn holds_together(written: &raw::Schedule) {
    match Schedule::parse(written) {
        Ok(schedule) => {
            let form = schedule.normal_form();
            let again =
                Schedule::parse(&raw::Schedule::from(&form)).unwrap_or_else(|f| panic!("{form}: {f:?}"));
            assert_eq!(again.normal_form(), form);
        }
        Err(faults) => {
            assert!(!faults.is_empty());
            let object = serde_json::json!({"spec": {"schedule": written}});
            for fault in faults {
                assert!(at_path(&object, &fault.path).is_some(), "{fault} leads nowhere in {object}");
                assert!(fault.message.len() < 300, "{fault} is too long for a status");
            }
        }
    }
}

/// Every string of a schedule, with its path.
fn strings(schedule: &mut raw::Schedule) -> Vec<(String, &mut String)> {
    let mut found = vec![("spec.schedule.timezone".to_owned(), &mut schedule.timezone)];
    for (name, items) in
        [("daysOfWeek", &mut schedule.days_of_week), ("hoursOfDay", &mut schedule.hours_of_day)]
    {
        found.extend(
            items.iter_mut().enumerate().map(|(i, item)| (format!("spec.schedule.{name}[{i}]"), item)),
        );
    }
    for (index, window) in schedule.windows.iter_mut().enumerate() {
        let path = format!("spec.schedule.windows[{index}]");
        found.push((format!("{path}.from"), &mut window.from));
        found.push((format!("{path}.to"), &mut window.to));
        found.extend(window.days.iter_mut().enumerate().map(|(i, item)| (format!("{path}.days[{i}]"), item)));
    }
    for (index, exception) in schedule.exceptions.iter_mut().enumerate() {
        let path = format!("spec.schedule.exceptions[{index}]");
        let fields =
            [("date", &mut exception.date), ("from", &mut exception.from), ("to", &mut exception.to)];
        let fields = fields.into_iter().filter_map(|(name, field)| Some((name, field.as_mut()?)));
        found.extend(fields.map(|(name, field)| (format!("{path}.{name}"), field)));
    }
    found
}

/// A valid schedule from a seed.
fn valid(seed: u64) -> (raw::Schedule, Dice) {
    let mut dice = Dice::new(seed);
    let focus = Focus { date: jiff::civil::date(2026, 10, 25), low: 60, high: 120 };
    let written = focus.model(&mut dice).written("Europe/London", &mut dice);
    (written, dice)
}

fn words() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[a-z0-9:, -]{0,12}|\\PC{0,8}|(mon|fri|sun|9|22|6|0)([-,](mon|fri|17|24|6))?", 0..3)
}

fn word() -> impl Strategy<Value = String> {
    "(mon |sun )?[0-2][0-9]:[0-5][05]|[a-z]{3} [0-9:]{0,6}|\\PC{0,8}"
}

fn moment() -> impl Strategy<Value = Option<String>> {
    prop::option::of(
        "20[0-9]{2}-[01][0-9]-[0-3][0-9](T[0-2][0-9]:[0-5][0-9])?|[-0-9]{1,10}|9999-12-3[01]|\\PC{0,8}",
    )
}

prop_compose! {
    fn anything()(
        timezone in "UTC|Europe/London|[A-Za-z/_]{0,12}|\\PC{0,8}",
        days_of_week in words(),
        hours_of_day in words(),
        windows in prop::collection::vec((words(), word(), word()), 0..3),
        exceptions in prop::collection::vec((moment(), moment(), moment(), any::<bool>()), 0..3),
    ) -> raw::Schedule {
        let windows = windows.into_iter().map(|(days, from, to)| raw::Window { days, from, to });
        let exceptions = exceptions.into_iter().map(|(date, from, to, active)| {
            let state = if active { ExceptionState::Active } else { ExceptionState::Inactive };
            raw::Exception { date, from, to, state, reason: None }
        });
        let (windows, exceptions) = (windows.collect(), exceptions.collect());
        raw::Schedule { enabled: true, timezone, days_of_week, hours_of_day, windows, exceptions }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_strings_are_refused_by_path_or_read_and_never_panic(written in anything()) {
        holds_together(&written);
    }

    #[test]
    fn a_schedule_with_one_letter_changed_is_refused_by_that_path_or_read(
        seed: u64, place: prop::sample::Index, letter in "[a-z0-9:, T-]|\\PC", position: prop::sample::Index, how in 0..3,
    ) {
        let (mut written, _) = valid(seed);
        let mut fields = strings(&mut written);
        let (_, field) = place.get_mut(&mut fields);
        let mut letters: Vec<char> = field.chars().collect();
        let at = position.index(letters.len() + 1);
        if how > 0 && at < letters.len() {
            letters.remove(at);
        }
        if how < 2 {
            letters.splice(at..at, letter.chars());
        }
        **field = letters.into_iter().collect();
        holds_together(&written);
    }

    #[test]
    fn every_broken_word_is_named_and_no_other(seed: u64, chosen in prop::collection::vec(any::<bool>(), 64)) {
        let (mut written, _) = valid(seed);
        let mut broken: Vec<String> = Vec::new();
        for ((path, field), chosen) in strings(&mut written).into_iter().zip(chosen) {
            if chosen {
                field.push('x');
                broken.push(path);
            }
        }
        let mut named: Vec<String> =
            Schedule::parse(&written).err().unwrap_or_default().into_iter().map(|fault| fault.path).collect();
        broken.sort();
        named.sort();
        prop_assert_eq!(named, broken);
    }
}

#[test]
fn what_the_predecessor_read_is_read() {
    let hours = |days: &str, hours: &str| {
        let schedule = parse(&format!(r#"{{"daysOfWeek": {days}, "hoursOfDay": {hours}}}"#)).unwrap();
        schedule.normal_form().to_string()
    };
    assert_eq!(hours(r#"["mon-fri"]"#, r#"["9-17"]"#), "mon-fri 09:00-18:00; UTC");
    assert_eq!(hours(r#"["mon,wed", "fri"]"#, r#"["9"]"#), "mon,wed,fri 09:00-10:00; UTC");
    assert_eq!(
        hours(r#"[" fri - mon "]"#, r#"["08 - 9, 12"]"#),
        "mon,fri-sun 08:00-10:00; mon,fri-sun 12:00-13:00; UTC"
    );
    assert_eq!(hours(r#"["mon-sun"]"#, r#"["0-23"]"#), "mon-sun 00:00-24:00; UTC");
    assert_eq!(hours(r#"["sat-sun"]"#, r#"["0-23"]"#), "sat 00:00 - mon 00:00; UTC");
    assert_eq!(hours(r#"["fri"]"#, r#"["22-6"]"#), "fri 22:00-07:00; UTC");
    assert_eq!(hours(r#"["sun"]"#, r#"["20-23"]"#), "sun 20:00-24:00; UTC");
}

#[test]
fn every_fault_is_named_with_its_field_and_what_would_be_right() {
    let faults = said(
        r#"{"timezone": "europe/london", "daysOfWeek": ["mon,Tue", "wed-"], "hoursOfDay": ["25"],
            "windows": [
                {"days": ["mon"], "from": "9:00", "to": "25:00"}, {"from": "09:00", "to": "10:00"},
                {"days": ["mon"], "from": "09:00", "to": "09:00"}, {"days": ["mon"], "from": "24:00", "to": "09:00"},
                {"from": "mon 00:00", "to": "sun 24:00"}, {"days": ["mon"], "from": "fri 19:00", "to": "mon 07:00"},
                {"from": "fri 19:00", "to": "07:00"}],
            "exceptions": [
                {"state": "Active"}, {"state": "Active", "from": "2026-12-24T18:00"}, {"state": "Active", "to": "2026-12-24T18:00"},
                {"state": "Active", "date": "2026-12-24", "to": "2026-12-25T00:00"}, {"state": "Active", "date": "2026-02-30"},
                {"state": "Active", "from": "2026-12-24T18:00", "to": "2026-12-24T18:00"},
                {"state": "Active", "from": "2026-12-24 18:00", "to": "2026-12-24T24:00"}]}"#,
    );
    let expected = [
        r#"spec.schedule.timezone: "europe/london" is spelled "Europe/London""#,
        r#"spec.schedule.daysOfWeek[0]: "Tue" is no day: write mon, mon-fri, fri-mon or mon,wed"#,
        r#"spec.schedule.daysOfWeek[1]: "wed-" is no day: write mon, mon-fri, fri-mon or mon,wed"#,
        r#"spec.schedule.hoursOfDay[0]: "25" is no hour from 0 to 23: write 9, 9-17, 22-6 or 8,12-14"#,
        r#"spec.schedule.windows[0].from: "9:00" is no time: write 19:00, or fri 19:00 for a span of the week"#,
        r#"spec.schedule.windows[0].to: "25:00" is no time: write 19:00, or fri 19:00 for a span of the week"#,
        "spec.schedule.windows[1]: clock times need days: write days: [mon-fri], or a weekday on both ends",
        r#"spec.schedule.windows[2].to: equals from: write from: "00:00", to: "24:00" for whole days"#,
        "spec.schedule.windows[3].from: 24:00 can only end a window: write 00:00 and the next day",
        r#"spec.schedule.windows[4].to: is the same minute of the week as from: write days: [mon-sun], from: "00:00", to: "24:00" for the whole week"#,
        "spec.schedule.windows[5].days: a span has its weekdays in from and to: leave days out",
        "spec.schedule.windows[6]: has a weekday on one end only: write it on both, or on neither and give days",
        "spec.schedule.exceptions[0]: says not when: give either date, or from and to",
        "spec.schedule.exceptions[1].from: needs to beside it",
        "spec.schedule.exceptions[2].to: needs from beside it",
        "spec.schedule.exceptions[3].date: stands alone: give either date, or from and to",
        r#"spec.schedule.exceptions[4].date: "2026-02-30" is no date: write 2026-12-28"#,
        "spec.schedule.exceptions[5].to: must be after from",
        r#"spec.schedule.exceptions[6].from: "2026-12-24 18:00" is no date and time: write 2026-12-24T18:00"#,
        r#"spec.schedule.exceptions[6].to: "2026-12-24T24:00" is no date and time: write 2026-12-24T18:00"#,
    ];
    assert_eq!(faults, expected);
}

#[test]
fn days_and_hours_come_together_or_not_at_all() {
    assert_eq!(
        said(r#"{"daysOfWeek": ["mon"]}"#),
        [r#"spec.schedule.daysOfWeek: needs hoursOfDay beside it, such as ["9-17"]"#]
    );
    assert_eq!(
        said(r#"{"hoursOfDay": ["9"], "windows": [{"days": ["mon"], "from": "09:00", "to": "10:00"}]}"#),
        ["spec.schedule.hoursOfDay: needs daysOfWeek beside it, such as [mon-fri]"]
    );
}

#[test]
fn a_schedule_needs_a_window_or_an_active_exception() {
    const NEVER: &str =
        "spec.schedule: never opens: add daysOfWeek and hoursOfDay, windows, or an Active exception";
    assert_eq!(said("{}"), [NEVER]);
    assert_eq!(said(r#"{"exceptions": [{"date": "2026-12-28", "state": "Inactive"}]}"#), [NEVER]);
    assert!(parse(r#"{"exceptions": [{"date": "2026-12-28", "state": "Active"}]}"#).is_ok());
}

#[test]
fn words_are_taken_literally() {
    let window = |from: &str, to: &str| {
        parse(&format!(r#"{{"windows": [{{"days": ["mon"], "from": "{from}", "to": "{to}"}}]}}"#)).is_ok()
    };
    assert!(window("09:00", "24:00") && window("22:00", "00:00") && window("23:59", "00:01"));
    for bad in [
        "9:00", "09:0", "09:60", "24:01", "+9:00", "09:00 ", " 09:00", "09.00", "0900", "09:00:00", "٠٩:00",
        "",
    ] {
        assert!(!window(bad, "10:00") && !window("08:00", bad), "{bad}");
    }
    let span = |from: &str, to: &str| {
        parse(&format!(r#"{{"windows": [{{"from": "{from}", "to": "{to}"}}]}}"#)).is_ok()
    };
    assert!(
        span("fri 19:00", "mon 07:00") && span("mon 07:00", "mon 06:59") && span("sat 00:00", "sun 24:00")
    );
    for bad in ["Fri 19:00", "fri  19:00", "fri19:00", "friday 19:00", "fri 24:00", "fri-sat 19:00"] {
        assert!(!span(bad, "mon 07:00"), "{bad}");
    }
    for (from, to) in [("mon 07:00", "mon 07:00"), ("mon 00:00", "sun 24:00"), ("tue 00:00", "mon 24:00")] {
        assert!(!span(from, to), "{from} {to}");
    }
    for bad in ["24", "-1", "9-", "-", "9-17-20", "+9", "009", "9:00", "", "9,,10", "9-24", "x"] {
        assert!(parse(&format!(r#"{{"daysOfWeek": ["mon"], "hoursOfDay": ["{bad}"]}}"#)).is_err(), "{bad}");
    }
}
