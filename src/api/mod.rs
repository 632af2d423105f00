//! The wire contract: types and names, no behaviour beyond parsing.

pub mod names;
pub mod schedule;
