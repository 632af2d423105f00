//! The binary as a process: ports, signals, log lines, exit status. No control plane: it is given an API server that is
//! not there.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "these are tests, and so are the functions they share"
)]
#![allow(clippy::disallowed_methods, reason = "tests read clocks")]
#![allow(clippy::print_stderr, reason = "a test that cannot try something says so")]
#![allow(unreachable_pub, reason = "modules of one binary")]

#[path = "../harness/mod.rs"]
mod harness;
mod http;
mod process;
mod program;
