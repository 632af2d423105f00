//! Who may act: the holder of a Lease.
//!
//! - [`candidate`]: what one candidate for one Lease knows and wants. Pure; model-checked (`tests/leadership`).
//! - [`elector`]: runs it against the API server, and keeps what proves its [`claim`].
//! - [`duties`]: which objects that lets this replica act on.
//! - [`fence`]: lets no write through that no claim covers, in every client that writes.
//! - [`shard`]: which shard an object belongs to. Pure.

pub mod candidate;
pub mod claim;
mod clock;
pub mod duties;
pub mod elector;
pub mod fence;
mod lease;
pub mod shard;
