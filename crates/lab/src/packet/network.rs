//! The IP part of an inner frame.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{IpFragOffset, IpNumber, Ipv4Header, Ipv4Options, Ipv6FlowLabel, Ipv6Header};

/// An IPv6 extension header. What comes next is filled in when the frame is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// Its own number: 0 hop-by-hop, 43 routing, 44 fragment, 60 destination options.
    pub number: u8,
    /// Everything after the first two bytes (next header, length): 6 bytes more than a multiple
    /// of 8.
    pub body: Vec<u8>,
}

impl Extension {
    /// Hop-by-hop options: one PadN.
    pub fn hop_by_hop() -> Self {
        Self { number: 0, body: vec![1, 4, 0, 0, 0, 0] }
    }

    /// Destination options: `blocks` times 8 bytes, filled with one PadN.
    pub fn destination(blocks: u8) -> Self {
        let length = usize::from(blocks.clamp(1, 30)) * 8 - 2;
        let mut body = vec![0; length];
        body[0] = 1;
        body[1] = (length - 2) as u8;
        Self { number: 60, body }
    }

    /// A routing header of an experimental type with no segments left.
    pub fn routing() -> Self {
        Self { number: 43, body: vec![253, 0, 0, 0, 0, 0] }
    }

    /// A fragment header; offset 0 and no more fragments is an atomic fragment.
    pub fn fragment(identification: u32, offset: u16, more: bool) -> Self {
        let mut body = (offset & !7 | u16::from(more)).to_be_bytes().to_vec();
        body.extend(identification.to_be_bytes());
        Self { number: 44, body }
    }

    fn encode(&self, next: u8) -> Vec<u8> {
        assert!(self.body.len() % 8 == 6, "an extension header of {} bytes", self.body.len() + 2);
        // The fragment header has a reserved byte where the others have a length.
        let length = if self.number == 44 { 0 } else { (self.body.len() / 8) as u8 };
        [&[next, length], self.body.as_slice()].concat()
    }
}

/// What both IP versions have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Common {
    pub(super) ttl: u8,
    pub(super) tos: u8,
    pub(super) identification: u32,
    pub(super) dont_fragment: bool,
    pub(super) flow_label: u32,
}

/// Where a fragment stands in its datagram.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    pub(super) offset: u16,
    pub(super) more: bool,
}

pub(super) fn ipv4(
    (source, destination): (Ipv4Addr, Ipv4Addr),
    common: Common,
    options: &[u8],
    protocol: u8,
    place: Place,
    payload: &[u8],
) -> Vec<u8> {
    let mut header = Ipv4Header {
        dscp: (common.tos >> 2).try_into().expect("six bits"),
        ecn: (common.tos & 3).try_into().expect("two bits"),
        identification: common.identification as u16,
        dont_fragment: common.dont_fragment,
        more_fragments: place.more,
        fragment_offset: IpFragOffset::try_new(place.offset / 8).expect("13 bits"),
        time_to_live: common.ttl,
        protocol: IpNumber(protocol),
        source: source.octets(),
        destination: destination.octets(),
        options: Ipv4Options::try_from(options).expect("whole words, 40 bytes at most"),
        ..Ipv4Header::default()
    };
    header.set_payload_len(payload.len()).expect("an IPv4 packet has at most 65,535 bytes");
    header.header_checksum = header.calc_header_checksum();
    [header.to_bytes().as_slice(), payload].concat()
}

pub(super) fn ipv6(
    (source, destination): (Ipv6Addr, Ipv6Addr),
    common: Common,
    extensions: &[Extension],
    protocol: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut rest = payload.to_vec();
    let mut next = protocol;
    for extension in extensions.iter().rev() {
        rest = [extension.encode(next), rest].concat();
        next = extension.number;
    }
    let header = Ipv6Header {
        traffic_class: common.tos,
        flow_label: Ipv6FlowLabel::try_new(common.flow_label).expect("20 bits"),
        payload_length: rest.len().try_into().expect("an IPv6 payload has at most 65,535 bytes"),
        next_header: IpNumber(next),
        hop_limit: common.ttl,
        source: source.octets(),
        destination: destination.octets(),
    };
    [header.to_bytes().as_slice(), &rest].concat()
}
