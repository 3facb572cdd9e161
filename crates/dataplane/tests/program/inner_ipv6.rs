//! C3, D14: inner IPv6, with and without extension headers.

use config::NatProtocol;
use dataplane::abi::Verdict::{InnerMalformed, Truncated, ZeroLength};

use crate::case::{Case, case, check, out, unchanged, verdict};
use crate::frame::{Frame, TCP, UDP, mirror, pattern, tcp6, udp6};
use crate::rig::{rule, with_rig};

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const DESTINATION_OPTIONS: u8 = 60;
const TARGET: &str = "[2001:db8::99]:8081";

/// Leaves translated.
fn translated(name: &str, frame: Frame) -> Case {
    let expected = frame.clone().translated(TARGET).bytes();
    case(name, mirror(&frame.bytes()), out(expected).nat())
}

/// Every chain must be followed to the transport header, where a rule matches.
#[test]
fn d14_extension_headers() {
    let hop = |frame: Frame| frame.options_header(HOP_BY_HOP, 1);
    let all = |frame: Frame| {
        hop(frame)
            .options_header(DESTINATION_OPTIONS, 1)
            .options_header(ROUTING, 3)
            .fragment_header(0)
            .options_header(DESTINATION_OPTIONS, 2)
    };
    let seven = (0..7).fold(udp6(), |frame, _| frame.options_header(DESTINATION_OPTIONS, 1));
    let cases = vec![
        translated("C3 UDP", udp6()),
        translated("C3 TCP", tcp6()),
        translated(
            "C3 flow label and traffic class",
            udp6().flow_label(0xabcde).traffic_class(0xff),
        ),
        translated("C3 tagged", tcp6().tag(0x88a8, 100).tag(0x8100, 5)),
        translated("C3 padded", udp6().payload(&[]).trailer(&[0; 20])),
        translated("D14 hop-by-hop", hop(udp6())),
        translated("D14 hop-by-hop, TCP", hop(tcp6())),
        translated("D14 destination options", udp6().options_header(DESTINATION_OPTIONS, 2)),
        translated("D14 long destination options", udp6().options_header(DESTINATION_OPTIONS, 31)),
        translated("D14 routing", tcp6().options_header(ROUTING, 5)),
        translated("D14 atomic fragment", udp6().fragment_header(0)),
        translated("D14 atomic fragment, reserved bits set", udp6().fragment_header(6)),
        translated("D14 all of them", all(udp6())),
        translated("D14 all of them, TCP, tagged", all(tcp6()).tag(0x8100, 5)),
        translated("D14 seven headers", seven.clone()),
        translated("D14 eight headers", seven.options_header(DESTINATION_OPTIONS, 1)),
        translated("D7 UDP checksum 0 stays", udp6().checksum(0)),
    ];
    with_rig(
        |_| {},
        |rig| {
            rig.rules(&[rule(NatProtocol::Any, 31765, TARGET)]);
            check(rig, cases);
        },
    );
}

/// What has no transport header that could be read leaves as it is.
#[test]
fn d14_chains_without_ports() {
    let other = |name: &str, protocol: u8| {
        unchanged(name, udp6().raw(protocol).payload(&pattern(40)).bytes())
    };
    let udp = udp6().layer4();
    let nine = (0..9).fold(udp6(), |frame, _| frame.options_header(DESTINATION_OPTIONS, 1));
    // The IP packet ends with the option header, and its trailer looks like the rest of it.
    let behind = |next: u8, trailer: &[u8]| {
        udp6().raw(HOP_BY_HOP).payload(&[next, 0, 1, 4, 0, 0, 0, 0]).trailer(trailer).bytes()
    };
    let fragment = [UDP, 0, 0, 8, 0, 0, 0, 1];
    let ah = [&[UDP, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2][..], &udp].concat();
    let cases = vec![
        other("C3 ICMPv6", 58),
        other("D14 AH", 51),
        other("D14 ESP", 50),
        other("D17 SCTP", 132),
        unchanged("D14 AH with UDP behind", udp6().raw(51).payload(&ah).bytes()),
        other("C3 IPv4 in IPv6", 4),
        other("C3 protocol 255", 255),
        unchanged("C3 no next header", udp6().raw(59).payload(&[]).bytes()),
        unchanged("C3 no next header, bytes behind", udp6().raw(59).payload(&udp).bytes()),
        unchanged("D14 nine headers", nine.bytes()),
        unchanged("D14 option header in the trailer", behind(DESTINATION_OPTIONS, &pattern(64))),
        unchanged("D14 transport header in the trailer", behind(UDP, &udp)),
        unchanged("D14 fragment header in the trailer", behind(44, &fragment)),
        unchanged(
            "D14 UDP header partly in the trailer",
            udp6().raw(UDP).payload(&udp[..7]).trailer(&udp[7..]).bytes(),
        ),
        unchanged(
            "D14 TCP header partly in the trailer",
            udp6().raw(TCP).payload(&tcp6().layer4()[..19]).trailer(&[0; 9]).bytes(),
        ),
        case(
            "D14 option header longer than the packet",
            mirror(&udp6().raw(HOP_BY_HOP).payload(&[UDP, 90, 1, 4, 0, 0, 0, 0]).bytes()),
            out(udp6().raw(HOP_BY_HOP).payload(&[UDP, 90, 1, 4, 0, 0, 0, 0]).bytes()),
        ),
    ];
    with_rig(
        |_| {},
        |rig| {
            rig.rules(&[rule(NatProtocol::Any, 31765, TARGET)]);
            check(rig, cases);
        },
    );
}

#[test]
fn c3_and_c5_headers_that_cannot_be_read() {
    let malformed =
        |name: &str, frame: Vec<u8>| case(name, mirror(&frame), verdict(InnerMalformed));
    let cases = vec![
        malformed("C5 version 4 under ethertype 86dd", udp6().first_byte(0x45).bytes()),
        malformed("C5 version 0 under ethertype 86dd", udp6().first_byte(0).bytes()),
        malformed("C5 header cut", udp6().bytes()[..14 + 39].to_vec()),
        malformed("C5 no header", udp6().bytes()[..14].to_vec()),
        malformed("C5 IPv4 under ethertype 86dd", crate::frame::udp4().ethertype(0x86dd).bytes()),
        case("C5 payload length 0", mirror(&udp6().ip_length(0).bytes()), verdict(ZeroLength)),
        case(
            "C5 payload length 0, jumbo payload option",
            mirror(&udp6().extension(0, &[0, 0xc2, 4, 0, 1, 0, 0]).ip_length(0).bytes()),
            verdict(ZeroLength),
        ),
    ];
    with_rig(|_| {}, |rig| check(rig, cases));
}

#[test]
fn c6_truncated_packets() {
    let cut = |frame: Frame, length: usize| frame.bytes()[..length].to_vec();
    let chain = udp6().options_header(HOP_BY_HOP, 2).options_header(ROUTING, 2);
    let frames = || {
        [
            ("C6 by one byte", cut(udp6(), 93)),
            ("C6 to the IP header", cut(udp6(), 54)),
            ("C6 in an extension header", cut(chain.clone(), 60)),
            ("C6 payload length 65535", udp6().ip_length(0xffff).bytes()),
            ("C6 behind a tag", cut(tcp6().tag(0x8100, 5), 80)),
        ]
    };
    let forwarded =
        frames().map(|(name, frame)| case(name, mirror(&frame), out(frame).truncated()));
    let dropped = frames().map(|(name, frame)| case(name, mirror(&frame), verdict(Truncated)));
    with_rig(|_| {}, |rig| check(rig, forwarded.into()));
    with_rig(|config| config.truncated_drop = 1, |rig| check(rig, dropped.into()));
}
