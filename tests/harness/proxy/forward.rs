use std::net::Ipv4Addr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::plan::{Given, Sprung, Verdict, When};
use super::{Entry, State, lock};
use crate::harness::pki::Issued;
use crate::harness::{Result, Trouble, runtime};

type Body = BoxBody<Bytes, hyper::Error>;
/// The connection to the API server that belongs to a client's connection.
pub type Link = Arc<Mutex<Option<SendRequest<Body>>>>;

pub struct Upstream {
    port: u16,
    connector: TlsConnector,
}

fn identity(issued: &Issued) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let certificate = CertificateDer::from_pem_slice(issued.certificate.as_bytes())?;
    Ok((vec![certificate], PrivateKeyDer::from_pem_slice(issued.key.as_bytes())?))
}

pub fn acceptor(serving: &Issued) -> Result<TlsAcceptor> {
    let (certificates, key) = identity(serving)?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

impl Upstream {
    pub fn new(port: u16, authority: &str, client: &Issued) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.as_bytes())?)?;
        let (certificates, key) = identity(client)?;
        // No ALPN: both sides speak HTTP/1.1, whose connections the proxy can hold one by one.
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(certificates, key)?;
        Ok(Self { port, connector: TlsConnector::from(Arc::new(config)) })
    }

    async fn connect(&self) -> Result<SendRequest<Body>> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await?;
        let stream = self.connector.connect(ServerName::try_from("localhost")?, stream).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        drop(runtime::spawn(connection));
        Ok(sender)
    }
}

/// Does with one request as the plan says.
pub async fn serve(state: Arc<State>, link: Link, request: Request<Incoming>) -> Result<Response<Body>> {
    let entry = note(&state, &request);
    let ordinal = entry.ordinal;
    let verdict = lock(&state.plan).judge(&entry);
    let response = match verdict {
        Verdict::Pass => {
            forward(&state, &link, request.map(BodyExt::boxed), ordinal).await?.map(BodyExt::boxed)
        }
        Verdict::Delay(by) => {
            tokio::time::sleep(by).await;
            forward(&state, &link, request.map(BodyExt::boxed), ordinal).await?.map(BodyExt::boxed)
        }
        Verdict::Hold => std::future::pending().await,
        Verdict::Spring(sprung) => spring(state.clone(), link, request, entry, sprung).await,
        Verdict::Give(given) => give(&state, &link, request, ordinal, given).await?,
    };
    lock(&state.journal)[ordinal - 1].status = Some(response.status());
    Ok(response)
}

fn note(state: &State, request: &Request<Incoming>) -> Entry {
    let mut journal = lock(&state.journal);
    let path = request.uri().path_and_query().map_or_else(String::new, ToString::to_string);
    let (ordinal, method) = (journal.len() + 1, request.method().clone());
    let entry = Entry { ordinal, at: Timestamp::now(), method, path, status: None, forwarded: false };
    journal.push(entry.clone());
    entry
}

async fn forward(
    state: &State,
    link: &Link,
    mut request: Request<Body>,
    ordinal: usize,
) -> Result<Response<Incoming>> {
    let mut link = link.lock().await;
    let mut sender = match link.take() {
        Some(sender) if !sender.is_closed() => sender,
        _ => state.upstream.connect().await?,
    };
    sender.ready().await?;
    request.headers_mut().remove(header::CONNECTION);
    lock(&state.journal)[ordinal - 1].forwarded = true;
    let response = sender.send_request(request).await?;
    *link = Some(sender);
    Ok(response)
}

/// Strikes, and then waits until the connection is ended. The strike goes on without it: a client that gives the call up
/// ends the connection before it is struck, and everything would be held for ever.
async fn spring(
    state: Arc<State>,
    link: Link,
    request: Request<Incoming>,
    entry: Entry,
    sprung: Sprung,
) -> Response<Body> {
    drop(runtime::spawn(async move {
        if sprung.when == When::After
            && let Err(trouble) = deliver(&state, &link, request, entry.ordinal).await
        {
            super::super::say(&format!("struck at a write whose end is not known ({trouble}): {entry}"));
        }
        tokio::task::spawn_blocking(sprung.strike).await.expect("a strike that does not panic");
        let entry = lock(&state.journal)[entry.ordinal - 1].clone();
        lock(&state.plan).held = false;
        state.line.send_modify(|line| line.generation += 1);
        // Nobody may be waiting for it.
        let _ = sprung.tell.send(entry);
    }));
    std::future::pending().await
}

/// The write is done, and nobody hears of it.
async fn deliver(state: &State, link: &Link, request: Request<Incoming>, ordinal: usize) -> Result<()> {
    let (head, body) = request.into_parts();
    // All of it first: what is left of it goes with the client's connection.
    let body = body.collect().await?.to_bytes();
    let body = Full::new(body).map_err(|never| match never {}).boxed();
    forward(state, link, Request::from_parts(head, body), ordinal).await?.into_body().collect().await?;
    Ok(())
}

async fn give(
    state: &State,
    link: &Link,
    request: Request<Incoming>,
    ordinal: usize,
    given: Given,
) -> Result<Response<Body>> {
    if given.forward {
        forward(state, link, request.map(BodyExt::boxed), ordinal).await?.into_body().collect().await?;
    } else {
        // Read to its end, so that the connection can be used again.
        request.into_body().collect().await?;
    }
    Ok(answer(given.status, given.body))
}

fn answer(status: StatusCode, body: Bytes) -> Response<Body> {
    let body = Full::new(body).map_err(|never| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}
