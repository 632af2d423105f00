//! Cluster API.
