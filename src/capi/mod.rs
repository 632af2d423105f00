//! Cluster API as we see it: Machine and Cluster in the version that is served, and which kinds are served.

pub mod core;
pub mod drain_rules;
pub mod duration;
pub mod encode;
pub mod kinds;
pub mod machine;
pub mod version;
