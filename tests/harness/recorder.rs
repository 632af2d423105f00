//! A server that answers nothing of use and remembers everything that it is sent: what a tenant could set up.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::pki::Authority;
use super::proxy::acceptor;
use super::runtime;

/// An https server with a certificate of its own authority. It ends when dropped.
#[derive(Debug)]
pub struct Recorder {
    port: u16,
    authority: Authority,
    heads: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Recorder {
    /// Answers every request with 302 to `location` and the same path, or with 404.
    pub async fn start(location: Option<String>) -> Self {
        let authority = Authority::new("recorder").expect("an authority");
        let tls = acceptor(&authority.serving().expect("a certificate")).expect("TLS");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let listener = listener.into_std().expect("a listener");
        let (heads, connections) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicUsize>::default());
        let (noted, counted) = (heads.clone(), connections.clone());
        let task = runtime::spawn(async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                counted.fetch_add(1, Ordering::SeqCst);
                let (tls, heads, location) = (tls.clone(), noted.clone(), location.clone());
                drop(runtime::spawn(async move {
                    let Ok(stream) = tls.accept(stream).await else { return };
                    let answer = service_fn(|request: Request<Incoming>| {
                        let response = answer(&heads, location.as_deref(), &request);
                        async { Ok::<_, Infallible>(response) }
                    });
                    let http = hyper::server::conn::http1::Builder::new();
                    // Errors are how connections end here.
                    let _ = http.serve_connection(TokioIo::new(stream), answer).await;
                }));
            }
        });
        Self { port, authority, heads, connections, task }
    }

    /// Its address.
    pub fn server(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The certificate to trust it by, PEM.
    pub fn certificate(&self) -> String {
        self.authority.certificate()
    }

    /// Every request so far, its headers included.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many connections were opened so far, with or without a request.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn answer(
    heads: &Mutex<Vec<String>>,
    location: Option<&str>,
    request: &Request<Incoming>,
) -> Response<Full<Bytes>> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let head = format!("{} {path} {:?}", request.method(), request.headers());
    heads.lock().unwrap_or_else(PoisonError::into_inner).push(head);
    let mut response = Response::new(Full::new(Bytes::from_static(b"{}")));
    match location {
        Some(location) => {
            *response.status_mut() = StatusCode::FOUND;
            let target = format!("{location}{path}").parse().expect("a header");
            response.headers_mut().insert(header::LOCATION, target);
        }
        None => *response.status_mut() = StatusCode::NOT_FOUND,
    }
    response
}
