//! One process of the controller, with a directory and ports of its own.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpStream};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::harness::ports;
use crate::harness::process::{Component, Spec};

/// Longer than anything here takes on a loaded machine; a deadline, not a wait.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running controller; killed when this goes.
pub struct Program {
    pub component: Component,
    pub metrics: u16,
    pub health: u16,
    _dir: TempDir,
}

/// An answer of its HTTP server.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Program {
    /// Starts it; it is not waited for.
    pub fn start(env: &[(&str, &str)]) -> Self {
        Self::with_ports(ports::free(), ports::free(), env)
    }

    pub fn with_ports(metrics: u16, health: u16, env: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("pids")).unwrap();
        let kubeconfig = dir.path().join("kubeconfig");
        std::fs::write(&kubeconfig, nobody_there()).unwrap();
        let mut variables = vec![
            ("KUBECONFIG".to_owned(), kubeconfig.display().to_string()),
            ("METRICS_PORT".to_owned(), metrics.to_string()),
            ("HEALTH_PORT".to_owned(), health.to_string()),
        ];
        variables.extend(env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let program = env!("CARGO_BIN_EXE_5spot").into();
        let spec = Spec { name: "controller".to_owned(), program, args: Vec::new(), env: variables };
        let component = Component::start(dir.path(), spec).unwrap();
        Self { component, metrics, health, _dir: dir }
    }

    /// The same, once it serves.
    pub fn serving(env: &[(&str, &str)]) -> Self {
        let mut program = Self::start(env);
        program.until("it serves", |program| get(program.health, "/healthz").is_some());
        program
    }

    /// Looks until it is so.
    pub fn until(&mut self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            assert!(self.component.ended().is_none(), "ended before {what}: {}", self.component.log());
            assert!(began.elapsed() < PATIENCE, "{what}: {}", self.component.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Its exit status, once it has ended by itself.
    pub fn exit_code(&mut self) -> Option<i32> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.component.ended() {
                return status.code();
            }
            assert!(began.elapsed() < PATIENCE, "still there: {}", self.component.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A kubeconfig of a server that is not there.
fn nobody_there() -> String {
    let port = ports::free();
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
         clusters: [{{name: c, cluster: {{server: \"http://127.0.0.1:{port}\"}}}}]\n\
         users: [{{name: u, user: {{}}}}]\n"
    )
}

/// A connection on which neither end waits for ever.
pub fn connect(address: impl Into<IpAddr>, port: u16) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&(address.into(), port).into(), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// What comes back until the other end closes, whatever was sent.
pub fn exchange(port: u16, sent: &[u8]) -> Vec<u8> {
    let mut stream = connect(Ipv4Addr::LOCALHOST, port).unwrap();
    // The other end may have had enough before all of it is sent.
    let _ = stream.write_all(sent);
    let _ = stream.shutdown(Shutdown::Write);
    let mut back = Vec::new();
    let mut buffer = [0; 4096];
    // A connection that is reset says no more.
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        back.extend_from_slice(&buffer[..count]);
    }
    back
}

/// One request over a connection of its own.
pub fn request(address: impl Into<IpAddr>, port: u16, method: &str, path: &str) -> Option<Answer> {
    let mut stream = connect(address, port).ok()?;
    let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() })
}

pub fn get(port: u16, path: &str) -> Option<Answer> {
    request(Ipv4Addr::LOCALHOST, port, "GET", path)
}
