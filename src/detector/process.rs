//! What can be asked of a process, and who asks.
//!
//! The detectors know how to answer; what the answers mean is the judge's business. Each answer may cost a read of the
//! proc file system, so a judge asks the cheap questions first and no more than it needs.

use std::time::Duration;

/// A process of this machine, seen at one moment. What cannot be read is empty or `None`: a process may end while it is
/// being asked.
pub trait Process {
    /// The kernel's name for it, cut to 15 bytes; any bytes but NUL, newlines and invalid UTF-8 included.
    fn name(&self) -> &[u8];
    /// Its arguments, each ended by NUL, as the process shows them (it may overwrite them). Empty for kernel threads and
    /// for what has ended but was not yet reaped.
    fn command_line(&self) -> &[u8];
    /// Path of its program, without the kernel's mark on deleted files. `None` where the kernel does not let us look:
    /// programs of other users, unless we may trace them.
    fn executable(&self) -> Option<&[u8]>;
    /// The user who runs it (the real uid), in our user namespace.
    fn owner(&self) -> Option<u32>;
    /// Since when it is there. Programs that replace one another in one process share one age.
    fn age(&self) -> Option<Duration>;
}

/// Says which processes are of interest.
pub trait Judge: Send + Sync + 'static {
    /// What is said of a process that is.
    type Found: Clone + PartialEq + Send + 'static;

    /// The verdict on one process. Asked for every program that starts and from every walk, so it has to be quick.
    /// Kernel threads, pods' processes and ourselves are left out by the detectors, after this.
    fn judge(&self, process: &dyn Process) -> Verdict<Self::Found>;
}

/// What a judge says of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<F> {
    /// Of no interest as it is now.
    Nothing,
    /// Of interest.
    Found(F),
    /// Of interest if it is still there after this long: it is asked about again then.
    Later(Duration),
}
