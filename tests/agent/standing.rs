//! Who does not count: pods' processes, wherever they run, the kernel's, and ourselves. The owner's containers do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use fivespot::detector::{Count, Kind};

use crate::listen::{Listener, is_root, options, skipped};
use crate::programs::{Programs, text};

const UID: &str = "0d3c2a1e-1111-4222-8333-123456789abc";
const SYSTEMD_UID: &str = "0d3c2a1e_1111_4222_8333_123456789abc";
const ID: &str = "4f1c9a3d5e7b8c6a4f1c9a3d5e7b8c6a4f1c9a3d5e7b8c6a4f1c9a3d5e7b8c6a";

/// Groups made on the machine's own hierarchies; they end with this, once nobody is in them.
struct Groups(Vec<PathBuf>);

impl Groups {
    /// Makes a group with all above it; the file that takes processes in.
    fn make(&mut self, hierarchy: &Path, path: &str) -> PathBuf {
        let mut group = hierarchy.to_owned();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            group.push(part);
            if !group.exists() {
                fs::create_dir(&group).unwrap();
                self.0.push(group.clone());
            }
        }
        group.join("cgroup.procs")
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for group in self.0.iter().rev() {
            if let Err(error) = fs::remove_dir(group) {
                eprintln!("{} stays: {error}", group.display());
            }
        }
    }
}

/// Where processes can be put into groups: of either version.
fn hierarchies() -> Vec<PathBuf> {
    let known = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/pids"];
    let known = known.into_iter().map(PathBuf::from);
    known.filter(|path| path.join("cgroup.procs").exists()).collect()
}

#[test]
fn pods_never_match_and_the_owners_containers_do() {
    if !is_root("processes in pods' groups") {
        return;
    }
    let hierarchies = hierarchies();
    if hierarchies.is_empty() {
        return skipped("processes in pods' groups: no cgroup hierarchy takes processes here");
    }
    let pods = [
        format!("kubepods.slice/kubepods-pod{SYSTEMD_UID}.slice/cri-containerd-{ID}.scope"),
        format!("kubepods/besteffort/pod{UID}/{ID}"),
        format!(
            "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{SYSTEMD_UID}.slice/crio-{ID}.scope"
        ),
        format!("system.slice/fs-containerd.service/kubepods-pod{SYSTEMD_UID}.slice:cri-containerd:{ID}"),
    ];
    let owners = [format!("docker/{ID}"), format!("machine.slice/libpod-{ID}.scope")];
    let mut groups = Groups(Vec::new());
    let mut programs = Programs::new();
    let rules = "match_commands = [\"fs-owned\"]\npoll_interval_ms = 50";
    let poll = Listener::open(options(Kind::Poll), rules);
    let netlink = Listener::netlink(options(Kind::Netlink), rules);
    let program = programs.waiting("fs-owned");
    let mut run = |group: PathBuf| {
        let enter = format!("echo $$ > {} && exec {}", group.display(), text(&program));
        programs.run_as_we_are(Command::new("/bin/sh").args(["-c", &enter]))
    };
    let (mut in_pods, mut owned) = (Vec::new(), Vec::new());
    for hierarchy in &hierarchies {
        in_pods.extend(pods.iter().map(|path| run(groups.make(hierarchy, path))));
        owned.extend(owners.iter().map(|path| run(groups.make(hierarchy, path))));
    }
    for mut listener in [Some(poll), netlink].into_iter().flatten() {
        listener.until("the owner's containers", |listener| owned.iter().all(|pid| listener.has_seen(*pid)));
        let counters = listener.detector().counters();
        listener.detector().look_again();
        listener.until("all again", |listener| listener.seen.len() >= 2 * owned.len());
        assert!(in_pods.iter().all(|pid| !listener.has_seen(*pid)), "{in_pods:?}: {:#?}", listener.seen);
        assert!(counters.of(Count::Excluded) >= in_pods.len() as u64);
    }
    for pid in in_pods.into_iter().chain(owned) {
        programs.end(pid);
    }
}

#[test]
fn neither_the_kernels_threads_nor_we_ourselves_match() {
    let own = fs::read_to_string("/proc/self/comm").unwrap();
    let kernel = fs::read_to_string("/proc/2/comm").unwrap_or_default();
    if kernel.trim_end() != "kthreadd" {
        skipped("the kernel's threads: they cannot be seen from here");
    }
    let mut programs = Programs::new();
    let rules =
        format!("match_commands = [\"kthreadd\", \"fs-other\", {:?}]\npoll_interval_ms = 50", own.trim_end());
    let mut listener = Listener::open(options(Kind::Poll), &rules);
    let pid = programs.run_as_we_are(&mut Command::new(programs.waiting("fs-other")));
    listener.until("another program", |listener| listener.has_seen(pid));
    assert!(!listener.has_seen(2) && !listener.has_seen(std::process::id()), "{:#?}", listener.seen);
}

#[test]
fn what_is_over_but_not_reaped_does_not_match() {
    let mut programs = Programs::new();
    let over = programs.copy("/bin/true", "fs-over");
    let dead = programs.run_as_we_are(&mut Command::new(over));
    let ended = |pid: u32| fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") Z ");
    while !ended(dead) {
        std::thread::yield_now();
    }
    let mut listener = Listener::open(options(Kind::Poll), "match_commands = [\"fs-over\", \"fs-other\"]");
    let pid = programs.run_as_we_are(&mut Command::new(programs.waiting("fs-other")));
    listener.until("another program", |listener| listener.has_seen(pid));
    assert!(!listener.has_seen(dead));
}
