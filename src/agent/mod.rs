//! The agent on a lent machine: sees the owner's programs start, and says so on the Node.
//!
//! - [`rules`]: which programs are the owner's. Pure.

pub mod rules;
