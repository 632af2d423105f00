//! An agent that is stuck ends itself, so that it is started anew: the shipped program, really hung, for a minute.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::ports::nowhere;

/// A minute until it is noticed, and as long again on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(150);

fn agent() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_5spot"));
    command.args(["reclaim-agent", "--detector", "poll"]).env_clear().env("NODE_NAME", "ws-17");
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Waits for its end by itself, of which a child tells its parent.
fn status(mut child: Child) -> (Option<i32>, Duration) {
    let began = Instant::now();
    let (tell, told) = std::sync::mpsc::channel();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    let waits = thread::spawn(move || tell.send(child.wait().unwrap().code()).unwrap());
    let Ok(code) = told.recv_timeout(PATIENCE) else {
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        waits.join().unwrap();
        panic!("it goes on after {PATIENCE:?}");
    };
    waits.join().unwrap();
    (code, began.elapsed())
}

#[test]
fn a_detector_that_hangs_in_the_proc_file_system_ends_the_agent_with_a_word() {
    let dir = tempfile::tempdir().unwrap();
    let proc = dir.path().join("proc");
    std::fs::create_dir_all(proc.join("4711")).unwrap();
    // Opened for reading it waits for somebody who writes, as a process does whose memory is being read from a dead disk.
    mkfifo(&proc.join("4711/comm"), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let log = dir.path().join("log");
    let mut command = agent();
    command.env("KUBECONFIG", nowhere(dir.path())).args(["--proc-root", proc.to_str().unwrap()]);
    let (code, after) = status(command.stderr(File::create(&log).unwrap()).spawn().unwrap());
    let log = std::fs::read_to_string(log).unwrap();
    assert_eq!(code, Some(1), "{log}");
    let word = log.lines().find(|line| line.contains("stuck: the process ends itself"));
    assert!(word.is_some_and(|word| word.contains("detector")), "{log}");
    assert!(after > Duration::from_secs(30), "given time: {after:?}");
}

#[test]
fn an_agent_whose_log_nobody_takes_ends_itself_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let filled = fill(&writer);
    let child = agent().env("KUBECONFIG", nowhere(dir.path())).stderr(OwnedFd::from(writer)).spawn().unwrap();
    let (code, after) = status(child);
    assert_eq!(code, Some(1), "after {after:?}");
    // It was the log that it hung on: not a word of it came through.
    let mut through = Vec::new();
    reader.read_to_end(&mut through).unwrap();
    assert!(through.len() == filled && through.iter().all(|byte| *byte == b'x'));
}

/// As much as the pipe holds; afterwards whoever writes into it waits. How many bytes that was.
fn fill(mut pipe: &std::io::PipeWriter) -> usize {
    let flags = OFlag::from_bits_retain(fcntl(pipe, FcntlArg::F_GETFL).unwrap());
    fcntl(pipe, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).unwrap();
    let mut filled = 0;
    for size in [4096, 1] {
        while let Ok(written) = std::io::Write::write(&mut pipe, &vec![b'x'; size]) {
            filled += written;
        }
    }
    fcntl(pipe, FcntlArg::F_SETFL(flags)).unwrap();
    filled
}
