//! What `/proc/PID/stat` tells. Pure.

/// The kernel's own threads, which are no programs.
const PF_KTHREAD: u32 = 0x0020_0000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    state: u8,
    flags: u32,
    /// Start, in ticks since the machine's.
    pub(super) start: u64,
}

impl Stat {
    /// Fields are counted from behind the name, which may hold blanks and parentheses.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let end = text.iter().rposition(|byte| *byte == b')')?;
        let text = str::from_utf8(text.get(end + 1..)?).ok()?;
        let mut fields = text.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        let flags = fields.nth(5)?.parse().ok()?;
        let start = fields.nth(12)?.parse().ok()?;
        Some(Self { state, flags, start })
    }

    pub(super) fn is_kernel_thread(self) -> bool {
        self.flags & PF_KTHREAD != 0
    }

    /// It ended; only its entry in the table is left.
    pub(super) fn is_over(self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_may_hold_anything() {
        let line = b"42 (a) R 1 (b\n) S 1 42 42 0 -1 4194560 2 0 0 0 0 0 0 0 20 0 1 0 98765 1 2 3\n";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.start, stat.is_kernel_thread(), stat.is_over()), (98765, false, false));
    }

    #[test]
    fn kernel_threads_and_the_dead_are_told_apart() {
        let line = |state: &str, flags: u32| {
            format!("2 (x) {state} 0 0 0 0 -1 {flags} 0 0 0 0 0 0 0 0 20 0 1 0 7 0").into_bytes()
        };
        assert!(Stat::parse(&line("S", 2_129_984)).unwrap().is_kernel_thread());
        assert!(Stat::parse(&line("Z", 4_194_560)).unwrap().is_over());
    }

    #[test]
    fn what_is_cut_short_is_nothing() {
        for text in [&b""[..], b"1", b"1 (x)", b"1 (x) S", b"1 (x) S 0 0 0 0 -1 5 0 0", b"1 (x) S \xff"] {
            assert_eq!(Stat::parse(text), None);
        }
    }
}
