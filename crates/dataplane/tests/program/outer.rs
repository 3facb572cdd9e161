//! A: the outer frame. Is it for the pipeline, and where does the inner frame stand?

use dataplane::abi::Verdict::{OuterFragment, OuterLength, VxlanShort, ZeroLength};

use crate::case::{Case, case, check, out, passed, unchanged, verdict};
use crate::frame::{DF, Frame, MF, UDP, mirror, outer, outer6, pattern, udp4};
use crate::rig::with_rig;

fn inner() -> Vec<u8> {
    udp4().bytes()
}

/// This outer header around the usual inner frame, which must leave as it is.
fn accepted(name: &str, outer: Frame) -> Case {
    case(name, outer.carry(&inner()).bytes(), out(inner()))
}

fn ignored(name: &str, outer: Frame) -> Case {
    case(name, outer.carry(&inner()).bytes(), passed())
}

#[test]
fn a1_to_a2_ports() {
    let port = |name: &str, port: u16| ignored(name, outer().to(&format!("192.0.2.102:{port}")));
    let cases = vec![
        accepted("A1 source port 49152", outer().from("192.0.2.101:49152")),
        accepted("A1 source port 65535", outer().from("192.0.2.101:65535")),
        accepted("A1 source port 0", outer().from("192.0.2.101:0")),
        accepted("A1 source port 4789 too", outer().from("192.0.2.101:4789")),
        ignored(
            "A1 source port 4789 only",
            outer().from("192.0.2.101:4789").to("192.0.2.102:9999"),
        ),
        port("A2 old Linux port 8472", 8472),
        port("A2 GPE port 4790", 4790),
        port("A2 port 58678", 58678),
        port("A2 port with its bytes swapped", 4789u16.swap_bytes()),
        port("A11 GENEVE port 6081", 6081),
    ];
    with_rig(|_| {}, |rig| check(rig, cases));
}

#[test]
fn a2_another_port_is_configured() {
    let cases = vec![
        accepted("A2 8472 when it is configured", outer().to("192.0.2.102:8472")),
        ignored("A2 4789 when it is not", outer()),
    ];
    with_rig(|config| config.vxlan_port = 8472u16.to_be(), |rig| check(rig, cases));
}

#[test]
fn a3_vlan_tags() {
    let cases = vec![
        accepted("A3 outer 802.1Q", outer().tag(0x8100, 5)),
        accepted("A3 outer 802.1Q, priority only", outer().tag(0x8100, 0xe000)),
        accepted("A3 outer 802.1ad", outer().tag(0x88a8, 100)),
        accepted("A3 outer QinQ", outer().tag(0x88a8, 100).tag(0x8100, 5)),
        accepted("A3 outer 802.1Q twice", outer().tag(0x8100, 100).tag(0x8100, 5)),
        accepted("A3 outer QinQ, IPv6", outer6().tag(0x88a8, 100).tag(0x8100, 5)),
        accepted("A3 outer 802.1Q, IPv4 options", outer().tag(0x8100, 5).options(&[1; 12])),
        ignored("A3 three tags", outer().tag(0x88a8, 1).tag(0x8100, 2).tag(0x8100, 3)),
        ignored("A3 pre-standard QinQ 0x9100", outer().tag(0x9100, 1).tag(0x8100, 2)),
    ];
    with_rig(|_| {}, |rig| check(rig, cases));
}

#[test]
fn a4_ipv6() {
    let chain = outer6().options_header(0, 1).options_header(60, 2).options_header(43, 3);
    let cases = vec![
        accepted("A4 UDP checksum 0", outer6()),
        accepted("A4 UDP checksum wrong", outer6().checksum(0x1bad)),
        accepted("A4 flow label", outer6().flow_label(0xfffff)),
        accepted("A4 traffic class", outer6().traffic_class(0xff)),
        accepted("A4 hop-by-hop options", outer6().options_header(0, 1)),
        accepted("A4 destination options", outer6().options_header(60, 3)),
        accepted("A4 routing header", outer6().options_header(43, 2)),
        accepted("A4 chain", chain.clone()),
        accepted("A4 802.1Q, chain", chain.tag(0x8100, 5)),
        accepted("A4 long destination options", outer6().options_header(60, 31)),
        accepted("A6 atomic fragment", outer6().fragment_header(0)),
        accepted("A6 atomic fragment in a chain", outer6().options_header(0, 1).fragment_header(0)),
        ignored("A4 version 4 in an IPv6 header", outer6().first_byte(0x40)),
        ignored("A4 authentication header", outer6().extension(51, &[1, 0, 0, 0, 0, 0, 1])),
    ];
    with_rig(|_| {}, |rig| check(rig, cases));
}

#[test]
fn a4_and_a8_right_udp_checksum() {
    // `outer` sets 0; the right one comes from the builder, which computes it over everything.
    let right = |frame: Frame| {
        let frame = frame.carry(&inner());
        let segment = frame.layer4();
        let source = if frame.is_ipv4() { "192.0.2.101" } else { "2001:db8:aaaa::1" };
        let to = if frame.is_ipv4() { "192.0.2.102" } else { "2001:db8:aaaa::2" };
        let sum = crate::frame::pseudo_header(
            source.parse().unwrap(),
            to.parse().unwrap(),
            UDP,
            &segment,
        );
        frame.checksum(sum.add_slice(&segment).to_ones_complement_with_no_zero().to_be())
    };
    let cases = vec![
        accepted("A7 UDP checksum 0", outer()),
        case("A8 UDP checksum right", right(outer()).bytes(), out(inner())),
        case("A4 UDP checksum right", right(outer6()).bytes(), out(inner())),
        accepted("A8 UDP checksum wrong: not verified", outer().checksum(0x1bad)),
        accepted("A8 IP checksum wrong: not verified", outer().ip_checksum(0)),
    ];
    with_rig(|_| {}, |rig| check(rig, cases));
}

#[test]
fn a5_ipv4_options() {
    let mut cases = Vec::new();
    for words in 1..=10 {
        let options = [148, 4, 0, 0].repeat(words); // router alert
        cases.push(accepted(&format!("A5 {words} words of options"), outer().options(&options)));
    }
    cases.extend([
        accepted("A5 DF", outer().flags(DF)),
        accepted("A5 evil bit", outer().flags(0x8000)),
        ignored("A5 IHL 4", outer().first_byte(0x44)),
        ignored("A5 version 6 in an IPv4 header", outer().first_byte(0x65)),
    ]);
    with_rig(|_| {}, |rig| check(rig, cases));
}

#[test]
fn a6_fragments() {
    let cut = |outer: Frame, at: usize| {
        outer.carry(&inner()).fragments(&[at]).iter().map(Frame::bytes).collect::<Vec<_>>()
    };
    let (v4, v6) = (cut(outer(), 48), cut(outer6(), 48));
    let vlan = cut(outer().tag(0x8100, 5), 48);
    // A later fragment whose bytes could be taken for a UDP header to the port.
    let disguised = outer().carry(&inner()).flags(1).bytes();
    let disguised6 = outer6().carry(&inner()).fragment_header(8).bytes();
    let cases = vec![
        case("A6 first", v4[0].clone(), verdict(OuterFragment)),
        case("A6 first, behind a tag", vlan[0].clone(), verdict(OuterFragment)),
        case("A6 first, UDP header only", cut(outer(), 8)[0].clone(), verdict(OuterFragment)),
        case("A6 first, VXLAN header only", cut(outer(), 16)[0].clone(), verdict(OuterFragment)),
        case("A6 later", v4[1].clone(), passed()),
        case("A6 later, behind a tag", vlan[1].clone(), passed()),
        case("A6 later that looks like VXLAN", disguised, passed()),
        case("A6 first, IPv6", v6[0].clone(), verdict(OuterFragment)),
        case("A6 later, IPv6", v6[1].clone(), passed()),
        case("A6 later that looks like VXLAN, IPv6", disguised6, passed()),
        case(
            "A6 first to another port",
            outer().to("192.0.2.102:53").carry(&inner()).flags(MF).bytes(),
            passed(),
        ),
    ];
    with_rig(|_| {}, |rig| check(rig, cases));
}

#[test]
fn a9_bytes_behind_the_packet() {
    let short = crate::frame::ethernet(0x0800, &udp4().payload(&[]).layer3());
    let around = |outer: Frame, trailer: &[u8]| outer.carry(&short).trailer(trailer).bytes();
    // The IP packet is longer than the UDP datagram in it.
    let gap = |outer: Frame| {
        let length = (8 + 8 + short.len()) as u16;
        outer.udp_length(length).carry(&[&short[..], b"not the inner frame"].concat()).bytes()
    };
    let cases = vec![
        case("A9 frame check sequence", around(outer(), &[0xaa; 4]), out(short.clone())),
        case("A9 padding", around(outer(), &[0; 46]), out(short.clone())),
        case("A9 long trailer", around(outer(), &pattern(900)), out(short.clone())),
        case("A9 padding, IPv6", around(outer6(), &[0xaa; 30]), out(short.clone())),
        case("A9 padding, VLAN", around(outer().tag(0x8100, 5), &[0xaa; 30]), out(short.clone())),
        case("A9 IP longer than UDP", gap(outer()), out(short.clone())),
        case("A9 IP longer than UDP, IPv6", gap(outer6()), out(short.clone())),
    ];
    with_rig(|_| {}, |rig| check(rig, cases));
}

#[test]
fn a10_lengths() {
    let odd = |name: &str, outer: Frame, expected| {
        case(name, outer.carry(&inner()).bytes(), verdict(expected))
    };
    let (ip, udp) = (28 + 8 + inner().len() as u16, 16 + inner().len() as u16);
    let cases = vec![
        odd("A10 UDP length 0", outer().udp_length(0), OuterLength),
        odd("A10 UDP length 7", outer().udp_length(7), OuterLength),
        odd("A10 UDP length 8", outer().udp_length(8), VxlanShort),
        odd("A10 UDP length 15", outer().udp_length(15), VxlanShort),
        odd("A10 UDP length one too much", outer().udp_length(udp + 1), OuterLength),
        odd("A10 UDP length 65535", outer().udp_length(0xffff), OuterLength),
        odd("A10 UDP length, IPv6", outer6().udp_length(udp + 1), OuterLength),
        odd("A10 UDP length 0, IPv6", outer6().udp_length(0), OuterLength),
        odd("A10 IP total length 0", outer().ip_length(0), ZeroLength),
        odd("A10 IPv6 payload length 0", outer6().ip_length(0), ZeroLength),
        odd("A10 IP longer than the frame by one", outer().ip_length(ip + 1), OuterLength),
        odd("A10 IP longer than the frame", outer().ip_length(0xffff), OuterLength),
        odd("A10 IP shorter than UDP by one", outer().ip_length(ip - 1), OuterLength),
        odd("A10 IP ends with the UDP header", outer().ip_length(28), OuterLength),
        odd("A10 IP ends with its own header", outer().ip_length(20), OuterLength),
        odd("A10 IP shorter than its own header", outer().ip_length(19), OuterLength),
        odd("A10 IPv6 longer than the frame", outer6().ip_length(udp + 1), OuterLength),
        odd("A10 IPv6 shorter than UDP", outer6().ip_length(udp - 1), OuterLength),
        case(
            "A10 the trailer does not make up for a short IP length",
            outer().ip_length(ip - 1).carry(&inner()).trailer(&[0; 64]).bytes(),
            verdict(OuterLength),
        ),
        case("A10 UDP datagram without payload", outer().payload(&[]).bytes(), verdict(VxlanShort)),
        case("B7 UDP payload of 7 bytes", outer().payload(&[8; 7]).bytes(), verdict(VxlanShort)),
    ];
    with_rig(|_| {}, |rig| check(rig, cases));
}

#[test]
fn a12_and_a15_whatever_the_destination_and_congestion_marks() {
    let inner_not_ect = udp4().traffic_class(0).bytes();
    let macs = |mac| outer().macs(mac, [2, 0, 0, 0, 0, 9]);
    let cases = vec![
        accepted("A12 broadcast MAC", macs([0xff; 6])),
        accepted("A12 multicast MAC and group", macs([1, 0, 0x5e, 1, 1, 1]).to("239.1.1.1:4789")),
        accepted("A12 somebody else's MAC", macs([2, 9, 9, 9, 9, 9])),
        accepted("A12 broadcast address", outer().to("255.255.255.255:4789")),
        accepted("A15 outer CE", outer().traffic_class(3)),
        accepted("A15 outer CE and DSCP, IPv6", outer6().traffic_class(0xbb)),
        unchanged("A15 inner not ECN-capable", inner_not_ect),
        unchanged("A15 inner CE", udp4().traffic_class(3).bytes()),
        case("A1 as plain as can be", mirror(&inner()), out(inner())),
    ];
    with_rig(|_| {}, |rig| check(rig, cases));
}
