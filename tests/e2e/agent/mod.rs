//! The reclaim agent as it is shipped: the program, its rights, its confinement, on a real kernel and a real API server.

mod confined;
pub mod desk;
mod everything;
mod faults;
#[path = "../../agent/programs.rs"]
#[allow(dead_code, reason = "shared with the tests of the detectors, which use more of it")]
mod programs;
mod requests;
mod rules;
mod shipped;
mod trouble;
