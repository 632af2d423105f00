//! Other releases of Cluster API than the one of today: 1.10, which keeps Machines in v1beta1 alone; none at all; and an
//! upgrade in place.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "these are tests, and so are the functions they share"
)]
#![allow(clippy::disallowed_methods, reason = "tests read clocks")]
#![allow(clippy::print_stderr, reason = "a test that fails tells why, a long one how it went")]
#![allow(unreachable_pub, dead_code, reason = "modules of one binary, shared with another")]

#[path = "../harness/mod.rs"]
mod harness;
mod leaving;
#[path = "../e2e/takeover.rs"]
mod takeover;
mod upgrade;
mod v1beta1;
#[path = "../e2e/world.rs"]
mod world;
#[path = "../e2e/drain/yard.rs"]
mod yard;

use jiff::{SignedDuration, Timestamp};

/// Waits until the controller asks for nothing in a stretch of some seconds.
async fn at_rest(world: &world::World) {
    let audit = world.tenant.management_plane().audit();
    harness::wait::asked_until("at rest", world::PATIENCE, async || {
        let mark = audit.mark();
        harness::pass_until(Timestamp::now() + SignedDuration::from_secs(4)).await;
        audit.after(mark).by(&world.user).calls().is_empty()
    })
    .await;
}
