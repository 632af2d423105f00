//! Messages of the kernel's proc connector, in the byte order of the machine. Pure.
//!
//! A datagram is a netlink header (16 bytes), a connector header (20) and an event, whose union begins at 52.

/// Programs that start.
const EXEC: u32 = 0x2;
/// Processes that are renamed.
const COMM: u32 = 0x200;
/// Answers to subscriptions.
const ACK: u32 = 0;
/// What we ask to be told of.
pub(super) const WANTED: [u32; 3] = [ACK, EXEC, COMM];
/// Offset of the kind of an event.
pub(super) const KIND_AT: u32 = 36;

/// Kind of netlink message that the connector uses for all.
const DONE: u16 = 3;
/// The connector's index and value of processes.
const PROCESSES: u32 = 1;
/// Begin to listen.
const LISTEN: u32 = 1;
/// A whole event; later kernels may say more.
const SHORTEST: usize = 76;

/// What the kernel said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// A program has started in a process; when, in nanoseconds of the monotonic clock.
    Exec { pid: u32, at: u64 },
    /// A thread was renamed.
    Comm { thread: u32, pid: u32, name: [u8; 16], at: u64 },
    /// An answer to a subscription, not necessarily ours: the sign sent with it plus one, and the kernel's error number.
    Ack { sign: u32, error: u32 },
    /// Anything else.
    Other,
}

/// What came of listening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// The kernel said something.
    Said(Said),
    /// Somebody else's message, or none that can be read.
    Foreign,
    /// There was more than the buffer could hold.
    Lost,
}

/// A subscription; with a mask the kernel, if it can, leaves everything else out.
pub(super) fn subscription(sign: u32, with_mask: bool) -> Vec<u8> {
    let mut operation = LISTEN.to_ne_bytes().to_vec();
    if with_mask {
        operation.extend((EXEC | COMM).to_ne_bytes());
    }
    let length = u16::try_from(operation.len()).unwrap_or(u16::MAX);
    let mut message = Vec::with_capacity(44);
    message.extend((36 + u32::from(length)).to_ne_bytes());
    message.extend(DONE.to_ne_bytes());
    message.extend([0; 2 + 4 + 4]);
    for word in [PROCESSES, PROCESSES, 0, sign] {
        message.extend(word.to_ne_bytes());
    }
    message.extend(length.to_ne_bytes());
    message.extend([0; 2]);
    message.extend(operation);
    message
}

/// What a datagram says; `None` if it is no event of a process.
pub(super) fn parse(message: &[u8]) -> Option<Said> {
    if message.len() < SHORTEST || (word(message, 16)?, word(message, 20)?) != (PROCESSES, PROCESSES) {
        return None;
    }
    let at = u64::from_ne_bytes(message.get(44..52)?.try_into().ok()?);
    Some(match word(message, 36)? {
        ACK => Said::Ack { sign: word(message, 28)?, error: word(message, 52)? },
        EXEC => Said::Exec { pid: word(message, 56)?, at },
        COMM => Said::Comm {
            thread: word(message, 52)?,
            pid: word(message, 56)?,
            name: message.get(60..76)?.try_into().ok()?,
            at,
        },
        _ => Said::Other,
    })
}

fn word(message: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(message.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(what: u32, union: &[u8]) -> Vec<u8> {
        let mut message = subscription(6, false);
        message.resize(76, 0);
        message[36..40].copy_from_slice(&what.to_ne_bytes());
        message[44..52].copy_from_slice(&77_u64.to_ne_bytes());
        message[52..52 + union.len()].copy_from_slice(union);
        message
    }

    #[test]
    fn a_subscription_has_the_lengths_that_the_kernel_insists_on() {
        for (with_mask, length, inner) in [(false, 40, 4), (true, 44, 8)] {
            let message = subscription(9, with_mask);
            assert_eq!(message.len(), length);
            assert_eq!(word(&message, 0), u32::try_from(length).ok());
            assert_eq!(u16::from_ne_bytes([message[32], message[33]]), inner);
            assert_eq!((word(&message, 28), word(&message, 36)), (Some(9), Some(LISTEN)));
        }
    }

    #[test]
    fn events_are_read_and_later_kernels_may_say_more() {
        let mut union = Vec::new();
        union.extend(11_u32.to_ne_bytes());
        union.extend(12_u32.to_ne_bytes());
        union.extend(*b"a name of bytes\0");
        assert_eq!(parse(&event(EXEC, &union)), Some(Said::Exec { pid: 12, at: 77 }));
        let renamed = Said::Comm { thread: 11, pid: 12, name: *b"a name of bytes\0", at: 77 };
        assert_eq!(parse(&event(COMM, &union)), Some(renamed));
        assert_eq!(parse(&event(ACK, &[1, 0, 0, 0])), Some(Said::Ack { sign: 6, error: parse_one() }));
        assert_eq!(parse(&event(0x8000_0000, &union)), Some(Said::Other));
        let mut longer = event(EXEC, &union);
        longer.extend([9; 40]);
        assert_eq!(parse(&longer), Some(Said::Exec { pid: 12, at: 77 }));
    }

    fn parse_one() -> u32 {
        u32::from_ne_bytes([1, 0, 0, 0])
    }

    #[test]
    fn what_is_short_or_not_of_processes_is_nothing() {
        assert_eq!(parse(&event(EXEC, &[])[..75]), None);
        let mut other = event(EXEC, &[]);
        other[16] ^= 0x55;
        assert_eq!(parse(&other), None);
    }

    proptest! {
        #[test]
        fn no_bytes_upset_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let known = parse(&bytes).is_some();
            prop_assert!(!known || bytes.len() >= SHORTEST);
        }
    }
}
