//! The clock that leadership is told by.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::candidate::Moment;

/// It goes on while the machine is suspended: who slept must not believe that it still leads.
#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::CLOCK_BOOTTIME;
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::CLOCK_MONOTONIC;

/// Now. Nobody's setting of the time of day moves it.
pub(super) fn now() -> Moment {
    // These clocks are there on every system that we build for; a moment after everything proves nothing.
    Moment(clock_gettime(CLOCK).map_or(Duration::MAX, Duration::from))
}
