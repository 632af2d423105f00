//! From `exec` to match by netlink, idle and in a storm of programs; what the detector costs at rest and per event; what a
//! walk costs per process. On the real kernel, as root; fails at the end where a target was missed.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    clippy::unchecked_time_subtraction,
    reason = "a measurement, which tells what it found and fails where it stands"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fivespot::agent::rules::{self, Rules};
use fivespot::detector::{Count, Detector, Event, Kind, Options};

const RULES: &str =
    "match_commands = [\"fs-bench\", \"idea\", \"steam\"]\nmatch_argv_substrings = [\"-jar /opt/x\"]";
/// From exec to match, of 99 in a hundred: with nothing else going on, and in a storm beside an agent with a CPU's share.
const SOON: Duration = Duration::from_millis(5);
/// Programs a second that make a storm.
const STORM: f64 = 1000.0;
/// KiB that the detector may add.
const MEMORY: u64 = 4 * 1024;
/// Microseconds of CPU for a process in a walk: the 3.5 that were measured once, and what a busy machine adds.
const WALK: f64 = 5.0;
/// Loops that start one program after the other.
const LOOPS: usize = 8;

fn main() {
    let mut missed = Vec::new();
    let mut holds = |what: String, is_met: bool| {
        if !is_met {
            missed.push(what);
        }
    };
    let dir = tempfile::tempdir().unwrap();
    let copy = |of: &str, name: &str| {
        let path = dir.path().join(name);
        assert!(Command::new("cp").arg(of).arg(&path).status().unwrap().success());
        path
    };
    let (listed, short) = (copy("/bin/sleep", "fs-bench"), copy("/bin/true", "fs-true"));
    println!("load: {}", fs::read_to_string("/proc/loadavg").unwrap().trim());
    let before = resident();
    let mut netlink = open(Kind::Netlink);
    let with = resident();
    println!("resident: {before} KiB without, {with} KiB with the netlink detector");
    holds(format!("memory of the detector: {} KiB", with - before), with - before < MEMORY);

    at_rest(&netlink, Duration::from_secs(60));
    let (p99, told) = delays(&mut netlink, &listed, 500);
    println!("exec to match, idle: {told}");
    holds(format!("idle, p99 {p99:?}"), p99 < SOON);
    for shares in [None, Some(256), Some(1024)] {
        let group = shares.map(|shares| Group::of(&thread(), shares));
        if matches!(group, Some(None)) {
            println!(
                "not measured: a storm beside {shares:?} shares; no cgroup hierarchy here takes a thread"
            );
            continue;
        }
        let storm = storm(&short);
        let (cost, execs, begin) = (cpu(&thread()), execs(&netlink), Instant::now());
        let (p99, told) = delays(&mut netlink, &listed, 300);
        let (cost, execs) = (cpu(&thread()) - cost, self::execs(&netlink) - execs);
        storm.store(true, Ordering::Relaxed);
        let rate = execs as f64 / begin.elapsed().as_secs_f64();
        if shares == Some(1024) {
            holds(format!("in a storm, p99 {p99:?}"), p99 < SOON);
            holds(format!("{rate:.0} programs/s are no storm"), rate > STORM);
        }
        println!(
            "exec to match, {rate:.0} programs/s, {}: {told}; {:.1} us of CPU per exec event; lost {}",
            shares.map_or("same cgroup".to_owned(), |shares| format!("own cgroup with {shares} shares")),
            cost.as_secs_f64() * 1e6 / execs as f64,
            netlink.counters().of(Count::Lost),
        );
        drop(group);
    }
    drop(netlink);
    for processes in [500, 5000] {
        let cost = walks(&listed, processes);
        holds(format!("a walk: {cost:.1} us for each of {processes} processes"), cost < WALK);
    }
    assert!(missed.is_empty(), "targets missed: {missed:#?}");
}

fn open(kind: Kind) -> Detector<Rules> {
    let detector = Detector::start(Options { kind, ..Options::default() }).unwrap();
    detector.look_for(Some(Arc::new(rules::parse(RULES).unwrap())), rules::POLL_INTERVAL);
    detector
}

fn execs(detector: &Detector<Rules>) -> u64 {
    detector.counters().of(Count::Exec)
}

/// The detector's own thread, among ours.
fn thread() -> PathBuf {
    let threads = fs::read_dir("/proc/self/task").unwrap().map(|entry| entry.unwrap().path());
    let is_it =
        |path: &PathBuf| fs::read_to_string(path.join("comm")).is_ok_and(|name| name.starts_with("5spot-"));
    threads.into_iter().find(is_it).unwrap()
}

/// What a thread has had of the CPUs.
fn cpu(thread: &Path) -> Duration {
    let text = fs::read_to_string(thread.join("schedstat")).unwrap();
    Duration::from_nanos(text.split_whitespace().next().unwrap().parse().unwrap())
}

/// Memory of this process.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn at_rest(detector: &Detector<Rules>, time: Duration) {
    let (cost, before) = (cpu(&thread()), execs(detector));
    std::thread::sleep(time);
    let spent = cpu(&thread()) - cost;
    println!(
        "at rest for {time:?}: {spent:?} of CPU ({:.3} %), while {} programs of others started; {} processes",
        spent.as_secs_f64() / time.as_secs_f64() * 100.0,
        execs(detector) - before,
        detector.health().processes,
    );
}

/// Starts a listed program so many times, and tells how soon 99 in a hundred were seen, and in words.
fn delays(detector: &mut Detector<Rules>, listed: &Path, times: usize) -> (Duration, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (mut delays, mut by_walk) = (Vec::new(), 0);
    for _ in 0..times {
        let mut child = Command::new(listed).arg("30").spawn().unwrap();
        let seen = async {
            loop {
                if let Some(Event::Found(sighting)) = detector.next().await
                    && sighting.pid == child.id()
                {
                    return sighting.delay;
                }
            }
        };
        let seen = async { tokio::time::timeout(Duration::from_secs(30), seen).await };
        match runtime.block_on(seen).expect("it is seen") {
            Some(delay) => delays.push(delay),
            None => by_walk += 1,
        }
        child.kill().unwrap();
        child.wait().unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    delays.sort_unstable();
    let at = |part: usize| delays[(delays.len() - 1) * part / 100];
    let (p50, p99, worst) = (at(50), at(99), at(100));
    (p99, format!("p50 {p50:?}, p99 {p99:?}, worst {worst:?} of {}; {by_walk} by walk", delays.len()))
}

/// Programs without end, until told.
fn storm(short: &Path) -> Arc<AtomicBool> {
    let over = Arc::new(AtomicBool::new(false));
    for _ in 0..LOOPS {
        let (over, short) = (Arc::clone(&over), short.to_owned());
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                Command::new(&short).status().unwrap();
            }
        });
    }
    over
}

/// A cgroup for one thread, as a pod's would be; of version 1, whose groups take threads of any process.
struct Group(PathBuf);

impl Group {
    /// `None`: there is no such hierarchy.
    fn of(thread: &Path, shares: u32) -> Option<Self> {
        let group = PathBuf::from("/sys/fs/cgroup/cpu/fs-bench");
        if !group.with_file_name("cpu.shares").exists() {
            return None;
        }
        fs::create_dir(&group).unwrap();
        fs::write(group.join("cpu.shares"), shares.to_string()).unwrap();
        fs::write(group.join("tasks"), thread.file_name().unwrap().as_encoded_bytes()).unwrap();
        Some(Self(group))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let tasks = fs::read_to_string(self.0.join("tasks")).unwrap();
        tasks.lines().for_each(|task| fs::write("/sys/fs/cgroup/cpu/tasks", task).unwrap());
        fs::remove_dir(&self.0).unwrap();
    }
}

/// Walks of the poll detector over this many processes more; microseconds of CPU for each.
fn walks(listed: &Path, processes: usize) -> f64 {
    let name = listed.with_file_name("fs-sleeper");
    assert!(Command::new("cp").arg(listed).arg(&name).status().unwrap().success());
    // A command line of usual length: sleep adds its arguments up.
    let start = || Command::new(&name).args(["600"; 25]).stdin(Stdio::null()).spawn();
    let mut children: Vec<Child> = (0..processes).map(|_| start().unwrap()).collect();
    let poll = open(Kind::Poll);
    let counters = poll.counters();
    let walked = |times: u64| {
        let begin = counters.of(Count::Walk);
        while counters.of(Count::Walk) < begin + times {
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    walked(10);
    let (cost, mut times) = (cpu(&thread()), Vec::new());
    for _ in 0..40 {
        walked(1);
        times.push(poll.health().walk_time);
    }
    let spent = (cpu(&thread()) - cost) / 40;
    times.sort_unstable();
    let all = poll.health().processes;
    let cost = spent.as_secs_f64() * 1e6 / all as f64;
    println!(
        "a walk over {all} processes: p50 {:?}, worst {:?}; {cost:.2} us of CPU per process",
        times[20], times[39],
    );
    for child in &mut children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    fs::remove_file(&name).unwrap();
    cost
}
