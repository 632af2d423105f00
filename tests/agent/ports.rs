//! What the agent shows where it is given ports, and that it does without. Its API server is not there: it sees all the same.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fivespot::detector::Count;
use serde_json::Value;
use tempfile::TempDir;

use crate::listen::PATIENCE;

/// A kubeconfig to an API server that is not there.
pub fn nowhere(dir: &Path) -> PathBuf {
    let path = dir.join("kubeconfig");
    let text = "{apiVersion: v1, kind: Config, current-context: a, contexts: [{name: a, context: {cluster: a, user: a}}], \
                clusters: [{name: a, cluster: {server: 'https://127.0.0.1:1'}}], users: [{name: a, user: {token: t}}]}";
    std::fs::write(&path, text).unwrap();
    path
}

/// An agent that ends with this.
struct Agent {
    child: Child,
    dir: TempDir,
}

impl Agent {
    fn start(variables: &[(&str, u16)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_5spot"));
        command
            .arg("reclaim-agent")
            .env_clear()
            .env("NODE_NAME", "ws-17")
            .env("KUBECONFIG", nowhere(dir.path()));
        command.envs(variables.iter().map(|(name, port)| (name, port.to_string())));
        let log = File::create(dir.path().join("log")).unwrap();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        Self { child, dir }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(Path::new(self.dir.path()).join("log")).unwrap()
    }

    /// Asks until it is so; panics after [`PATIENCE`] with the log.
    fn until<T>(&mut self, what: &str, mut found: impl FnMut(&Self) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = found(self) {
                return found;
            }
            assert!(self.child.try_wait().unwrap().is_none(), "it has ended: {}", self.log());
            assert!(Instant::now() < deadline, "not {what}: {}", self.log());
            // A port that opens, and a line in a file, are told to nobody.
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended by itself, which its test says.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Status and body; `None`: nobody is there.
fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// A port that was free a moment ago.
fn free() -> u16 {
    TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap().local_addr().unwrap().port()
}

fn value(page: &str, series: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn its_ports_show_what_it_sees() {
    let (metrics, health) = (free(), free());
    let mut agent = Agent::start(&[("METRICS_PORT", metrics), ("HEALTH_PORT", health)]);
    // From the first scrape on; the age once the first walk, or the first event of its own, has proven the source.
    let page = agent.until("proven", |_| {
        let (code, page) = get(metrics, "/metrics")?;
        assert_eq!(code, 200, "{page}");
        let age = value(&page, "fivespot_agent_heartbeat_age_seconds").unwrap();
        age.is_finite().then_some(page)
    });
    for count in Count::ALL {
        let series = format!("fivespot_agent_events_total{{type=\"{}\"}}", count.word());
        assert!(value(&page, &series).is_some(), "{series}: {page}");
    }
    assert_eq!(value(&page, "fivespot_agent_matches_total"), Some(0.0), "{page}");
    let info: Vec<&str> =
        page.lines().filter(|line| line.starts_with("fivespot_agent_detector_info{detector=\"")).collect();
    let is_honest =
        info.len() == 1 && (info[0].contains("\"netlink\"") || !info[0].contains("fallback=\"\""));
    assert!(is_honest && info[0].ends_with(" 1"), "{page}");

    // No rules are no fault, and an API server that is away is none of its own.
    agent.until("ready", |_| (get(health, "/readyz")? == (200, "ok\n".to_owned())).then_some(()));
    assert_eq!(get(health, "/healthz").unwrap(), (200, "ok\n".to_owned()));
    let status: Value = serde_json::from_str(&get(health, "/health/status").unwrap().1).unwrap();
    assert_eq!((&status["node"], &status["alive"]), (&Value::from("ws-17"), &Value::Bool(true)), "{status}");
    assert!(status["rules"].as_str().unwrap().contains("not been read yet"), "{status}");
    assert!(status["detector"] == "netlink" || !status["fallback"].is_null(), "{status}");
    assert!(get(health, "/metrics").unwrap().0 == 404 && get(metrics, "/healthz").unwrap().0 == 404);
}

#[test]
fn a_port_that_is_taken_is_told_and_gone_without() {
    let taken = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
    let (port, health) = (taken.local_addr().unwrap().port(), free());
    let mut agent = Agent::start(&[("METRICS_PORT", port), ("HEALTH_PORT", health)]);
    let words = [port.to_string(), "METRICS_PORT".to_owned(), "goes on without".to_owned()];
    agent.until("told of the port", |agent| {
        agent.log().lines().any(|line| words.iter().all(|word| line.contains(word))).then_some(())
    });
    agent.until("at work", |_| get(health, "/readyz").filter(|(code, _)| *code == 200));
}
