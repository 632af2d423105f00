//! How the detectors fare: which one listens, why not the better one, when it was last proven to hear, and counters.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Where news of processes comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The kernel's proc connector: it says at once what starts.
    Netlink,
    /// Walks over the proc file system: what lives for less than an interval may be missed.
    Poll,
}

impl Source {
    /// The word for it in reports, metrics and on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Netlink => "netlink",
            Self::Poll => "poll",
        }
    }
}

/// Why the kernel's connector is not, or not now, what we listen to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FallbackReason {
    /// This is not Linux.
    NotLinux,
    /// The kernel has no connector at all (`CONFIG_CONNECTOR`).
    NoConnector,
    /// The kernel's connector does not tell of processes (`CONFIG_PROC_EVENTS`).
    NoProcEvents,
    /// This kernel tells only those who have `CAP_NET_ADMIN`.
    NoCapNetAdmin,
    /// We are not in the initial network namespace; a pod needs `hostNetwork: true`.
    NotHostNetwork,
    /// We are not in the initial process namespace; a pod needs `hostPID: true`.
    NotHostPid,
    /// We are not in the initial user namespace.
    NotHostUsers,
    /// The system does not let us have the socket, for instance a seccomp profile.
    SocketRefused,
    /// All calls went well and yet nothing is heard.
    Deaf,
}

impl FallbackReason {
    /// Every reason there is.
    pub const ALL: [Self; 9] = [
        Self::NotLinux,
        Self::NoConnector,
        Self::NoProcEvents,
        Self::NoCapNetAdmin,
        Self::NotHostNetwork,
        Self::NotHostPid,
        Self::NotHostUsers,
        Self::SocketRefused,
        Self::Deaf,
    ];

    /// The word for it in reports and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::NotLinux => "not-linux",
            Self::NoConnector => "no-connector",
            Self::NoProcEvents => "no-proc-events",
            Self::NoCapNetAdmin => "no-cap-net-admin",
            Self::NotHostNetwork => "not-host-network",
            Self::NotHostPid => "not-host-pid",
            Self::NotHostUsers => "not-host-users",
            Self::SocketRefused => "socket-refused",
            Self::Deaf => "deaf",
        }
    }

    /// What is wrong and what to do about it, for people.
    pub fn advice(self) -> &'static str {
        match self {
            Self::NotLinux => "the kernel's process events exist on Linux only",
            Self::NoConnector => "this kernel has no netlink connector: it needs CONFIG_CONNECTOR",
            Self::NoProcEvents => "this kernel does not report processes: it needs CONFIG_PROC_EVENTS",
            Self::NoCapNetAdmin => "this kernel reports processes only to CAP_NET_ADMIN: add that capability",
            Self::NotHostNetwork => {
                "process events reach the initial network namespace only: set hostNetwork: true"
            }
            Self::NotHostPid => "process events reach the initial process namespace only: set hostPID: true",
            Self::NotHostUsers => {
                "process events reach the initial user namespace only: leave hostUsers unset"
            }
            Self::SocketRefused => {
                "the system refuses the netlink socket: look at seccomp, AppArmor and SELinux"
            }
            Self::Deaf => {
                "the kernel accepts the subscription and sends nothing: another listener may upset it"
            }
        }
    }
}

impl fmt::Display for FallbackReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// How the detectors fare at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Who brings the news; `None` when nobody does: netlink is pinned and hears nothing, or processes cannot be read.
    pub source: Option<Source>,
    /// Why it is not netlink, where netlink was wanted.
    pub fallback: Option<FallbackReason>,
    /// Nobody but ourselves can be seen: the proc file system hides processes from us, or is not the host's.
    pub blind: bool,
    /// How long ago the source was last proven to work: by an event that we caused and heard, or by a completed walk.
    /// `None` before the first proof. Polling without a judge walks at the safety interval only.
    pub proof_age: Option<Duration>,
    /// Processes that the last walk met, kernel threads included.
    pub processes: usize,
    /// How long the last walk took.
    pub walk_time: Duration,
}

/// What is counted, under the words of `fivespot_agent_events_total{type}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// The kernel said that a program started.
    Exec,
    /// The kernel said that a process was renamed.
    Rename,
    /// The kernel said something else.
    Other,
    /// A message that is not the kernel's, or not understood; dropped.
    Foreign,
    /// The kernel had more to say than we could hear; a walk over everything follows.
    Lost,
    /// A process was gone before it could be read.
    Vanished,
    /// We caused an event and heard it.
    Heartbeat,
    /// We caused an event and did not hear it.
    Deaf,
    /// A walk over all processes was completed.
    Walk,
    /// A process of interest was reported.
    Found,
    /// A process of interest was a pod's, a kernel thread, over, or ourselves.
    Excluded,
    /// Netlink was given up for polling.
    Fallback,
    /// Netlink came back.
    Return,
}

impl Count {
    /// Every counter there is.
    pub const ALL: [Self; 13] = [
        Self::Exec,
        Self::Rename,
        Self::Other,
        Self::Foreign,
        Self::Lost,
        Self::Vanished,
        Self::Heartbeat,
        Self::Deaf,
        Self::Walk,
        Self::Found,
        Self::Excluded,
        Self::Fallback,
        Self::Return,
    ];

    /// The word for it in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Rename => "rename",
            Self::Other => "other",
            Self::Foreign => "foreign",
            Self::Lost => "lost",
            Self::Vanished => "vanished",
            Self::Heartbeat => "heartbeat",
            Self::Deaf => "deaf",
            Self::Walk => "walk",
            Self::Found => "found",
            Self::Excluded => "excluded",
            Self::Fallback => "fallback",
            Self::Return => "return",
        }
    }
}

/// Counters since the start; each only grows.
#[derive(Debug, Default)]
pub struct Counters([AtomicU64; Count::ALL.len()]);

impl Counters {
    /// The value of one.
    pub fn of(&self, count: Count) -> u64 {
        self.0[count as usize].load(Ordering::Relaxed)
    }

    /// All, each with its word.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Count::ALL.into_iter().map(|count| (count.word(), self.of(count)))
    }

    pub(super) fn add(&self, count: Count) {
        self.0[count as usize].fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_and_every_counter_has_a_word_of_its_own() {
        let reasons: BTreeSet<_> = FallbackReason::ALL.into_iter().map(FallbackReason::word).collect();
        assert_eq!(reasons.len(), FallbackReason::ALL.len());
        let counts: BTreeSet<_> = Count::ALL.into_iter().map(Count::word).collect();
        assert_eq!(counts.len(), Count::ALL.len());
    }

    #[test]
    fn a_counter_counts_for_itself_alone() {
        let counters = Counters::default();
        for (times, count) in Count::ALL.into_iter().enumerate() {
            (0..times).for_each(|_| counters.add(count));
        }
        let values: Vec<u64> = counters.all().map(|(_, value)| value).collect();
        assert_eq!(values, (0..13).collect::<Vec<u64>>());
    }
}
