//! Packets, a header or an oddity a call; lengths and checksums are computed from scratch, with
//! etherparse's sums, unless the test sets them.

use std::net::{IpAddr, SocketAddr};

use etherparse::checksum::Sum16BitWords;

pub type Mac = [u8; 6];

pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMPV6: u8 = 58;
pub const VNI: u32 = 7;
/// IPv4 flags.
pub const DF: u16 = 0x4000;
pub const MF: u16 = 0x2000;

#[derive(Clone, Debug)]
pub struct Frame {
    macs: [Mac; 2],
    tags: Vec<(u16, u16)>,
    ethertype: Option<u16>,
    source: SocketAddr,
    destination: SocketAddr,
    version_and_header_length: Option<u8>,
    traffic_class: u8,
    flow_label: u32,
    id: u16,
    flags: u16,
    options: Vec<u8>,
    extensions: Vec<(u8, Vec<u8>)>,
    ip_length: Option<u16>,
    ip_checksum: Option<u16>,
    protocol: u8,
    has_header: bool,
    data_offset: u8,
    icmp: [u8; 6],
    ttl: u8,
    udp_length: Option<u16>,
    checksum: Option<u16>,
    payload: Vec<u8>,
    trailer: Vec<u8>,
}

fn frame(protocol: u8, source: &str, destination: &str) -> Frame {
    Frame {
        macs: [[0x02, 0, 0, 0, 0, 0xd1], [0x02, 0, 0, 0, 0, 0x51]],
        tags: Vec::new(),
        ethertype: None,
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        version_and_header_length: None,
        traffic_class: 0,
        flow_label: 0,
        id: 0x1234,
        flags: 0,
        options: Vec::new(),
        extensions: Vec::new(),
        ip_length: None,
        ip_checksum: None,
        protocol,
        has_header: true,
        data_offset: 0x50,
        icmp: [0; 6],
        ttl: 64,
        udp_length: None,
        checksum: None,
        payload: pattern(32),
        trailer: Vec::new(),
    }
}

/// `n` bytes that differ from their neighbours.
pub fn pattern(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 37 + i / 256 * 11 + 5) as u8).collect()
}

/// UDP from a mirrored client to the live server, which most NAT rules of the tests are about.
pub fn udp4() -> Frame {
    frame(UDP, "10.1.0.1:40000", "198.51.100.7:31765")
}

pub fn tcp4() -> Frame {
    frame(TCP, "10.1.0.1:40000", "198.51.100.7:31765")
}

pub fn udp6() -> Frame {
    frame(UDP, "[fd00::1]:40000", "[2001:db8::7]:31765")
}

pub fn tcp6() -> Frame {
    frame(TCP, "[fd00::1]:40000", "[2001:db8::7]:31765")
}

/// An echo request with this identifier.
pub fn echo4(id: u16) -> Frame {
    let [high, low] = id.to_be_bytes();
    frame(ICMP, "10.1.0.1:0", "198.51.100.7:0").icmp([8, 0, high, low, 0, 1])
}

pub fn echo6(id: u16) -> Frame {
    let [high, low] = id.to_be_bytes();
    frame(ICMPV6, "[fd00::1]:0", "[2001:db8::7]:0").icmp([128, 0, high, low, 0, 1])
}

/// The mirror source's datagram; `carry` gives it the inner frame.
pub fn outer() -> Frame {
    frame(UDP, "192.0.2.101:54321", "192.0.2.102:4789").checksum(0)
}

pub fn outer6() -> Frame {
    frame(UDP, "[2001:db8:aaaa::1]:54321", "[2001:db8:aaaa::2]:4789").checksum(0)
}

/// The inner frame as the mirror sends it, in the plainest way.
pub fn mirror(inner: &[u8]) -> Vec<u8> {
    outer().carry(inner).bytes()
}

/// An Ethernet frame of any kind.
pub fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    udp4().ethertype(ethertype).layer2(payload)
}

impl Frame {
    pub fn macs(mut self, destination: Mac, source: Mac) -> Self {
        self.macs = [destination, source];
        self
    }
    /// Adds a VLAN tag inside of those that are there.
    pub fn tag(mut self, tpid: u16, tci: u16) -> Self {
        self.tags.push((tpid, tci));
        self
    }
    pub fn ethertype(mut self, ethertype: u16) -> Self {
        self.ethertype = Some(ethertype);
        self
    }
    pub fn from(mut self, source: &str) -> Self {
        self.source = source.parse().unwrap();
        self
    }
    pub fn to(mut self, destination: &str) -> Self {
        self.destination = destination.parse().unwrap();
        self
    }
    /// IPv4: version and header length. IPv6: version and the upper half of the traffic class.
    pub fn first_byte(mut self, byte: u8) -> Self {
        self.version_and_header_length = Some(byte);
        self
    }
    pub fn traffic_class(mut self, byte: u8) -> Self {
        self.traffic_class = byte;
        self
    }
    pub fn flow_label(mut self, label: u32) -> Self {
        self.flow_label = label;
        self
    }
    /// TTL or hop limit.
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }
    /// ICMP or ICMPv6 by the family: type, code, and the four bytes behind the checksum.
    pub fn icmp(mut self, header: [u8; 6]) -> Self {
        self.protocol = if self.is_ipv4() { ICMP } else { ICMPV6 };
        self.has_header = true;
        self.icmp = header;
        self
    }
    /// The answer to this packet, back to its sender.
    pub fn reply(mut self) -> Self {
        (self.source, self.destination) = (self.destination, self.source);
        match (self.protocol, self.icmp[0]) {
            (ICMP, 8) => self.icmp[0] = 0,
            (ICMPV6, 128) => self.icmp[0] = 129,
            _ => {}
        }
        self
    }
    /// An ICMP error about this packet, from `router` to its sender, which carries what `quoted`
    /// has of it: the packet from the IP header on.
    pub fn error(&self, router: &str, kind: u8, quoted: &[u8]) -> Self {
        let to = self.source;
        let from = SocketAddr::new(router.parse().unwrap(), 0);
        let mut error = if self.is_ipv4() { udp4() } else { udp6() };
        (error.source, error.destination) = (from, SocketAddr::new(to.ip(), 0));
        error.icmp([kind, 1, 0, 0, 0x05, 0x78]).payload(quoted)
    }
    pub fn id(mut self, id: u16) -> Self {
        self.id = id;
        self
    }
    /// IPv4: flags and fragment offset.
    pub fn flags(mut self, flags: u16) -> Self {
        self.flags = flags;
        self
    }
    /// IPv4 options, a multiple of four bytes.
    pub fn options(mut self, options: &[u8]) -> Self {
        assert!(options.len().is_multiple_of(4) && options.len() <= 40);
        self.options = options.to_vec();
        self
    }
    /// An IPv6 extension header: its protocol number, and what stands behind its first byte.
    pub fn extension(mut self, protocol: u8, rest: &[u8]) -> Self {
        assert_eq!((rest.len() + 1) % 4, 0);
        self.extensions.push((protocol, rest.to_vec()));
        self
    }
    /// A hop-by-hop, routing or destination options header of `8 * units` bytes.
    pub fn options_header(self, protocol: u8, units: u8) -> Self {
        let mut rest = vec![units - 1, 1, 8 * units - 4]; // PadN
        rest.resize(8 * usize::from(units) - 1, 0);
        self.extension(protocol, &rest)
    }
    /// An IPv6 fragment header: 13 bits of offset, 2 reserved, the M flag.
    pub fn fragment_header(self, offset_and_flag: u16) -> Self {
        let [high, low] = offset_and_flag.to_be_bytes();
        let [id_high, id_low] = self.id.to_be_bytes();
        self.extension(44, &[0, high, low, 0xca, 0xfe, id_high, id_low])
    }
    /// IPv4 total length, IPv6 payload length.
    pub fn ip_length(mut self, length: u16) -> Self {
        self.ip_length = Some(length);
        self
    }
    pub fn ip_checksum(mut self, checksum: u16) -> Self {
        self.ip_checksum = Some(checksum);
        self
    }
    /// Only the payload stands behind the IP header, whatever the protocol.
    pub fn raw(mut self, protocol: u8) -> Self {
        self.protocol = protocol;
        self.has_header = false;
        self
    }
    /// TCP's data offset, in its byte's upper half.
    pub fn data_offset(mut self, byte: u8) -> Self {
        self.data_offset = byte;
        self
    }
    pub fn udp_length(mut self, length: u16) -> Self {
        self.udp_length = Some(length);
        self
    }
    /// Of UDP or TCP.
    pub fn checksum(mut self, checksum: u16) -> Self {
        self.checksum = Some(checksum);
        self
    }
    pub fn payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }
    /// Bytes behind the IP packet.
    pub fn trailer(mut self, trailer: &[u8]) -> Self {
        self.trailer = trailer.to_vec();
        self
    }
    /// VXLAN header and inner frame.
    pub fn vxlan(self, header: [u8; 8], inner: &[u8]) -> Self {
        self.payload(&[&header, inner].concat())
    }
    pub fn carry_vni(self, vni: u32, inner: &[u8]) -> Self {
        let [_, a, b, c] = vni.to_be_bytes();
        self.vxlan([8, 0, 0, 0, a, b, c, 0], inner)
    }
    pub fn carry(self, inner: &[u8]) -> Self {
        self.carry_vni(VNI, inner)
    }

    /// The fragments of this datagram, cut at these offsets of its IP payload.
    pub fn fragments(&self, cuts: &[usize]) -> Vec<Frame> {
        let whole = self.layer4();
        let ends = cuts.iter().copied().chain([whole.len()]);
        let starts = [0].into_iter().chain(cuts.iter().copied());
        let piece = |(start, end): (usize, usize)| {
            assert_eq!(start % 8, 0);
            let more = end < whole.len();
            let piece = self.clone().raw(self.protocol).payload(&whole[start..end]);
            if self.is_ipv4() {
                piece.flags(self.flags | if more { MF } else { 0 } | (start / 8) as u16)
            } else {
                piece.fragment_header(start as u16 | u16::from(more))
            }
        };
        starts.zip(ends).map(piece).collect()
    }

    pub fn is_ipv4(&self) -> bool {
        self.source.is_ipv4()
    }

    pub fn is_tcp(&self) -> bool {
        self.protocol == TCP
    }

    /// Offset of the checksum in the transport header.
    pub fn checksum_offset(&self) -> usize {
        match self.protocol {
            TCP => 16,
            ICMP | ICMPV6 => 2,
            _ => 6,
        }
    }

    /// For the names of cases.
    pub fn summary(&self) -> String {
        let family = if self.is_ipv4() { 4 } else { 6 };
        let tags = self.tags.len();
        format!("IPv{family} protocol {} with {tags} tags", self.protocol)
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut packet = self.layer2(&self.layer3());
        packet.extend(&self.trailer);
        packet
    }

    /// Offset of the IP header.
    pub fn layer3_offset(&self) -> usize {
        14 + 4 * self.tags.len()
    }

    /// Offset of the transport header.
    pub fn layer4_offset(&self) -> usize {
        let fixed = if self.is_ipv4() { 20 + self.options.len() } else { 40 };
        let extensions: usize = self.extensions.iter().map(|(_, rest)| rest.len() + 1).sum();
        self.layer3_offset() + fixed + extensions
    }

    pub fn layer2(&self, payload: &[u8]) -> Vec<u8> {
        let mut frame = self.macs.concat();
        for (tpid, tci) in &self.tags {
            frame.extend(tpid.to_be_bytes());
            frame.extend(tci.to_be_bytes());
        }
        let by_family = if self.is_ipv4() { 0x0800u16 } else { 0x86dd };
        frame.extend(self.ethertype.unwrap_or(by_family).to_be_bytes());
        frame.extend(payload);
        frame
    }

    pub fn layer3(&self) -> Vec<u8> {
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                self.ipv4(source.octets(), destination.octets())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                self.ipv6(source.octets(), destination.octets())
            }
            _ => panic!("{} and {} are of two families", self.source, self.destination),
        }
    }

    fn ipv4(&self, source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
        let transport = self.layer4();
        let header_length = 20 + self.options.len();
        let total_length = self.ip_length.unwrap_or((header_length + transport.len()) as u16);
        let first = self.version_and_header_length.unwrap_or(0x40 | (header_length / 4) as u8);
        let mut packet = vec![first, self.traffic_class];
        packet.extend(total_length.to_be_bytes());
        packet.extend(self.id.to_be_bytes());
        packet.extend(self.flags.to_be_bytes());
        packet.extend([self.ttl, self.protocol, 0, 0]);
        packet.extend(source);
        packet.extend(destination);
        packet.extend(&self.options);
        let sum = Sum16BitWords::new().add_slice(&packet).ones_complement().to_be();
        packet[10..12].copy_from_slice(&self.ip_checksum.unwrap_or(sum).to_be_bytes());
        packet.extend(transport);
        packet
    }

    fn ipv6(&self, source: [u8; 16], destination: [u8; 16]) -> Vec<u8> {
        let transport = self.layer4();
        let mut next: Vec<u8> = self.extensions.iter().map(|(protocol, _)| *protocol).collect();
        next.push(self.protocol);
        let mut payload = Vec::new();
        for ((_, rest), next) in self.extensions.iter().zip(&next[1..]) {
            payload.push(*next);
            payload.extend(rest);
        }
        payload.extend(transport);
        let length = self.ip_length.unwrap_or(payload.len() as u16);
        let word = 6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label;
        let mut packet = word.to_be_bytes().to_vec();
        packet[0] = self.version_and_header_length.unwrap_or(packet[0]);
        packet.extend(length.to_be_bytes());
        packet.extend([next[0], self.ttl]);
        packet.extend(source);
        packet.extend(destination);
        packet.extend(payload);
        packet
    }

    /// Transport header and payload.
    pub fn layer4(&self) -> Vec<u8> {
        if !self.has_header {
            return self.payload.clone();
        }
        let mut segment = self.transport_header();
        let checksum_at = self.checksum_offset();
        segment.extend(&self.payload);
        let sum = pseudo_header(self.source.ip(), self.destination.ip(), self.protocol, &segment);
        let sum = sum.add_slice(&segment);
        let sum = match self.protocol {
            ICMP => Sum16BitWords::new().add_slice(&segment).ones_complement().to_be(),
            TCP | ICMPV6 => sum.ones_complement().to_be(),
            _ => sum.to_ones_complement_with_no_zero().to_be(),
        };
        let checksum = self.checksum.unwrap_or(sum).to_be_bytes();
        segment[checksum_at..checksum_at + 2].copy_from_slice(&checksum);
        segment
    }
}

impl Frame {
    /// With a checksum of 0.
    fn transport_header(&self) -> Vec<u8> {
        if matches!(self.protocol, ICMP | ICMPV6) {
            let [kind, code, rest @ ..] = self.icmp;
            return [&[kind, code, 0, 0], &rest[..]].concat();
        }
        let mut header = self.source.port().to_be_bytes().to_vec();
        header.extend(self.destination.port().to_be_bytes());
        if self.protocol == TCP {
            header.extend([0, 0, 0, 1, 0, 0, 0, 2, self.data_offset, 0x18, 0x20, 0, 0, 0, 0, 0]);
        } else {
            let length = self.udp_length.unwrap_or((8 + self.payload.len()) as u16);
            header.extend(length.to_be_bytes());
            header.extend([0, 0]);
        }
        header
    }
}

/// The sum over the pseudo header of a whole segment.
pub fn pseudo_header(source: IpAddr, to: IpAddr, protocol: u8, segment: &[u8]) -> Sum16BitWords {
    let mut sum = Sum16BitWords::new();
    for address in [source, to] {
        sum = match address {
            IpAddr::V4(v4) => sum.add_4bytes(v4.octets()),
            IpAddr::V6(v6) => sum.add_16bytes(v6.octets()),
        };
    }
    sum.add_2bytes([0, protocol]).add_4bytes((segment.len() as u32).to_be_bytes())
}
