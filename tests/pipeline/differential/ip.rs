//! A second reader of IP packets, for judging: plain, slow, and nobody's but the test's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where a fragment stands in its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    pub id: u32,
    /// In bytes.
    pub offset: usize,
    pub more: bool,
}

/// An IP packet whose header, extension headers included, is whole.
#[derive(Clone, Copy, Debug)]
pub struct Ip<'a> {
    /// From the IP header to the end of the frame.
    pub bytes: &'a [u8],
    /// The length that the IP header says.
    pub length: usize,
    pub source: IpAddr,
    pub destination: IpAddr,
    pub ttl: u8,
    /// The protocol after the last extension header.
    pub protocol: u8,
    /// Where it begins.
    pub transport: usize,
    pub fragment: Option<Fragment>,
    /// How many IPv6 extension headers there are, those that say nothing included.
    pub headers: usize,
}

/// Ethertype and offset of what an Ethernet frame carries, behind up to two VLAN tags.
pub fn ethernet(frame: &[u8]) -> Option<(u16, usize)> {
    let mut at = 12;
    for _ in 0..2 {
        if matches!(word(frame, at), Some(0x8100 | 0x88a8)) {
            at += 4;
        }
    }
    Some((word(frame, at)?, at + 2))
}

/// The IP packet of an Ethernet frame, if its headers can be read.
pub fn of_frame(frame: &[u8]) -> Option<Ip<'_>> {
    match ethernet(frame)? {
        (0x0800, at) => version4(&frame[at..]),
        (0x86dd, at) => version6(&frame[at..]),
        _ => None,
    }
}

/// The packet that begins with an IP header of either version.
pub fn parse(bytes: &[u8]) -> Option<Ip<'_>> {
    match bytes.first()? >> 4 {
        4 => version4(bytes),
        6 => version6(bytes),
        _ => None,
    }
}

fn version4(bytes: &[u8]) -> Option<Ip<'_>> {
    let first = *bytes.first()?;
    let header = usize::from(first & 15) * 4;
    let length = usize::from(word(bytes, 2)?);
    if first >> 4 != 4 || header < 20 || length < header || bytes.len() < header {
        return None;
    }
    let place = word(bytes, 6)?;
    let (offset, more) = (usize::from(place & 0x1fff) * 8, place & 0x2000 != 0);
    let id = u32::from(word(bytes, 4)?);
    Some(Ip {
        bytes,
        length,
        source: Ipv4Addr::from(<[u8; 4]>::try_from(&bytes[12..16]).ok()?).into(),
        destination: Ipv4Addr::from(<[u8; 4]>::try_from(&bytes[16..20]).ok()?).into(),
        ttl: bytes[8],
        protocol: bytes[9],
        transport: header,
        fragment: (more || offset > 0).then_some(Fragment { id, offset, more }),
        headers: 0,
    })
}

fn version6(bytes: &[u8]) -> Option<Ip<'_>> {
    if bytes.len() < 40 || bytes[0] >> 4 != 6 {
        return None;
    }
    let mut packet = Ip {
        bytes,
        length: 40 + usize::from(word(bytes, 4)?),
        source: Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[8..24]).ok()?).into(),
        destination: Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[24..40]).ok()?).into(),
        ttl: bytes[7],
        protocol: bytes[6],
        transport: 40,
        fragment: None,
        headers: 0,
    };
    // A later fragment has no further headers: what follows is the middle of something.
    while packet.fragment.is_none_or(|fragment| fragment.offset == 0) {
        let at = packet.transport;
        let size = match packet.protocol {
            0 | 43 | 60 => 8 + usize::from(*bytes.get(at + 1)?) * 8,
            44 => {
                let place = word(bytes, at + 2)?;
                let (offset, more) = (usize::from(place & !7), place & 1 != 0);
                let id = u32::from_be_bytes(bytes.get(at + 4..at + 8)?.try_into().ok()?);
                // Whole packets with a fragment header (RFC 6946) are no fragments.
                packet.fragment = (more || offset > 0)
                    .then_some(Fragment { id, offset, more })
                    .or(packet.fragment);
                8
            }
            _ => break,
        };
        packet.protocol = *bytes.get(at)?;
        packet.transport += size;
        packet.headers += 1;
    }
    (packet.transport <= bytes.len()).then_some(packet)
}

impl<'a> Ip<'a> {
    pub fn is_ipv4(&self) -> bool {
        self.source.is_ipv4()
    }

    /// The packet without what stands behind it in the frame.
    pub fn packet(&self) -> &'a [u8] {
        &self.bytes[..self.length.min(self.bytes.len())]
    }

    /// Transport header and payload.
    pub fn segment(&self) -> &'a [u8] {
        self.packet().get(self.transport..).unwrap_or_default()
    }

    /// Whether this is a packet of its own or the first fragment of one.
    pub fn has_transport_header(&self) -> bool {
        self.fragment.is_none_or(|fragment| fragment.offset == 0)
    }
}

/// The 16 bits at an offset, as a number.
pub fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The Internet checksum over some bytes (RFC 1071): 0 if they hold a right one.
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u64 = 0;
    for pair in bytes.chunks(2) {
        sum += u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// What TCP, UDP and ICMPv6 checksums cover besides the segment (RFC 8200 section 8.1).
pub fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for address in [source, destination] {
        match address {
            IpAddr::V4(address) => bytes.extend(address.octets()),
            IpAddr::V6(address) => bytes.extend(address.octets()),
        }
    }
    bytes.extend((length as u32).to_be_bytes());
    bytes.extend([0, 0, 0, protocol]);
    bytes
}
