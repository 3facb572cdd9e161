//! The application behind the NAT rule: a plain UDP server in the target namespace.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Result;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBufForce;

use super::scenes::{APPLICATION_PORT, record};
use crate::lab::{Lab, TAP};

/// Bytes of datagrams that may wait for the application.
const RECEIVE_BUFFER: usize = 16 << 20;

/// A running application. It counts the datagrams that came in the right order.
pub struct Application {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    received: AtomicU64,
    stopping: AtomicBool,
}

impl Application {
    /// Starts it.
    pub fn start(lab: &Lab) -> Result<Self> {
        let socket =
            lab.enter(TAP.namespace, || UdpSocket::bind((TAP.ipv4, APPLICATION_PORT)))??;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        setsockopt(&socket, RcvBufForce, &RECEIVE_BUFFER)?;
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("lab-application".into())
            .spawn(move || serve(&socket, &theirs))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Datagrams that came in order, without a gap.
    pub fn received(&self) -> u64 {
        self.shared.received.load(Ordering::Relaxed)
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(socket: &UdpSocket, shared: &Shared) {
    let mut buffer = [0; 256];
    while !shared.stopping.load(Ordering::Relaxed) {
        let Ok((length, _)) = socket.recv_from(&mut buffer) else { continue };
        let next = record(shared.received.load(Ordering::Relaxed) as usize);
        if buffer[..length] == *next.as_bytes() {
            shared.received.fetch_add(1, Ordering::Relaxed);
        }
    }
}
