//! Everything that needs API servers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "these are tests, and so are the functions they share"
)]
#![allow(clippy::disallowed_methods, reason = "tests read clocks")]

mod control_planes;
#[path = "../harness/mod.rs"]
mod harness;
#[path = "../harness/proof.rs"]
mod proof;
