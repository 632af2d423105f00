//! Cluster API as seen from its API server.

pub mod kinds;
