//! API servers that are killed and come back, on a pair of their own; one test at a time, for there is one of each.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "these are tests, and so are the functions they share"
)]
#![allow(clippy::disallowed_methods, reason = "tests read clocks")]
#![allow(clippy::print_stderr, reason = "a test that fails tells why, a long one how it went")]
#![allow(unreachable_pub, dead_code, reason = "modules of one binary, shared with another")]

#[path = "../harness/mod.rs"]
mod harness;
mod management;
mod stored;
mod workload;
#[path = "../e2e/world.rs"]
mod world;

use tokio::sync::{Mutex, MutexGuard};

/// Whose turn it is.
async fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    let turn = TURN.lock().await;
    stored::before_the_rules().await;
    turn
}
