//! One process of the proc file system, read as little as is asked for. Bytes everywhere: names are what people made them.

use std::cell::OnceCell;
use std::ffi::CStr;
use std::io::{Cursor, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::Mode;
use nix::sys::uio::pread;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};

use super::DetectorError;
use super::cgroup::Pods;
use super::process::Process;
use super::stat::Stat;

/// More of a command line is not read.
const LONGEST_LINE: usize = 128 * 1024;
/// The kernel's mark on the path of a program whose file is gone.
const DELETED: &[u8] = b" (deleted)";

/// A mounted proc file system.
pub(super) struct Proc {
    dir: OwnedFd,
    own: u32,
    ticks_per_second: u64,
    pods: Pods,
}

/// What a process of interest is besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The owner's: anything that is none of the others. With its start, in ticks since the machine's.
    Owners(u64),
    /// Ourselves, a pod's, or the kernel's.
    Excluded,
    /// Over, though perhaps not yet reaped.
    Gone,
}

impl Proc {
    pub(super) fn open(root: &Path) -> Result<Self, DetectorError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = nix::fcntl::open(root, flags, Mode::empty())
            .map_err(|errno| DetectorError::ProcRoot { path: root.to_owned(), source: errno.into() })?;
        // The number that this mount knows us by; ours may be another in a namespace of processes.
        let own = readlinkat(&dir, "self").ok().and_then(|pid| pid.to_str()?.parse().ok());
        let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|ticks| u64::try_from(ticks).ok());
        let mut proc = Self {
            dir,
            own: own.unwrap_or_else(std::process::id),
            ticks_per_second: ticks.filter(|ticks| *ticks > 0).unwrap_or(100),
            pods: Pods::default(),
        };
        let init = proc.whole(1, "cgroup").unwrap_or_default();
        let mounts = proc.whole(proc.own, "mountinfo").unwrap_or_default();
        proc.pods = Pods::new(&init, &mounts);
        Ok(proc)
    }

    pub(super) fn own(&self) -> u32 {
        self.own
    }

    /// A directory stream of its own.
    pub(super) fn list(&self) -> nix::Result<nix::dir::Dir> {
        nix::dir::Dir::openat(&self.dir, ".", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
    }

    /// A process, with its name read; `None` if there is none.
    pub(super) fn look(&self, pid: u32) -> Option<Live<'_>> {
        let comm = self.file(pid, "comm").ok()?;
        let name = Name::read(&comm)?;
        let (line, executable, stat) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
        Some(Live { proc: self, pid, comm, name, line, executable, stat })
    }

    fn file(&self, pid: u32, name: &str) -> nix::Result<OwnedFd> {
        let mut buffer = [0; 48];
        openat(&self.dir, path(&mut buffer, pid, name), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
    }

    /// A file's whole content, up to a bound.
    pub(super) fn whole(&self, pid: u32, name: &str) -> nix::Result<Vec<u8>> {
        let file = self.file(pid, name)?;
        let mut content = Vec::new();
        let mut buffer = [0; 4096];
        while content.len() < LONGEST_LINE {
            let count = nix::unistd::read(&file, &mut buffer)?;
            let Some(read) = buffer.get(..count).filter(|read| !read.is_empty()) else { break };
            content.extend_from_slice(read);
        }
        Ok(content)
    }
}

/// `<pid>/<name>`, without allocation.
fn path<'b>(buffer: &'b mut [u8; 48], pid: u32, name: &str) -> &'b CStr {
    // The longest is ten digits and "net/connector"; the buffer stays ended by a zero in any case.
    write!(Cursor::new(&mut buffer[..47]), "{pid}/{name}").ok();
    CStr::from_bytes_until_nul(buffer).unwrap_or_default()
}

/// The kernel's name of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name {
    bytes: [u8; 64],
    length: usize,
}

impl Name {
    /// Reads it from an open `comm`; `None` if the process is no more.
    pub(super) fn read(comm: impl AsFd) -> Option<Self> {
        let mut bytes = [0; 64];
        let count = pread(comm, &mut bytes, 0).ok()?;
        // One newline is the kernel's; a name may hold more.
        let length = if count > 0 && bytes.get(count - 1) == Some(&b'\n') { count - 1 } else { count };
        Some(Self { bytes, length })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// A process that was there a moment ago.
pub(super) struct Live<'p> {
    proc: &'p Proc,
    pid: u32,
    comm: OwnedFd,
    name: Name,
    line: OnceCell<Vec<u8>>,
    executable: OnceCell<Option<Vec<u8>>>,
    stat: OnceCell<Option<Stat>>,
}

impl Live<'_> {
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn kernel_name(&self) -> Name {
        self.name
    }

    /// Its open `comm`, which follows it through every exec and ends with it.
    pub(super) fn into_comm(self) -> OwnedFd {
        self.comm
    }

    pub(super) fn is_kernel_thread(&self) -> bool {
        self.stat().is_some_and(Stat::is_kernel_thread)
    }

    pub(super) fn standing(&self) -> Standing {
        if self.pid == self.proc.own {
            return Standing::Excluded;
        }
        let Some(stat) = self.stat().filter(|stat| !stat.is_over()) else { return Standing::Gone };
        if stat.is_kernel_thread() {
            return Standing::Excluded;
        }
        let in_pod = match self.proc.whole(self.pid, "cgroup") {
            Ok(text) => self.proc.pods.owns(&text),
            // Without cgroups there are no pods.
            Err(Errno::ENOENT) if self.proc.pods.is_unknown() => false,
            Err(_) => return Standing::Gone,
        };
        if in_pod { Standing::Excluded } else { Standing::Owners(stat.start) }
    }

    fn stat(&self) -> Option<Stat> {
        *self.stat.get_or_init(|| Stat::parse(&self.proc.whole(self.pid, "stat").ok()?))
    }
}

impl Process for Live<'_> {
    fn name(&self) -> &[u8] {
        self.name.bytes()
    }

    fn command_line(&self) -> &[u8] {
        self.line.get_or_init(|| self.proc.whole(self.pid, "cmdline").unwrap_or_default())
    }

    fn executable(&self) -> Option<&[u8]> {
        let read = || {
            let mut buffer = [0; 48];
            let mut path = readlinkat(&self.proc.dir, path(&mut buffer, self.pid, "exe")).ok()?.into_vec();
            if path.ends_with(DELETED) {
                path.truncate(path.len() - DELETED.len());
            }
            Some(path)
        };
        self.executable.get_or_init(read).as_deref()
    }

    fn owner(&self) -> Option<u32> {
        let status = self.proc.whole(self.pid, "status").ok()?;
        let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Uid:"))?;
        str::from_utf8(line).ok()?.split_ascii_whitespace().next()?.parse().ok()
    }

    fn age(&self) -> Option<Duration> {
        let since_boot = Duration::from(clock_gettime(BOOT).ok()?);
        let start = self.stat()?.start;
        let ticks = self.proc.ticks_per_second;
        let started =
            Duration::from_secs(start / ticks) + Duration::from_nanos(start % ticks * 1_000_000_000 / ticks);
        Some(since_boot.saturating_sub(started))
    }
}

/// The clock that starts of processes are told by.
#[cfg(target_os = "linux")]
const BOOT: ClockId = ClockId::CLOCK_BOOTTIME;
#[cfg(not(target_os = "linux"))]
const BOOT: ClockId = ClockId::CLOCK_MONOTONIC;
