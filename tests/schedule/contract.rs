//! The examples of the contract's section on time, one sentence each.

use fivespot::api::schedule as raw;
use fivespot::schedule::{Schedule, Winner};
use jiff::Timestamp;

/// A schedule from its YAML-as-JSON text.
fn schedule(json: &str) -> Schedule {
    let raw: raw::Schedule = serde_json::from_str(json).unwrap();
    Schedule::parse(&raw).unwrap_or_else(|faults| panic!("{faults:?}"))
}

/// The openings between two instants, as `[from, to)` in UTC.
fn openings(schedule: &Schedule, from: &str, to: &str) -> Vec<(String, String)> {
    let (mut at, end): (Timestamp, Timestamp) = (from.parse().unwrap(), to.parse().unwrap());
    assert!(!schedule.is_active(at), "the stretch looked at starts closed");
    let mut openings: Vec<(String, String)> = Vec::new();
    while let Some(edge) = schedule.next_edge(at).filter(|edge| edge.at < end) {
        assert!(edge.at > at, "edges are strictly later");
        if edge.active {
            openings.push((edge.at.to_string(), String::new()));
        } else {
            openings.last_mut().unwrap().1 = edge.at.to_string();
        }
        at = edge.at;
    }
    openings
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect()
}

fn assert_openings(json: &str, from: &str, to: &str, expected: &[(&str, &str)]) {
    assert_eq!(openings(&schedule(json), from, to), pairs(expected));
}

#[test]
fn an_edge_in_an_overlap_is_the_earlier_of_the_two() {
    assert_openings(
        r#"{"timezone": "Europe/London", "windows": [{"days": ["sun"], "from": "01:30", "to": "04:00"}]}"#,
        "2026-10-24T12:00:00Z",
        "2026-10-26T00:00:00Z",
        &[("2026-10-25T00:30:00Z", "2026-10-25T04:00:00Z")],
    );
}

#[test]
fn an_edge_in_a_gap_is_the_first_instant_after_it() {
    assert_openings(
        r#"{"timezone": "Europe/London", "windows": [{"days": ["sun"], "from": "01:30", "to": "04:00"}]}"#,
        "2027-03-27T12:00:00Z",
        "2027-03-29T00:00:00Z",
        &[("2027-03-28T01:00:00Z", "2027-03-28T03:00:00Z")],
    );
}

#[test]
fn a_night_lasts_thirteen_hours_in_october_and_eleven_in_march() {
    let night =
        r#"{"timezone": "Europe/London", "windows": [{"days": ["sat"], "from": "19:00", "to": "07:00"}]}"#;
    assert_openings(
        night,
        "2026-10-24T12:00:00Z",
        "2026-10-26T00:00:00Z",
        &[("2026-10-24T18:00:00Z", "2026-10-25T07:00:00Z")],
    );
    assert_openings(
        night,
        "2027-03-27T12:00:00Z",
        "2027-03-29T00:00:00Z",
        &[("2027-03-27T19:00:00Z", "2027-03-28T06:00:00Z")],
    );
}

#[test]
fn a_window_ending_inside_an_overlap_closes_on_the_first_pass_and_does_not_reopen() {
    assert_openings(
        r#"{"timezone": "Europe/London", "windows": [{"days": ["sun"], "from": "00:15", "to": "01:30"}]}"#,
        "2026-10-24T12:00:00Z",
        "2026-10-26T00:00:00Z",
        &[("2026-10-24T23:15:00Z", "2026-10-25T00:30:00Z")],
    );
}

#[test]
fn a_window_containing_the_repeated_hour_is_open_through_both() {
    assert_openings(
        r#"{"timezone": "Europe/London", "windows": [{"days": ["sun"], "from": "01:00", "to": "02:00"}]}"#,
        "2026-10-24T12:00:00Z",
        "2026-10-26T00:00:00Z",
        &[("2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z")],
    );
}

#[test]
fn a_window_wholly_inside_a_gap_does_not_open_that_day() {
    assert_openings(
        r#"{"timezone": "Europe/London", "windows": [{"days": ["sun"], "from": "01:15", "to": "01:45"}]}"#,
        "2027-03-27T12:00:00Z",
        "2027-04-05T00:00:00Z",
        &[("2027-04-04T00:15:00Z", "2027-04-04T00:45:00Z")],
    );
}

#[test]
fn an_overnight_window_of_a_skipped_date_opens_for_the_part_after_midnight() {
    // Apia went from Thursday 29 December 2011, UTC-10, to Saturday the 31st, UTC+14.
    assert_openings(
        r#"{"timezone": "Pacific/Apia", "windows": [{"days": ["fri"], "from": "19:00", "to": "07:00"}]}"#,
        "2011-12-29T00:00:00Z",
        "2012-01-02T00:00:00Z",
        &[("2011-12-30T10:00:00Z", "2011-12-30T17:00:00Z")],
    );
    assert_openings(
        r#"{"timezone": "Pacific/Apia", "windows": [{"days": ["fri"], "from": "09:00", "to": "17:00"}]}"#,
        "2011-12-29T00:00:00Z",
        "2012-01-02T00:00:00Z",
        &[],
    );
}

#[test]
fn offsets_count_to_the_second() {
    // Monrovia was at -0:44:30 until 1972-01-07, when 00:00 became 00:44:30.
    assert_openings(
        r#"{"timezone": "Africa/Monrovia", "windows": [{"days": ["mon"], "from": "09:00", "to": "10:00"}]}"#,
        "1971-12-26T00:00:00Z",
        "1971-12-29T00:00:00Z",
        &[("1971-12-27T09:44:30Z", "1971-12-27T10:44:30Z")],
    );
    assert_openings(
        r#"{"timezone": "Africa/Monrovia", "windows": [{"days": ["fri"], "from": "00:10", "to": "01:00"}]}"#,
        "1972-01-06T00:00:00Z",
        "1972-01-08T00:00:00Z",
        &[("1972-01-07T00:44:30Z", "1972-01-07T01:00:00Z")],
    );
}

#[test]
fn a_wrapping_part_belongs_to_its_start_day_with_both_halves_and_a_plain_one_lies_on_the_named_day() {
    assert_openings(
        r#"{"daysOfWeek": ["fri"], "hoursOfDay": ["22-6,12"]}"#,
        "2026-11-02T00:00:00Z",
        "2026-11-09T00:00:00Z",
        &[("2026-11-06T12:00:00Z", "2026-11-06T13:00:00Z"), ("2026-11-06T22:00:00Z", "2026-11-07T07:00:00Z")],
    );
}

#[test]
fn sunday_twenty_four_is_monday_zero() {
    let written = |to: &str| schedule(&format!(r#"{{"windows": [{{"from": "fri 19:00", "to": "{to}"}}]}}"#));
    assert_eq!(written("sun 24:00").normal_form(), written("mon 00:00").normal_form());
    assert_openings(
        r#"{"windows": [{"from": "fri 19:00", "to": "sun 24:00"}]}"#,
        "2026-11-02T00:00:00Z",
        "2026-11-12T00:00:00Z",
        &[("2026-11-06T19:00:00Z", "2026-11-09T00:00:00Z")],
    );
}

#[test]
fn a_span_runs_to_the_first_end_strictly_after_its_start() {
    assert_openings(
        r#"{"windows": [{"from": "mon 07:00", "to": "mon 06:00"}]}"#,
        "2026-11-02T06:30:00Z",
        "2026-11-09T06:30:00Z",
        &[("2026-11-02T07:00:00Z", "2026-11-09T06:00:00Z")],
    );
}

#[test]
fn windows_that_touch_are_one_opening() {
    assert_openings(
        r#"{"daysOfWeek": ["mon"], "hoursOfDay": ["9-11,12"],
            "windows": [{"days": ["mon"], "from": "13:00", "to": "24:00"}, {"from": "tue 00:00", "to": "tue 01:00"}]}"#,
        "2026-11-02T00:00:00Z",
        "2026-11-08T00:00:00Z",
        &[("2026-11-02T09:00:00Z", "2026-11-03T01:00:00Z")],
    );
}

#[test]
fn a_dated_exception_lasts_as_long_as_its_date() {
    let date = |date: &str| {
        format!(r#"{{"timezone": "Europe/London", "exceptions": [{{"date": "{date}", "state": "Active"}}]}}"#)
    };
    assert_openings(
        &date("2027-03-28"),
        "2027-03-27T12:00:00Z",
        "2027-03-30T00:00:00Z",
        &[("2027-03-28T00:00:00Z", "2027-03-28T23:00:00Z")],
    );
    assert_openings(
        &date("2026-11-02"),
        "2026-11-01T12:00:00Z",
        "2026-11-04T00:00:00Z",
        &[("2026-11-02T00:00:00Z", "2026-11-03T00:00:00Z")],
    );
    assert_openings(
        &date("2026-10-25"),
        "2026-10-24T12:00:00Z",
        "2026-10-27T00:00:00Z",
        &[("2026-10-24T23:00:00Z", "2026-10-26T00:00:00Z")],
    );
}

#[test]
fn an_exception_cuts_a_window_and_leaves_both_sides_open() {
    assert_openings(
        r#"{"windows": [{"days": ["mon"], "from": "09:00", "to": "17:00"}],
            "exceptions": [{"from": "2026-11-02T12:00", "to": "2026-11-02T13:00", "state": "Inactive"}]}"#,
        "2026-11-02T00:00:00Z",
        "2026-11-08T00:00:00Z",
        &[("2026-11-02T09:00:00Z", "2026-11-02T12:00:00Z"), ("2026-11-02T13:00:00Z", "2026-11-02T17:00:00Z")],
    );
}

#[test]
fn of_several_exceptions_the_one_furthest_down_the_list_decides_alone() {
    let schedule = schedule(
        r#"{"timezone": "Europe/London", "windows": [{"days": ["mon-fri"], "from": "09:00", "to": "17:00"}],
            "exceptions": [
                {"from": "2026-12-24T18:00", "to": "2027-01-02T08:00", "state": "Inactive", "reason": "year-end freeze"},
                {"date": "2026-12-28", "state": "Active", "reason": "extra batch"}]}"#,
    );
    let verdict = schedule.verdict("2026-12-28T12:00:00Z".parse().unwrap());
    assert!(verdict.active);
    assert_eq!(verdict.winner.field_path().as_deref(), Some("spec.schedule.exceptions[1]"));
    assert!(
        matches!(verdict.winner, Winner::Exception { index: 1, reason: Some(reason), .. } if reason == "extra batch")
    );
    assert_eq!(
        openings(&schedule, "2026-12-24T20:00:00Z", "2027-01-04T20:00:00Z"),
        pairs(&[
            ("2026-12-28T00:00:00Z", "2026-12-29T00:00:00Z"),
            ("2027-01-04T09:00:00Z", "2027-01-04T17:00:00Z")
        ])
    );
}

#[test]
fn an_edge_that_changes_nothing_is_not_an_edge() {
    // The exception opens what is open anyway and ends with it.
    let schedule = schedule(
        r#"{"windows": [{"days": ["mon"], "from": "09:00", "to": "17:00"}],
            "exceptions": [{"from": "2026-11-02T10:00", "to": "2026-11-02T17:00", "state": "Active"}]}"#,
    );
    assert_eq!(
        openings(&schedule, "2026-11-02T00:00:00Z", "2026-11-08T00:00:00Z"),
        pairs(&[("2026-11-02T09:00:00Z", "2026-11-02T17:00:00Z")])
    );
    let since = schedule.previous_edge("2026-11-02T12:00:00Z".parse().unwrap()).unwrap();
    assert_eq!((since.at.to_string().as_str(), since.active), ("2026-11-02T09:00:00Z", true));
}

#[test]
fn a_week_that_is_open_throughout_has_no_edge() {
    let schedule = schedule(r#"{"daysOfWeek": ["mon-sun"], "hoursOfDay": ["0-23"]}"#);
    let at = "2026-11-02T12:00:00Z".parse().unwrap();
    assert!(schedule.is_active(at));
    assert_eq!((schedule.next_edge(at), schedule.previous_edge(at)), (None, None));
}

#[test]
fn an_edge_is_looked_for_within_366_days() {
    let schedule = schedule(r#"{"exceptions": [{"date": "2028-01-01", "state": "Active"}]}"#);
    let edge = |at: &str| schedule.next_edge(at.parse().unwrap()).map(|edge| edge.at.to_string());
    assert_eq!(edge("2026-12-30T23:59:59Z"), None);
    assert_eq!(edge("2026-12-31T00:00:00Z").as_deref(), Some("2028-01-01T00:00:00Z"));
    let since = |at: &str| schedule.previous_edge(at.parse().unwrap()).map(|edge| edge.at.to_string());
    assert_eq!(since("2029-01-02T00:00:00Z").as_deref(), Some("2028-01-02T00:00:00Z"));
    assert_eq!(since("2029-01-02T00:00:01Z"), None);
}

#[test]
fn local_time_is_written_with_weekday_and_zone() {
    let schedule = schedule(r#"{"timezone": "Europe/London", "daysOfWeek": ["mon"], "hoursOfDay": ["9"]}"#);
    let local = |at: &str| schedule.local(at.parse().unwrap());
    assert_eq!(local("2026-11-02T07:00:00Z"), "Mon 07:00 GMT");
    assert_eq!(local("2026-07-06T07:00:00Z"), "Mon 08:00 BST");
    assert_eq!(schedule.local_with_date("2026-07-06T07:00:00Z".parse().unwrap()), "Mon 2026-07-06 08:00 BST");
}
