//! The neighbour tables: which MAC address an on-link address has.

use std::io;
use std::net::IpAddr;

use dataplane::nat::Mac;
use netlink_packet_core::NLM_F_CREATE;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::Netlink;

/// An entry of the neighbour table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// What the kernel thinks of it.
    pub state: NeighbourState,
    /// Its MAC address; one that doesn't answer may still have its last one.
    pub mac: Option<Mac>,
}

impl Neighbour {
    /// The MAC address that frames can be sent to.
    pub fn usable_mac(&self) -> Option<Mac> {
        use NeighbourState::{Delay, Noarp, Permanent, Probe, Reachable, Stale};
        let usable = matches!(self.state, Reachable | Stale | Delay | Probe | Permanent | Noarp);
        self.mac.filter(|_| usable)
    }

    /// Whether the kernel asked and got no answer.
    pub fn has_failed(&self) -> bool {
        self.state == NeighbourState::Failed
    }

    /// Whether the kernel should be told to ask. Never for a permanent entry: that would make it
    /// an ordinary one. Not while it asks already.
    pub fn wants_probe(&self) -> bool {
        matches!(self.state, NeighbourState::None | NeighbourState::Stale | NeighbourState::Failed)
    }
}

/// Looks an address up.
///
/// # Errors
/// The kernel can't be asked.
pub fn get(netlink: &mut Netlink, ifindex: u32, address: IpAddr) -> io::Result<Option<Neighbour>> {
    match netlink.ask(RouteNetlinkMessage::GetNeighbour(message(ifindex, address)), 0) {
        Ok(answers) => Ok(answers.into_iter().find_map(from_answer)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes the kernel resolve an address, or confirm what it knows of it, as if it had a packet for
/// it.
///
/// # Errors
/// The kernel refuses, for an interface that is down or gone.
pub fn probe(netlink: &mut Netlink, ifindex: u32, address: IpAddr) -> io::Result<()> {
    let mut message = message(ifindex, address);
    message.header.flags = NeighbourFlags::Use;
    netlink.ask(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE).map(drop)
}

fn message(ifindex: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = ifindex;
    message.header.family = match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    let destination = NeighbourAttribute::Destination(NeighbourAddress::from(address));
    message.attributes.push(destination);
    message
}

fn from_answer(answer: RouteNetlinkMessage) -> Option<Neighbour> {
    let RouteNetlinkMessage::NewNeighbour(message) = answer else { return None };
    let mac = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => Mac::try_from(bytes.as_slice()).ok(),
        _ => None,
    });
    Some(Neighbour { state: message.header.state, mac })
}
