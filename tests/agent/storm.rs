//! The owner's programs among thousands of others that start and end.
//!
//! `AGENT_SOAK=ten-minutes` makes it ten minutes with 200 hidden programs, many of which live for less than a poll interval:
//! `just soak-agent`.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use fivespot::agent::rules;
use fivespot::detector::{Count, Detector, Event, Judge, Kind, Options, Process, Verdict};
use rand::RngExt;

use crate::listen::{Listener, PATIENCE, is_root, options, skipped};
use crate::programs::{OWNER, Programs};

const RULES: &str = "match_commands = [\"st-hidden\"]";

/// Loops that start one program after the other.
struct Storm {
    over: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    loops: Vec<std::thread::JoinHandle<()>>,
}

impl Storm {
    fn start(loops: usize, program: &Path) -> Self {
        let (over, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let one = || {
            let (over, count, program) = (Arc::clone(&over), Arc::clone(&count), program.to_owned());
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    Command::new(&program).status().unwrap();
                    count.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let loops = (0..loops).map(|_| one()).collect();
        Self { over, count, loops }
    }

    fn end(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        for one in self.loops {
            one.join().unwrap();
        }
        self.count.load(Ordering::Relaxed)
    }
}

#[test]
fn no_program_is_lost_in_a_storm() {
    if std::env::var("AGENT_SOAK").is_ok_and(|how| how == "ten-minutes") {
        return soak();
    }
    let mut programs = Programs::new();
    let Some(mut netlink) = Listener::netlink(options(Kind::Netlink), RULES) else { return };
    let hidden = programs.waiting("st-hidden");
    let storm = Storm::start(8, &programs.copy("/bin/true", "st-short"));
    let counters = netlink.detector().counters();
    for found in 1..=10 {
        // So much apart, by the storm's own clock.
        while counters.of(Count::Exec) < found * 200 {
            assert!(!storm.loops.iter().any(std::thread::JoinHandle::is_finished), "the storm is over");
            std::thread::yield_now();
        }
        let pid = programs.run_as_we_are(&mut Command::new(&hidden));
        netlink.until("a hidden program", |listener| listener.has_seen(pid));
        programs.end(pid);
    }
    let started = storm.end();
    eprintln!("{started} programs; {:?}", counters.all().collect::<Vec<_>>());
}

/// A program of the owner's that was run among the others.
struct Hidden {
    pid: u32,
    lived: Duration,
}

fn soak() {
    if !is_root("the soak") {
        return;
    }
    let programs = Programs::new();
    let (hidden, short) = (programs.copy("/bin/sleep", "st-hidden"), programs.copy("/bin/true", "st-short"));
    let poll_as_shipped = Options { kind: Kind::Poll, ..Options::default() };
    let mut poll = Listener::open(poll_as_shipped, RULES);
    let Some(mut netlink) = Listener::netlink(Options::default(), RULES) else { return };
    let begin = Instant::now();
    let storm = Storm::start(8, &short);
    let hider = std::thread::spawn(move || hide(&hidden, begin));
    while !hider.is_finished() {
        netlink.take(Instant::now() + Duration::from_millis(100));
        poll.take(Instant::now() + Duration::from_millis(1));
    }
    let run = hider.join().unwrap();
    let (elapsed, started) = (begin.elapsed(), storm.end());
    for listener in [&mut netlink, &mut poll] {
        while listener.take(Instant::now() + Duration::from_millis(500)) {}
    }
    let missed = |listener: &Listener| -> Vec<Duration> {
        run.iter().filter(|one| !listener.has_seen(one.pid)).map(|one| one.lived).collect()
    };
    let (by_netlink, by_poll) = (missed(&netlink), missed(&poll));
    let mut delays: Vec<Duration> = netlink.seen.iter().filter_map(|sighting| sighting.delay).collect();
    delays.sort_unstable();
    let at = |part: usize| delays.get(delays.len() * part / 100);
    eprintln!(
        "{started} programs in {elapsed:?} ({:.0}/s), {} hidden; netlink missed {by_netlink:?}, p50 {:?}, p99 {:?}, worst {:?}; \
         poll missed {} which lived {:?} at most",
        started as f64 / elapsed.as_secs_f64(),
        run.len(),
        at(50),
        at(99),
        delays.last(),
        by_poll.len(),
        by_poll.iter().max(),
    );
    eprintln!("netlink: {:?}", netlink.detector().counters().all().collect::<Vec<_>>());
    eprintln!(
        "poll: {:?}, {:?}",
        poll.detector().health(),
        poll.detector().counters().all().collect::<Vec<_>>()
    );
    assert!(by_netlink.is_empty());
    // Longer than an interval and a walk is seen by whoever looks once an interval.
    assert!(by_poll.iter().all(|lived| *lived < Duration::from_secs(1)), "{by_poll:?}");
}

/// Two hundred within ten minutes, at random moments; half of them live for less than a poll interval.
fn hide(program: &Path, begin: Instant) -> Vec<Hidden> {
    let mut random = rand::rng();
    let slot = Duration::from_secs(3);
    let run = |number: u32| {
        let at = slot * number + Duration::from_millis(random.random_range(0..1900));
        // Nothing is waited for: the random moment is what is tried.
        std::thread::sleep((begin + at).saturating_duration_since(Instant::now()));
        let millis = if number.is_multiple_of(2) { 50..250 } else { 250..1000 };
        let lived = Duration::from_millis(random.random_range(millis));
        let mut child = std::os::unix::process::CommandExt::uid(&mut Command::new(program), OWNER)
            .arg(lived.as_secs_f64().to_string())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        child.wait().unwrap();
        Hidden { pid: child.id(), lived }
    };
    (0..200).map(run).collect()
}

/// A judge that can be held up.
struct Slow {
    rules: rules::Rules,
    gate: Arc<(Mutex<bool>, Condvar)>,
}

impl Judge for Slow {
    type Found = rules::Match;

    fn judge(&self, process: &dyn Process) -> Verdict<rules::Match> {
        let (held, released) = &*self.gate;
        drop(released.wait_while(held.lock().unwrap(), |held| *held).unwrap());
        self.rules.judge(process)
    }
}

fn until_it_sleeps(pid: u32) {
    let begin = Instant::now();
    while !std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") S ") {
        assert!(begin.elapsed() < PATIENCE, "{pid} never waits for its input");
        std::thread::yield_now();
    }
}

fn hold(gate: &(Mutex<bool>, Condvar), held: bool) {
    *gate.0.lock().unwrap() = held;
    gate.1.notify_all();
}

#[test]
fn what_the_kernel_could_not_say_is_walked_for() {
    let little = Options {
        kind: Kind::Netlink,
        receive_buffer: 16 * 1024,
        safety_interval: Duration::from_secs(3600),
        ..Options::default()
    };
    let mut detector = match Detector::start(little) {
        Ok(detector) => detector,
        Err(error) => return skipped(&format!("a loss: {error}")),
    };
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let rules = rules::parse(RULES).unwrap();
    let judge = Slow { rules, gate: Arc::clone(&gate) };
    detector.look_for(Some(Arc::new(judge)), Duration::from_millis(50));
    let mut programs = Programs::new();
    let (hidden, short) = (programs.waiting("st-hidden"), programs.copy("/bin/true", "st-short"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let first = programs.run_as_we_are(&mut Command::new(&hidden));
    let seen = |detector: &mut Detector<Slow>, wanted: u32| {
        let find = async {
            loop {
                if let Some(Event::Found(sighting)) = detector.next().await
                    && sighting.pid == wanted
                {
                    return sighting;
                }
            }
        };
        runtime.block_on(async { tokio::time::timeout(PATIENCE, find).await }).expect("seen in time")
    };
    seen(&mut detector, first);
    hold(&gate, true);
    // Sixteen KiB, doubled, are 39 events.
    for _ in 0..200 {
        Command::new(&short).status().unwrap();
    }
    let lost = programs.run_as_we_are(&mut Command::new(&hidden));
    // Its start is told of, or would be, a little after the call that starts it returns: surely when it sleeps.
    until_it_sleeps(lost);
    hold(&gate, false);
    let sighting = seen(&mut detector, lost);
    assert_eq!(sighting.delay, None, "it was found by walking");
    assert!(detector.counters().of(Count::Lost) >= 1);
    // And after it events are heard again: one of these is not found by a walk that was still due.
    let heard = (0..20).any(|_| {
        let again = programs.run_as_we_are(&mut Command::new(&hidden));
        seen(&mut detector, again).delay.is_some()
    });
    assert!(heard, "{:?}", detector.counters().all().collect::<Vec<_>>());
}
