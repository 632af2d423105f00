//! Cluster API as we see it: Machine and Cluster in its newest version, and which kinds are served.

pub mod kinds;
pub mod machine;
