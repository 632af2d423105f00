//! The core without a cluster: tables of its branches, and a simulated world for its laws.

#![allow(clippy::too_many_lines, clippy::large_stack_arrays, reason = "tables")]

mod agents;
mod clocks;
mod draining;
mod ejecting;
mod events;
mod given;
mod holds;
mod kstatus;
mod leaving;
mod objects;
mod opening;
mod parts;
mod precedence;
mod reasons;
mod reclaims;
mod rivals;
mod rules;
mod said;
mod stale_nodes;
mod status;
mod stranded;
mod taints;
mod turns;
mod versions;
mod world;
