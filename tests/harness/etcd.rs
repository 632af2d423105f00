//! One etcd for both API servers.

use std::path::Path;
use std::time::Duration;

use super::Result;
use super::binaries::Binaries;
use super::ports;
use super::process::{Component, Spec, start_ready};

/// Starts it; its address.
pub async fn start(dir: &Path, binaries: &Binaries) -> Result<(Component, String)> {
    let spec = || {
        let (client, peer) = (ports::free(), ports::free());
        let (client_url, peer_url) =
            (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        let args = vec![
            format!("--data-dir={}", dir.join("etcd").display()),
            format!("--listen-client-urls={client_url}"),
            format!("--advertise-client-urls={client_url}"),
            format!("--listen-peer-urls={peer_url}"),
            format!("--initial-advertise-peer-urls={peer_url}"),
            format!("--initial-cluster=default={peer_url}"),
            // The data ends with the test.
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
        ];
        let (name, program) = ("etcd".to_owned(), binaries.etcd.clone());
        (Spec { name, program, args, env: Vec::new() }, client)
    };
    let (etcd, port) = start_ready(dir, Duration::from_secs(180), spec, ports::open).await?;
    Ok((etcd, format!("http://127.0.0.1:{port}")))
}
