//! What the rules say holds for real processes, and new rules hold for those that already run.

use std::process::Command;

use fivespot::agent::rules::By;
use fivespot::detector::Kind;

use crate::listen::{Listener, is_root, options};
use crate::programs::{OWNER, Programs};

#[test]
fn what_runs_already_is_found_when_the_rules_begin_to_say_so() {
    let mut programs = Programs::new();
    let pid = programs.run(&mut Command::new(programs.waiting("fs-early")));
    let mark = programs.waiting("fs-mark");
    for kind in [Kind::Poll, Kind::Auto] {
        let mut listener = Listener::open(options(kind), "match_commands = [\"fs-never\"]");
        let first = programs.run(&mut Command::new(&mark));
        listener.look_for("match_commands = [\"fs-mark\"]");
        listener.until("the first rules", |listener| listener.has_seen(first));
        assert!(!listener.has_seen(pid));
        listener.look_for("match_commands = [\"fs-early\"]");
        listener.until("the second rules", |listener| listener.has_seen(pid));
        listener.detector().look_again();
        listener.until("the same once more", |listener| {
            listener.seen.iter().filter(|sighting| sighting.pid == pid).count() == 2
        });
        programs.end(first);
    }
}

#[test]
fn a_sighting_says_who_runs_what() {
    if !is_root("a program of another user") {
        return;
    }
    let mut programs = Programs::new();
    let mut listener = Listener::open(options(Kind::Auto), "match_commands = [\"fs-told\"]");
    let program = programs.waiting("fs-told");
    let pid = programs.run(Command::new(&program).args(["-", "/dev/null"]));
    listener.until("it", |listener| listener.has_seen(pid));
    let sighting = listener.seen.pop().unwrap();
    assert_eq!((sighting.owner, sighting.name.as_str()), (Some(OWNER), "fs-told"));
    assert_eq!(sighting.command_line, format!("{} - /dev/null", program.display()));
    assert_eq!((sighting.found.rule.as_str(), sighting.found.by), ("fs-told", By::Name));
}

#[test]
fn users_and_ages_are_looked_at() {
    if !is_root("programs of several users") {
        return;
    }
    let mut programs = Programs::new();
    let rules = format!(
        "match_commands = [\"fs-aged\"]\nmatch_uids = [{OWNER}]\nmin_age_ms = 700\npoll_interval_ms = 50"
    );
    let program = programs.waiting("fs-aged");
    for kind in [Kind::Poll, Kind::Auto] {
        let mut listener = Listener::open(options(kind), &rules);
        let begin = std::time::Instant::now();
        let other = programs.run_as_we_are(&mut Command::new(&program));
        let short = programs.run(&mut Command::new(&program));
        programs.end(short);
        let pid = programs.run(&mut Command::new(&program));
        listener.until("it, of age", |listener| listener.has_seen(pid));
        // The kernel counts in hundredths.
        assert!(begin.elapsed().as_millis() >= 690, "{:?}", begin.elapsed());
        assert!(!listener.has_seen(other) && !listener.has_seen(short), "{:#?}", listener.seen);
        programs.end(pid);
    }
}
