//! Real control planes for tests: two API servers, Cluster API, kwok and a stub provider, without containers.
//!
//! ```no_run
//! let planes = harness::shared().await;              // one pair per test binary, started on first use
//! let tenant = planes.tenant("drain").await;         // a namespace and a Cluster of one's own
//! let api: Api<DynamicObject> = tenant.machines();
//! ```
//!
//! A test binary includes it under the name `harness`: `#[path = "../harness/mod.rs"] mod harness;`.
//!
//! Everything ends with the process that started it, however that process ends: see [`process`].
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test binary includes the harness and uses its own part"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "a harness reads clocks and the environment, and measures; the product may not"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a harness that cannot go on fails the test")]
#![allow(clippy::missing_panics_doc, reason = "all of it panics when a control plane does not do its part")]

pub mod apiserver;
pub mod audit;
pub mod binaries;
pub mod build;
pub mod capi;
pub mod controller;
pub mod etcd;
pub mod kwok;
pub mod manifests;
pub mod pki;
pub mod plane;
pub mod ports;
pub mod process;
pub mod provider;
pub mod proxy;
pub mod recorder;
pub mod refusal;
pub mod runtime;
#[path = "../skips.rs"]
pub mod skips;
pub mod tenant;
pub mod tunnel;
pub mod wait;

pub use audit::{Audit, Call, Mark};
pub use capi::Release;
pub use controller::Controller;
pub use plane::{ControlPlanes, Options, Plane, shared, shared_with};
pub use provider::Behaviour;
pub use proxy::FaultProxy;
pub use recorder::Recorder;
pub use tenant::Tenant;
pub use tunnel::Tunnel;
pub use wait::{eventually, gone, pass_until};

/// Tells whoever watches the tests. Not by `eprintln!`, which libtest keeps to itself until a test has
/// failed: a first build takes minutes.
pub fn say(what: &str) {
    use std::io::Write;
    // There may be nobody to tell.
    let _ = writeln!(std::io::stderr(), "control planes: {what}");
}

/// What went wrong, in words; a harness has no caller that tells errors apart.
pub type Trouble = Box<dyn std::error::Error + Send + Sync>;
/// See [`Trouble`].
pub type Result<T, E = Trouble> = std::result::Result<T, E>;
