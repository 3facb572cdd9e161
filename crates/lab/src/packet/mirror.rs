//! The outer headers: what a mirror source puts around the frame it copied.

use std::net::IpAddr;

use etherparse::checksum::Sum16BitWords;

use super::{Tag, ethernet};
use crate::lab::{INGRESS, MIRROR};

/// Outer headers, field by field. The default is what AWS sends, from one end of the lab's ingress
/// cable to the other: no tags, a zero UDP checksum, no reserved bits.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// Outer Ethernet destination.
    pub destination_mac: [u8; 6],
    /// Outer Ethernet source.
    pub source_mac: [u8; 6],
    /// Outer VLAN tags.
    pub tags: Vec<Tag>,
    /// Outer source address.
    pub source: IpAddr,
    /// Outer destination address, of the same family.
    pub destination: IpAddr,
    /// Outer TTL or hop limit.
    pub ttl: u8,
    /// Outer TOS or traffic class, ECN bits included.
    pub tos: u8,
    /// Outer IPv4 options: whole words, 40 bytes at most.
    pub options: Vec<u8>,
    /// Outer UDP source port, by custom a hash of the inner flow.
    pub source_port: u16,
    /// Outer UDP destination port.
    pub destination_port: u16,
    /// Whether the outer UDP checksum is computed; else it is zero.
    pub udp_checksum: bool,
    /// The VXLAN flags; 0x08 says that the VNI is valid.
    pub flags: u8,
    /// The 24 reserved bits after the flags.
    pub reserved: [u8; 3],
    /// The VXLAN network identifier (24 bits).
    pub vni: u32,
    /// The 8 reserved bits after the VNI.
    pub reserved_last: u8,
    /// Bytes after the outer packet: Ethernet padding.
    pub trailer: Vec<u8>,
}

impl Default for Mirror {
    fn default() -> Self {
        Self {
            destination_mac: INGRESS.mac,
            source_mac: MIRROR.mac,
            tags: Vec::new(),
            source: MIRROR.ipv4.into(),
            destination: INGRESS.ipv4.into(),
            ttl: 64,
            tos: 0,
            options: Vec::new(),
            source_port: 49152,
            destination_port: 4789,
            udp_checksum: false,
            flags: 0x08,
            reserved: [0; 3],
            vni: 100,
            reserved_last: 0,
            trailer: Vec::new(),
        }
    }
}

impl Mirror {
    /// The default with another VNI.
    pub fn vni(vni: u32) -> Self {
        Self { vni, ..Self::default() }
    }

    /// The default over IPv6.
    pub fn over_ipv6() -> Self {
        Self { source: MIRROR.ipv6.into(), destination: INGRESS.ipv6.into(), ..Self::default() }
    }

    /// The mirrored copy of a frame. Panics if it does not fit into an IP packet.
    pub fn wrap(&self, inner: &[u8]) -> Vec<u8> {
        self.datagram(&self.vxlan(inner))
    }

    /// A UDP datagram with the outer headers and any payload.
    pub(super) fn datagram(&self, payload: &[u8]) -> Vec<u8> {
        let udp = self.udp(payload);
        let (ether_type, header) = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                (0x0800, self.ipv4(source.octets(), destination.octets(), udp.len()))
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                (0x86dd, self.ipv6(source.octets(), destination.octets(), udp.len()))
            }
            (source, destination) => panic!("{source} and {destination} are of two families"),
        };
        let mut frame = ethernet(self.destination_mac, self.source_mac, &self.tags, ether_type);
        frame.extend(header);
        frame.extend(udp);
        frame.extend(&self.trailer);
        frame
    }

    /// How many bytes stand before the inner frame.
    pub fn overhead(&self) -> usize {
        self.wrap(&[]).len() - self.trailer.len()
    }

    fn ipv4(&self, source: [u8; 4], destination: [u8; 4], payload: usize) -> Vec<u8> {
        assert!(self.options.len().is_multiple_of(4) && self.options.len() <= 40, "outer options");
        let header_length = 20 + self.options.len();
        let total_length: u16 = (header_length + payload).try_into().expect("an IPv4 packet");
        let mut header = Vec::with_capacity(header_length);
        header.push(0x40 | (header_length / 4) as u8);
        header.push(self.tos);
        header.extend(total_length.to_be_bytes());
        header.extend([0, 0]); // identification
        header.extend([0x40, 0]); // don't fragment, offset 0
        header.push(self.ttl);
        header.push(17);
        header.extend([0, 0]); // checksum
        header.extend(source);
        header.extend(destination);
        header.extend(&self.options);
        let checksum = Sum16BitWords::new().add_slice(&header).ones_complement();
        header[10..12].copy_from_slice(&checksum.to_ne_bytes());
        header
    }

    fn ipv6(&self, source: [u8; 16], destination: [u8; 16], payload: usize) -> Vec<u8> {
        let payload: u16 = payload.try_into().expect("an IPv6 packet");
        let mut header = Vec::with_capacity(40);
        header.extend((6 << 28 | u32::from(self.tos) << 20).to_be_bytes());
        header.extend(payload.to_be_bytes());
        header.push(17);
        header.push(self.ttl);
        header.extend(source);
        header.extend(destination);
        header
    }

    fn udp(&self, payload: &[u8]) -> Vec<u8> {
        let length: u16 = (8 + payload.len()).try_into().expect("a UDP datagram");
        let mut datagram = Vec::with_capacity(8 + payload.len());
        datagram.extend(self.source_port.to_be_bytes());
        datagram.extend(self.destination_port.to_be_bytes());
        datagram.extend(length.to_be_bytes());
        datagram.extend([0, 0]); // checksum
        datagram.extend(payload);
        if self.udp_checksum {
            let checksum = self
                .pseudo_header()
                .add_2bytes([0, 17])
                .add_2bytes(length.to_be_bytes())
                .add_slice(&datagram)
                .to_ones_complement_with_no_zero();
            datagram[6..8].copy_from_slice(&checksum.to_ne_bytes());
        }
        datagram
    }

    fn pseudo_header(&self) -> Sum16BitWords {
        let mut sum = Sum16BitWords::new();
        match (self.source, self.destination) {
            (IpAddr::V4(a), IpAddr::V4(b)) => sum.add_4bytes(a.octets()).add_4bytes(b.octets()),
            (IpAddr::V6(a), IpAddr::V6(b)) => sum.add_16bytes(a.octets()).add_16bytes(b.octets()),
            _ => sum,
        }
    }

    fn vxlan(&self, inner: &[u8]) -> Vec<u8> {
        let mut packet = Vec::with_capacity(8 + inner.len());
        packet.push(self.flags);
        packet.extend(self.reserved);
        packet.extend((self.vni << 8 | u32::from(self.reserved_last)).to_be_bytes());
        packet.extend(inner);
        packet
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{Ipv4Header, PacketHeaders, TransportHeader};

    use super::*;
    use crate::packet::Inner;

    #[test]
    fn the_outer_header_of_aws() {
        let inner = Inner::new([10, 0, 0, 1], [10, 0, 0, 2]).build();
        let frame = Mirror::vni(0x54_f9d1).wrap(&inner);
        assert_eq!(frame[42..50], [8, 0, 0, 0, 0x54, 0xf9, 0xd1, 0]);
        assert_eq!(frame[50..], inner);
        let (ip, _) = Ipv4Header::from_slice(&frame[14..]).unwrap();
        assert_eq!(ip.header_checksum, ip.calc_header_checksum());
        assert_eq!(usize::from(ip.total_len), frame.len() - 14);
        assert_eq!(frame[40..42], [0, 0]);
    }

    #[test]
    fn everything_that_is_optional() {
        let mirror = Mirror {
            tags: vec![Tag::service(1), Tag::customer(2)],
            options: vec![1; 8],
            udp_checksum: true,
            trailer: vec![0xee; 3],
            ..Mirror::default()
        };
        let frame = mirror.wrap(&[0xab; 20]);
        assert_eq!(mirror.overhead(), 14 + 8 + 28 + 8 + 8);
        assert_eq!(frame.len(), mirror.overhead() + 20 + 3);
        let headers = PacketHeaders::from_ethernet_slice(&frame).unwrap();
        let Some(TransportHeader::Udp(udp)) = headers.transport else { panic!("no UDP") };
        let expected = udp
            .calc_checksum_ipv4_raw([198, 18, 0, 1], [198, 18, 0, 2], headers.payload.slice())
            .unwrap();
        assert_eq!(udp.checksum, expected);
    }

    #[test]
    fn the_outer_header_over_ipv6() {
        let mirror = Mirror { udp_checksum: true, ..Mirror::over_ipv6() };
        let frame = mirror.wrap(&[0xab; 21]);
        assert_eq!(mirror.overhead(), 14 + 40 + 8 + 8);
        let headers = PacketHeaders::from_ethernet_slice(&frame).unwrap();
        let Some(TransportHeader::Udp(udp)) = headers.transport else { panic!("no UDP") };
        let (source, destination) = (MIRROR.ipv6.octets(), INGRESS.ipv6.octets());
        let expected =
            udp.calc_checksum_ipv6_raw(source, destination, headers.payload.slice()).unwrap();
        assert_eq!(udp.checksum, expected);
    }
}
