//! The HTTP server for metrics and health: `GET` and `HEAD`, a handful of paths, and bounds on everything.
//!
//! It has a thread and a runtime of its own, so that it can say that the others are stuck. Whoever floods it loses to the
//! next caller: of too many connections the oldest is closed, so that a probe always finds a place.

mod site;
mod socket;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

pub use self::site::{health_site, metrics_site};
pub use self::socket::{BindError, Port, Purpose};

/// Connections at one time to one port.
const MOST_CONNECTIONS: usize = 64;
/// For the head of a request, and between two on one connection.
const HEAD: Duration = Duration::from_secs(5);
/// A connection, however slowly its other end reads.
const CONNECTION: Duration = Duration::from_secs(60);
/// Bytes of the head of a request.
const MOST_BYTES: usize = 16 << 10;
/// Lines of the head of a request.
const MOST_HEADERS: usize = 64;
/// After a connection could not be accepted: no descriptors are left, say.
const BREATH: Duration = Duration::from_millis(100);

/// What one path shows.
#[derive(Clone, Debug)]
pub struct Page {
    /// Of the answer.
    pub status: StatusCode,
    /// Of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

impl Page {
    /// Plain text.
    pub fn text(status: StatusCode, body: impl Into<String>) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: body.into() }
    }
}

/// What a port shows, by path; `None`: nothing.
pub type Site = Arc<dyn Fn(&str) -> Option<Page> + Send + Sync>;

/// Serves each port until the process ends. What is returned ends only if the server does, which it should not.
///
/// # Errors
/// When there can be no thread or runtime for it.
pub fn serve(ports: Vec<(Port, Site)>) -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listeners: Vec<(TcpListener, Site)> = {
        let _inside = runtime.enter();
        let taken = ports.into_iter().map(|(port, site)| Ok((TcpListener::from_std(port.0)?, site)));
        taken.collect::<io::Result<_>>()?
    };
    let (running, ended) = oneshot::channel::<()>();
    thread::Builder::new().name("http".to_owned()).spawn(move || {
        let _running = running;
        let mut tasks = JoinSet::new();
        for (listener, site) in listeners {
            tasks.spawn_on(accept(listener, site), runtime.handle());
        }
        runtime.block_on(async { tasks.join_next().await });
    })?;
    Ok(async {
        // Only ever an error: the other end was dropped with its thread.
        let _ = ended.await;
    })
}

async fn accept(listener: TcpListener, site: Site) {
    let mut connections = JoinSet::new();
    let mut oldest_first: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _from)) => stream,
                Err(error) => {
                    tracing::debug!(%error, "connection not accepted");
                    sleep(BREATH).await;
                    continue;
                }
            },
            Some(_ended) = connections.join_next() => continue,
        };
        oldest_first.retain(|connection| !connection.is_finished());
        if oldest_first.len() >= MOST_CONNECTIONS
            && let Some(oldest) = oldest_first.pop_front()
        {
            oldest.abort();
        }
        oldest_first.push_back(connections.spawn(converse(stream, site.clone())));
    }
}

async fn converse(stream: TcpStream, site: Site) {
    let service = service_fn(move |request| {
        let response = answer(&request, &site);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD);
    server.max_buf_size(MOST_BYTES).max_headers(MOST_HEADERS);
    // Whatever it was, the other end knows.
    let _ = timeout(CONNECTION, server.serve_connection(TokioIo::new(stream), service)).await;
}

/// The body of a request is not read.
fn answer<B>(request: &Request<B>, site: &Site) -> Response<Full<Bytes>> {
    let Some(page) = site(request.uri().path()) else {
        return response(Page::text(StatusCode::NOT_FOUND, "not found\n"));
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = response(Page::text(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD\n"));
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    response(page)
}

fn response(page: Page) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(page.body)));
    *response.status_mut() = page.status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(page.content_type));
    response
}
