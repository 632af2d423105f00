//! A proxy before an API server that goes wrong on demand, for one client alone.
//!
//! It speaks TLS on both sides, passes bodies on as they come (watches), keeps a journal of all requests, and
//! does what the plan says: kills somebody at the n-th write, answers by itself, or goes dark.

mod forward;
mod plan;

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Method, StatusCode};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::plane::Plane;
use super::{Result, runtime};
use forward::Upstream;
use plan::Plan;

pub use forward::acceptor;
pub use plan::{When, status_body};

/// One request that came through.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Counts from 1.
    pub ordinal: usize,
    /// When it came.
    pub at: Timestamp,
    /// Method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// What the client was answered; none yet, or never.
    pub status: Option<StatusCode>,
    /// Whether the API server saw it.
    pub forwarded: bool,
}

impl Entry {
    /// Whether it asks for a change that lasts: not a review, not a dry run, not a lease.
    pub fn is_write(&self) -> bool {
        let path = self.path.split('?').next().unwrap_or_default();
        let writes = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE].contains(&self.method);
        let lasting =
            !path.contains("reviews") && !path.contains("/leases") && !self.path.contains("dryRun=All");
        writes && lasting
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status.map_or("-".to_owned(), |status| status.as_u16().to_string());
        write!(f, "{:>4} {} {status} {}", self.ordinal, self.method, self.path)
    }
}

/// How a connection is treated. A change of generation ends those that exist.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    cut: bool,
    hangs: bool,
    generation: u64,
}

struct State {
    upstream: Upstream,
    journal: Mutex<Vec<Entry>>,
    plan: Mutex<Plan>,
    line: watch::Sender<Line>,
}

/// The proxy. It ends when dropped.
pub struct FaultProxy {
    state: Arc<State>,
    kubeconfig: String,
    task: JoinHandle<()>,
}

impl fmt::Debug for FaultProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultProxy")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FaultProxy {
    /// A proxy before that plane's API server, which it calls as that user.
    pub async fn start(plane: &Plane, user: &str, groups: &[&str]) -> Self {
        Self::try_start(plane, user, groups).await.expect("a proxy")
    }

    async fn try_start(plane: &Plane, user: &str, groups: &[&str]) -> Result<Self> {
        let authority = &plane.ground().authority;
        let identity = authority.client(user, groups)?;
        let upstream = Upstream::new(plane.port(), &authority.certificate(), &identity)?;
        let acceptor = forward::acceptor(&authority.serving()?)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, super::ports::free())).await?;
        let server = format!("https://127.0.0.1:{}", listener.local_addr()?.port());
        let kubeconfig = authority.kubeconfig(&server, &identity);
        // Of the harness's runtime, which outlives the test's.
        let listener = listener.into_std()?;
        let (journal, plan, line) = (Mutex::default(), Mutex::default(), watch::Sender::default());
        let state = Arc::new(State { upstream, journal, plan, line });
        let serving = state.clone();
        let task = runtime::spawn(async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            loop {
                if let Ok((stream, _)) = listener.accept().await {
                    drop(runtime::spawn(connection(serving.clone(), acceptor.clone(), stream)));
                }
            }
        });
        Ok(Self { state, kubeconfig, task })
    }

    /// For the client that is to go through the proxy. Its certificate does not matter: the proxy calls as
    /// the user it was started with.
    pub fn kubeconfig(&self) -> &str {
        &self.kubeconfig
    }

    /// All requests so far.
    pub fn journal(&self) -> Vec<Entry> {
        lock(&self.state.journal).clone()
    }

    /// The writes so far.
    pub fn writes(&self) -> Vec<Entry> {
        self.journal().into_iter().filter(Entry::is_write).collect()
    }

    /// The journal as text, for messages.
    pub fn shown(&self) -> String {
        self.journal().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    /// Refuses new connections and ends those that exist: the API server is gone, for this client.
    pub fn cut(&self) {
        self.state.line.send_modify(|line| {
            let generation = line.generation + 1;
            *line = Line { cut: true, generation, ..*line };
        });
    }

    /// Connections stay open, new ones are taken, and nothing comes over any of them any more: a network that swallows
    /// all.
    pub fn hang(&self) {
        self.state.line.send_modify(|line| line.hangs = true);
    }

    /// Undoes [`FaultProxy::cut`].
    pub fn mend(&self) {
        self.state.line.send_modify(|line| line.cut = false);
    }

    /// At the n-th write from now on (1 is the next), does not forward it, and calls `strike`. See
    /// [`FaultProxy::kill_after_write`].
    pub fn kill_before_write(&self, n: usize, strike: impl FnOnce() + Send + 'static) -> Struck {
        self.trap(n, When::Before, strike)
    }

    /// At the n-th write from now on, forwards it, keeps the answer to itself, and calls `strike`, which is
    /// to kill the client. From that write on until `strike` has returned all requests are held; then all
    /// connections end, and the proxy serves whoever comes next.
    pub fn kill_after_write(&self, n: usize, strike: impl FnOnce() + Send + 'static) -> Struck {
        self.trap(n, When::After, strike)
    }

    fn trap(&self, n: usize, when: When, strike: impl FnOnce() + Send + 'static) -> Struck {
        let (tell, struck) = oneshot::channel();
        lock(&self.state.plan).set_trap(n, when, Box::new(strike), tell);
        Struck(struck)
    }

    /// Answers the next `times` requests that `matching` picks with that status and body; the API server does
    /// not see them. See [`status_body`].
    pub fn answer(
        &self,
        times: usize,
        status: u16,
        body: String,
        matching: impl Fn(&Entry) -> bool + Send + 'static,
    ) {
        lock(&self.state.plan).add_answer(times, status, body, false, Box::new(matching));
    }

    /// The same, but the API server sees the requests and does what they ask: the answers get lost.
    pub fn answer_instead(
        &self,
        times: usize,
        status: u16,
        body: String,
        matching: impl Fn(&Entry) -> bool + Send + 'static,
    ) {
        lock(&self.state.plan).add_answer(times, status, body, true, Box::new(matching));
    }

    /// From now on requests that `matching` picks reach the API server only after that time.
    pub fn delay(&self, by: std::time::Duration, matching: impl Fn(&Entry) -> bool + Send + 'static) {
        lock(&self.state.plan).add_delay(by, Box::new(matching));
    }

    /// How many of the requests to be answered have not come yet.
    pub fn unanswered(&self) -> usize {
        lock(&self.state.plan).answers_left()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

/// Tells when a trap has sprung and its `strike` has returned.
#[derive(Debug)]
pub struct Struck(oneshot::Receiver<Entry>);

impl Struck {
    /// The write at which it struck. Panics if it does not within `patience`.
    pub async fn within(self, patience: std::time::Duration) -> Entry {
        match tokio::time::timeout(patience, self.0).await {
            Ok(Ok(entry)) => entry,
            Ok(Err(gone)) => panic!("the trap was replaced or its proxy dropped: {gone}"),
            Err(late) => panic!("no such write within {patience:?}: {late}"),
        }
    }

    /// Waits until it has struck; for ever, if the trap is replaced or its proxy dropped before.
    pub async fn sprung(self) -> Entry {
        match self.0.await {
            Ok(entry) => entry,
            Err(_gone) => std::future::pending().await,
        }
    }

    /// Whether it has struck by now; for clients that may make fewer writes.
    pub fn already(&mut self) -> Option<Entry> {
        self.0.try_recv().ok()
    }
}

async fn connection(state: Arc<State>, acceptor: TlsAcceptor, stream: TcpStream) {
    let mut line = state.line.subscribe();
    let begun = *line.borrow_and_update();
    if begun.cut {
        return;
    }
    let mut hung = state.line.subscribe();
    let talk = async {
        let Ok(stream) = acceptor.accept(stream).await else { return };
        let upstream = forward::Link::default();
        let answer = service_fn(|request| forward::serve(state.clone(), upstream.clone(), request));
        let http = hyper::server::conn::http1::Builder::new();
        // Errors are how connections end here.
        let _ = http.serve_connection(TokioIo::new(stream), answer).await;
    };
    let mut talk = std::pin::pin!(talk);
    let ended = async {
        // The sender lives in the state.
        let _ = line.wait_for(|now| now.generation != begun.generation).await;
    };
    let mut ended = std::pin::pin!(ended);
    tokio::select! {
        biased;
        () = &mut ended => return,
        _ = hung.wait_for(|now| now.hangs) => {}
        () = &mut talk => return,
    }
    // Open, and nobody at the other end.
    ended.await;
}
