//! The sockets: one for both families of addresses, or IPv4 alone where the system has no other.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::num::NonZeroU16;

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// What a port is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// `/metrics`.
    Metrics,
    /// `/healthz`, `/readyz`, `/health/status`.
    Health,
}

impl Purpose {
    /// Flag and variable that choose the port.
    const fn setting(self) -> (&'static str, &'static str) {
        match self {
            Self::Metrics => ("metrics-port", "METRICS_PORT"),
            Self::Health => ("health-port", "HEALTH_PORT"),
        }
    }
}

/// A port that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("port {port} cannot be listened on: {source}; choose another with --{} or {}", purpose.setting().0, purpose.setting().1)]
pub struct BindError {
    port: NonZeroU16,
    purpose: Purpose,
    source: io::Error,
}

/// A port that is ours. What comes in waits until it is served.
#[derive(Debug)]
pub struct Port(pub(super) TcpListener);

impl Port {
    /// Takes the port on every address of this host.
    ///
    /// # Errors
    /// When somebody else has it, or it may not be had.
    pub fn bind(port: NonZeroU16, purpose: Purpose) -> Result<Self, BindError> {
        let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port.get()));
        let listener = match listen(both) {
            Err(error) if has_no_ipv6(&error) => listen((Ipv4Addr::UNSPECIFIED, port.get()).into()),
            listener => listener,
        };
        listener.map(Self).map_err(|source| BindError { port, purpose, source })
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // A process that was here a moment ago leaves connections behind that wait out their time.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Switched off in the kernel: no such family, or no such address.
fn has_no_ipv6(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.kind() == io::ErrorKind::Unsupported
        || error.raw_os_error() == Some(nix::errno::Errno::EAFNOSUPPORT as i32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys;

    #[test]
    fn a_port_that_is_taken_is_told_with_its_flag_and_its_variable() {
        let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = NonZeroU16::new(taken.local_addr().unwrap().port()).unwrap();
        let told = Port::bind(port, Purpose::Health).unwrap_err().to_string();
        assert!(
            told.starts_with(&format!("port {port} cannot be listened on: Address already in use")),
            "{told}"
        );
        assert!(told.ends_with("choose another with --health-port or HEALTH_PORT"), "{told}");
    }

    #[test]
    fn the_settings_are_those_of_the_configuration() {
        for purpose in [Purpose::Metrics, Purpose::Health] {
            let (flag, variable) = purpose.setting();
            for keys in [&keys::CONTROLLER[..], &keys::AGENT] {
                assert!(keys.iter().any(|key| key.name == flag && key.variable == variable), "{flag}");
            }
        }
    }

    #[test]
    fn only_a_missing_family_falls_back() {
        let of = |errno: nix::errno::Errno| io::Error::from_raw_os_error(errno as i32);
        assert!(has_no_ipv6(&of(nix::errno::Errno::EAFNOSUPPORT)));
        assert!(has_no_ipv6(&of(nix::errno::Errno::EADDRNOTAVAIL)));
        assert!(!has_no_ipv6(&of(nix::errno::Errno::EADDRINUSE)));
        assert!(!has_no_ipv6(&of(nix::errno::Errno::EACCES)));
    }
}
