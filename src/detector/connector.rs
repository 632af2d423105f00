//! The kernel's proc connector: a netlink socket on which it says which programs start.
//!
//! Its failure is silence: every call may go well and nothing ever arrive. So we cause an event, the renaming of our own
//! thread, and must hear it, under our own number; the kernel queues it before the call that causes it is over, so that this
//! needs no waiting. A subscription is never taken back: that would lower a count which all listeners of the machine
//! share. The socket is closed, and a deaf one is replaced by a fresh one.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl;
use nix::sys::socket::{MsgFlags, NetlinkAddr, bind, getsockopt, recvfrom, send, setsockopt, sockopt};
use nix::unistd::gettid;
use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};

use super::ears::Ears;
use super::health::FallbackReason;
use super::wire::{Heard, KIND_AT, Said, WANTED, parse, subscription};

/// The connector's group of processes.
const GROUP: u32 = 1;
/// Fresh sockets before silence is believed: the shared count may be below zero, and each subscription raises it.
const TRIES: u32 = 3;
/// Events heard at a time while looking for our own.
const MOST_BEFORE_OURS: usize = 20_000;

pub(super) struct Connector {
    socket: Socket,
    thread: u32,
    beats: u64,
    /// Heard while looking for our own event.
    waiting: Vec<Heard>,
}

impl Connector {
    /// Subscribes, and proves that it hears. For the calling thread, which is to stay the one that listens.
    pub(super) fn open(buffer: usize) -> Result<Box<dyn Ears>, FallbackReason> {
        if let Some(reason) = elsewhere() {
            return Err(reason);
        }
        for attempt in 0..TRIES {
            let mut connector = Self::subscribe(buffer, attempt)?;
            if connector.beat() {
                return Ok(Box::new(connector));
            }
        }
        let callbacks = fs::read_to_string("/proc/self/net/connector");
        let is_mute = callbacks.is_ok_and(|callbacks| !callbacks.contains("cn_proc"));
        Err(if is_mute { FallbackReason::NoProcEvents } else { FallbackReason::Deaf })
    }

    fn subscribe(buffer: usize, attempt: u32) -> Result<Self, FallbackReason> {
        let socket = Socket::new(
            Domain::from(libc::AF_NETLINK),
            Type::DGRAM,
            Some(Protocol::from(libc::NETLINK_CONNECTOR)),
        )
        .map_err(|error| match error.raw_os_error() {
            Some(libc::EPROTONOSUPPORT) => FallbackReason::NoConnector,
            _ => FallbackReason::SocketRefused,
        })?;
        socket.set_nonblocking(true).map_err(|_| FallbackReason::SocketRefused)?;
        // Beyond the system's limit if we may, else as much as it allows.
        if setsockopt(&socket, sockopt::RcvBufForce, &buffer).is_err()
            && let Err(errno) = setsockopt(&socket, sockopt::RcvBuf, &buffer)
        {
            tracing::debug!(%errno, "the receive buffer stays as small as the system makes it");
        }
        // The kernel doubles what was asked for, for its own books.
        let had = getsockopt(&socket, sockopt::RcvBuf).unwrap_or_default();
        if had < buffer && attempt == 0 {
            tracing::warn!(
                bytes = had,
                wanted = buffer,
                "the receive buffer is small, net.core.rmem_max bounds it without CAP_NET_ADMIN: where many programs start \
                 at once more events are lost, and a walk follows each loss"
            );
        }
        // For kernels that do not know the mask: without either, every thread of the machine would wake us.
        if let Err(error) = SockRef::from(&socket).attach_filter(&filter()) {
            tracing::debug!(%error, "no socket filter: this costs time, and nothing else");
        }
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUP)).map_err(refused)?;
        let sign = std::process::id().wrapping_add(attempt);
        for with_mask in [false, true] {
            let message = subscription(sign, with_mask);
            send(socket.as_raw_fd(), &message, MsgFlags::empty()).map_err(refused)?;
        }
        let thread = u32::try_from(gettid().as_raw()).unwrap_or_default();
        Ok(Self { socket, thread, beats: 0, waiting: Vec::new() })
    }

    fn receive(&mut self) -> Option<Heard> {
        let mut buffer = [0; 256];
        match recvfrom::<NetlinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
            Ok((length, sender)) => {
                // The kernel has no port.
                if sender.is_none_or(|sender| sender.pid() != 0) {
                    return Some(Heard::Foreign);
                }
                Some(buffer.get(..length).and_then(parse).map_or(Heard::Foreign, Heard::Said))
            }
            Err(Errno::ENOBUFS) => Some(Heard::Lost),
            Err(Errno::EINTR) => self.receive(),
            // Nothing more; and what is really wrong, the next proof shows.
            Err(_) => None,
        }
    }

    fn find(&mut self, name: &[u8]) -> bool {
        let mut heard = Vec::new();
        let mut found = false;
        for _ in 0..MOST_BEFORE_OURS {
            let Some(next) = self.receive() else { break };
            match next {
                Heard::Said(Said::Comm { thread, name: told, .. })
                    if thread == self.thread && told.starts_with(name) =>
                {
                    found = true;
                    break;
                }
                other => heard.push(other),
            }
        }
        // Taken from the end, so that the earliest comes first.
        heard.reverse();
        heard.append(&mut self.waiting);
        self.waiting = heard;
        found
    }
}

impl Ears for Connector {
    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn hear(&mut self) -> Option<Heard> {
        if let Some(heard) = self.waiting.pop() {
            return Some(heard);
        }
        self.receive()
    }

    fn has_more(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn beat(&mut self) -> bool {
        // After a loss nothing is queued until the queue has been read empty: one more try, then.
        (0..2).any(|_| {
            self.beats = self.beats.wrapping_add(1);
            let name = format!("5spot-{:09x}", self.beats & 0xf_ffff_ffff);
            let renamed = CString::new(name.as_str()).is_ok_and(|name| prctl::set_name(&name).is_ok());
            renamed && self.find(name.as_bytes())
        })
    }
}

fn refused(errno: Errno) -> FallbackReason {
    match errno {
        Errno::EPERM | Errno::EACCES => FallbackReason::NoCapNetAdmin,
        Errno::ECONNREFUSED => FallbackReason::NotHostNetwork,
        _ => FallbackReason::SocketRefused,
    }
}

/// Namespaces from which the kernel takes no subscription, without a word. While another program of the machine listens its
/// events reach us even so, and end with it: so we look first.
fn elsewhere() -> Option<FallbackReason> {
    // The kernel's own numbers of the first of each: PROC_PID_INIT_INO and PROC_USER_INIT_INO.
    let kinds = [
        ("pid", 0xEFFF_FFFC_u32, FallbackReason::NotHostPid),
        ("user", 0xEFFF_FFFD, FallbackReason::NotHostUsers),
    ];
    let is_another = |kind: &str, first: u32| {
        fs::read_link(format!("/proc/self/ns/{kind}"))
            .is_ok_and(|path| path.as_os_str() != format!("{kind}:[{first}]").as_str())
    };
    kinds.into_iter().find(|(kind, first, _)| is_another(kind, *first)).map(|(_, _, reason)| reason)
}

/// Passes the kinds of events that we want. The classic machine loads in network order.
fn filter() -> Vec<SockFilter> {
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let mut program = vec![SockFilter::new(LOAD_WORD, 0, 0, KIND_AT)];
    for (left, kind) in (0_u8..).zip(WANTED).map(|(index, kind)| (2 - index, kind)) {
        // Over the comparisons that are left and the return that drops.
        program.push(SockFilter::new(JUMP_IF_EQUAL, left + 1, 0, kind.to_be()));
    }
    program.push(SockFilter::new(RETURN, 0, 0, 0));
    program.push(SockFilter::new(RETURN, 0, 0, u32::MAX));
    program
}
