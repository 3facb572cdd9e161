//! Inner frames: what a mirror source copied.

use std::net::IpAddr;

use etherparse::{
    ArpHardwareId, ArpOperation, ArpPacket, EtherType, Icmpv4Header, Icmpv4Type, Icmpv6Header,
    Icmpv6Type, TcpHeader, UdpHeader,
};

use super::network::{self, Common, Extension, Place};
use super::{Tag, ethernet};

/// What an inner packet carries above IP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// UDP; `checksum: false` leaves the field zero.
    Udp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// Whether the checksum is computed.
        checksum: bool,
    },
    /// TCP.
    Tcp(Box<TcpHeader>),
    /// ICMP over IPv4, ICMPv6 over IPv6: type, code and the four bytes after the checksum.
    Icmp {
        /// Message type.
        kind: u8,
        /// Message code.
        code: u8,
        /// Identifier and sequence number of an echo, for instance.
        rest: [u8; 4],
    },
    /// Any other protocol: the payload follows IP directly.
    Other(u8),
}

/// An inner frame in the making. Every method returns the changed frame; `build` ends the chain:
///
/// ```
/// use lab::packet::{Inner, Tag};
/// let frame = Inner::new([10, 0, 0, 1], [10, 0, 0, 2])
///     .tag(Tag::customer(7))
///     .udp(1234, 31765)
///     .payload(b"hello")
///     .build();
/// assert_eq!(frame.len(), 14 + 4 + 20 + 8 + 5);
/// ```
///
/// A frame that can't exist (addresses of two families, more than 65,535 bytes, options that are
/// no whole words) is a mistake in the test, and `build` panics.
#[derive(Clone, Debug)]
pub struct Inner {
    macs: ([u8; 6], [u8; 6]),
    tags: Vec<Tag>,
    addresses: (IpAddr, IpAddr),
    common: Common,
    options: Vec<u8>,
    extensions: Vec<Extension>,
    transport: Transport,
    payload: Vec<u8>,
}

impl Inner {
    /// A packet between two addresses of one family: UDP from port 40000 to 31765 with an empty
    /// payload, TTL 64, don't fragment set.
    pub fn new(source: impl Into<IpAddr>, destination: impl Into<IpAddr>) -> Self {
        let dont_fragment = true;
        let common =
            Common { ttl: 64, tos: 0, identification: 0x1234, dont_fragment, flow_label: 0 };
        Self {
            macs: ([2, 0, 0, 0, 0, 0xb], [2, 0, 0, 0, 0, 0xa]),
            tags: Vec::new(),
            addresses: (source.into(), destination.into()),
            common,
            options: Vec::new(),
            extensions: Vec::new(),
            transport: Transport::Udp { source: 40000, destination: 31765, checksum: true },
            payload: Vec::new(),
        }
    }

    /// The Ethernet addresses.
    pub fn macs(mut self, destination: [u8; 6], source: [u8; 6]) -> Self {
        self.macs = (destination, source);
        self
    }

    /// Adds a VLAN tag, after those already there.
    pub fn tag(mut self, tag: Tag) -> Self {
        self.tags.push(tag);
        self
    }

    /// TTL or hop limit.
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.common.ttl = ttl;
        self
    }

    /// TOS or traffic class, ECN bits included.
    pub fn tos(mut self, tos: u8) -> Self {
        self.common.tos = tos;
        self
    }

    /// The identification, of IPv4 and of IPv6 fragments.
    pub fn identification(mut self, identification: u32) -> Self {
        self.common.identification = identification;
        self
    }

    /// The DF bit (IPv4).
    pub fn dont_fragment(mut self, dont_fragment: bool) -> Self {
        self.common.dont_fragment = dont_fragment;
        self
    }

    /// The flow label (IPv6).
    pub fn flow_label(mut self, label: u32) -> Self {
        self.common.flow_label = label;
        self
    }

    /// IPv4 options: whole words, 40 bytes at most.
    pub fn options(mut self, options: &[u8]) -> Self {
        self.options = options.to_vec();
        self
    }

    /// Adds an IPv6 extension header, after those already there.
    pub fn extension(mut self, extension: Extension) -> Self {
        self.extensions.push(extension);
        self
    }

    /// UDP with a checksum.
    pub fn udp(self, source: u16, destination: u16) -> Self {
        self.transport(Transport::Udp { source, destination, checksum: true })
    }

    /// UDP with a zero checksum.
    pub fn udp_without_checksum(self, source: u16, destination: u16) -> Self {
        self.transport(Transport::Udp { source, destination, checksum: false })
    }

    /// A TCP segment with ACK set.
    pub fn tcp(self, source: u16, destination: u16, sequence: u32) -> Self {
        let mut header = TcpHeader::new(source, destination, sequence, 0x4000);
        header.ack = true;
        self.transport(Transport::Tcp(Box::new(header)))
    }

    /// An echo request of the address family's ICMP.
    pub fn echo(self, identifier: u16, sequence: u16) -> Self {
        let kind = if self.addresses.0.is_ipv4() { 8 } else { 128 };
        let [a, b] = identifier.to_be_bytes();
        let [c, d] = sequence.to_be_bytes();
        self.transport(Transport::Icmp { kind, code: 0, rest: [a, b, c, d] })
    }

    /// Any ICMP or ICMPv6 message.
    pub fn icmp(self, kind: u8, code: u8, rest: [u8; 4]) -> Self {
        self.transport(Transport::Icmp { kind, code, rest })
    }

    /// Sets what is above IP.
    pub fn transport(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    /// The payload above the transport header.
    pub fn payload(mut self, payload: impl AsRef<[u8]>) -> Self {
        self.payload = payload.as_ref().to_vec();
        self
    }

    /// A payload of `length` bytes that count up, so that a shifted byte shows.
    pub fn payload_length(self, length: usize) -> Self {
        self.payload((0..length).map(|at| (at ^ (at >> 8)) as u8).collect::<Vec<_>>())
    }

    /// The frame.
    pub fn build(&self) -> Vec<u8> {
        self.frame(&self.segment(), Place::default(), self.extensions.clone())
    }

    /// The same packet in IP fragments, none of which carries more than `size` bytes (a multiple
    /// of 8) of it. IPv6 fragments get a fragment header after the extension headers.
    pub fn fragments(&self, size: usize) -> Vec<Vec<u8>> {
        assert!(size > 0 && size.is_multiple_of(8), "fragments are multiples of 8 bytes");
        let mut whole = self.clone();
        whole.common.dont_fragment = false;
        let segment = whole.segment();
        let last = segment.len().saturating_sub(1) / size;
        let pieces = segment.chunks(size).enumerate();
        pieces
            .map(|(number, piece)| {
                let place = Place { offset: (number * size) as u16, more: number < last };
                let mut extensions = whole.extensions.clone();
                let id = whole.common.identification;
                extensions.push(Extension::fragment(id, place.offset, place.more));
                whole.frame(piece, place, extensions)
            })
            .collect()
    }

    fn frame(&self, segment: &[u8], place: Place, extensions: Vec<Extension>) -> Vec<u8> {
        let protocol = self.protocol();
        let (ether_type, packet) = match self.addresses {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let pair = (source, destination);
                let options = &self.options;
                (0x0800, network::ipv4(pair, self.common, options, protocol, place, segment))
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let pair = (source, destination);
                (0x86dd, network::ipv6(pair, self.common, &extensions, protocol, segment))
            }
            (source, destination) => panic!("{source} and {destination} are of two families"),
        };
        let mut frame = ethernet(self.macs.0, self.macs.1, &self.tags, ether_type);
        frame.extend(packet);
        frame
    }

    fn protocol(&self) -> u8 {
        match (&self.transport, self.addresses.0) {
            (Transport::Udp { .. }, _) => 17,
            (Transport::Tcp(_), _) => 6,
            (Transport::Icmp { .. }, IpAddr::V4(_)) => 1,
            (Transport::Icmp { .. }, IpAddr::V6(_)) => 58,
            (Transport::Other(protocol), _) => *protocol,
        }
    }

    /// Transport header and payload.
    fn segment(&self) -> Vec<u8> {
        let header = match &self.transport {
            Transport::Udp { source, destination, checksum } => {
                self.udp_header(*source, *destination, *checksum)
            }
            Transport::Tcp(header) => self.tcp_header(header),
            Transport::Icmp { kind, code, rest } => self.icmp_header(*kind, *code, *rest),
            Transport::Other(_) => Vec::new(),
        };
        [header, self.payload.clone()].concat()
    }

    fn udp_header(&self, source: u16, destination: u16, checksum: bool) -> Vec<u8> {
        let length = self.payload.len();
        let mut header = UdpHeader::without_ipv4_checksum(source, destination, length)
            .expect("a UDP datagram has at most 65,535 bytes");
        if checksum {
            header.checksum = match self.addresses {
                (IpAddr::V4(source), IpAddr::V4(destination)) => header.calc_checksum_ipv4_raw(
                    source.octets(),
                    destination.octets(),
                    &self.payload,
                ),
                (IpAddr::V6(source), IpAddr::V6(destination)) => header.calc_checksum_ipv6_raw(
                    source.octets(),
                    destination.octets(),
                    &self.payload,
                ),
                _ => Ok(0),
            }
            .expect("the length was checked");
        }
        header.to_bytes().to_vec()
    }

    fn tcp_header(&self, header: &TcpHeader) -> Vec<u8> {
        let mut header = header.clone();
        header.checksum = match self.addresses {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                header.calc_checksum_ipv4_raw(source.octets(), destination.octets(), &self.payload)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                header.calc_checksum_ipv6_raw(source.octets(), destination.octets(), &self.payload)
            }
            _ => Ok(0),
        }
        .expect("a TCP segment has at most 65,535 bytes");
        header.to_bytes().to_vec()
    }

    fn icmp_header(&self, type_u8: u8, code_u8: u8, bytes5to8: [u8; 4]) -> Vec<u8> {
        if let (IpAddr::V6(source), IpAddr::V6(destination)) = self.addresses {
            let kind = Icmpv6Type::Unknown { type_u8, code_u8, bytes5to8 };
            let pair = (source.octets(), destination.octets());
            let header = Icmpv6Header::with_checksum(kind, pair.0, pair.1, &self.payload)
                .expect("an ICMPv6 message of a sane length");
            header.to_bytes().to_vec()
        } else {
            let kind = Icmpv4Type::Unknown { type_u8, code_u8, bytes5to8 };
            Icmpv4Header::with_checksum(kind, &self.payload).to_bytes().to_vec()
        }
    }
}

/// A broadcast ARP request.
pub fn arp_request(sender_mac: [u8; 6], sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let request = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        ArpOperation::REQUEST,
        &sender_mac,
        &sender,
        &[0; 6],
        &target,
    )
    .expect("lengths agree");
    let mut frame = ethernet([0xff; 6], sender_mac, &[], 0x0806);
    frame.extend(request.to_bytes());
    frame
}

#[cfg(test)]
#[path = "inner_tests.rs"]
mod tests;
