//! One look, by the program as it is shipped: what it prints, how it ends, and how little it needs.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::listen::{is_root, skipped};
use crate::programs::{Programs, text};

const PROGRAM: &str = env!("CARGO_BIN_EXE_5spot");

/// Nothing of ours in its environment.
fn alone(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    command
}

fn one_look(command: &mut Command) -> (Option<i32>, Value) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let said = String::from_utf8(stdout).unwrap();
    let shown = String::from_utf8_lossy(&stderr);
    assert_eq!(said.lines().count(), 1, "one line on stdout: {said:?} {shown}");
    (status.code(), serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said} {shown}")))
}

fn rules(programs: &Programs, text: &str) -> String {
    let path = programs.path("rules.toml");
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn pids(look: &Value) -> Vec<u64> {
    let matches = look["matches"].as_array().unwrap();
    matches.iter().map(|found| found["pid"].as_u64().unwrap()).collect()
}

#[test]
fn a_look_is_healthy_with_a_match_and_without_one() {
    let mut programs = Programs::new();
    let file = rules(&programs, "match_commands = [\"fs-once\"]");
    let look = |detector: &str| {
        let line = ["reclaim-agent", "--oneshot", "--rules", &file, "--detector", detector];
        one_look(alone(PROGRAM).args(line))
    };
    for detector in ["poll", "auto"] {
        let (code, quiet) = look(detector);
        assert_eq!(
            (code, &quiet["isHealthy"], pids(&quiet).len()),
            (Some(0), &Value::Bool(true), 0),
            "{quiet}"
        );
    }
    let pid = programs.run(&mut Command::new(programs.waiting("fs-once")));
    for detector in ["poll", "auto"] {
        let (code, found) = look(detector);
        assert_eq!((code, pids(&found)), (Some(0), vec![u64::from(pid)]), "{found}");
        assert_eq!(found["matches"][0]["rule"], "fs-once");
        assert!(found["processes"].as_u64().unwrap() > 1, "{found}");
        let is_honest = found["detector"] == "netlink" || found["detector"] == "poll";
        assert!(is_honest && (detector == "auto" || found["fallback"].is_null()), "{found}");
    }
}

#[test]
fn a_look_that_could_see_nothing_is_not_healthy() {
    let programs = Programs::new();
    let file = rules(&programs, "match_commands = [\"fs-once\"]");
    let nowhere = ["reclaim-agent", "--oneshot", "--rules", &file, "--proc-root", "/nowhere/proc"];
    let (code, look) = one_look(alone(PROGRAM).args(nowhere));
    assert_eq!((code, &look["isHealthy"]), (Some(1), &Value::Bool(false)), "{look}");
    assert!(look["error"].as_str().unwrap().contains("/nowhere/proc"), "{look}");
    if !is_root("a look from another network namespace") {
        return;
    }
    let netlink = ["--net", PROGRAM, "reclaim-agent", "--oneshot", "--rules", &file, "--detector", "netlink"];
    let (code, look) = one_look(alone("/usr/bin/unshare").args(netlink));
    assert_eq!((code, &look["fallback"]), (Some(1), &Value::from("not-host-network")), "{look}");
    let auto = ["--net", PROGRAM, "reclaim-agent", "--oneshot", "--rules", &file];
    let (code, look) = one_look(alone("/usr/bin/unshare").args(auto));
    assert_eq!((code, &look["detector"]), (Some(0), &Value::from("poll")), "{look}");
    assert_eq!(look["fallback"], "not-host-network");
}

#[test]
fn a_cluster_that_is_not_there_is_told_in_the_one_line_as_well() {
    let programs = Programs::new();
    let kubeconfig = crate::ports::nowhere(programs.path("x").parent().unwrap());
    let mut command = alone(PROGRAM);
    command.args(["reclaim-agent", "--oneshot"]).env("NODE_NAME", "ws-17").env("KUBECONFIG", kubeconfig);
    let (code, look) = one_look(&mut command);
    assert_eq!((code, &look["isHealthy"]), (Some(1), &Value::Bool(false)), "{look}");
    assert!(look["error"].as_str().is_some_and(|error| error.contains("reclaim-agent-ws-17")), "{look}");
    assert!(look["processes"].as_u64().unwrap() > 1, "what it sees is told all the same: {look}");
}

#[test]
fn rules_at_fault_and_a_wrong_call_are_told_apart_from_a_failure() {
    let programs = Programs::new();
    let file = rules(&programs, "match_comands = [\"fs-once\"]");
    for (line, says) in [
        (vec!["--oneshot", "--rules", &file], "line 1: match_comands"),
        (vec!["--oneshot", "--rules", "/nowhere.toml"], "/nowhere.toml"),
        (vec!["--oneshot"], "NODE_NAME is not set"),
        (vec!["--rules", &file], "--oneshot"),
        (vec!["--oneshot", "--rules", &file, "--detector", "inotify"], "auto, netlink or poll"),
    ] {
        let Output { status, stdout, stderr } =
            alone(PROGRAM).arg("reclaim-agent").args(&line).output().unwrap();
        let said = String::from_utf8_lossy(&stderr);
        assert_eq!((status.code(), stdout.len()), (Some(2), 0), "{line:?}: {said}");
        assert!(said.contains(says), "{line:?}: {said}");
    }
}

/// An image with the program, what it is linked with, a rules file, and nothing else: no users, no `/etc` at all.
#[test]
fn a_look_needs_nothing_but_a_rules_file() {
    if !is_root("a root directory of its own") {
        return;
    }
    let linked = Command::new("ldd").arg(PROGRAM).output();
    let Ok(linked) = linked else { return skipped("an image of its own: there is no ldd") };
    let linked = String::from_utf8(linked.stdout).unwrap();
    let libraries = linked.split_whitespace().filter(|word| word.starts_with('/'));
    let mut programs = Programs::new();
    let image = programs.path("image");
    let put = |from: &str, to: &str| {
        let to = image.join(to.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        // By another process: see `programs::lay`.
        assert!(Command::new("cp").args([Path::new(from), &to]).status().unwrap().success());
    };
    put(PROGRAM, "/5spot-reclaim-agent");
    libraries.for_each(|library| put(library, library));
    fs::create_dir(image.join("proc")).unwrap();
    fs::write(image.join("rules.toml"), "match_commands = [\"fs-bare\"]").unwrap();
    let pid = programs.run(&mut Command::new(programs.waiting("fs-bare")));
    let enter = format!(
        "mount --rbind /proc {0}/proc && exec chroot {0} /5spot-reclaim-agent --oneshot --rules /rules.toml",
        text(&image)
    );
    let (code, look) = one_look(
        alone("/usr/bin/unshare")
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .args(["--mount", "sh", "-c", &enter]),
    );
    assert_eq!((code, pids(&look)), (Some(0), vec![u64::from(pid)]), "{look}");
    assert!(!Path::new(&image).join("etc").exists());
}
