//! What is shipped, as it is shipped: the manifests in an API server that enforces Pod Security, and the program started by
//! what they say. A pair of its own, because the controller in it has the whole management cluster.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "these are tests, and so are the functions they share"
)]
#![allow(clippy::disallowed_methods, reason = "tests read clocks")]
#![allow(clippy::print_stderr, reason = "a test tells what it measured, and what it could not try")]
#![allow(unreachable_pub, reason = "modules of one binary")]

#[path = "../harness/mod.rs"]
mod harness;
mod install;
mod joints;
mod pages;
mod running;
mod shipped;
#[allow(dead_code, reason = "the fixture of all end-to-end tests")]
#[path = "../e2e/world.rs"]
mod world;
