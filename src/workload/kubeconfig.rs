//! What of a kubeconfig is accepted, and why the rest is not. Pure until [`Accepted::client`].
//!
//! A kubeconfig is a Secret's text that a tenant may write, read by a process with rights in the management cluster.
//! Whatever makes that process read a file, run a program, trust a server it cannot verify or speak as somebody else
//! is refused by name. Nothing is taken from this process's environment or files: kube's own loader would follow
//! `HTTPS_PROXY`, so the client's configuration is put together from the accepted fields alone.

use std::{collections::BTreeMap, fmt, time::Duration};

use crate::api::names::AGENT;
use crate::leadership::fence::FenceLayer;
use crate::telemetry::metrics::Calls;
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderValue, header::USER_AGENT};
use kube::{
    client::ClientBuilder,
    config::{AuthInfo, Config},
};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use serde::Deserialize;
use serde_json::Value;

use super::answer::{ANSWER_TIMEOUT, AnswerTimeout};
use super::bounds::BoundedLayer;

/// TCP and TLS handshake with the workload API server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a kubeconfig is not used: what is wrong with it and what to do. Never quotes a value.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KubeconfigFault {
    /// Not YAML, or not of a kubeconfig's form.
    #[error("it is not a kubeconfig: store the YAML that kubectl reads")]
    NotKubeconfig,
    /// Nothing says which context counts.
    #[error("current-context is missing: set it to the context to use")]
    NoCurrentContext,
    /// `current-context` names nothing.
    #[error("current-context names a context that is not there: correct the name")]
    DanglingContext,
    /// The context's cluster names nothing.
    #[error("the current context names a cluster that is not there: correct the name")]
    DanglingCluster,
    /// The context's user names nothing.
    #[error("the current context names a user that is not there: correct the name")]
    DanglingUser,
    /// Two entries of one list bear the name in use; clients differ in which of them they take.
    #[error("two entries bear the same name: remove one")]
    Ambiguous,
    /// A field that must be text is something else.
    #[error("{0} is not text: quote it")]
    NotText(&'static str),

    /// The cluster has no server.
    #[error("the cluster has no server: set it to an https URL")]
    NoServer,
    /// The server's URL cannot be used as one.
    #[error("server is not a plain https URL with a host: correct it")]
    ServerMalformed,
    /// The server is not https.
    #[error("server is not https: the credentials would travel in the clear; use the https URL")]
    NotHttps,
    /// Neither inline nor as a file. A public authority is no substitute: anybody can have its certificates.
    #[error("certificate-authority-data is missing: inline the cluster's CA certificate")]
    NoCertificateAuthority,
    /// The inline authority is not usable.
    #[error(
        "certificate-authority-data is not base64 of PEM certificates: inline the cluster's CA certificate"
    )]
    CertificateAuthorityMalformed,
    /// `certificate-authority`: a path on somebody's disk.
    #[error("certificate-authority names a file: inline it as certificate-authority-data")]
    CertificateAuthorityFile,
    /// `insecure-skip-tls-verify`.
    #[error("insecure-skip-tls-verify is refused: inline the CA as certificate-authority-data")]
    InsecureSkipTlsVerify,
    /// `proxy-url`.
    #[error("proxy-url is refused: name a server that is reachable without a proxy")]
    Proxy,
    /// `tls-server-name` is no host name.
    #[error("tls-server-name is not a host name or address: correct it")]
    TlsServerNameMalformed,
    /// A field of the cluster that is not known here.
    #[error("the cluster has an unknown field {0}: remove it")]
    UnknownClusterField(String),

    /// No credentials.
    #[error("the user has no credentials: inline client-certificate-data with client-key-data, or a token")]
    NoCredentials,
    /// A certificate and a token: who we would be is not decided.
    #[error("the user has a client certificate and a token: keep one")]
    TwoCredentials,
    /// `client-certificate-data` without its key, or the other way round.
    #[error("client-certificate-data and client-key-data come together: inline both")]
    HalfCertificate,
    /// Certificate or key cannot be decoded.
    #[error(
        "client-certificate-data and client-key-data are not base64 of a PEM certificate and key: renew them"
    )]
    CertificateMalformed,
    /// Certificate and key were read, but no TLS client can be made of them.
    #[error("the client certificate and key do not fit together or are of an unsupported kind: renew them")]
    CertificateUnusable,
    /// Not sendable as a header.
    #[error("token is not a bearer token: store it without spaces or line breaks inside")]
    TokenMalformed,
    /// `client-certificate`: a path on somebody's disk.
    #[error("client-certificate names a file: inline it as client-certificate-data")]
    ClientCertificateFile,
    /// `client-key`: a path on somebody's disk.
    #[error("client-key names a file: inline it as client-key-data")]
    ClientKeyFile,
    /// `tokenFile`: a path on somebody's disk, for instance this process's own token.
    #[error("tokenFile names a file: inline a token")]
    TokenFile,
    /// `exec`.
    #[error("exec is refused: no program is run to log in; inline a certificate or a token")]
    Exec,
    /// `auth-provider`.
    #[error("auth-provider is refused: inline a certificate or a token")]
    AuthProvider,
    /// `username`, `password`.
    #[error("username and password are refused: inline a certificate or a token")]
    BasicAuth,
    /// `as`, `as-uid`, `as-groups`, `as-user-extra`.
    #[error("{0} is refused: give credentials of the user itself instead of impersonating")]
    Impersonation(&'static str),
    /// A field of the user that is not known here.
    #[error("the user has an unknown field {0}: remove it")]
    UnknownUserField(String),
}

/// A kubeconfig's current context, reduced to what is used. Its `Debug` shows no credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Accepted {
    server: http::Uri,
    /// DER.
    authorities: Vec<Vec<u8>>,
    /// The name to verify the server's certificate against, where it is not the URL's host. Harmless beside an
    /// inline CA, and needed where the API server is reached through another address.
    server_name: Option<String>,
    identity: Identity,
}

#[derive(Clone, PartialEq, Eq)]
enum Identity {
    /// Both base64 of PEM.
    Certificate {
        certificate: String,
        key: String,
    },
    Token(String),
}

impl fmt::Debug for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accepted").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Accepted {
    /// The API server's URL. No secret: what is one may not be part of it.
    pub fn server(&self) -> &http::Uri {
        &self.server
    }

    /// True if both lead to the same API server, trusted for the same reason: whatever else differs is a rotation.
    pub fn is_same_cluster(&self, other: &Self) -> bool {
        self.server == other.server
            && self.authorities == other.authorities
            && self.server_name == other.server_name
    }

    /// A client of its own: no retries, no proxy, connecting within 5 s, answers begun within 10 s (those of writes within
    /// 45 s), and no write that no claim covers.
    ///
    /// Its calls are counted in `calls`. Bodies are bounded in size (64 MiB, watches excepted) and not in time; callers
    /// bound their calls. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`KubeconfigFault::CertificateUnusable`] if TLS cannot work with what was accepted.
    pub fn client(&self, calls: &Calls) -> Result<kube::Client, KubeconfigFault> {
        let builder =
            ClientBuilder::try_from(self.config()).map_err(|_| KubeconfigFault::CertificateUnusable)?;
        let bounded = builder.with_layer(&BoundedLayer::default());
        Ok(bounded.with_layer(&AnswerTimeout).with_layer(calls).with_layer(&FenceLayer).build())
    }

    fn config(&self) -> Config {
        let mut config = Config::new(self.server.clone());
        config.root_cert = Some(self.authorities.clone());
        config.tls_server_name.clone_from(&self.server_name);
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.write_timeout = Some(ANSWER_TIMEOUT);
        config.default_retry = false;
        config.headers.push((USER_AGENT, HeaderValue::from_static(AGENT)));
        config.auth_info = match &self.identity {
            Identity::Certificate { certificate, key } => AuthInfo {
                client_certificate_data: Some(certificate.clone()),
                client_key_data: Some(key.clone().into()),
                ..AuthInfo::default()
            },
            Identity::Token(token) => AuthInfo { token: Some(token.clone().into()), ..AuthInfo::default() },
        };
        config
    }
}

#[derive(Deserialize)]
struct File {
    #[serde(rename = "current-context")]
    current_context: Option<String>,
    contexts: Option<Vec<Entry>>,
    clusters: Option<Vec<Entry>>,
    users: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    #[serde(rename = "context", alias = "cluster", alias = "user")]
    stanza: Option<Stanza>,
}

type Stanza = BTreeMap<String, Value>;

/// Reads the current context of a kubeconfig.
///
/// # Errors
/// The first [`KubeconfigFault`] found, in the order context, cluster, user.
pub fn parse(text: &str) -> Result<Accepted, KubeconfigFault> {
    // The parser's own words quote the text, so they go no further.
    let file: File = serde_saphyr::from_str(text).map_err(|_| KubeconfigFault::NotKubeconfig)?;
    let current =
        file.current_context.filter(|name| !name.is_empty()).ok_or(KubeconfigFault::NoCurrentContext)?;
    let context = entry(file.contexts, &current, KubeconfigFault::DanglingContext)?;
    let cluster = text_of(&context, "cluster")?.ok_or(KubeconfigFault::DanglingCluster)?;
    let cluster = entry(file.clusters, cluster, KubeconfigFault::DanglingCluster)?;
    let user = text_of(&context, "user")?.ok_or(KubeconfigFault::DanglingUser)?;
    let user = entry(file.users, user, KubeconfigFault::DanglingUser)?;

    refuse_cluster_fields(&cluster)?;
    let server = server(&cluster)?;
    let authorities = authorities(&cluster)?;
    let server_name = server_name(&cluster)?;
    refuse_user_fields(&user)?;
    Ok(Accepted { server, authorities, server_name, identity: identity(&user)? })
}

fn entry(list: Option<Vec<Entry>>, name: &str, missing: KubeconfigFault) -> Result<Stanza, KubeconfigFault> {
    let mut named = list.unwrap_or_default().into_iter().filter(|entry| entry.name == name);
    let stanza = named.next().and_then(|entry| entry.stanza).ok_or(missing)?;
    if named.next().is_some() {
        return Err(KubeconfigFault::Ambiguous);
    }
    Ok(stanza)
}

/// Empty values count as absent, as they do for kubectl: generators write them.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(_) => true,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

fn text_of<'a>(stanza: &'a Stanza, field: &'static str) -> Result<Option<&'a str>, KubeconfigFault> {
    match stanza.get(field).filter(|value| is_set(value)) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(KubeconfigFault::NotText(field)),
    }
}

fn refuse_cluster_fields(cluster: &Stanza) -> Result<(), KubeconfigFault> {
    for (field, _) in cluster.iter().filter(|(_, value)| is_set(value)) {
        match field.as_str() {
            // Compression is off in this client anyway; extensions are other programs' notes.
            "server"
            | "certificate-authority-data"
            | "tls-server-name"
            | "disable-compression"
            | "extensions" => {}
            "certificate-authority" => return Err(KubeconfigFault::CertificateAuthorityFile),
            "insecure-skip-tls-verify" => return Err(KubeconfigFault::InsecureSkipTlsVerify),
            "proxy-url" => return Err(KubeconfigFault::Proxy),
            unknown => return Err(KubeconfigFault::UnknownClusterField(field_name(unknown))),
        }
    }
    Ok(())
}

fn refuse_user_fields(user: &Stanza) -> Result<(), KubeconfigFault> {
    for (field, _) in user.iter().filter(|(_, value)| is_set(value)) {
        return Err(match field.as_str() {
            "client-certificate-data" | "client-key-data" | "token" | "extensions" => continue,
            "client-certificate" => KubeconfigFault::ClientCertificateFile,
            "client-key" => KubeconfigFault::ClientKeyFile,
            "tokenFile" => KubeconfigFault::TokenFile,
            "exec" => KubeconfigFault::Exec,
            "auth-provider" => KubeconfigFault::AuthProvider,
            "username" | "password" => KubeconfigFault::BasicAuth,
            "as" => KubeconfigFault::Impersonation("as"),
            "as-uid" => KubeconfigFault::Impersonation("as-uid"),
            "as-groups" => KubeconfigFault::Impersonation("as-groups"),
            "as-user-extra" => KubeconfigFault::Impersonation("as-user-extra"),
            unknown => KubeconfigFault::UnknownUserField(field_name(unknown)),
        });
    }
    Ok(())
}

/// A field's name, if it looks like one: in a mangled file a credential may stand where a name belongs.
fn field_name(name: &str) -> String {
    let plain = name.len() <= 40 && name.chars().all(|letter| letter.is_ascii_alphabetic() || letter == '-');
    if plain { name.to_owned() } else { "that cannot be shown".to_owned() }
}

fn server(cluster: &Stanza) -> Result<http::Uri, KubeconfigFault> {
    let text = text_of(cluster, "server")?.ok_or(KubeconfigFault::NoServer)?;
    let server: http::Uri = text.parse().map_err(|_| KubeconfigFault::ServerMalformed)?;
    match server.scheme_str() {
        Some("https") => {}
        Some(_) => return Err(KubeconfigFault::NotHttps),
        None => return Err(KubeconfigFault::ServerMalformed),
    }
    let names_user = server.authority().is_some_and(|authority| authority.as_str().contains('@'));
    if names_user || server.query().is_some() || server.host().is_none_or(str::is_empty) {
        return Err(KubeconfigFault::ServerMalformed);
    }
    Ok(server)
}

fn authorities(cluster: &Stanza) -> Result<Vec<Vec<u8>>, KubeconfigFault> {
    let data =
        text_of(cluster, "certificate-authority-data")?.ok_or(KubeconfigFault::NoCertificateAuthority)?;
    let pem = decode(data).ok_or(KubeconfigFault::CertificateAuthorityMalformed)?;
    let mut usable = RootCertStore::empty();
    let mut authorities = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|_| KubeconfigFault::CertificateAuthorityMalformed)?;
        authorities.push(certificate.as_ref().to_vec());
        usable.add(certificate).map_err(|_| KubeconfigFault::CertificateAuthorityMalformed)?;
    }
    if authorities.is_empty() {
        return Err(KubeconfigFault::CertificateAuthorityMalformed);
    }
    Ok(authorities)
}

fn server_name(cluster: &Stanza) -> Result<Option<String>, KubeconfigFault> {
    let Some(name) = text_of(cluster, "tls-server-name")? else { return Ok(None) };
    ServerName::try_from(name).map_err(|_| KubeconfigFault::TlsServerNameMalformed)?;
    Ok(Some(name.to_owned()))
}

fn identity(user: &Stanza) -> Result<Identity, KubeconfigFault> {
    let certificate = text_of(user, "client-certificate-data")?;
    let key = text_of(user, "client-key-data")?;
    match (certificate, key, text_of(user, "token")?) {
        (None, None, None) => Err(KubeconfigFault::NoCredentials),
        (None, None, Some(token)) => {
            let token = token.trim();
            if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(KubeconfigFault::TokenMalformed);
            }
            Ok(Identity::Token(token.to_owned()))
        }
        (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => Err(KubeconfigFault::TwoCredentials),
        (Some(certificate), Some(key), None) => certificate_identity(certificate, key),
        (Some(_), None, None) | (None, Some(_), None) => Err(KubeconfigFault::HalfCertificate),
    }
}

fn certificate_identity(certificate: &str, key: &str) -> Result<Identity, KubeconfigFault> {
    let decoded = decode(certificate).zip(decode(key));
    let (certificate, mut key) = decoded.ok_or(KubeconfigFault::CertificateMalformed)?;
    CertificateDer::from_pem_slice(&certificate).map_err(|_| KubeconfigFault::CertificateMalformed)?;
    PrivateKeyDer::from_pem_slice(&key).map_err(|_| KubeconfigFault::CertificateMalformed)?;
    // kube joins the two, key first, without a line break between them.
    key.push(b'\n');
    Ok(Identity::Certificate { certificate: STANDARD.encode(certificate), key: STANDARD.encode(key) })
}

/// Base64 as Go reads it: line breaks inside do not matter.
fn decode(data: &str) -> Option<Vec<u8>> {
    let packed: String = data.split_ascii_whitespace().collect();
    STANDARD.decode(packed).ok()
}

#[cfg(test)]
mod tests;
