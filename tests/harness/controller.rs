//! The controller under test, as a process.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::plane::ControlPlanes;
use super::ports;
use super::process::{Component, Spec};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// How to start one.
#[derive(Clone, Debug)]
pub struct Setup {
    dir: PathBuf,
    spec: Spec,
    metrics_port: u16,
    health_port: u16,
}

/// A running `5spot controller`. Clones are the same process; it is killed when the last one goes, or the
/// tests end.
#[derive(Clone, Debug)]
pub struct Controller {
    component: Arc<Mutex<Component>>,
    setup: Setup,
}

impl Controller {
    /// `5spot controller` with JSON logs and that kubeconfig.
    pub fn setup(planes: &ControlPlanes, kubeconfig: &str) -> Setup {
        let mut setup = Setup::of(planes, "controller", env!("CARGO_BIN_EXE_5spot"));
        let path = setup.dir.join(format!("{}.kubeconfig", setup.spec.name));
        std::fs::write(&path, kubeconfig).expect("a kubeconfig");
        setup = setup.env("KUBECONFIG", &path.display().to_string());
        // Many run side by side. Whoever starts one again has them free again.
        (setup.metrics_port, setup.health_port) = (ports::free(), ports::free());
        let (metrics, health) = (setup.metrics_port.to_string(), setup.health_port.to_string());
        let setup = setup.arg("controller").arg("--log-format").arg("json");
        setup.arg("--metrics-port").arg(&metrics).arg("--health-port").arg(&health)
    }

    /// `GET` on its port for metrics; status and body. `None`: nobody answers there.
    pub async fn scrape(&self) -> Option<String> {
        let (status, body) = get(self.setup.metrics_port, "/metrics").await?;
        assert_eq!(status, 200, "{body}");
        Some(body)
    }

    /// `GET` on its port for health; status and body. `None`: nobody answers there.
    pub async fn health(&self, path: &str) -> Option<(u16, String)> {
        get(self.setup.health_port, path).await
    }

    fn component(&self) -> MutexGuard<'_, Component> {
        self.component.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.component().pid()
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&self) {
        self.component().kill();
    }

    /// SIGSTOP: it does nothing, and knows nothing of that.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).expect("a process id"));
        kill(pid, signal).expect("it lives");
    }

    /// SIGTERM; its exit status. Panics with the log's end if it takes longer than `patience`.
    pub async fn terminate(&self, patience: Duration) -> ExitStatus {
        let this = self.clone();
        let ended = tokio::task::spawn_blocking(move || this.component().terminate(patience));
        match ended.await.expect("no panic") {
            Ok(status) => status,
            Err(trouble) => panic!("{trouble}"),
        }
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.component().ended()
    }

    /// A new process with the same arguments, after this one was killed or ended by itself.
    #[must_use]
    pub fn again(&self) -> Self {
        self.kill();
        let mut setup = self.setup.clone();
        setup.spec.name = format!("{}-again-{}", setup.spec.name, COUNT.fetch_add(1, Ordering::Relaxed));
        setup.start()
    }

    /// Lets it live on after this process; the pair's stop script ends it. See [`ControlPlanes::keep`].
    pub fn keep(&self) {
        self.component().keep();
    }

    /// Everything it has written.
    pub fn log(&self) -> String {
        self.component().log()
    }
}

impl Setup {
    /// Any program that is to end with the pair, with nothing in its environment but the path.
    pub fn of(planes: &ControlPlanes, name: &str, program: impl Into<PathBuf>) -> Self {
        let name = format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let spec = Spec { name, program: program.into(), args: Vec::new(), env: Vec::new() };
        Self { dir: planes.dir().to_path_buf(), spec, metrics_port: 0, health_port: 0 }
    }

    /// `--watch-namespace`.
    #[must_use]
    pub fn watch_namespace(self, namespace: &str) -> Self {
        self.arg("--watch-namespace").arg(namespace)
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: &str) -> Self {
        self.spec.args.push(arg.to_owned());
        self
    }

    /// One more variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.spec.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it; it is not waited for.
    pub fn start(self) -> Controller {
        let component = Component::start(&self.dir, self.spec.clone()).expect("a controller");
        Controller { component: Arc::new(Mutex::new(component)), setup: self }
    }
}

/// One request over a connection of its own.
pub async fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}
