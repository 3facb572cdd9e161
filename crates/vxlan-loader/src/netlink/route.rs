//! Routes: the next hop towards an address, out of the egress interface.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dataplane::next_hops::Family;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::Netlink;
use super::interface::Interface;

/// Why an address can't be reached out of the egress interface.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// It is one of this host's own.
    #[error("{0} is an address of this host itself: frames must go to another host")]
    Local(IpAddr),
    /// No route.
    #[error(
        "no route to {target} out of {egress}: check `ip route get {target} oif {egress}`, and add \
         one (ip route add {target} via GATEWAY dev {egress}) or set TARGET_INTERFACE"
    )]
    NoRoute {
        /// The address.
        target: IpAddr,
        /// The egress interface.
        egress: String,
    },
    /// The route leaves elsewhere.
    #[error(
        "the route to {target} leaves by the interface of index {index}, not by {egress}: check \
         `ip route get {target} oif {egress}`"
    )]
    OtherInterface {
        /// The address.
        target: IpAddr,
        /// The egress interface.
        egress: String,
        /// Where it leaves.
        index: u32,
    },
    /// The kernel knows the address, but not as another host's.
    #[error("frames can't be sent to {target}: its route is of type {kind}")]
    NotUnicast {
        /// The address.
        target: IpAddr,
        /// Broadcast and the like.
        kind: String,
    },
    /// No default route.
    #[error("no default {family} route out of {egress}")]
    NoDefaultRoute {
        /// Of this IP version.
        family: Family,
        /// The egress interface.
        egress: String,
    },
    /// A default route that takes every address for one on the link.
    #[error("the default {family} route out of {egress} has no gateway")]
    NoGateway {
        /// Of this IP version.
        family: Family,
        /// The egress interface.
        egress: String,
    },
    /// The kernel refuses to answer.
    #[error("asking the kernel for the route to {target} out of {egress}: {problem}")]
    Refused {
        /// The address.
        target: IpAddr,
        /// The egress interface.
        egress: String,
        /// The kernel's words.
        problem: String,
    },
}

/// The next hop towards `target` out of `egress`: a gateway, or `target` itself if it is on-link.
///
/// # Errors
/// There is none.
pub fn next_hop(
    netlink: &mut Netlink,
    target: IpAddr,
    egress: &Interface,
) -> Result<IpAddr, Unreachable> {
    // Only asked without an interface does the kernel say that the address is its own.
    if let Ok(Some(route)) = get(netlink, target, None, RouteFlags::empty())
        && route.header.kind == RouteType::Local
    {
        return Err(Unreachable::Local(target));
    }
    let out = Some(egress.index);
    if target.is_ipv4() {
        // Asked for an interface, the kernel takes an IPv4 address without a route for on-link;
        // asked for the matching entry of its table, it doesn't.
        get(netlink, target, out, RouteFlags::FibMatch)
            .map_err(|error| refusal(target, egress, &error))?;
    }
    let route = get(netlink, target, out, RouteFlags::empty())
        .map_err(|error| refusal(target, egress, &error))?;
    judge(target, egress, route.as_ref())
}

/// Addresses without a route of their own: reserved (RFC 1112 section 4) and unassigned (IANA).
const ELSEWHERE_V4: Ipv4Addr = Ipv4Addr::new(240, 0, 0, 1);
const ELSEWHERE_V6: Ipv6Addr = Ipv6Addr::new(0x4000, 0, 0, 0, 0, 0, 0, 1);

/// The gateway of the default route out of `egress`.
///
/// # Errors
/// There is none.
pub fn default_gateway(
    netlink: &mut Netlink,
    family: Family,
    egress: &Interface,
) -> Result<IpAddr, Unreachable> {
    // The kernel does not look up "default" itself: it takes that address for this host.
    let elsewhere: IpAddr = match family {
        Family::Ipv4 => ELSEWHERE_V4.into(),
        Family::Ipv6 => ELSEWHERE_V6.into(),
    };
    let out = Some(egress.index);
    let none = || Unreachable::NoDefaultRoute { family, egress: egress.name.clone() };
    let entry = get(netlink, elsewhere, out, RouteFlags::FibMatch).map_err(|_| none())?;
    if entry.is_none_or(|entry| entry.header.destination_prefix_length > 0) {
        return Err(none());
    }
    let route = get(netlink, elsewhere, out, RouteFlags::empty()).map_err(|_| none())?;
    match judge(elsewhere, egress, route.as_ref()).map_err(|_| none())? {
        gateway if gateway == elsewhere => {
            Err(Unreachable::NoGateway { family, egress: egress.name.clone() })
        }
        gateway => Ok(gateway),
    }
}

fn get(
    netlink: &mut Netlink,
    target: IpAddr,
    out: Option<u32>,
    flags: RouteFlags,
) -> io::Result<Option<RouteMessage>> {
    let mut message = RouteMessage::default();
    (message.header.address_family, message.header.destination_prefix_length) = match target {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    message.header.flags = flags;
    message.attributes.push(RouteAttribute::Destination(target.into()));
    message.attributes.extend(out.map(RouteAttribute::Oif));
    let answers = netlink.ask(RouteNetlinkMessage::GetRoute(message), 0)?;
    Ok(answers.into_iter().find_map(|answer| match answer {
        RouteNetlinkMessage::NewRoute(route) => Some(route),
        _ => None,
    }))
}

fn refusal(target: IpAddr, egress: &Interface, error: &io::Error) -> Unreachable {
    let egress = egress.name.clone();
    match error.raw_os_error() {
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN | libc::ENODEV) => {
            Unreachable::NoRoute { target, egress }
        }
        _ => Unreachable::Refused { target, egress, problem: error.to_string() },
    }
}

fn judge(
    target: IpAddr,
    egress: &Interface,
    route: Option<&RouteMessage>,
) -> Result<IpAddr, Unreachable> {
    let name = || egress.name.clone();
    let Some(route) = route else { return Err(Unreachable::NoRoute { target, egress: name() }) };
    match route.header.kind {
        RouteType::Unicast => {}
        RouteType::Local => return Err(Unreachable::Local(target)),
        RouteType::Unreachable | RouteType::BlackHole | RouteType::Prohibit => {
            return Err(Unreachable::NoRoute { target, egress: name() });
        }
        kind => return Err(Unreachable::NotUnicast { target, kind: format!("{kind:?}") }),
    }
    let mut next_hop = target;
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) if *index != egress.index => {
                return Err(Unreachable::OtherInterface { target, egress: name(), index: *index });
            }
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => next_hop = (*address).into(),
            RouteAttribute::Gateway(RouteAddress::Inet6(address))
            | RouteAttribute::Via(RouteVia::Inet6(address)) => next_hop = (*address).into(),
            _ => {}
        }
    }
    Ok(next_hop)
}
