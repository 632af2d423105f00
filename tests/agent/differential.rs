//! Both detectors find the same, whatever is run.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use fivespot::detector::{Count, Kind, Options};

use crate::listen::{Listener, is_root, options};
use crate::programs::{Programs, odd_name, text};

/// Programs that end at once, started while others are to be found.
const SHORT: usize = 2000;

/// Every rule is to match, and nothing else.
const RULES: &str = r#"
match_commands = [
    "fs-plain", "fs-script.sh", "fs-argument", "fs-renamed", "fs-java", "fs-exactly15byt", "fs-longer-than-15-bytes",
    "fs-long-script-of-mine.sh", "fs-schach-für-zwei-brüder", "fs-deleted", "fs-launched", "fs-hidden", "fs-last",
]
match_argv_substrings = ["-jar /opt/fs-idea", "/home/fs-josé/"]
poll_interval_ms = 50
"#;

/// Waits until the walk at the start is over: what is seen then by the kernel's word was heard after it.
fn walked(listener: &mut Listener, programs: &mut Programs) {
    let first = programs.waiting("fs-first");
    while !listener.seen.iter().any(|sighting| sighting.delay.is_some()) {
        let pid = programs.run(&mut Command::new(&first));
        listener.until("a program to begin with", |listener| listener.has_seen(pid));
    }
    listener.seen.clear();
}

/// The owner's programs, each with the rule that it matches.
fn start(programs: &mut Programs) -> BTreeSet<(u32, String)> {
    let mut expected = BTreeSet::new();
    let mut note = |pid: u32, rule: &str| expected.insert((pid, rule.to_owned()));
    for name in ["fs-plain", "fs-exactly15byt", "fs-longer-than-15-bytes", "fs-schach-für-zwei-brüder"] {
        let program = programs.waiting(name);
        note(programs.run(&mut Command::new(program)), name);
    }
    for name in ["fs-script.sh", "fs-long-script-of-mine.sh"] {
        let program = programs.script(name, "#!/bin/sh -e\nread line\n");
        note(programs.run(&mut Command::new(program)), name);
    }
    note(programs.run(Command::new("/bin/cat").arg0("/opt/bin/fs-argument")), "fs-argument");
    let rename = "printf fs-renamed > /proc/$$/comm; read line";
    note(programs.run(Command::new("/bin/sh").args(["-c", rename])), "fs-renamed");
    let java = programs.copy("/bin/bash", "fs-java");
    let arguments = ["-c", "read line", "-Xmx2g", "-jar", "/opt/fs-idea/lib/idea.jar"];
    note(programs.run(Command::new(java).args(arguments)), "fs-java");
    let other = programs.copy("/bin/bash", "fs-other");
    note(programs.run(Command::new(&other).args(arguments)), "-jar /opt/fs-idea");
    let unicode = ["-c", "read line", "--dir=/home/fs-josé/src"];
    note(programs.run(Command::new(&other).args(unicode)), "/home/fs-josé/");
    let deleted = programs.waiting("fs-deleted");
    note(programs.run(&mut Command::new(&deleted)), "fs-deleted");
    fs::remove_file(deleted).unwrap();
    // Known to the poll detector as what it was, long before it becomes what it is to be.
    let launched = programs.waiting("fs-launched");
    let launch = format!("sleep 0.5; exec {}", text(&launched));
    note(programs.run(Command::new("/bin/sh").args(["-c", &launch])), "fs-launched");
    expected
}

/// Programs that look like the owner's, and are not.
fn decoys(programs: &mut Programs) {
    for name in ["fs-plai", "fs-plain2", "fs-longer-than-15-byteX"] {
        let program = programs.waiting(name);
        programs.run(&mut Command::new(program));
    }
    let odd = programs.waiting(odd_name());
    programs.run(&mut Command::new(odd));
    programs.run(Command::new("/bin/cat").arg("-").arg("fs-plain"));
    // Gone before or while it is read.
    let gone = programs.copy("/bin/true", "fs-gone");
    for _ in 0..20 {
        let pid = programs.run(&mut Command::new(&gone));
        programs.end(pid);
    }
}

#[test]
fn both_detectors_find_the_same_programs() {
    if !is_root("both detectors on the same programs, under the shipped capabilities") {
        return;
    }
    let mut programs = Programs::new();
    let mut poll = Listener::open(options(Kind::Poll), RULES);
    let seldom = Options { safety_interval: Duration::from_secs(3600), ..options(Kind::Netlink) };
    let mut netlink = Listener::netlink(seldom, &RULES.replace("fs-last", "fs-last\", \"fs-first"));
    if let Some(netlink) = &mut netlink {
        walked(netlink, &mut programs);
    }
    let mut expected = start(&mut programs);
    decoys(&mut programs);
    let short = programs.copy("/bin/true", "fs-short");
    for count in 0..SHORT {
        if count == SHORT / 2 {
            let hidden = programs.waiting("fs-hidden");
            expected.insert((programs.run(&mut Command::new(hidden)), "fs-hidden".to_owned()));
        }
        Command::new(&short).status().unwrap();
    }
    // Whoever has seen this one has had the occasion to see all the others.
    let last = programs.waiting("fs-last");
    expected.insert((programs.run(&mut Command::new(last)), "fs-last".to_owned()));
    for listener in [Some(&mut poll), netlink.as_mut()].into_iter().flatten() {
        listener.until("all of the owner's programs", |listener| listener.matches().len() >= expected.len());
        assert_eq!(listener.matches(), expected);
        assert_eq!(listener.seen.len(), expected.len(), "each once: {:#?}", listener.seen);
    }
    if let Some(netlink) = netlink {
        let counters = netlink.detector().counters();
        assert!(counters.of(Count::Exec) >= SHORT as u64, "{:?}", counters.all().collect::<Vec<_>>());
        assert_eq!(counters.of(Count::Lost), 0);
        let by_event = netlink.seen.iter().filter(|sighting| sighting.delay.is_some()).count();
        assert_eq!(by_event, expected.len(), "by the kernel's word, not by the walk that makes sure");
    }
}
