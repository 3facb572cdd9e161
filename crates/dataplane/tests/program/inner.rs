//! C: the inner frame, Ethernet and IPv4.

use config::NatProtocol;
use dataplane::abi::Verdict::{self, InnerMalformed, NonIp, Truncated, Unmatched, ZeroLength};

use crate::case::{Case, case, check, out, unchanged, verdict};
use crate::frame::{Frame, ethernet, mirror, outer, pattern, tcp4, udp4, udp6};
use crate::rig::{rule, with_rig};

fn dropped(name: &str, inner: Vec<u8>, reason: Verdict) -> Case {
    case(name, mirror(&inner), verdict(reason))
}

#[test]
fn c1_vlan_tags_stay() {
    let cases = vec![
        unchanged("C1 802.1Q", udp4().tag(0x8100, 0x2005).bytes()),
        unchanged("C1 802.1ad", udp4().tag(0x88a8, 100).bytes()),
        unchanged("C1 QinQ", udp4().tag(0x88a8, 100).tag(0x8100, 5).bytes()),
        unchanged("C1 802.1Q twice", tcp4().tag(0x8100, 100).tag(0x8100, 5).bytes()),
        unchanged("C1 802.1Q, options", tcp4().tag(0x8100, 100).options(&[1; 8]).bytes()),
    ];
    with_rig(|_| {}, |rig| check(rig, cases));
}

/// Frames that are not IP, or where no IP header can be found.
fn not_ip() -> Vec<(&'static str, Vec<u8>)> {
    let three_tags = udp4().tag(0x88a8, 1).tag(0x8100, 2).tag(0x8100, 3);
    vec![
        ("C2 ARP", ethernet(0x0806, &pattern(28))),
        ("C2 ARP, padded", ethernet(0x0806, &pattern(46))),
        ("C2 ARP, tagged", udp4().tag(0x8100, 5).ethertype(0x0806).layer2(&pattern(28))),
        ("C2 LLDP", ethernet(0x88cc, &pattern(60))),
        ("C2 802.3 with LLC", ethernet(0x0026, &pattern(38))),
        ("C2 MPLS with IP behind", ethernet(0x8847, &udp4().layer3())),
        ("C2 PPPoE session", ethernet(0x8864, &pattern(60))),
        ("C2 PPPoE discovery", ethernet(0x8863, &pattern(60))),
        ("C2 EAPOL", ethernet(0x888e, &pattern(46))),
        ("C2 MACsec", ethernet(0x88e5, &pattern(46))),
        ("C2 ethertype 0", ethernet(0, &pattern(46))),
        ("C1 three tags", three_tags.bytes()),
        ("C1 pre-standard QinQ 0x9100", udp4().tag(0x9100, 1).bytes()),
        ("C1 tag cut", ethernet(0x8100, &[0, 5, 8])),
        ("C1 second tag cut", ethernet(0x88a8, &[0, 5, 0x81, 0, 0, 6])),
    ]
}

/// IPv4 that can't be read.
fn unreadable() -> Vec<(&'static str, Vec<u8>)> {
    let short = 14 + 19;
    vec![
        ("C5 IHL 4", udp4().first_byte(0x44).bytes()),
        ("C5 IHL 0", udp4().first_byte(0x40).bytes()),
        ("C5 version 6 under ethertype 0800", udp4().first_byte(0x65).bytes()),
        ("C5 version 0", udp4().first_byte(0x05).bytes()),
        ("C5 IPv6 under ethertype 0800", ethernet(0x0800, &udp6().layer3())),
        ("C5 total length 1", udp4().ip_length(1).bytes()),
        ("C5 total length < IHL", udp4().ip_length(19).bytes()),
        ("C5 total length < IHL with options", udp4().options(&[1; 12]).ip_length(31).bytes()),
        ("C5 header cut", udp4().bytes()[..short].to_vec()),
        ("C5 no header at all", ethernet(0x0800, &[])),
        ("C5 header cut behind a tag", udp4().tag(0x8100, 5).bytes()[..short + 4].to_vec()),
    ]
}

#[test]
fn c5_what_can_not_be_read_does_not_pass_an_allowlist() {
    let cases = unreadable().into_iter().map(|(name, frame)| dropped(name, frame, InnerMalformed));
    with_rig(
        |config| {
            config.non_ip_forward = 1;
            config.allowlist_enabled = 1;
        },
        |rig| check(rig, cases.collect()),
    );
}

#[test]
fn c2_and_c5_not_ip_is_dropped() {
    let mut cases = Vec::new();
    cases.extend(not_ip().into_iter().map(|(name, frame)| dropped(name, frame, NonIp)));
    cases
        .extend(unreadable().into_iter().map(|(name, frame)| dropped(name, frame, InnerMalformed)));
    cases.push(dropped("C5 total length 0", udp4().ip_length(0).bytes(), ZeroLength));
    with_rig(|_| {}, |rig| check(rig, cases));
}

#[test]
fn c2_and_c5_not_ip_is_forwarded() {
    let frames = not_ip().into_iter().chain(unreadable());
    let mut cases: Vec<Case> = frames.map(|(name, frame)| unchanged(name, frame)).collect();
    cases.push(dropped("C5 total length 0", udp4().ip_length(0).bytes(), ZeroLength));
    cases.push(dropped("UNMATCHED=drop is about IP", tcp4().to("1.2.3.4:5").bytes(), Unmatched));
    with_rig(
        |config| {
            config.non_ip_forward = 1;
            config.unmatched_drop = 1;
        },
        |rig| {
            rig.rules(&[rule(NatProtocol::Any, 31765, "192.0.2.9:8081")]);
            check(rig, cases);
        },
    );
}

#[test]
fn c4_options_and_protocols() {
    let protocol = |name: &str, protocol: u8| {
        unchanged(name, udp4().raw(protocol).payload(&pattern(40)).bytes())
    };
    let mut cases = vec![
        protocol("C2 ICMP", 1),
        protocol("C4 IGMP", 2),
        protocol("D17 SCTP", 132),
        protocol("D17 GRE", 47),
        protocol("D17 ESP", 50),
        protocol("D17 AH", 51),
        protocol("D17 UDP-Lite", 136),
        protocol("C2 protocol 0", 0),
        protocol("C2 protocol 255", 255),
        unchanged("C4 router alert", udp4().raw(2).options(&[148, 4, 0, 0]).bytes()),
        unchanged("C2 no payload at all", udp4().raw(59).payload(&[]).bytes()),
    ];
    for words in 1..=10 {
        let name = format!("C4 {words} words of options");
        cases.push(unchanged(name, tcp4().options(&[1, 1, 1, 0].repeat(words)).bytes()));
    }
    with_rig(|_| {}, |rig| check(rig, cases));
}

#[test]
fn c7_and_c8_nothing_is_repaired() {
    let cases = vec![
        unchanged("C7 padded to 60", udp4().payload(&[]).trailer(&[0; 18]).bytes()),
        unchanged("C7 trailer that is no zeros", udp4().trailer(&pattern(33)).bytes()),
        unchanged("C7 trailer longer than the packet", udp4().trailer(&pattern(700)).bytes()),
        unchanged("C7 one byte", udp4().trailer(&[0xee]).bytes()),
        unchanged("C8 partial UDP checksum", udp4().checksum(0x1bad).bytes()),
        unchanged("C8 partial TCP checksum", tcp4().checksum(0x1bad).bytes()),
        unchanged("D10 IP checksum 0 by offload", udp4().ip_checksum(0).bytes()),
        unchanged("D4 UDP checksum 0", udp4().checksum(0).bytes()),
        unchanged("C5 UDP length 0", udp4().udp_length(0).bytes()),
        unchanged("C5 UDP length 65535", udp4().udp_length(0xffff).bytes()),
        unchanged("D18 TCP data offset 0", tcp4().data_offset(0).bytes()),
    ];
    with_rig(|_| {}, |rig| check(rig, cases));
}

/// Packets that the mirror cut: the IP length is greater than what is there.
fn cut() -> Vec<(&'static str, Frame, usize)> {
    vec![
        ("C6 by one byte", udp4(), 73),
        ("C6 to the IP header", udp4(), 34),
        ("C6 in the UDP header", udp4(), 40),
        ("C6 in the options", udp4().options(&[1; 12]), 14 + 25),
        ("C6 behind a tag", tcp4().tag(0x8100, 5), 60),
        ("C6 total length 65535", udp4().ip_length(0xffff), 74),
        ("C6 a long one to 128", tcp4().payload(&pattern(1400)), 128),
    ]
}

#[test]
fn c6_truncated_packets_are_forwarded() {
    let case = |(name, frame, length): (&str, Frame, usize)| {
        let inner = frame.bytes()[..length].to_vec();
        case(name, mirror(&inner), out(inner).truncated())
    };
    let mut cases: Vec<Case> = cut().into_iter().map(case).collect();
    // Outer padding is not what is missing.
    let inner = udp4().bytes()[..60].to_vec();
    let packet = outer().carry(&inner).trailer(&[0; 40]).bytes();
    cases.push(self::case("C6 with outer padding", packet, out(inner).truncated()));
    with_rig(|_| {}, |rig| check(rig, cases));
}

/// What the outer padding holds is not a part of the inner frame, even where it would fit.
#[test]
fn a9_outer_padding_is_not_read() {
    let split = |name: &str, frame: Frame, at: usize, outcome| {
        let inner = frame.bytes();
        case(name, outer().carry(&inner[..at]).trailer(&inner[at..]).bytes(), outcome)
    };
    let cut = |frame: Frame, at: usize| out(&frame.bytes()[..at]).truncated();
    let cases = vec![
        split("A9 Ethernet header", udp4(), 13, verdict(Verdict::InnerShort)),
        split("A9 VLAN tag", udp4().tag(0x8100, 5), 15, verdict(NonIp)),
        split("A9 IPv4 header", udp4(), 33, verdict(InnerMalformed)),
        split("A9 IPv6 header", udp6(), 53, verdict(InnerMalformed)),
        split("A9 options", udp4().options(&[1; 8]), 40, cut(udp4().options(&[1; 8]), 40)),
        split("A9 UDP header", udp4(), 41, cut(udp4(), 41)),
        split("A9 TCP header", tcp4(), 53, cut(tcp4(), 53)),
        split("A9 UDP header, IPv6", udp6(), 61, cut(udp6(), 61)),
        split(
            "A9 extension header",
            udp6().options_header(0, 1),
            61,
            cut(udp6().options_header(0, 1), 61),
        ),
    ];
    with_rig(
        |_| {},
        |rig| {
            let targets = ["192.0.2.9:8081", "[2001:db8::99]:8081"];
            rig.rules(&targets.map(|target| rule(NatProtocol::Any, 31765, target)));
            check(rig, cases);
        },
    );
}

#[test]
fn c6_truncated_packets_are_dropped() {
    let case = |(name, frame, length): (&str, Frame, usize)| {
        case(name, mirror(&frame.bytes()[..length]), verdict(Truncated))
    };
    let mut cases: Vec<Case> = cut().into_iter().map(case).collect();
    cases.push(unchanged("C6 nothing is missing", udp4().bytes()));
    cases.push(unchanged("C7 more than nothing is missing", udp4().trailer(&[0; 9]).bytes()));
    with_rig(|config| config.truncated_drop = 1, |rig| check(rig, cases));
}
