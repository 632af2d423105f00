//! Workload clusters.
