//! Capturing whole frames on an interface.

use std::io::ErrorKind;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::lab::Lab;
use crate::namespace::Namespace;
use crate::packet::is_noise;
use crate::socket::{PacketSocket, Purpose, ReceiveBatch, Received};

const RECEIVE_BUFFER: libc::c_int = 256 << 20;

/// A captured frame, as it was on the wire: a VLAN tag that the kernel took out is back in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// From the Ethernet header on.
    pub bytes: Vec<u8>,
    /// Since 1970.
    pub timestamp: Duration,
    /// Whether the interface sent it.
    pub outgoing: bool,
}

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Deref for Frame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// What a capture keeps beside the frames that the interface receives.
#[derive(Clone, Copy, Debug, Default)]
pub struct CaptureOptions {
    /// Keep frames that the interface sends.
    pub outgoing: bool,
    /// Leave out the kernel's neighbour resolution and group membership (`packet::is_noise`).
    pub skip_noise: bool,
}

/// The result of a capture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    /// The frames in order of arrival.
    pub frames: Vec<Frame>,
    /// Frames that the kernel dropped because the capture did not keep up.
    pub kernel_drops: u64,
}

/// A running capture. It sees what the kernel's stack sees: frames that an XDP program drops or
/// redirects never get here.
pub struct Capture {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<u64>>>,
    label: String,
}

#[derive(Default)]
struct Shared {
    frames: Mutex<Vec<Frame>>,
    arrived: Condvar,
    stopping: AtomicBool,
}

impl Shared {
    fn frames(&self) -> MutexGuard<'_, Vec<Frame>> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Capture {
    /// Starts capturing what an interface receives.
    pub fn start(lab: &Lab, namespace: Namespace, interface: &str) -> Result<Self> {
        Self::start_with(lab, namespace, interface, CaptureOptions::default())
    }

    /// Starts capturing.
    pub fn start_with(
        lab: &Lab,
        namespace: Namespace,
        interface: &str,
        options: CaptureOptions,
    ) -> Result<Self> {
        let socket = lab.enter(namespace, || PacketSocket::open(interface, Purpose::Receive))??;
        socket.receive_buffer(RECEIVE_BUFFER)?;
        if !options.outgoing {
            socket.ignore_outgoing()?;
        }
        let shared = Arc::new(Shared::default());
        let label = format!("{}/{interface}", namespace.name());
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("lab-capture".into())
            .spawn(move || collect(&socket, &theirs, options.skip_noise))?;
        Ok(Self { shared, thread: Some(thread), label })
    }

    /// A copy of what has been captured so far.
    pub fn frames(&self) -> Vec<Frame> {
        self.shared.frames().clone()
    }

    /// Waits until `count` frames have arrived, and returns a copy of all there are by then.
    pub fn wait_for(&self, count: usize, timeout: Duration) -> Result<Vec<Frame>> {
        self.wait_until(|frames| frames.len() >= count, timeout).with_context(|| {
            format!("waiting for {count} frames on {}, {} came", self.label, self.frames().len())
        })
    }

    /// Waits until the frames captured so far satisfy a condition, and returns a copy of them.
    pub fn wait_until(
        &self,
        condition: impl Fn(&[Frame]) -> bool,
        timeout: Duration,
    ) -> Result<Vec<Frame>> {
        let deadline = Instant::now() + timeout;
        let mut frames = self.shared.frames();
        while !condition(&frames) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("{timeout:?} passed, {} frames came on {}", frames.len(), self.label);
            }
            let waited = self.shared.arrived.wait_timeout(frames, left);
            frames = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(frames.clone())
    }

    /// Waits for a frame that satisfies a condition, and takes it and all before it out of the
    /// capture.
    pub fn take_until(
        &self,
        is_last: impl Fn(&Frame) -> bool,
        timeout: Duration,
    ) -> Result<Vec<Frame>> {
        let deadline = Instant::now() + timeout;
        let mut frames = self.shared.frames();
        let mut looked_at = 0;
        loop {
            if let Some(found) = frames[looked_at..].iter().position(&is_last) {
                let rest = frames.split_off(looked_at + found + 1);
                return Ok(std::mem::replace(&mut *frames, rest));
            }
            looked_at = frames.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("{timeout:?} passed, {looked_at} frames came on {}", self.label);
            }
            let waited = self.shared.arrived.wait_timeout(frames, left);
            frames = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Ends the capture, with everything that had arrived by now. An error if frames were lost:
    /// such a capture proves nothing.
    pub fn stop(self) -> Result<Vec<Frame>> {
        let label = self.label.clone();
        let captured = self.finish()?;
        let drops = captured.kernel_drops;
        ensure!(drops == 0, "the kernel dropped {drops} frames of the capture on {label}");
        Ok(captured.frames)
    }

    /// Ends the capture, and tells how many frames were lost.
    pub fn finish(mut self) -> Result<Captured> {
        let kernel_drops = self.join()?;
        Ok(Captured { frames: std::mem::take(&mut *self.shared.frames()), kernel_drops })
    }

    fn join(&mut self) -> Result<u64> {
        self.shared.stopping.store(true, Ordering::Release);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result.with_context(|| format!("capture on {}", self.label)),
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(0),
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if self.thread.is_some() {
            let _ = self.join();
        }
    }
}

/// Returns the number of frames that the kernel dropped.
fn collect(socket: &PacketSocket, shared: &Shared, skip_noise: bool) -> Result<u64> {
    let mut batch = ReceiveBatch::new();
    loop {
        // Read before receiving: after a stop, one more look must find the socket empty.
        let stopping = shared.stopping.load(Ordering::Acquire);
        match socket.receive(&mut batch, !stopping) {
            Ok(received) => {
                let mut frames = shared.frames();
                for frame in received {
                    ensure!(!frame.truncated, "a frame of more than 64 KiB");
                    let frame = restore(&frame);
                    if !(skip_noise && is_noise(&frame)) {
                        frames.push(frame);
                    }
                }
                shared.arrived.notify_all();
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if stopping {
                    return socket.take_drops();
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // The interface went down: it may come back.
            Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {}
            Err(error) => return Err(error).context("cannot receive"),
        }
    }
}

/// Puts the tag back between the addresses and the type.
fn restore(received: &Received<'_>) -> Frame {
    const ADDRESSES: usize = 12;
    let mut bytes = received.bytes.to_vec();
    if let (Some((tpid, tci)), true) = (received.tag, bytes.len() >= ADDRESSES) {
        let tag = (u32::from(tpid) << 16 | u32::from(tci)).to_be_bytes();
        bytes.splice(ADDRESSES..ADDRESSES, tag);
    }
    Frame { bytes, timestamp: received.timestamp, outgoing: received.outgoing }
}
