//! Being told of changes to interfaces, addresses, routes and neighbours.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::NetlinkBuffer;
use netlink_packet_route::link::LinkHeader;
use netlink_packet_route::neighbour::NeighbourHeader;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use super::BUFFER_BYTES;

/// `RTNLGRP_*` of link, neighbour, IPv4 address, IPv4 route, IPv6 address, IPv6 route.
const GROUPS: [u32; 6] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_NEIGH,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV4_ROUTE,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_IPV6_ROUTE,
];

/// What may have changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// An interface of the pipeline.
    pub links: bool,
    /// A route or an address.
    pub routes: bool,
    /// A neighbour on the egress interface.
    pub neighbours: bool,
}

impl Changes {
    /// Everything.
    pub const ALL: Self = Self { links: true, routes: true, neighbours: true };

    /// Whether next hops may have changed.
    pub fn any(self) -> bool {
        self.links || self.routes || self.neighbours
    }

    /// Adds what else has changed.
    pub fn merge(&mut self, other: Self) {
        self.links |= other.links;
        self.routes |= other.routes;
        self.neighbours |= other.neighbours;
    }

    fn add(&mut self, datagram: &[u8], ingress: u32, egress: u32) {
        for bytes in super::messages(datagram) {
            let message = NetlinkBuffer::new(&bytes);
            match message.message_type() {
                libc::RTM_NEWLINK | libc::RTM_DELLINK => {
                    let index = LinkHeader::parse(message.payload()).map_or(0, |link| link.index);
                    self.links |= index == ingress || index == egress;
                }
                libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH => {
                    let index =
                        NeighbourHeader::parse(message.payload()).map_or(0, |entry| entry.ifindex);
                    self.neighbours |= index == egress;
                }
                _ => self.routes = true,
            }
        }
    }
}

/// A socket that is told of changes.
pub struct Events {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Events {
    /// From now on changes are told.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn subscribe() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        socket.set_non_blocking(true)?;
        for group in GROUPS {
            socket.add_membership(group)?;
        }
        Ok(Self { socket, buffer: Vec::with_capacity(BUFFER_BYTES) })
    }

    /// What to poll.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// What has changed since the last time, of interest to a pipeline between these interfaces.
    ///
    /// # Errors
    /// The socket can't be read.
    pub fn take(&mut self, ingress: u32, egress: u32) -> io::Result<Changes> {
        let mut changes = Changes::default();
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => changes.add(&self.buffer, ingress, egress),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(changes),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The kernel had more to tell than the socket holds.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => changes = Changes::ALL,
                Err(error) => return Err(error),
            }
        }
    }
}
