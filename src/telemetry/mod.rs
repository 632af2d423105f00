//! What the program says about itself: log lines, metrics, health.

pub mod admin;
pub mod answers;
pub mod health;
pub mod logs;
pub mod metrics;
