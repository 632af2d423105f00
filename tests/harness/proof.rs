//! Proofs of the harness itself; one test binary includes them beside the harness.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::harness::audit::Audit;
use crate::harness::binaries::Supplied;
use crate::harness::build::{required, version};
use crate::harness::plane::{ControlPlanes, Options};
use crate::harness::process::{Keeper, Spec, start_ready};

/// Set for the copy of the test binary that is to be killed.
const SACRIFICE: &str = "HARNESS_SACRIFICE";

fn alive(pid: u32) -> bool {
    // A zombie is dead: nobody may be there to reap it.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

/// Whoever runs under a directory of that name, by its command line.
fn users_of(dir: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = processes.filter_map(|process| std::fs::read_to_string(process.path().join("cmdline")).ok());
    lines.filter(|line| line.contains(dir)).map(|line| line.replace('\0', " ")).collect()
}

/// What the copy of the test binary does: starts a pair, says what it started, and waits for its end.
async fn sacrifice() {
    let planes = ControlPlanes::start(Options { cluster_api: false, ..Options::default() })
        .await
        .expect("a control plane");
    let mut out = std::io::stdout();
    writeln!(out, "\ndir {}", planes.dir().display()).unwrap();
    for (name, pid) in planes.pids() {
        writeln!(out, "pid {pid} {name}").unwrap();
    }
    writeln!(out, "up").unwrap();
    std::future::pending::<()>().await;
}

#[test]
fn a_mark_set_while_a_line_is_being_written_is_set_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    std::fs::write(&path, "{\"auditID\":\"1\"}\n{\"audit").unwrap();
    let log = Audit::of(path.clone());
    let marked = std::thread::spawn({
        let log = log.clone();
        move || log.mark()
    });
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    writeln!(file, "ID\":\"2\"}}").unwrap();
    let whole = std::fs::metadata(&path).unwrap().len();
    let mark = marked.join().unwrap();
    assert_eq!(mark.place, whole);
    assert!(log.after(mark).is_empty());
}

#[test]
fn a_call_from_before_a_mark_is_not_behind_it_though_its_line_comes_late() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    std::fs::write(&path, "").unwrap();
    let log = Audit::of(path.clone());
    let (before, mark) = (Timestamp::now() - SignedDuration::from_millis(1), log.mark());
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    for (name, at) in [("before", before), ("after", Timestamp::now())] {
        let call = json!({"auditID": name, "stage": "ResponseComplete", "verb": "patch", "objectRef": {"name": name},
                          "requestReceivedTimestamp": at.to_string(), "stageTimestamp": Timestamp::now().to_string()});
        writeln!(file, "{call}").unwrap();
    }
    let (behind, all) = (log.after(mark), log.all());
    assert!(behind.len() == 1 && behind.named("after").len() == 1, "{behind}");
    assert_eq!(all.len(), 2, "{all}");
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn sigkill_of_the_tests_leaves_nothing() {
    if std::env::var_os(SACRIFICE).is_some() {
        sacrifice().await;
    }
    leaves_nothing_after(Signal::SIGKILL);
}

/// Ctrl-C: the terminal sends it to the foreground group, in which the components are not.
#[test]
#[cfg(target_os = "linux")]
fn sigint_of_the_tests_leaves_nothing() {
    leaves_nothing_after(Signal::SIGINT);
}

fn leaves_nothing_after(signal: Signal) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "--nocapture", "proof::sigkill_of_the_tests_leaves_nothing"]);
    command.env(SACRIFICE, "1").stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut dir, mut pids) = (None, Vec::new());
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        match line.split_once(' ') {
            Some(("dir", path)) => dir = Some(PathBuf::from(path)),
            Some(("pid", rest)) => pids.push(rest.split(' ').next().unwrap().parse::<u32>().unwrap()),
            _ if line == "up" => break,
            _ => {}
        }
    }
    let dir = dir.expect("the child to come up");
    assert!(pids.len() >= 3 && pids.iter().all(|pid| alive(*pid)), "{pids:?}");

    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
    child.wait().unwrap();

    let deadline = Instant::now() + Duration::from_secs(20);
    let name = dir.file_name().unwrap().to_str().unwrap();
    while dir.exists() || pids.iter().any(|pid| alive(*pid)) || !users_of(name).is_empty() {
        let left: Vec<_> = pids.iter().filter(|pid| alive(**pid)).collect();
        let (there, users) = (dir.exists(), users_of(name));
        assert!(Instant::now() < deadline, "left: {left:?} {users:?}, {} there: {there}", dir.display());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[tokio::test]
async fn a_stopped_pair_leaves_nothing() {
    let planes = ControlPlanes::start(Options { cluster_api: false, ..Options::default() })
        .await
        .expect("a control plane");
    let (dir, pids) = (planes.dir().to_path_buf(), planes.pids());
    planes.stop();
    assert!(!dir.exists(), "{}", dir.display());
    assert!(pids.iter().all(|(_, pid)| !alive(*pid)), "{pids:?}");
}

#[test]
fn kubebuilder_assets_are_used_when_complete() {
    let dir = tempfile::tempdir().unwrap();
    let touch = |name: &str| std::fs::write(dir.path().join(name), "").unwrap();

    assert_eq!(Supplied::look(None), Supplied::default());
    assert_eq!(Supplied::look(Some(Path::new(""))), Supplied::default());

    touch("etcd");
    let half = Supplied::look(Some(dir.path()));
    assert!(half.dir.is_none() && half.names.is_empty());
    assert!(half.note.unwrap().contains("lacks etcd or kube-apiserver"));

    touch("kube-apiserver");
    touch("kubectl");
    let whole = Supplied::look(Some(dir.path()));
    assert_eq!(whole.dir.as_deref(), Some(dir.path()));
    assert_eq!(whole.names, ["etcd", "kube-apiserver", "kubectl"]);
    assert!(whole.note.unwrap().contains("etcd, kube-apiserver, kubectl"));
}

#[test]
fn versions_are_read_as_numbers() {
    assert_eq!(version("1.26.8"), Some([1, 26, 8]));
    assert_eq!(version("1.27rc1"), Some([1, 27, 0]));
    assert_eq!(version("1.26.8-X:nocoverageredesign"), Some([1, 26, 8]));
    assert_eq!(version("devel"), None);
    assert!(version("1.9") < version("1.26.0"));
    let go_mod = "require (\n\tk8s.io/kubernetes v1.36.3 // indirect\n\tk8s.io/kubernetes-x v0.1.0\n)\n";
    assert_eq!(required(go_mod, "k8s.io/kubernetes").unwrap(), "v1.36.3");
    assert!(required(go_mod, "k8s.io/nothing").is_err());
}

#[tokio::test]
async fn a_component_that_loses_its_port_gets_another() {
    let keeper = Keeper::start().unwrap();
    let tries = std::cell::Cell::new(0);
    let spec = || {
        tries.set(tries.get() + 1);
        let script = if tries.get() < 3 { "echo bind: address already in use; exit 1" } else { "sleep 100" };
        let args = vec!["-c".to_owned(), script.to_owned()];
        (Spec { name: "racer".to_owned(), program: "sh".into(), args, env: Vec::new() }, tries.get())
    };
    let probe = async |port: u16| port == 3;
    let (_component, port) = start_ready(keeper.dir(), Duration::from_secs(10), spec, probe).await.unwrap();
    assert_eq!(port, 3);

    let broken = || {
        let args = vec!["-c".to_owned(), "echo what went wrong; exit 1".to_owned()];
        (Spec { name: "broken".to_owned(), program: "sh".into(), args, env: Vec::new() }, 0)
    };
    let trouble =
        start_ready(keeper.dir(), Duration::from_secs(10), broken, async |_| false).await.unwrap_err();
    assert!(trouble.to_string().contains("what went wrong"), "{trouble}");
}
