//! A line to a server that can go dead without closing: what a broken route or a frozen host looks like from here.

use std::io::ErrorKind;
use std::net::Ipv4Addr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::runtime;

/// Passes bytes on to a port of this machine. It ends when dropped.
#[derive(Debug)]
pub struct Tunnel {
    port: u16,
    dark: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Tunnel {
    /// A tunnel to that port.
    pub async fn start(to: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let listener = listener.into_std().expect("a listener");
        let dark = watch::Sender::new(false);
        let state = dark.clone();
        // On the harness's runtime, which outlives the test's.
        let task = runtime::spawn(async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            loop {
                if let Ok((stream, _)) = listener.accept().await {
                    drop(runtime::spawn(carry(stream, to, state.clone())));
                }
            }
        });
        Self { port, dark, task }
    }

    /// Its address, for a kubeconfig.
    pub fn server(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// From now on connections are accepted and nothing is passed on; those that exist stay open, and silent.
    pub fn go_dark(&self) {
        self.dark.send_replace(true);
    }

    /// Undoes [`Tunnel::go_dark`].
    pub fn mend(&self) {
        self.dark.send_replace(false);
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(near: TcpStream, to: u16, dark: watch::Sender<bool>) {
    lit(&dark).await;
    let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await else { return };
    // Either end's end is the other's: nobody here speaks on after having closed.
    tokio::select! {
        () = pass(&near, &far, &dark) => {}
        () = pass(&far, &near, &dark) => {}
    }
}

async fn lit(dark: &watch::Sender<bool>) {
    // The sender is ours.
    let _ = dark.subscribe().wait_for(|dark| !dark).await;
}

async fn pass(from: &TcpStream, to: &TcpStream, dark: &watch::Sender<bool>) {
    let mut bytes = vec![0; 16 * 1024];
    while from.readable().await.is_ok() {
        let count = match from.try_read(&mut bytes) {
            Ok(0) => return,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(_) => return,
        };
        lit(dark).await;
        let mut rest = &bytes[..count];
        while !rest.is_empty() {
            if to.writable().await.is_err() {
                return;
            }
            match to.try_write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }
}
