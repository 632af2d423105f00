//! How soon an owner has her machine back: from the start of her program to her request on the Node, the hold, the DELETE of
//! the Machine, and its end. Fails when the 99th percentile of the DELETE is over half a second.
//!
//! Real control planes, the controller and the agent as they are shipped, a real kernel. Of `MACHINES` machines one at a time
//! has its owner come, `ROUNDS` times each, while the others are lent again. Run by `just time-to-owner`, as root.
#![cfg(target_os = "linux")]
#![allow(missing_docs, reason = "a program")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a measurement that cannot go on says why and ends"
)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its result")]
#![allow(clippy::disallowed_methods, reason = "it measures, and reads its size from the environment")]
#![allow(
    unreachable_pub,
    dead_code,
    reason = "modules of one binary, and the fixtures of all end-to-end tests"
)]
#![allow(clippy::cast_precision_loss, reason = "shares of a minute")]

#[path = "../tests/e2e/agent"]
mod agent {
    pub mod desk;
    #[path = "../../agent/programs.rs"]
    mod programs;
}
#[path = "../tests/e2e/drain"]
mod drain {
    pub mod yard;
}
#[path = "../tests/harness/mod.rs"]
mod harness;
#[path = "../tests/e2e/owner"]
mod owner {
    pub mod lent;
}
#[path = "report/mod.rs"]
mod report;
#[path = "../tests/e2e/world.rs"]
mod world;

use std::path::{Path, PathBuf};
use std::time::Duration;

use agent::desk::{Desk, name, now};
use drain::yard::Yard;
use harness::Controller;
use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::DeleteParams;
use owner::lent::{Steps, watched_over};
use report::size;
use serde_json::json;
use tokio::sync::Mutex;

/// What is promised of the 99th percentile of the DELETE, in milliseconds.
const BOUND: i128 = 500;

/// When it was over, besides.
struct Round {
    steps: Steps,
    gone: Timestamp,
}

fn main() {
    report::run(measure(size("MACHINES", 4), size("ROUNDS", 30)));
}

async fn measure(machines: usize, times: usize) {
    at_rest().await;
    let turn = Mutex::new(());
    let all = futures::future::join_all((0..machines).map(|_| rounds(&turn, times))).await;
    let all: Vec<Round> = all.into_iter().flatten().collect();
    let tell = |what: &str, when: fn(&Round) -> Timestamp| {
        let since = |round: &Round| when(round).duration_since(round.steps.started).as_millis();
        report::tell(what, "after her program was started", all.iter().map(since).collect())
    };
    tell("request", |round| round.steps.asked);
    tell("hold", |round| round.steps.held);
    let p99 = tell("DELETE", |round| round.steps.deleted);
    tell("gone", |round| round.gone);
    assert!(p99 <= BOUND, "p99 of the DELETE {p99} ms, promised are {BOUND} ms");
}

/// One machine, over and over.
async fn rounds(turn: &Mutex<()>, times: usize) -> Vec<Round> {
    let mut home = Desk::empty().await;
    let program = home.program();
    let over = json!({"killIfCommands": [name(&program)], "reclaim": {"returnAfter": "Never"}});
    let mut yard = Yard::lent("time-to-owner", over).await;
    let mut rounds = Vec::new();
    for _ in 0..times {
        // The Node is another one each time, and so is the agent's pod.
        let mut desk = Desk::empty().await;
        desk.sit_at(&yard.name).await;
        let agent = watched_over(&yard, &desk).await;
        rounds.push(one_round(turn, &mut yard, &mut home, &program).await);
        agent.kill();
        for hold in yard.all_holds().await {
            yard.holds().delete(&hold.name_any(), &DeleteParams::default()).await.unwrap();
        }
        yard.world.until_settled(&yard.name, "Active").await;
        yard.until("on a Node", |sm| sm.data["status"]["nodeRef"]["uid"].is_string()).await;
    }
    rounds
}

async fn one_round(turn: &Mutex<()>, yard: &mut Yard, home: &mut Desk, program: &Path) -> Round {
    let _alone = turn.lock().await;
    let planes = yard.world.tenant.planes();
    yard.world.mark = planes.management().audit().mark();
    yard.world.workload_mark = planes.workload().audit().mark();
    let started = now();
    let pid = home.start(program);
    yard.until_machine_gone().await;
    let gone = Timestamp::now();
    home.programs.end(pid);
    Round { steps: Steps::of(yard, started), gone }
}

/// What an agent costs that watches and has nothing to tell.
async fn at_rest() {
    const MINUTE: Duration = Duration::from_secs(60);
    let desk = Desk::new().await;
    desk.list(&desk.program()).await;
    let agent = desk.agent().start();
    desk.until_rules(&agent, "ok").await;
    let before = spent(&agent);
    tokio::time::sleep(MINUTE).await;
    let spent = spent(&agent).saturating_sub(before);
    println!(
        "an agent at rest, for a minute: {spent:?} of CPU ({:.3} %); resident {} KiB, at most {} KiB",
        spent.as_secs_f64() / MINUTE.as_secs_f64() * 100.0,
        memory(&agent, "VmRSS:"),
        memory(&agent, "VmHWM:"),
    );
}

fn proc(agent: &Controller) -> PathBuf {
    PathBuf::from(format!("/proc/{}", agent.pid()))
}

/// What all its threads have had of the CPUs.
fn spent(agent: &Controller) -> Duration {
    let threads = std::fs::read_dir(proc(agent).join("task")).unwrap();
    let of = |thread: PathBuf| {
        let text = std::fs::read_to_string(thread.join("schedstat")).unwrap();
        Duration::from_nanos(text.split_whitespace().next().unwrap().parse().unwrap())
    };
    threads.map(|thread| of(thread.unwrap().path())).sum()
}

fn memory(agent: &Controller, what: &str) -> String {
    let status = std::fs::read_to_string(proc(agent).join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
    line.trim().trim_end_matches(" kB").to_owned()
}
