//! 5spot lends idle machines to Kubernetes clusters by the clock, and gives them back.

pub mod api;
pub mod cli;
pub mod schedule;
