//! Everything that needs API servers.

mod control_planes;
mod crd;
#[path = "../harness/mod.rs"]
mod harness;
