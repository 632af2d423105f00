//! Who may act: the holder of a Lease.
//!
//! - [`candidate`]: what one candidate for one Lease knows and wants. Pure; model-checked (`tests/leadership`).
//! - [`election`]: all Leases that a replica stands for; `elector` runs one candidate against the API server, and keeps what
//!   proves its [`claim`].
//! - [`board`]: what is known of replicas that share the objects out otherwise. Pure; `gate` asks the server.
//! - [`duties`]: which objects that lets this replica act on.
//! - [`fence`]: lets no write through that no claim covers, in every client that writes.
//! - [`shard`]: which shard an object belongs to. Pure.

pub mod board;
pub mod candidate;
pub mod claim;
mod clock;
pub mod duties;
pub mod election;
mod elector;
pub mod fence;
mod gate;
mod lease;
pub mod shard;
