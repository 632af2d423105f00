//! Everything that needs API servers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "these are tests, and so are the functions they share"
)]
#![allow(clippy::disallowed_methods, reason = "tests read clocks")]
#![allow(clippy::print_stderr, reason = "a test that fails tells why, a long one how it went")]
#![allow(unreachable_pub, reason = "modules of one binary")]

mod admission;
mod agent;
mod bad_input;
mod confused;
mod control_planes;
mod crash;
mod crd;
mod drain;
mod eject;
mod election;
mod endings;
mod faults;
#[path = "../harness/mod.rs"]
mod harness;
mod holds;
mod kinds;
mod kstatus;
mod late_news;
mod lifecycle;
mod moves;
mod news;
mod overdue;
mod owner;
mod ownership;
mod pauses;
mod precedence;
#[path = "../harness/proof.rs"]
mod proof;
mod reclaim;
mod reused_host;
mod secrets;
mod shutdown;
mod status;
mod taints;
mod takeover;
mod telemetry;
mod turns;
mod twenty;
mod unread;
mod untold;
mod waiting;
mod workload;
mod world;
