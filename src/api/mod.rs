//! The wire contract: types and names, no behaviour beyond parsing.

pub mod condition;
pub mod crd;
pub mod duration;
pub mod instant;
pub mod keys;
pub mod machine_hold;
pub mod names;
pub mod refs;
pub mod schedule;
pub mod scheduled_machine;
mod schema;
pub mod status;
pub mod syntax;
pub mod taint;
