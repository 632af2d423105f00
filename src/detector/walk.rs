//! Walks over all processes, none of which is read twice for nothing.
//!
//! Each process's `comm` stays open: it follows the process through every exec and fails once the process has ended, so that
//! one read says whether there is something new, and a number that was used again is not taken for what had it before.
//! What keeps its name and changes its arguments alone is noticed within eight walks.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::OwnedFd;

use nix::dir::Dir;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::process::Process;
use super::procfs::{Live, Name, Proc};

/// Arguments are read again on one walk of so many.
const ARGUMENT_ROUNDS: u32 = 8;
/// Files that the rest of the program may need.
const SPARE_FILES: u64 = 256;
/// The most that are kept open, at 0.85 KiB of the kernel's memory each.
const MOST_FILES: u64 = 65_536;

pub(super) struct Walk {
    list: Dir,
    known: HashMap<u32, Known>,
    round: u32,
    may_keep: usize,
}

struct Known {
    name: Name,
    /// `None` where there were too many to keep.
    comm: Option<OwnedFd>,
    arguments: u64,
    round: u32,
    /// Seen once: it may have been on its way to another program.
    is_fresh: bool,
    is_kernel: bool,
}

impl Walk {
    pub(super) fn new(proc: &Proc) -> nix::Result<Self> {
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
        let wanted = most.min(MOST_FILES + SPARE_FILES);
        // A process may lower and raise its own soft limit as it likes; where not, what was allowed is used.
        let allowed = match setrlimit(Resource::RLIMIT_NOFILE, wanted, most) {
            Ok(()) => wanted,
            Err(_) => getrlimit(Resource::RLIMIT_NOFILE)?.0,
        };
        let may_keep = usize::try_from(allowed.saturating_sub(SPARE_FILES)).unwrap_or_default();
        Ok(Self { list: proc.list()?, known: HashMap::new(), round: 0, may_keep })
    }

    /// Visits what is new or has changed since the last walk; all of it after [`Self::forget`]. Tells how many there are.
    /// `thorough` reads everyone's arguments again.
    pub(super) fn walk(
        &mut self,
        proc: &Proc,
        thorough: bool,
        mut visit: impl FnMut(&Live<'_>),
    ) -> nix::Result<usize> {
        self.round = self.round.wrapping_add(1);
        let round = self.round;
        let mut kept = self.known.values().filter(|known| known.comm.is_some()).count();
        for entry in self.list.iter() {
            let Some(pid) = number(entry?.file_name().to_bytes()) else { continue };
            if let Some(known) = self.known.get_mut(&pid) {
                let due = thorough || known.is_fresh || pid % ARGUMENT_ROUNDS == round % ARGUMENT_ROUNDS;
                if known.is_unchanged(proc, pid, due) {
                    (known.round, known.is_fresh) = (round, false);
                    continue;
                }
            }
            let Some(live) = proc.look(pid) else { continue };
            visit(&live);
            let arguments = digest(live.command_line());
            let is_kernel = live.command_line().is_empty() && live.is_kernel_thread();
            let name = live.kernel_name();
            let comm = (kept < self.may_keep).then(|| live.into_comm());
            kept += usize::from(comm.is_some());
            self.known.insert(pid, Known { name, comm, arguments, round, is_fresh: true, is_kernel });
        }
        self.known.retain(|_, known| known.round == round);
        Ok(self.known.len())
    }

    /// Makes the next walk visit everything.
    pub(super) fn forget(&mut self) {
        self.known.clear();
    }

    pub(super) fn knows(&self, pid: u32) -> bool {
        self.known.contains_key(&pid)
    }
}

impl Known {
    /// `due`: its arguments are to be read too.
    fn is_unchanged(&self, proc: &Proc, pid: u32, due: bool) -> bool {
        if self.is_kernel && !due {
            return true;
        }
        let name = match &self.comm {
            Some(comm) => Name::read(comm),
            None => proc.look(pid).map(|live| live.kernel_name()),
        };
        name == Some(self.name)
            && (!due || proc.whole(pid, "cmdline").is_ok_and(|line| digest(&line) == self.arguments))
    }
}

fn digest(line: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    line.hash(&mut hasher);
    hasher.finish()
}

/// A process's number; other entries of the file system have names.
fn number(name: &[u8]) -> Option<u32> {
    if !name.first()?.is_ascii_digit() {
        return None;
    }
    str::from_utf8(name).ok()?.parse().ok()
}
