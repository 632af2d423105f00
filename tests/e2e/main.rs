//! Everything that needs API servers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "these are tests, and so are the functions they share"
)]
#![allow(clippy::disallowed_methods, reason = "tests read clocks")]
#![allow(unreachable_pub, reason = "modules of one binary")]

mod control_planes;
mod crd;
#[path = "../harness/mod.rs"]
mod harness;
mod lifecycle;
#[path = "../harness/proof.rs"]
mod proof;
mod world;
