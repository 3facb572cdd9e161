//! AF_PACKET sockets. One of the modules with `unsafe`: batched receive and send.

use std::io;
use std::mem::{size_of, size_of_val, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::net::if_::if_nametoindex;

/// Frames of one system call.
pub(crate) const BATCH: usize = 64;
/// Longer than any frame: the kernel's own limit for a packet without BIG TCP.
const FRAME_ROOM: usize = 65536 + 64;
const CONTROL_WORDS: usize = 24;

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Nothing is received.
    Send,
    /// Everything on the interface is received.
    Receive,
}

/// A raw socket on one interface.
#[derive(Debug)]
pub(crate) struct PacketSocket(OwnedFd);

/// One received frame, in the batch's memory.
pub(crate) struct Received<'a> {
    pub(crate) bytes: &'a [u8],
    /// The outermost tag (TPID, TCI), which the kernel has taken out of the frame.
    pub(crate) tag: Option<(u16, u16)>,
    pub(crate) outgoing: bool,
    pub(crate) truncated: bool,
    /// Since 1970.
    pub(crate) timestamp: Duration,
}

impl PacketSocket {
    /// Opens a socket in the namespace of the calling thread.
    pub(crate) fn open(interface: &str, purpose: Purpose) -> Result<Self> {
        let index =
            if_nametoindex(interface).with_context(|| format!("no interface {interface}"))?;
        let all = (libc::ETH_P_ALL as u16).to_be();
        let protocol = if purpose == Purpose::Receive { all } else { 0 };
        // Protocol 0 at first: nothing may arrive before the socket is bound to its interface.
        // SAFETY: `socket` takes no pointers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error()).context("cannot open a packet socket");
        }
        // SAFETY: the descriptor is new and owned by nobody else.
        let socket = Self(unsafe { OwnedFd::from_raw_fd(fd) });
        if purpose == Purpose::Receive {
            socket.prepare_to_receive(index)?;
        }
        // SAFETY: all zeros is a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = index.cast_signed();
        // SAFETY: the pointer is to a live sockaddr_ll and the length is its own.
        let bound = unsafe {
            libc::bind(fd, (&raw const address).cast(), size_of_val(&address) as libc::socklen_t)
        };
        check(bound).with_context(|| format!("cannot bind a packet socket to {interface}"))?;
        Ok(socket)
    }

    fn prepare_to_receive(&self, index: u32) -> Result<()> {
        let one: libc::c_int = 1;
        self.set(libc::SOL_PACKET, libc::PACKET_AUXDATA, &one).context("PACKET_AUXDATA")?;
        self.set(libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &one).context("SO_TIMESTAMPNS")?;
        let wait = libc::timeval { tv_sec: 0, tv_usec: 20_000 };
        self.set(libc::SOL_SOCKET, libc::SO_RCVTIMEO, &wait).context("SO_RCVTIMEO")?;
        let membership = libc::packet_mreq {
            mr_ifindex: index.cast_signed(),
            mr_type: libc::PACKET_MR_PROMISC as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        self.set(libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &membership)
            .context("promiscuous mode")
    }

    /// Bounds what may wait in the socket; the kernel counts its own overhead, too.
    pub(crate) fn receive_buffer(&self, bytes: libc::c_int) -> Result<()> {
        self.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &bytes).context("SO_RCVBUFFORCE")
    }

    /// Leaves out frames that the interface sends.
    pub(crate) fn ignore_outgoing(&self) -> Result<()> {
        const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
        let one: libc::c_int = 1;
        self.set(libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, &one).context("PACKET_IGNORE_OUTGOING")
    }

    /// Sends past the queueing discipline.
    pub(crate) fn bypass_qdisc(&self) -> Result<()> {
        let one: libc::c_int = 1;
        self.set(libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, &one).context("PACKET_QDISC_BYPASS")
    }

    /// Frames that the kernel dropped since the last call because the socket was full.
    pub(crate) fn take_drops(&self) -> Result<u64> {
        let mut statistics = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
        // SAFETY: both pointers are to live values, and the length is that of the first.
        let result = unsafe {
            libc::getsockopt(
                self.0.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut statistics).cast(),
                &raw mut length,
            )
        };
        check(result).context("PACKET_STATISTICS")?;
        Ok(u64::from(statistics.tp_drops))
    }

    fn set<T>(&self, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
        // SAFETY: the pointer is to a live value, and the length is its own.
        check(unsafe {
            libc::setsockopt(
                self.0.as_raw_fd(),
                level,
                name,
                std::ptr::from_ref(value).cast(),
                size_of::<T>() as libc::socklen_t,
            )
        })
    }

    /// Sends up to `BATCH` frames; returns how many the kernel took, at least one.
    pub(crate) fn send(&self, frames: &[impl AsRef<[u8]>]) -> io::Result<usize> {
        // SAFETY: all zeros is a valid iovec and a valid mmsghdr.
        let mut vectors: [libc::iovec; BATCH] = unsafe { zeroed() };
        // SAFETY: as above.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
        let count = frames.len().min(BATCH);
        for ((frame, vector), header) in frames.iter().zip(&mut vectors).zip(&mut headers) {
            let frame = frame.as_ref();
            vector.iov_base = frame.as_ptr().cast_mut().cast();
            vector.iov_len = frame.len();
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: the first `count` headers each point to one iovec, which points to a frame; all
        // outlive the call, and the kernel only reads the frames.
        let sent = unsafe {
            libc::sendmmsg(self.0.as_raw_fd(), headers.as_mut_ptr(), count as libc::c_uint, 0)
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    /// Waits up to 20 ms (not at all with `wait: false`) and takes what has arrived.
    pub(crate) fn receive<'a>(
        &self,
        batch: &'a mut ReceiveBatch,
        wait: bool,
    ) -> io::Result<impl Iterator<Item = Received<'a>> + use<'a>> {
        let flags = if wait { libc::MSG_WAITFORONE } else { libc::MSG_DONTWAIT };
        batch.prepare();
        // SAFETY: `prepare` has pointed every header to memory of the batch, which outlives the
        // call; no time limit is given.
        let received = unsafe {
            libc::recvmmsg(
                self.0.as_raw_fd(),
                batch.headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                flags,
                std::ptr::null_mut(),
            )
        };
        let count = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        let batch = &*batch;
        Ok((0..count).map(|number| batch.frame(number)))
    }
}

/// Memory for one `receive`.
pub(crate) struct ReceiveBatch {
    room: Vec<u8>,
    vectors: Vec<libc::iovec>,
    senders: Vec<libc::sockaddr_ll>,
    controls: Vec<[u64; CONTROL_WORDS]>,
    headers: Vec<libc::mmsghdr>,
}

impl ReceiveBatch {
    pub(crate) fn new() -> Self {
        // SAFETY: all zeros is a valid value of these three C structures.
        let (vector, sender, header) = unsafe { (zeroed(), zeroed(), zeroed()) };
        Self {
            room: vec![0; BATCH * FRAME_ROOM],
            vectors: vec![vector; BATCH],
            senders: vec![sender; BATCH],
            controls: vec![[0; CONTROL_WORDS]; BATCH],
            headers: vec![header; BATCH],
        }
    }

    fn prepare(&mut self) {
        for number in 0..BATCH {
            let vector = &mut self.vectors[number];
            vector.iov_base = self.room[number * FRAME_ROOM..].as_mut_ptr().cast();
            vector.iov_len = FRAME_ROOM;
            let header = &mut self.headers[number].msg_hdr;
            header.msg_iov = vector;
            header.msg_iovlen = 1;
            header.msg_name = (&raw mut self.senders[number]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            header.msg_control = self.controls[number].as_mut_ptr().cast();
            header.msg_controllen = size_of_val(&self.controls[number]) as _;
        }
    }

    fn frame(&self, number: usize) -> Received<'_> {
        let header = &self.headers[number];
        let start = number * FRAME_ROOM;
        let length = (header.msg_len as usize).min(FRAME_ROOM);
        let (tag, timestamp) = self.metadata(number);
        Received {
            bytes: &self.room[start..start + length],
            tag,
            outgoing: self.senders[number].sll_pkttype == libc::PACKET_OUTGOING,
            truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            timestamp,
        }
    }

    fn metadata(&self, number: usize) -> (Option<(u16, u16)>, Duration) {
        const DEFAULT_TPID: u16 = 0x8100;
        let (mut tag, mut timestamp) = (None, Duration::ZERO);
        let message = &raw const self.headers[number].msg_hdr;
        // SAFETY: the kernel has filled the header and its control memory, which is aligned for
        // cmsghdr; the CMSG macros stay within it. Data is read unaligned, and the type is that
        // which the kernel uses for this level and type.
        unsafe {
            let mut control = libc::CMSG_FIRSTHDR(message);
            while let Some(found) = control.as_ref() {
                let data = libc::CMSG_DATA(control);
                match (found.cmsg_level, found.cmsg_type) {
                    (libc::SOL_PACKET, libc::PACKET_AUXDATA) => {
                        let aux = data.cast::<libc::tpacket_auxdata>().read_unaligned();
                        let known = aux.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
                        let tpid = if known { aux.tp_vlan_tpid } else { DEFAULT_TPID };
                        if aux.tp_status & libc::TP_STATUS_VLAN_VALID != 0 {
                            tag = Some((tpid, aux.tp_vlan_tci));
                        }
                    }
                    (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                        let time = data.cast::<libc::timespec>().read_unaligned();
                        timestamp = Duration::new(time.tv_sec as u64, time.tv_nsec as u32);
                    }
                    _ => {}
                }
                control = libc::CMSG_NXTHDR(message, control);
            }
        }
        (tag, timestamp)
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
