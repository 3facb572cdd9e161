//! TX backend `raw`: `sendmmsg` on an AF_PACKET socket, straight from ring memory (and from other
//! memory for what had to be held, joined or fragmented).
//!
//! Protocol 0: the socket receives nothing. PACKET_QDISC_BYPASS: the driver's queue is the only
//! one, and its refusal comes back as ENOBUFS (packet(7)).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use dataplane::abi::SendFailure;

use crate::accounts::Account;

/// Bytes of frames that may wait in the driver for one socket; what a full NIC queue can hold.
const SEND_BUFFER: libc::c_int = 32 << 20;

/// Repeated calls that only give up the CPU, before the thread sleeps between them.
const QUICK_RETRIES: u32 = 32;

/// A socket on the egress interface, and room for one batch.
pub struct RawSender {
    socket: OwnedFd,
    messages: Vec<libc::mmsghdr>,
    patience: Patience,
}

// SAFETY: the pointers in `messages` are set from the batch at the beginning of each `send` and
// only used by the system call inside it.
unsafe impl Send for RawSender {}

impl RawSender {
    /// Opens the socket.
    ///
    /// # Errors
    /// No privileges (CAP_NET_RAW), or the interface is gone.
    pub fn open(ifindex: u32, batch: usize, retry: Duration) -> Result<Self> {
        // SAFETY: socket(2) has no preconditions.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error())
                .context("opening a packet socket (needs root, or the capability CAP_NET_RAW)");
        }
        // SAFETY: the call succeeded, so the fd is new and ours.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        set_option(&socket, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, 1)
            .context("PACKET_QDISC_BYPASS")?;
        // Above net.core.wmem_max only with CAP_NET_ADMIN; the default works, with more retries.
        let _ = set_option(&socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, SEND_BUFFER);
        bind(&socket, ifindex).context("binding the packet socket to the egress interface")?;
        // SAFETY: all zeroes is a valid mmsghdr: no name, no data, no control message.
        let messages = vec![unsafe { std::mem::zeroed() }; batch];
        Ok(Self { socket, messages, patience: Patience::new(retry) })
    }

    /// Sends `frames` in order and accounts for each, which is a record: sent, or refused for good
    /// by reason. A full queue is waited for, up to the retry time. A queue that stayed full for so
    /// long is stuck (a link without carrier looks like that): until it takes a frame again, each
    /// frame is tried once, so that neither the ring nor a stop waits for hours.
    ///
    /// # Panics
    /// More frames than the batch size.
    pub fn send(&mut self, frames: &mut [libc::iovec], account: &Account<'_>) {
        self.point_to(frames);
        let mut next = 0;
        while next < frames.len() {
            account.set_in_flight((frames.len() - next) as u64);
            match self.send_some(next, frames.len(), account) {
                Ok(count) => {
                    account.add_sent(count as u64);
                    account.add_call(count as u64, bytes(&frames[next..next + count]));
                    next += count;
                }
                Err(errno) => {
                    account.add_failed(SendFailure::from_errno(errno), 1);
                    next += 1;
                }
            }
        }
        account.set_in_flight(0);
    }

    /// Sends all `frames` for `records` records together, and accounts for these: sent when the
    /// kernel took every frame; refused when it refused one for good, behind which the others are
    /// of no use to anybody.
    pub fn send_whole(&mut self, frames: &[Box<[u8]>], records: u64, account: &Account<'_>) {
        account.set_in_flight(records);
        match self.send_all(frames, account) {
            Ok(()) => account.add_sent(records),
            Err(errno) => account.add_failed(SendFailure::from_errno(errno), records),
        }
        account.set_in_flight(0);
    }

    fn send_all(&mut self, frames: &[Box<[u8]>], account: &Account<'_>) -> Result<(), i32> {
        for batch in frames.chunks(self.messages.len()) {
            let mut batch: Vec<_> = batch
                .iter()
                .map(|frame| libc::iovec {
                    iov_base: frame.as_ptr().cast_mut().cast(),
                    iov_len: frame.len(),
                })
                .collect();
            self.point_to(&mut batch);
            let mut next = 0;
            while next < batch.len() {
                let count = self.send_some(next, batch.len(), account)?;
                account.add_call(count as u64, bytes(&batch[next..next + count]));
                next += count;
            }
        }
        Ok(())
    }

    fn point_to(&mut self, frames: &mut [libc::iovec]) {
        assert!(frames.len() <= self.messages.len());
        for (message, frame) in self.messages.iter_mut().zip(frames) {
            message.msg_hdr.msg_iov = frame;
            message.msg_hdr.msg_iovlen = 1;
        }
    }

    /// Has the kernel take frames from `from` on; returns how many it took, at least one, or why
    /// it refuses the first of them for good.
    fn send_some(&mut self, from: usize, to: usize, account: &Account<'_>) -> Result<usize, i32> {
        loop {
            match self.call(from, to) {
                Ok(count) => {
                    self.patience.renew();
                    return Ok(count);
                }
                Err(libc::EINTR) => {}
                Err(libc::ENOBUFS | libc::EAGAIN) if self.patience.wait() => account.add_retry(),
                Err(errno) => return Err(errno),
            }
        }
    }

    /// One call; returns how many frames from `from` on the kernel took, at least one.
    fn call(&mut self, from: usize, to: usize) -> Result<usize, i32> {
        let messages = &mut self.messages[from..to];
        // SAFETY: every message in the range points to one iovec of the caller's batch, which
        // points into the mapped ring or to bytes of the caller's; all of them outlive the call,
        // and the kernel only reads them.
        let sent = unsafe {
            libc::sendmmsg(
                self.socket.as_raw_fd(),
                messages.as_mut_ptr(),
                messages.len() as libc::c_uint,
                libc::MSG_DONTWAIT,
            )
        };
        if sent > 0 {
            Ok(sent as usize)
        } else {
            Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
        }
    }
}

/// How long a full queue is still waited for.
struct Patience {
    limit: Duration,
    since: Option<Instant>,
    waits: u32,
}

impl Patience {
    fn new(limit: Duration) -> Self {
        Self { limit, since: None, waits: 0 }
    }

    /// The queue took a frame.
    fn renew(&mut self) {
        (self.since, self.waits) = (None, 0);
    }

    /// Lets the queue drain for a moment; `false` when the time is over.
    fn wait(&mut self) -> bool {
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() >= self.limit {
            return false;
        }
        self.waits += 1;
        if self.waits <= QUICK_RETRIES {
            thread::yield_now();
        } else {
            thread::sleep(Duration::from_micros(50));
        }
        true
    }
}

fn bytes(frames: &[libc::iovec]) -> u64 {
    frames.iter().map(|frame| frame.iov_len as u64).sum()
}

fn set_option(
    socket: &OwnedFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: a valid fd, and a pointer to an int with its size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn bind(socket: &OwnedFd, ifindex: u32) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: 0,
        sll_ifindex: ifindex as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: a valid fd, and a pointer to a sockaddr_ll with its size.
    let result = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of_val(&address) as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
