//! Silence is the failure of netlink: it is noticed, named, and polling goes on.

use std::fs;
use std::process::Command;
use std::time::Duration;

use fivespot::detector::{Count, Detector, DetectorError, FallbackReason, Kind, Options, Source};
use nix::sched::{CloneFlags, unshare};
use rustix::thread::CapabilitySet;

use crate::listen::{Listener, SHIPPED, confine, is_root, options, skipped, start};
use crate::programs::Programs;

const RULES: &str = "match_commands = [\"fs-heard\"]\npoll_interval_ms = 50";

/// The word that a re-run of this test in other namespaces says about its detector.
const MARK: &str = "the detector is ";

#[test]
fn auto_always_has_a_source_and_says_why_it_is_not_netlink() {
    let mut listener = Listener::open(options(Kind::Auto), RULES);
    listener.until("its health", |listener| !listener.healths.is_empty());
    let health = listener.healths[0].clone();
    let reason = health.fallback.map_or("as it should", FallbackReason::word);
    println!("{MARK}{} {reason}", health.source.map_or("nothing", Source::word));
    assert_eq!(health.source == Some(Source::Poll), health.fallback.is_some());
    let mut programs = Programs::new();
    let pid = programs.run_as_we_are(&mut Command::new(programs.waiting("fs-heard")));
    listener.until("a program", |listener| listener.has_seen(pid));
}

/// Runs the test above by other means, and returns what it said of its detector.
fn said_in(means: &[&str]) -> String {
    let test = "deaf::auto_always_has_a_source_and_says_why_it_is_not_netlink";
    let own = std::env::current_exe().unwrap();
    let output = Command::new("unshare").args(means).arg(own).args(["--exact", test, "--nocapture"]).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said.lines().find_map(|line| Some(line.split_once(MARK)?.1.to_owned())).unwrap_or(said)
}

#[test]
fn every_namespace_that_makes_netlink_deaf_is_named() {
    if !is_root("other namespaces") || Listener::netlink(options(Kind::Netlink), RULES).is_none() {
        return;
    }
    assert_eq!(said_in(&["--mount"]), "netlink as it should");
    assert_eq!(said_in(&["--net"]), "poll not-host-network");
    assert_eq!(said_in(&["--pid", "--fork", "--mount-proc"]), "poll not-host-pid");
    if fs::read_to_string("/proc/sys/user/max_user_namespaces").is_ok_and(|most| most.trim() == "0") {
        return skipped("another user namespace: this machine allows none");
    }
    assert_eq!(said_in(&["--user", "--map-root-user"]), "poll not-host-users");
}

#[test]
fn netlink_alone_fails_with_the_reason_and_what_to_do() {
    if !is_root("another network namespace") {
        return;
    }
    let open = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        confine(SHIPPED);
        Detector::<fivespot::agent::rules::Rules>::start(options(Kind::Netlink)).err().unwrap()
    };
    let error = std::thread::spawn(open).join().unwrap();
    assert!(matches!(error, DetectorError::Netlink(FallbackReason::NotHostNetwork)), "{error:?}");
    assert!(error.to_string().contains("set hostNetwork: true"), "{error}");
}

#[test]
fn polling_needs_no_capability_at_all() {
    let mut programs = Programs::new();
    let detector = start(options(Kind::Poll), CapabilitySet::empty()).unwrap();
    let mut listener = Listener::over(detector, RULES);
    let pid = programs.run(&mut Command::new(programs.waiting("fs-heard")));
    listener.until("a program of another user", |listener| listener.has_seen(pid));
    assert_eq!(listener.seen[0].source, Source::Poll);
}

#[test]
fn netlink_proves_itself_again_and_again() {
    let often = Options { heartbeat_interval: Duration::from_millis(20), ..options(Kind::Netlink) };
    let Some(listener) = Listener::netlink(often, RULES) else { return };
    let counters = listener.detector().counters();
    let begin = std::time::Instant::now();
    while counters.of(Count::Heartbeat) < 50 {
        assert!(begin.elapsed() < crate::listen::PATIENCE, "{:?}", counters.all().collect::<Vec<_>>());
        std::thread::yield_now();
    }
    assert_eq!(counters.of(Count::Deaf), 0);
    let health = listener.detector().health();
    assert_eq!((health.source, health.fallback, health.blind), (Some(Source::Netlink), None, false));
    assert!(health.proof_age.is_some());
}

#[test]
fn a_proc_file_system_that_cannot_be_read_is_named() {
    let nowhere = Options { proc_root: "/nowhere/proc".into(), ..options(Kind::Poll) };
    let error = start(nowhere, CapabilitySet::empty()).err().unwrap();
    assert!(error.to_string().starts_with("processes cannot be listed in /nowhere/proc: "), "{error}");
}
