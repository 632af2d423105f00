//! Signals, log lines and exit status.

use std::process::Command;
use std::time::Duration;

use fivespot::config::{LogFormat, Logs};
use fivespot::telemetry::logs;
use serde_json::Value;

use crate::program::Program;

/// Asks the copy of this test binary to panic.
const PANICS: &str = "FIVESPOT_TEST_PANICS";

#[test]
fn told_to_stop_while_nobody_answers_it_ends_well_and_soon() {
    let mut program = Program::serving(&[]);
    let status = program.component.terminate(Duration::from_secs(5)).unwrap();
    assert_eq!(status.code(), Some(0), "{}", program.component.log());
}

#[test]
fn every_line_is_one_object_with_time_level_target_and_message() {
    let mut program = Program::serving(&[("RUST_LOG", "debug")]);
    program.component.terminate(Duration::from_secs(5)).unwrap();
    let log = program.component.log();
    assert!(log.lines().count() > 3, "{log}");
    for line in log.lines() {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let time = object["timestamp"].as_str().unwrap();
        assert!(time.len() == 24 && time.ends_with('Z'), "RFC 3339, UTC, milliseconds: {time}");
        assert!(["level", "target", "message"].iter().all(|key| object[*key].is_string()), "{line}");
    }
}

/// What the program does, in a process that really panics: there is no way to make the shipped one.
#[test]
fn a_panic_in_any_thread_is_a_log_line_and_the_end_with_status_1() {
    if std::env::var_os(PANICS).is_some() {
        logs::start(&Logs { filter: "info".to_owned(), format: LogFormat::Json }).unwrap();
        logs::end_on_panic();
        // Nobody joins it: it is the hook that ends the process.
        std::thread::spawn(|| panic!("in a corner, with {}", "words"));
        std::thread::sleep(Duration::from_secs(60));
        std::process::exit(0);
    }
    let mut copy = Command::new(std::env::current_exe().unwrap());
    copy.args([
        "--exact",
        "--nocapture",
        "process::a_panic_in_any_thread_is_a_log_line_and_the_end_with_status_1",
    ]);
    let output = copy.env(PANICS, "1").output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{log}");
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert_eq!(
        (&lines[0]["level"], &lines[0]["panic"]),
        (&"ERROR".into(), &"in a corner, with words".into())
    );
    assert!(lines[0]["place"].as_str().unwrap().contains("tests/program/process.rs"), "{log}");
}
