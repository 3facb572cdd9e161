//! What Linux does otherwise, on purpose of one side or the other. Each reason is decided by the
//! packet, never by what came out.
//!
//! Not in the lists, because it is undone before comparing: Linux is a router and lowers the TTL or
//! hop limit, by one for each pass; it puts datagrams together before it translates them and cuts
//! them anew. It cuts off what stands behind the IP packet in the frame; we keep it. Reserved bits
//! of the VXLAN header and the outer ECN field are the same for all packets here: Linux drops
//! packets by the first, and copies the second inward.

use std::net::{IpAddr, Ipv4Addr};

use lab::{EGRESS, INGRESS};

use super::datagram::header_is_valid;
use super::flows::{self, Flow};
use super::ip::{self, Ip, checksum, pseudo_header, word};
use crate::captures::is_refused;

/// What is sent and compared together: a packet, or the fragments of a datagram.
pub struct Unit<'a> {
    /// Indices of its cases.
    pub cases: Vec<usize>,
    pub frames: Vec<&'a [u8]>,
    pub packets: Vec<Ip<'a>>,
    pub flow: Option<&'a Flow>,
    /// Whether the fragments make whole datagrams.
    pub is_whole: bool,
    /// Whether Linux has seen a packet from client to server by now: this one, or one before.
    pub flow_is_known: bool,
}

impl Unit<'_> {
    /// Why Linux does not deliver it.
    pub fn not_delivered(&self) -> Option<&'static Reason> {
        find(NOT_DELIVERED, self)
    }
}

/// A difference, and why it is right.
pub struct Reason {
    pub name: &'static str,
    pub why: &'static str,
    applies: fn(&Unit<'_>, &Ip<'_>) -> bool,
}

/// Linux delivers nothing.
pub const NOT_DELIVERED: &[Reason] = &[
    Reason {
        name: "truncated",
        why: "Linux drops a packet that is shorter than its IP length; a mirror may cut packets",
        applies: |_, packet| packet.length > packet.bytes.len(),
    },
    Reason {
        name: "IPv4 header checksum",
        why: "a router drops a packet whose header checksum is wrong (RFC 1812 5.2.2); \
              mirrored packets may have none yet for want of the sender's offload",
        applies: |_, packet| !header_is_valid(packet),
    },
    Reason {
        name: "TTL",
        why: "a router drops a packet whose TTL ends (RFC 1812 5.3.1); a mirror is no hop",
        applies: |_, packet| packet.ttl <= 2,
    },
    Reason {
        name: "address",
        why: "a router does not forward loopback, multicast, broadcast, link-local or unspecified \
              addresses (RFC 1812 5.3.7, RFC 4291 2.5), nor what is for itself",
        applies: |_, packet| !is_forwardable(packet.source) || !is_forwardable(packet.destination),
    },
    Reason {
        name: "IPv4 options",
        why: "Linux drops source routes (RFC 6274 3.13.2.3) and options that it can't read; \
              a mirror does not act on options",
        applies: |_, packet| packet.is_ipv4() && has_refused_option(packet),
    },
    Reason {
        name: "hop-by-hop options",
        why: "each router acts on these (RFC 8200 4.3): Linux drops what asks for that, padding \
              that is not zero, and jumbograms; a mirror does not act on options",
        applies: |_, packet| !packet.is_ipv4() && has_hop_by_hop(packet),
    },
    Reason {
        name: "fragments not whole",
        why: "Linux puts datagrams together before it translates them and waits for the rest, or \
              drops what overlaps or exceeds 65,535 bytes; we pass on each fragment that need not \
              be held",
        applies: |unit, _| !unit.is_whole,
    },
    Reason {
        name: "ICMP error with a wrong checksum",
        why: "Linux verifies it before it translates; we keep it as wrong as it was",
        applies: |unit, packet| {
            unit.flow.is_some() && flows::is_error(packet) && !has_right_icmp_checksum(packet)
        },
    },
];

/// We deliver nothing, or not all.
pub const REFUSED: &[Reason] = &[
    Reason {
        name: "lengths that can't be",
        why: "the specification refuses frames without an Ethernet header and IP lengths of 0",
        applies: |unit, _| unit.frames.iter().all(|frame| is_refused(frame)),
    },
    Reason {
        name: "tiny fragment",
        why: "a first fragment without the whole transport header, or a later one of TCP that \
              begins in it, is an attack (RFC 1858, RFC 3128); Linux puts the datagram together",
        applies: |_, packet| is_tiny(packet),
    },
];

/// Linux delivers something else.
pub const CHANGED: &[Reason] = &[
    Reason {
        name: "record route, timestamp",
        why: "routers write themselves into these options (RFC 791); a mirror does not",
        applies: |_, packet| {
            packet.is_ipv4()
                && options(packet).is_some_and(|o| o.iter().any(|k| matches!(k, 7 | 68)))
        },
    },
    Reason {
        name: "bytes after the last option",
        why: "Linux makes them zero; a mirror does not touch them",
        applies: |_, packet| packet.is_ipv4() && has_bytes_after_options(packet),
    },
    Reason {
        name: "more than 8 extension headers",
        why: "we do not look behind them, so we find no flow, in an ICMP error neither; Linux also \
              removes a fragment header that says nothing, one in each pass",
        applies: |_, packet| {
            let inside = flows::is_error(packet).then(|| packet.segment().get(8..)).flatten();
            inside.and_then(ip::parse).is_some_and(|p| p.headers > 8) || packet.headers > 8
        },
    },
    Reason {
        name: "not a sound transport header",
        why: "conntrack takes it for invalid, so Linux does not translate it (TCP flags or header \
              length, UDP length); we translate what has whole ports",
        applies: |unit, packet| unit.flow.is_some() && !has_sound_transport(packet),
    },
    Reason {
        name: "handshake in the wrong direction",
        why: "conntrack takes a SYN with ACK from the client, or one without from the server, for \
              invalid; we do not judge the state of connections",
        applies: |unit, packet| unit.flow.is_some_and(|flow| is_wrong_handshake(flow, packet)),
    },
    Reason {
        name: "flow that Linux has not seen",
        why: "no packet of it that a router forwards went to the server yet, so there is nothing \
              to translate back",
        applies: |unit, _| unit.flow.is_some() && !unit.flow_is_known,
    },
    Reason {
        name: "ICMP checksum 0xffff",
        why: "Linux makes 0 of it where nothing is added to its sum (RFC 1624, erratum 4782)",
        applies: |_, packet| {
            matches!(packet.protocol, 1 | 58) && word(packet.segment(), 2) == Some(0xffff)
        },
    },
];

/// The first reason of a list that applies to any packet of a unit.
pub fn find(list: &'static [Reason], unit: &Unit<'_>) -> Option<&'static Reason> {
    list.iter().find(|reason| unit.packets.iter().any(|packet| (reason.applies)(unit, packet)))
}

fn is_forwardable(address: IpAddr) -> bool {
    let own = [INGRESS.ipv4.into(), EGRESS.ipv4.into(), INGRESS.ipv6.into(), EGRESS.ipv6.into()];
    let routable = match address {
        IpAddr::V4(address) => {
            address.octets()[0] != 0
                && !address.is_loopback()
                && !address.is_multicast()
                && address != Ipv4Addr::BROADCAST
        }
        IpAddr::V6(address) => {
            !address.is_loopback()
                && !address.is_unspecified()
                && !address.is_multicast()
                && address.segments()[0] & 0xffc0 != 0xfe80
        }
    };
    routable && !own.contains(&address)
}

fn has_bytes_after_options(packet: &Ip<'_>) -> bool {
    let mut rest = &packet.bytes[20..packet.transport];
    while let [1..=u8::MAX, after @ ..] = rest {
        let length = after.first().copied().unwrap_or(2).max(2).into();
        rest = if rest[0] == 1 { after } else { rest.get(length..).unwrap_or_default() };
    }
    rest.iter().any(|byte| *byte != 0)
}

/// The kinds of the IPv4 options; `None` if they can't be read.
fn options(packet: &Ip<'_>) -> Option<Vec<u8>> {
    let mut rest = packet.bytes.get(20..packet.transport)?;
    let mut kinds = Vec::new();
    while let Some((&kind, after)) = rest.split_first() {
        match kind {
            0 => break,
            1 => rest = after,
            _ => {
                let length = usize::from(*after.first()?);
                rest = rest.get(length..).filter(|_| length >= 2)?;
                kinds.push(kind);
            }
        }
    }
    Some(kinds)
}

fn has_refused_option(packet: &Ip<'_>) -> bool {
    options(packet).is_none_or(|kinds| kinds.iter().any(|kind| matches!(kind, 131 | 137)))
}

fn has_hop_by_hop(packet: &Ip<'_>) -> bool {
    packet.bytes[6] == 0
}

fn has_right_icmp_checksum(packet: &Ip<'_>) -> bool {
    let segment = packet.segment();
    if packet.is_ipv4() {
        return checksum(segment) == 0;
    }
    let pseudo = pseudo_header(packet.source, packet.destination, 58, segment.len());
    checksum(&[&pseudo, segment].concat()) == 0
}

fn is_tiny(packet: &Ip<'_>) -> bool {
    let header = if packet.protocol == 6 { 20 } else { 8 };
    match packet.fragment.map(|fragment| fragment.offset) {
        Some(0) => matches!(packet.protocol, 1 | 6 | 17 | 58) && packet.segment().len() < header,
        Some(offset) => packet.protocol == 6 && offset == 8,
        None => false,
    }
}

fn is_wrong_handshake(flow: &Flow, packet: &Ip<'_>) -> bool {
    let from_client = flows::tuple(packet).is_some_and(|tuple| tuple.source == flow.client);
    let flags = packet.segment().get(13).map(|flags| flags & 0x12);
    packet.protocol == 6 && flags == Some(if from_client { 0x12 } else { 0x02 })
}

/// What conntrack asks of a header (nf_conntrack_proto_tcp.c, nf_conntrack_proto_udp.c).
fn has_sound_transport(packet: &Ip<'_>) -> bool {
    let segment = packet.segment();
    match packet.protocol {
        _ if packet.fragment.is_some() => true,
        6 if segment.len() < 20 => false,
        6 => {
            let header = usize::from(segment[12] >> 4) * 4;
            // Flags without ECN and PSH: of SYN, FIN, RST, ACK and URG only some go together.
            let flags = segment[13] & 0b0011_0111;
            let known = [0x02, 0x22, 0x12, 0x32, 0x04, 0x14, 0x24, 0x34, 0x11, 0x31, 0x10, 0x30];
            header >= 20 && header <= segment.len() && known.contains(&flags)
        }
        17 => word(segment, 4)
            .is_some_and(|length| length >= 8 && usize::from(length) <= segment.len()),
        _ => true,
    }
}
