//! Ports for the components.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the ranges from which Linux (32768-60999) and macOS (49152-65535) give ports to outgoing
/// connections. From within them a client that keeps dialling a server that is down can be given the very
/// port it dials: it then talks to itself, and the server cannot come back.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A port of the loopback interface that was free a moment ago. Whoever binds it must be ready to lose the
/// race: see [`super::process::Component::lost_its_port`].
pub fn free() -> u16 {
    // Test binaries run side by side: each walks from a place of its own.
    let start = u16::try_from(u64::from(std::process::id()).wrapping_mul(7919) % u64::from(COUNT)).unwrap();
    loop {
        let port = FIRST + (start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed))) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Whether somebody listens there.
pub async fn open(port: u16) -> bool {
    tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok()
}
