//! Names of programs against the names that a process goes by.

use std::collections::{HashMap, HashSet};

use super::{By, Match};
use crate::detector::Process;

/// What the kernel keeps of a name, in bytes.
const KERNEL_NAME: usize = 15;

/// A set of names of programs.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    whole: HashSet<Vec<u8>>,
    /// The longer ones by what the kernel keeps of them.
    cut: HashMap<Vec<u8>, Vec<Vec<u8>>>,
}

impl Names {
    pub(super) fn new(names: Vec<String>) -> Self {
        let mut found = Self::default();
        for name in names {
            let name = name.into_bytes();
            if let Some(kept) = name.get(..KERNEL_NAME).filter(|kept| kept.len() < name.len()) {
                found.cut.entry(kept.to_vec()).or_default().push(name.clone());
            }
            found.whole.insert(name);
        }
        found
    }

    pub(super) fn is_empty(&self) -> bool {
        self.whole.is_empty()
    }

    /// The first of the names that a process goes by which is one of ours.
    pub(super) fn find<P: Process + ?Sized>(&self, process: &P) -> Option<Match> {
        if self.is_empty() {
            return None;
        }
        let name = process.name();
        if self.whole.contains(name) {
            return Some(said(name, By::Name));
        }
        let line = process.command_line();
        let first = line.split(|byte| *byte == 0).next().unwrap_or_default();
        if let Some(name) = self.of_path(first) {
            return Some(said(name, By::Argument));
        }
        let executable = process.executable();
        if let Some(name) = executable.and_then(|path| self.of_path(path)) {
            return Some(said(name, By::Executable));
        }
        let name = self.cut.get(name)?.iter().find(|name| !is_other(name, line, executable))?;
        Some(said(name, By::Name))
    }

    /// A whole path, or the file at its end; Windows programs write theirs with backslashes.
    fn of_path<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        let ends = [path, base(path, b'/'), base(path, b'\\')];
        ends.into_iter().find(|end| self.whole.contains(*end))
    }
}

fn said(name: &[u8], by: By) -> Match {
    Match { rule: String::from_utf8_lossy(name).into_owned(), by }
}

fn base(path: &[u8], separator: u8) -> &[u8] {
    path.rsplit(|byte| *byte == separator).next().unwrap_or_default()
}

/// Whether a process whose cut name fits goes by a longer name that does not. A script's full name stands behind its
/// interpreter and the interpreter's options, so all arguments are looked at.
fn is_other(name: &[u8], line: &[u8], executable: Option<&[u8]>) -> bool {
    let kept = &name[..KERNEL_NAME.min(name.len())];
    let known = line.split(|byte| *byte == 0).chain(executable);
    let mut alike = known.map(|path| base(path, b'/')).filter(|end| end.starts_with(kept)).peekable();
    alike.peek().is_some() && alike.all(|end| end != name)
}
