//! The owner's programs: real ones, under names of their own, run by an ordinary user where we may.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// A user that is nobody in particular.
pub const OWNER: u32 = 65534;

/// A directory of programs, which ends with those that run.
pub struct Programs {
    dir: TempDir,
    running: Vec<Child>,
}

impl Programs {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { dir, running: Vec::new() }
    }

    pub fn path(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.dir.path().join(name.as_ref())
    }

    /// A copy of a program of the system, under another name.
    pub fn copy(&self, of: &str, name: impl AsRef<OsStr>) -> PathBuf {
        let path = self.path(name);
        lay(of.as_ref(), &path);
        path
    }

    /// A program that runs until its input ends.
    pub fn waiting(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.copy("/bin/cat", name)
    }

    pub fn script(&self, name: &str, text: &str) -> PathBuf {
        let (draft, path) = (self.path("draft"), self.path(name));
        fs::write(&draft, text).unwrap();
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).unwrap();
        lay(&draft, &path);
        path
    }

    /// Runs it until [`Programs`] is dropped; its pid.
    pub fn run(&mut self, command: &mut Command) -> u32 {
        if nix::unistd::geteuid().is_root() {
            command.uid(OWNER);
        }
        self.run_as_we_are(command)
    }

    pub fn run_as_we_are(&mut self, command: &mut Command) -> u32 {
        // Of the input only the end counts: what reads it waits for us.
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let pid = child.id();
        self.running.push(child);
        pid
    }

    /// Ends one of them, and waits for it.
    pub fn end(&mut self, pid: u32) {
        let at = self.running.iter().position(|child| child.id() == pid).unwrap();
        let mut child = self.running.swap_remove(at);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        for child in &mut self.running {
            // Some end on their own, in time.
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// By another process: a file that we wrote ourselves may be open for writing in a program that another test is just
/// starting, and then it cannot be run.
fn lay(from: &Path, to: &Path) {
    assert!(Command::new("cp").args([from, to]).status().unwrap().success());
}

/// A name that is not UTF-8.
pub fn odd_name() -> &'static OsStr {
    OsStr::from_bytes(b"fs-odd-\xff\n)")
}

pub fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
