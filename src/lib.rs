//! 5spot lends idle machines to Kubernetes clusters by the clock, and gives them back.

pub mod api;
pub mod capi;
pub mod schedule;
pub mod watch;
pub mod workload;
