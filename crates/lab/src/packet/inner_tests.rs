use std::net::Ipv6Addr;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use super::*;

const A: [u8; 4] = [10, 0, 0, 1];
const B: [u8; 4] = [10, 0, 0, 2];

fn six(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last)
}

/// A parser that knows nothing of the builder finds what was asked for.
#[test]
fn a_tagged_datagram_with_options_parses() {
    let frame = Inner::new(A, B)
        .tag(Tag::service(5))
        .tag(Tag::customer(6))
        .options(&[0x94, 4, 0, 0])
        .ttl(9)
        .tos(0x2e << 2 | 1)
        .udp(7, 9)
        .payload_length(300)
        .build();
    let packet = SlicedPacket::from_ethernet(&frame).unwrap();
    assert_eq!(packet.link_exts.len(), 2);
    let Some(NetSlice::Ipv4(ip)) = packet.net else { panic!("no IPv4") };
    assert_eq!((ip.header().ttl(), ip.header().ihl(), ip.header().ecn().value()), (9, 6, 1));
    let Some(TransportSlice::Udp(udp)) = packet.transport else { panic!("no UDP") };
    assert_eq!((udp.source_port(), udp.destination_port(), udp.payload().len()), (7, 9, 300));
}

#[test]
fn extension_headers_parse() {
    let frame = Inner::new(six(1), six(2))
        .extension(Extension::hop_by_hop())
        .extension(Extension::routing())
        .extension(Extension::fragment(77, 0, false))
        .extension(Extension::destination(3))
        .tcp(80, 4000, 1)
        .payload(b"x")
        .build();
    assert_eq!(frame.len(), 14 + 40 + 8 + 8 + 8 + 24 + 20 + 1);
    let packet = SlicedPacket::from_ethernet(&frame).unwrap();
    let Some(TransportSlice::Tcp(tcp)) = packet.transport else { panic!("no TCP") };
    assert_eq!(tcp.payload(), b"x");
}

#[test]
fn fragments_add_up() {
    let whole = Inner::new(A, B).payload_length(100);
    let fragments = whole.fragments(48);
    assert_eq!(fragments.len(), 3);
    let joined: Vec<u8> = fragments.iter().flat_map(|frame| frame[34..].to_vec()).collect();
    assert_eq!(joined, whole.build()[34..]);
    let flags: Vec<u16> =
        fragments.iter().map(|frame| u16::from_be_bytes([frame[20], frame[21]])).collect();
    assert_eq!(flags, [0x2000, 0x2000 | 6, 12]);
}

#[test]
fn ipv6_fragments_add_up() {
    let whole = Inner::new(six(1), six(2)).identification(5).payload_length(100);
    let fragments = whole.fragments(64);
    let joined: Vec<u8> = fragments.iter().flat_map(|frame| frame[62..].to_vec()).collect();
    assert_eq!(joined, whole.build()[54..]);
    assert_eq!(fragments[1][54..62], [17, 0, 0, 64, 0, 0, 0, 5]);
}

#[test]
fn echo_follows_the_family() {
    assert_eq!(Inner::new(A, B).echo(1, 2).build()[34..36], [8, 0]);
    assert_eq!(Inner::new(six(1), six(2)).echo(1, 2).build()[54..56], [128, 0]);
}

#[test]
fn arp_has_its_wire_length() {
    let frame = arp_request([2, 0, 0, 0, 0, 1], A, B);
    assert_eq!(frame.len(), 42);
    assert_eq!(frame[12..22], [8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
}
