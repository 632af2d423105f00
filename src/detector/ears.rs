//! What the engine listens with: on Linux the kernel's proc connector.

use std::os::fd::BorrowedFd;

use super::health::FallbackReason;
use super::wire::Heard;

/// A subscription to what the kernel says of processes.
pub(super) trait Ears {
    /// Becomes readable when there is something to hear.
    fn fd(&self) -> BorrowedFd<'_>;
    /// The next that was heard; `None` if there is nothing more now.
    fn hear(&mut self) -> Option<Heard>;
    /// Something was heard that was not asked for yet, and of which the descriptor no longer tells.
    fn has_more(&self) -> bool;
    /// Causes an event and looks for it; what else is heard meanwhile comes from [`Ears::hear`] after.
    fn beat(&mut self) -> bool;
}

/// Makes new ones, which have proven that they hear; called on the thread that is to listen. Takes the size of the
/// receive buffer, in bytes.
pub(super) type Opener = fn(usize) -> Result<Box<dyn Ears>, FallbackReason>;

/// There is no connector on this system.
#[cfg(not(target_os = "linux"))]
pub(super) fn none(_: usize) -> Result<Box<dyn Ears>, FallbackReason> {
    Err(FallbackReason::NotLinux)
}
