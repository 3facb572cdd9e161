//! Sending frames as they are, without losing one silently.

use std::io::{self, ErrorKind};
use std::thread::{sleep, yield_now};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::lab::Lab;
use crate::namespace::Namespace;
use crate::socket::{BATCH, PacketSocket, Purpose};

/// How long an interface may refuse every frame before sending fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// What became of the frames of one `Sender`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendReport {
    /// Frames that the interface took.
    pub sent: u64,
    /// How many times it was full, and sending was tried again.
    pub retries: u64,
}

/// A raw socket that sends on one interface. A full interface (a veth whose peer has XDP holds 256
/// frames) is tried again, for ten seconds.
#[derive(Debug)]
pub struct Sender {
    socket: PacketSocket,
    interface: String,
    report: SendReport,
}

impl Sender {
    /// Opens it in the namespace of the calling thread.
    pub fn open(interface: &str) -> Result<Self> {
        let socket = PacketSocket::open(interface, Purpose::Send)?;
        Ok(Self { socket, interface: interface.into(), report: SendReport::default() })
    }

    /// Opens it in a lab's namespace.
    pub fn open_in(lab: &Lab, namespace: Namespace, interface: &str) -> Result<Self> {
        lab.enter(namespace, || Self::open(interface))?
    }

    /// Sends past the queueing discipline from now on: faster, without its queue.
    pub fn bypass_qdisc(self) -> Result<Self> {
        self.socket.bypass_qdisc()?;
        Ok(self)
    }

    /// Sends all frames in order. An error names the first frame that the interface refused for
    /// another reason than being full; those before it have been sent.
    pub fn send(&mut self, frames: &[impl AsRef<[u8]>]) -> Result<()> {
        let mut done = 0;
        while let Some(rest) = frames.get(done..).filter(|rest| !rest.is_empty()) {
            let sent = self.send_some(rest).with_context(|| {
                let length = rest[0].as_ref().len();
                format!("frame {done} of {} ({length} bytes) on {}", frames.len(), self.interface)
            })?;
            done += sent;
        }
        Ok(())
    }

    /// What has been sent so far.
    pub fn report(&self) -> SendReport {
        self.report
    }

    fn send_some(&mut self, frames: &[impl AsRef<[u8]>]) -> Result<usize> {
        let batch = &frames[..frames.len().min(BATCH)];
        let started = Instant::now();
        for attempt in 0_u32.. {
            match self.socket.send(batch) {
                Ok(sent) => {
                    self.report.sent += sent as u64;
                    return Ok(sent);
                }
                Err(error) if is_full(&error) => self.report.retries += 1,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("cannot send"),
            }
            if started.elapsed() > PATIENCE {
                break;
            }
            // The receiver may need this CPU to empty its ring.
            if attempt < 32 { yield_now() } else { sleep(Duration::from_micros(50)) }
        }
        bail!("the interface has been full for {PATIENCE:?}")
    }
}

/// Sends frames on an interface of the lab.
pub fn send_frames(
    lab: &Lab,
    namespace: Namespace,
    interface: &str,
    frames: &[impl AsRef<[u8]>],
) -> Result<SendReport> {
    let mut sender = Sender::open_in(lab, namespace, interface)?;
    sender.send(frames)?;
    Ok(sender.report())
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::EAGAIN))
}
