//! What sees programs start, on the real kernel, with the capabilities that the agent is shipped with.
//!
//! Needs root for most of it: without, and where the kernel does not tell of processes, tests say `SKIPPED` and why.
#![cfg(target_os = "linux")]
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "these are tests, and so are the functions they share"
)]

mod deaf;
mod differential;
mod listen;
mod oneshot;
mod ports;
mod programs;
mod rules;
#[path = "../skips.rs"]
mod skips;
mod standing;
mod storm;
mod stuck;
