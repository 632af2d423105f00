//! Why an API server cannot be read, in words that stay the same while the cause does.
//!
//! The words land in conditions: no ports of the moment, no instants, no counters, or every attempt would be a change.

use std::{error::Error, fmt, io::ErrorKind, time::Duration};

use rustls::{AlertDescription, CertificateError};

use super::Backoff;

/// Longest text taken over from a server, in characters.
const LONGEST_QUOTE: usize = 300;
/// Of Kubernetes' own reasons none is half as long.
const LONGEST_REASON: usize = 60;

/// What kind of thing went wrong; decides who can mend it and how patiently to retry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Cause {
    /// No answer: refused, timed out, connection lost, name not found, TLS.
    Unreachable,
    /// HTTP 401, or the server refused our certificate in the handshake.
    Unauthorized,
    /// HTTP 403.
    Forbidden,
    /// HTTP 404: the collection is not served.
    Missing,
    /// Any other answer that is of no use.
    Refused,
}

impl Cause {
    /// Where the doubling of pauses ends.
    pub(crate) fn longest_pause(self) -> Duration {
        match self {
            Self::Unreachable | Self::Unauthorized | Self::Refused => Backoff::SHORT,
            Self::Forbidden | Self::Missing => Backoff::LONG,
        }
    }
}

/// Why a collection cannot be followed at the moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outage {
    /// What kind of thing it is.
    pub cause: Cause,
    /// The same in words, fit for a condition: stable while the cause is, without secrets.
    pub message: String,
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Outage {
    fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self { cause, message: message.into() }
    }

    /// The call was given up after its time limit.
    pub(crate) fn no_answer() -> Self {
        Self::new(Cause::Unreachable, "the API server did not answer in time")
    }

    /// More objects than are kept of one server.
    pub(crate) fn too_many(most: usize) -> Self {
        Self::new(
            Cause::Refused,
            format!("the API server has more than the {most} objects that are read of one"),
        )
    }

    /// A watch was accepted and ended before it brought anything.
    pub(crate) fn closed_at_once() -> Self {
        Self::new(Cause::Refused, "the API server accepts watches and closes them at once")
    }
}

impl From<&kube::Error> for Outage {
    fn from(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => match status.code {
                401 => Self::new(Cause::Unauthorized, "the API server does not accept the credentials (401)"),
                403 => Self::new(Cause::Forbidden, forbidden(&status.reason, &status.message)),
                404 => Self::new(Cause::Missing, "the API server does not serve this collection (404)"),
                code => {
                    let said = format!("the API server answered {code} {}", word(&status.reason));
                    Self::new(Cause::Refused, said.trim_end())
                }
            },
            kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => Self::new(
                Cause::Refused,
                "the answer is not one of an API server, or not of a version known here",
            ),
            error => transport(error),
        }
    }
}

/// In the words of an API server's Status. Whatever else answers 403 is not quoted: the reader of a condition may not be
/// meant to read it.
fn forbidden(reason: &str, message: &str) -> String {
    if reason == "Forbidden" && !message.is_empty() {
        message.chars().take(LONGEST_QUOTE).collect()
    } else {
        "the API server forbids it (403)".to_owned()
    }
}

/// A reason is one word; what is more is none of an API server's.
fn word(reason: &str) -> &str {
    let is_word = reason.len() <= LONGEST_REASON && reason.bytes().all(|byte| byte.is_ascii_alphabetic());
    if is_word { reason } else { "" }
}

/// The innermost error that says something, in our words: those of the libraries carry addresses and instants.
fn transport(error: &kube::Error) -> Outage {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    let mut found = None;
    while let Some(error) = next {
        found = words(error).or(found);
        // An io::Error hides what it wraps: its `source` is the wrapped error's source.
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    found.unwrap_or_else(|| Outage::new(Cause::Unreachable, "the connection to the API server failed"))
}

fn words(error: &(dyn Error + 'static)) -> Option<Outage> {
    if error.is::<tower::timeout::error::Elapsed>() || error.is::<tokio::time::error::Elapsed>() {
        return Some(Outage::no_answer());
    }
    if error.is::<http_body_util::LengthLimitError>() {
        let message = "the API server's answer is longer than what is read of one";
        return Some(Outage::new(Cause::Refused, message));
    }
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return Some(tls(error));
    }
    if let Some(error) = error.downcast_ref::<std::io::Error>() {
        let message = match error.kind() {
            // One server going down shows all of these within a second: one text, or the condition would flicker.
            ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::UnexpectedEof => "the API server refuses or drops the connection",
            ErrorKind::TimedOut => "the API server cannot be reached: connecting takes too long",
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
                "there is no route to the API server"
            }
            _ => return None,
        };
        return Some(Outage::new(Cause::Unreachable, message));
    }
    // hyper-util names this step by its text alone.
    error
        .to_string()
        .starts_with("dns error")
        .then(|| Outage::new(Cause::Unreachable, "the API server's host name cannot be resolved"))
}

fn tls(error: &rustls::Error) -> Outage {
    match error {
        rustls::Error::InvalidCertificate(problem) => {
            let problem = match problem {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired",
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    "is not valid yet"
                }
                CertificateError::UnknownIssuer => "is not signed by the certificate authority given",
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    "is for another host name"
                }
                CertificateError::Revoked => "has been revoked",
                _ => "is not acceptable",
            };
            Outage::new(Cause::Unreachable, format!("the API server's certificate {problem}"))
        }
        rustls::Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied,
        ) => {
            Outage::new(Cause::Unauthorized, "the API server refuses the client certificate in the handshake")
        }
        _ => Outage::new(Cause::Unreachable, "the TLS handshake with the API server failed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(error: impl Into<Box<dyn Error + Send + Sync>>) -> Outage {
        Outage::from(&kube::Error::Service(error.into()))
    }

    #[test]
    fn an_expired_certificate_is_named_without_its_instants() {
        let expired = rustls::Error::InvalidCertificate(CertificateError::ExpiredContext {
            time: rustls::pki_types::UnixTime::now(),
            not_after: rustls::pki_types::UnixTime::now(),
        });
        let outage = service(std::io::Error::new(ErrorKind::InvalidData, expired));
        assert_eq!(outage.message, "the API server's certificate has expired");
        assert_eq!(outage.cause, Cause::Unreachable);
    }

    #[test]
    fn a_refused_connection_is_told_without_its_address() {
        let outage = service(std::io::Error::from(ErrorKind::ConnectionRefused));
        assert_eq!(outage.message, "the API server refuses or drops the connection");
    }

    #[test]
    fn a_refused_client_certificate_counts_as_unauthorized() {
        let alert = rustls::Error::AlertReceived(AlertDescription::CertificateExpired);
        assert_eq!(service(std::io::Error::other(alert)).cause, Cause::Unauthorized);
    }

    #[test]
    fn only_an_api_servers_own_words_are_quoted() {
        let answered = |code: u16, reason: &str, message: &str| {
            let (reason, message) = (reason.to_owned(), message.to_owned());
            let status = kube::core::Status { code, reason, message, ..kube::core::Status::default() };
            Outage::from(&kube::Error::Api(status.boxed())).message
        };
        assert_eq!(answered(403, "Forbidden", "nodes is forbidden"), "nodes is forbidden");
        assert_eq!(answered(403, "Forbidden", &"x".repeat(1000)).len(), LONGEST_QUOTE);
        let plain = "the API server forbids it (403)";
        assert_eq!(answered(403, "Forbidden", ""), plain);
        assert_eq!(answered(403, "Failed to parse error data", "<html>the wiki's secrets"), plain);
        assert_eq!(
            answered(503, "ServiceUnavailable", "<html>"),
            "the API server answered 503 ServiceUnavailable"
        );
        assert_eq!(answered(500, "password: hunter2", ""), "the API server answered 500");
    }

    #[test]
    fn what_nobody_knows_is_still_an_outage() {
        assert_eq!(service("strange").message, "the connection to the API server failed");
    }
}
