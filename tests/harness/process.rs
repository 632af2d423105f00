//! Processes that end when their parent does, whatever ends it.
//!
//! A test binary ends in ways that run no destructor: libtest exits the process, Ctrl-C and SIGKILL end it.
//! So each component is started by a few lines of `sh` that leave a watcher behind and become the component.
//! The watcher reads a pipe whose other end only this process holds. When the pipe closes, the watcher kills
//! the process group, itself included. The group is the component's own, so a Ctrl-C of the terminal does not
//! reach it first, and its id cannot be reused while the watcher lives.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Result;

/// `sh -c GUARD sh PIDFILE PROGRAM ARGS...`. The watcher is forked twice, so that the component has no child.
const GUARD: &str = r#"
echo $$ >"$1"; shift
exec 3<&0
( { read -r word; [ "$word" = keep ] || kill -s KILL -- "-$$"; } <&3 & )
exec "$@" 3<&- </dev/null
"#;

/// `sh -c KEEPER sh DIRECTORY`: makes the directory, and removes it once the pipe closes. Components that are
/// being killed at that very moment may still write, so it looks again.
const KEEPER: &str = r#"
mkdir -m 700 "$1" && mkdir "$1/pids" && echo ready || exit 1
exec >/dev/null 2>&1
read -r word
[ "$word" = keep ] && exit 0
n=0
while [ -e "$1" ] && [ $n -lt 100 ]; do
  sleep 0.1
  rm -rf "$1"
  n=$((n + 1))
done
"#;

/// The word that makes a watcher let go.
const KEEP: &[u8] = b"keep\n";

/// What to run.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Name of the log and of the pid file.
    pub name: String,
    /// Executable.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment, beyond what [`Component::start`] passes on.
    pub env: Vec<(String, String)>,
}

/// A running process with its log.
#[derive(Debug)]
pub struct Component {
    spec: Spec,
    log: PathBuf,
    pid_file: PathBuf,
    child: Child,
    line: Option<ChildStdin>,
    status: Option<ExitStatus>,
}

impl Component {
    /// Starts it; its output is appended to `<name>.log` in `dir`, its pid written to `pids/<name>`.
    pub fn start(dir: &Path, spec: Spec) -> Result<Self> {
        let log = dir.join(format!("{}.log", spec.name));
        let pid_file = dir.join("pids").join(&spec.name);
        let out = OpenOptions::new().create(true).append(true).open(&log)?;
        let mut command = Command::new("sh");
        command.arg("-c").arg(GUARD).arg("sh").arg(&pid_file).arg(&spec.program).args(&spec.args);
        // A developer's KUBECONFIG, proxies or feature switches must not leak in.
        command.env_clear().env("HOME", dir);
        let kept = |name: &str| name == "PATH" || name == "TMPDIR" || name.starts_with("LLVM_PROFILE");
        command.envs(std::env::vars().filter(|(name, _)| kept(name)));
        command.envs(spec.env.iter().map(|(name, value)| (name, value)));
        command.process_group(0).stdin(Stdio::piped()).stderr(out.try_clone()?).stdout(out);
        let mut child = command.spawn().map_err(|e| format!("cannot start {}: {e}", spec.name))?;
        let line = child.stdin.take();
        Ok(Self { spec, log, pid_file, child, line, status: None })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// The process id; also the id of its process group.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
        }
        self.status
    }

    /// Whether it ended because somebody else had bound its port meanwhile.
    pub fn lost_its_port(&mut self) -> bool {
        self.ended().is_some() && self.log().contains("address already in use")
    }

    /// Everything it wrote.
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The last lines it wrote, under a heading, for a message.
    pub fn tail(&self) -> String {
        tail_of(&self.spec.name, &self.log())
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        if self.status.is_none() {
            // An error means that it is gone already.
            let _ = self.child.kill();
            self.status = self.child.wait().ok();
        }
        // Ends the watcher, which would otherwise wait for the end of this process.
        self.line = None;
        let _ = std::fs::remove_file(&self.pid_file);
    }

    /// SIGTERM; the exit status, or an error with the log's tail if it is still there after `patience`.
    pub fn terminate(&mut self, patience: Duration) -> Result<ExitStatus> {
        let pid = Pid::from_raw(i32::try_from(self.pid())?);
        if self.ended().is_none() {
            kill(pid, Signal::SIGTERM)?;
        }
        let deadline = Instant::now() + patience;
        while self.ended().is_none() {
            if Instant::now() > deadline {
                return Err(format!("still there {patience:?} after SIGTERM\n{}", self.tail()).into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let status = self.status.ok_or("ended without a status")?;
        self.kill();
        Ok(status)
    }

    /// SIGKILLs it and starts it again with the same arguments.
    pub fn restart(&mut self, dir: &Path) -> Result<()> {
        self.kill();
        *self = Self::start(dir, self.spec.clone())?;
        Ok(())
    }

    /// Lets it live on after this process.
    pub fn keep(&mut self) {
        if let Some(mut line) = self.line.take() {
            let _ = line.write_all(KEEP);
        }
    }

    fn kept(&self) -> bool {
        self.line.is_none()
    }
}

impl Drop for Component {
    fn drop(&mut self) {
        if !self.kept() {
            self.kill();
        }
    }
}

/// The last lines of a log, under a heading.
pub fn tail_of(name: &str, log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let from = lines.len().saturating_sub(25);
    format!("--- the end of {name}.log ---\n{}\n---", lines[from..].join("\n"))
}

/// Owns a directory and removes it at the end.
#[derive(Debug)]
pub struct Keeper {
    dir: PathBuf,
    child: Child,
    line: Option<ChildStdin>,
}

impl Keeper {
    /// Makes a new directory below the system's temporary one.
    pub fn start() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let nth = COUNT.fetch_add(1, Ordering::Relaxed);
        let nonce = SystemTime::UNIX_EPOCH.elapsed()?.as_millis();
        let dir = std::env::temp_dir().join(format!("5spot-{}-{nth}-{nonce}", std::process::id()));
        let mut command = Command::new("sh");
        command.arg("-c").arg(KEEPER).arg("sh").arg(&dir);
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|e| format!("cannot start sh: {e}"))?;
        let line = child.stdin.take();
        let mut word = String::new();
        if let Some(out) = child.stdout.take() {
            BufReader::new(out).read_line(&mut word)?;
        }
        if word.trim() != "ready" {
            return Err(format!("cannot make {}", dir.display()).into());
        }
        Ok(Self { dir, child, line })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Leaves the directory where it is.
    pub fn keep(&mut self) {
        if let Some(mut line) = self.line.take() {
            let _ = line.write_all(KEEP);
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.line = None;
        let _ = self.child.wait();
    }
}

/// Waits until `probe` is true, the component has ended, or `patience` is over; the error carries the log's
/// tail.
pub async fn ready(
    component: &mut Component,
    patience: Duration,
    probe: impl AsyncFn() -> bool,
) -> Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(status) = component.ended() {
            return Err(format!("{} ended ({status})\n{}", component.spec.name, component.tail()).into());
        }
        if probe().await {
            return Ok(());
        }
        if Instant::now() > deadline {
            let name = &component.spec.name;
            return Err(format!("{name} not ready in {patience:?}\n{}", component.tail()).into());
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// Starts a component and waits for it; another port each time it loses the race for the one it was given.
pub async fn start_ready(
    dir: &Path,
    patience: Duration,
    spec: impl Fn() -> (Spec, u16),
    probe: impl AsyncFn(u16) -> bool,
) -> Result<(Component, u16)> {
    let mut tries = 0;
    loop {
        let (spec, port) = spec();
        let mut component = Component::start(dir, spec)?;
        match ready(&mut component, patience, async || probe(port).await).await {
            Ok(()) => return Ok((component, port)),
            Err(trouble) => {
                tries += 1;
                if tries > 3 || !component.lost_its_port() {
                    return Err(trouble);
                }
                // What the next try leaves in the log must be its own.
                File::create(&component.log)?;
            }
        }
    }
}
