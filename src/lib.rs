//! 5spot lends idle machines to Kubernetes clusters by the clock, and gives them back.
//!
//! The house, from the ground up; arrows of use point downwards only:
//!
//! - [`api`]: the wire contract, types and names.
//! - [`schedule`]: civil time; windows and exceptions in, verdicts and edges out. Pure.
//! - [`capi`]: Cluster API's Machine and Cluster, and which bootstrap and infrastructure kinds there are.
//! - [`watch`]: the watch adapter under every cache; [`workload`]: one connection per workload cluster.
//! - [`leadership`]: which replica may act, and the fence that holds it to that.
//! - [`controller`]: observe, decide, apply, report, wake.
//! - [`detector`]: sees processes start, from the kernel or by walking; [`agent`]: what the owner wants seen.
//! - [`cli`], [`config`], [`telemetry`], [`runtime`]: what was typed, what the program runs on, what it says, how it
//!   ends.

pub mod agent;
pub mod api;
pub mod capi;
pub mod cli;
pub mod config;
pub mod controller;
pub mod detector;
pub mod leadership;
pub mod runtime;
pub mod schedule;
pub mod telemetry;
pub mod watch;
pub mod workload;
