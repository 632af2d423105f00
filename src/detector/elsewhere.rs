//! Where there is no proc connector: systems other than Linux.

use std::os::fd::BorrowedFd;

use super::health::FallbackReason;
use super::wire::Heard;

/// There is none.
pub(super) enum Connector {}

impl Connector {
    pub(super) fn open() -> Result<Self, FallbackReason> {
        Err(FallbackReason::NotLinux)
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        match *self {}
    }

    pub(super) fn hear(&mut self) -> Option<Heard> {
        match *self {}
    }

    pub(super) fn has_more(&self) -> bool {
        match *self {}
    }

    pub(super) fn beat(&mut self) -> bool {
        match *self {}
    }
}
