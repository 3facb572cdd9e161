//! Rules and addresses as the kernel has them, and back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Result, bail};
use config::{NatMatch, NatProtocol};
use ipnet::IpNet;

use crate::abi::{
    NAT_ANY_VNI, NAT_KEY_FIXED_BITS, NAT_SHAPE_MAX, NAT_SHAPE_PLAIN, NAT_SHAPE_PROTOCOL,
    NAT_SHAPE_VNI, NAT_SHAPE_VNI_PROTOCOL, nat_key,
};

/// Which look-up finds the rule: `NAT_SHAPE_*`, behind those of IPv4 for an IPv6 rule.
pub(super) fn shape(matched: &NatMatch) -> u32 {
    let family = if matched.ipv6 { NAT_SHAPE_MAX } else { 0 };
    family
        + match (matched.vni.is_some(), matched.protocol != NatProtocol::Any) {
            (true, true) => NAT_SHAPE_VNI_PROTOCOL,
            (true, false) => NAT_SHAPE_VNI,
            (false, true) => NAT_SHAPE_PROTOCOL,
            (false, false) => NAT_SHAPE_PLAIN,
        }
}

/// The key of `nat_map` for what a rule matches.
pub(super) fn key(matched: &NatMatch, generation: u8) -> nat_key {
    let (address, length) = match matched.destination {
        Some(net) => (encode_address(net.network()), net.prefix_len()),
        None => ([0; 16], 0),
    };
    nat_key {
        prefixlen: NAT_KEY_FIXED_BITS + u32::from(length),
        generation,
        family: if matched.ipv6 { 6 } else { 4 },
        protocol: match (matched.protocol, matched.ipv6) {
            (NatProtocol::Any, _) => 0,
            (NatProtocol::Tcp, _) => libc::IPPROTO_TCP as u8,
            (NatProtocol::Udp, _) => libc::IPPROTO_UDP as u8,
            (NatProtocol::Icmp, false) => libc::IPPROTO_ICMP as u8,
            (NatProtocol::Icmp, true) => libc::IPPROTO_ICMPV6 as u8,
        },
        vni: matched.vni.map_or(NAT_ANY_VNI, u32::to_be),
        port: matched.port.to_be(),
        address,
        ..Default::default()
    }
}

/// What a key of `nat_map` matches.
///
/// # Errors
/// The key is none that [`key`] makes.
pub(super) fn decode_key(key: &nat_key) -> Result<NatMatch> {
    let destination = match key.prefixlen.saturating_sub(NAT_KEY_FIXED_BITS) as u8 {
        0 => None,
        length => Some(IpNet::new(decode_address(key.family, &key.address), length)?),
    };
    let protocol = match i32::from(key.protocol) {
        0 => NatProtocol::Any,
        libc::IPPROTO_TCP => NatProtocol::Tcp,
        libc::IPPROTO_UDP => NatProtocol::Udp,
        libc::IPPROTO_ICMP | libc::IPPROTO_ICMPV6 => NatProtocol::Icmp,
        other => bail!("nat_map holds a rule for protocol {other}"),
    };
    Ok(NatMatch {
        ipv6: key.family == 6,
        protocol,
        port: u16::from_be(key.port),
        destination,
        vni: (key.vni != NAT_ANY_VNI).then(|| u32::from_be(key.vni)),
    })
}

/// An address as `abi.h` has it: IPv4 in the first four bytes.
pub(crate) fn encode_address(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&v4.octets());
            bytes
        }
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The address of a family, 4 or 6.
pub(crate) fn decode_address(family: u8, bytes: &[u8; 16]) -> IpAddr {
    match family {
        4 => Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into(),
        _ => Ipv6Addr::from(*bytes).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plain;

    fn matched(vni: Option<u32>, protocol: NatProtocol, destination: Option<&str>) -> NatMatch {
        NatMatch {
            ipv6: destination.is_some_and(|net| net.contains(':')),
            protocol,
            port: if protocol.has_ports() { 31765 } else { 0 },
            destination: destination.map(|net| net.parse().unwrap()),
            vni,
        }
    }

    #[test]
    fn a_key_holds_port_and_vni_in_network_order() {
        let udp = matched(Some(7), NatProtocol::Udp, Some("198.51.100.0/24"));
        let key = key(&udp, 3);
        assert_eq!(
            plain::bytes(&key)[4..],
            *b"\x03\x04\x11\x00\x00\x00\x00\x07\x7c\x15\xc6\x33\x64\x00\
               \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
        );
        assert_eq!(key.prefixlen, 80 + 24);
    }

    #[test]
    fn icmp_is_of_the_family() {
        let v4 = key(&matched(None, NatProtocol::Icmp, Some("198.51.100.0/24")), 1);
        let v6 = key(&matched(None, NatProtocol::Icmp, Some("2001:db8::/32")), 1);
        assert_eq!((v4.protocol, v4.port, v4.family), (1, 0, 4));
        assert_eq!((v6.protocol, v6.port, v6.family), (58, 0, 6));
    }

    #[test]
    fn a_match_survives_the_way_into_the_kernel_and_back() {
        for matched in [
            matched(None, NatProtocol::Any, None),
            matched(Some(0xffffff), NatProtocol::Tcp, Some("198.51.100.7/32")),
            matched(Some(0), NatProtocol::Udp, Some("2001:db8::/32")),
            matched(None, NatProtocol::Icmp, None),
            matched(None, NatProtocol::Icmp, Some("2001:db8::1/128")),
        ] {
            assert_eq!(decode_key(&key(&matched, 1)).unwrap(), matched);
        }
    }

    #[test]
    fn each_kind_of_rule_has_a_shape() {
        let v6 = Some("2001:db8::/32");
        let icmp = matched(Some(1), NatProtocol::Icmp, v6);
        assert_eq!(shape(&icmp), NAT_SHAPE_MAX + NAT_SHAPE_VNI_PROTOCOL);
        assert_eq!(shape(&matched(Some(1), NatProtocol::Any, None)), NAT_SHAPE_VNI);
        assert_eq!(shape(&matched(None, NatProtocol::Icmp, None)), NAT_SHAPE_PROTOCOL);
        assert_eq!(shape(&matched(None, NatProtocol::Any, None)), NAT_SHAPE_PLAIN);
    }
}
