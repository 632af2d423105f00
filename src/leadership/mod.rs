//! Who may act: the holder of a Lease.
//!
//! - [`candidate`]: what one candidate for one Lease knows and wants. Pure; model-checked (`tests/leadership`).
//! - [`elector`]: runs it against the API server, and keeps its [`claim`].
//! - [`fence`]: lets no write through that no claim covers, in every client that writes.
//! - [`shard`]: which shard an object belongs to. Pure.
//!
//! Nothing runs this yet, and the configuration refuses leader election until something does.

pub mod candidate;
pub mod claim;
mod clock;
pub mod elector;
pub mod fence;
mod lease;
pub mod shard;
