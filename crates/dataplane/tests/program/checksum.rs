//! D1 to D10, D12: checksums, where the numbers come from RFC arithmetic or from other programs.

use config::NatProtocol::{Any, Udp};
use etherparse::checksum::Sum16BitWords;

use crate::case::{Case, case, check, out};
use crate::frame::{Frame, mirror, pattern, tcp4, tcp6, udp4, udp6};
use crate::rig::{EGRESS, next_hop, rule, with_rig};

const TARGET: &str = "192.0.2.9:8081";
const TARGET6: &str = "[2001:db8::99]:8081";

/// Frame 1 of a real AWS mirror capture (OISF/suricata-verify, tests/vxlan-decoder-03).
const NTP: &str = "02292374c77d028569c2ab0208004500004c09514000ff1119edac1f00ee4e2e5d27ecd7007b\
    00380192230009200000000000000000000000000000000000000000000000000000000000000000000000006e7c\
    1f1daa4d542f";
/// The same towards 10.0.187.66:123, by scapy: the IP checksum is exactly 0x0000.
const IP_CHECKSUM_ZERO: &str = "02292374c77d028569c2ab0208004500004c09514000ff110000ac1f00ee0a00\
    bb42ecd7007b0038e7a423000920000000000000000000000000000000000000000000000000000000000000000000\
    0000006e7c1f1daa4d542f";
/// The same towards 10.0.0.1:41825, by scapy: the UDP checksum is computed as 0, sent as 0xffff.
const UDP_CHECKSUM_FFFF: &str = "02292374c77d028569c2ab0208004500004c09514000ff11bb41ac1f00ee0a00\
    0001ecd7a3610038ffff23000920000000000000000000000000000000000000000000000000000000000000000000\
    0000006e7c1f1daa4d542f";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().map(|c| (c as char).to_digit(16).unwrap() as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// With the link layer that a translated frame leaves with.
fn leaving(hex: &str, target: &str) -> Vec<u8> {
    let mut frame = bytes(hex);
    frame[..6].copy_from_slice(&next_hop(target.parse().unwrap()));
    frame[6..12].copy_from_slice(&EGRESS);
    frame
}

fn translated(name: &str, inner: Vec<u8>, expected: Vec<u8>) -> Case {
    case(name, mirror(&inner), out(expected).nat())
}

#[test]
fn d1_ip_checksum_becomes_zero() {
    let expected = || leaving(IP_CHECKSUM_ZERO, "10.0.187.66");
    let cases = vec![
        translated("D1 IP checksum 0x0000", bytes(NTP), expected()),
        translated("D2 erratum 4782: again is identity", expected(), expected()),
    ];
    with_rig(
        |_| {},
        |rig| {
            rig.rules(&[rule(Udp, 123, "10.0.187.66:123")]);
            check(rig, cases);
        },
    );
}

#[test]
fn d5_udp_checksum_becomes_ffff() {
    let expected = || leaving(UDP_CHECKSUM_FFFF, "10.0.0.1");
    let cases = vec![
        translated("D5 UDP checksum 0 is sent as 0xffff", bytes(NTP), expected()),
        translated("D5 0xffff on input: again is identity", expected(), expected()),
    ];
    with_rig(
        |_| {},
        |rig| {
            rig.rules(&[rule(Udp, 123, "10.0.0.1:41825"), rule(Udp, 41825, "10.0.0.1:41825")]);
            check(rig, cases);
        },
    );
}

/// Adjusts the last two bytes of the payload so that the checksum gets any value wanted.
fn with_checksum(frame: impl Fn(&[u8]) -> Frame, wanted: u16) -> Frame {
    for word in 0..=0xffffu16 {
        let candidate = frame(&[&pattern(30)[..], &word.to_be_bytes()].concat());
        let segment = candidate.layer4();
        let at = candidate.checksum_offset();
        if segment[at..at + 2] == wanted.to_be_bytes() {
            return candidate;
        }
    }
    panic!("no payload gives the checksum {wanted:#x}");
}

#[test]
fn d2_to_d7_translation_is_as_good_as_computing_anew() {
    let cases_for = |frame: Frame, name: &str| {
        let target = if frame.is_ipv4() { TARGET } else { TARGET6 };
        let expected = frame.clone().translated(target).bytes();
        translated(name, frame.bytes(), expected)
    };
    // The checksum after the translation is one of the special values; TCP may have 0.
    let after = |frame: fn() -> Frame, target: &'static str, wanted| {
        with_checksum(move |payload| frame().to(target).payload(payload), wanted)
    };
    let back = |frame: Frame, to: &str| frame.to(to);
    let (live, live6) = ("198.51.100.7:31765", "[2001:db8::7]:31765");
    let mut cases = vec![
        cases_for(back(after(udp4, TARGET, 0xffff), live), "D5 UDP becomes 0xffff"),
        cases_for(back(after(udp6, TARGET6, 0xffff), live6), "D7 UDP over IPv6 becomes 0xffff"),
        cases_for(back(after(tcp4, TARGET, 0), live), "D6 TCP becomes 0x0000"),
        cases_for(back(after(tcp6, TARGET6, 0), live6), "D6 TCP over IPv6 becomes 0x0000"),
        cases_for(back(after(udp4, TARGET, 1), live), "D3 UDP becomes 0x0001"),
        cases_for(back(after(udp4, TARGET, 0xfffe), live), "D3 UDP becomes 0xfffe"),
        cases_for(after(udp4, live, 0xffff), "D5 UDP was 0xffff"),
        cases_for(after(udp6, live6, 0xffff), "D7 UDP over IPv6 was 0xffff"),
        cases_for(after(tcp4, live, 0), "D6 TCP was 0x0000"),
        cases_for(udp4().checksum(0), "D4 UDP 0 stays 0"),
        cases_for(udp6().checksum(0), "D7 UDP over IPv6 0 stays 0"),
        cases_for(udp4().to(TARGET).to("192.0.2.9:31765"), "D2 same address, other port"),
        cases_for(udp4().payload(&[0xff; 1400]), "D3 carries"),
        cases_for(tcp4().payload(&pattern(1)), "D3 odd length"),
    ];
    for n in 0..300u32 {
        let source = format!("10.{}.{}.{}:{}", n % 256, n * 7 % 256, n * 13 % 256, 1 + n * 199);
        let to = format!("{}.{}.{}.{}:31765", 1 + n % 223, n * 5 % 256, n * 11 % 256, n * 17 % 256);
        cases.push(cases_for(udp4().from(&source).to(&to), &format!("D3 UDP {n}")));
        cases.push(cases_for(tcp4().from(&source).to(&to), &format!("D3 TCP {n}")));
    }
    with_rig(
        |_| {},
        |rig| {
            rig.rules(&[rule(Any, 31765, TARGET), rule(Any, 31765, TARGET6)]);
            check(rig, cases);
        },
    );
}

#[test]
fn d2_translation_to_the_same_address_and_port() {
    let same = |name: &str, frame: Frame| {
        let target = if frame.is_ipv4() { "198.51.100.7:31765" } else { "[2001:db8::7]:31765" };
        translated(name, frame.bytes(), frame.clone().translated(target).bytes())
    };
    let cases = vec![
        same("D2 UDP", udp4()),
        same("D2 TCP, IPv6", tcp6()),
        same("D2 IP checksum 0 stays", udp4().ip_checksum(0)),
        same("D2 IP checksum 0xffff stays", udp4().ip_checksum(0xffff)),
        same("D2 TCP checksum 0 stays", tcp4().checksum(0)),
        same("D2 TCP checksum 0xffff stays", tcp4().checksum(0xffff)),
        same("D2 UDP checksum 0xffff stays", udp4().checksum(0xffff)),
        same("D2 UDP checksum 0 stays", udp4().checksum(0)),
    ];
    with_rig(
        |_| {},
        |rig| {
            let to = ["198.51.100.7:31765", "[2001:db8::7]:31765"];
            rig.rules(&to.map(|target| rule(Any, 31765, target)));
            check(rig, cases);
        },
    );
}

/// Ones' complement difference of two checksums.
fn minus(a: u16, b: u16) -> u16 {
    let sum = u32::from(a) + u32::from(!b);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

#[test]
fn d9_and_d10_wrong_checksums_stay_as_wrong() {
    let right = |frame: &Frame| {
        let (bytes, at) = (frame.bytes(), frame.layer4_offset() + frame.checksum_offset());
        u16::from_be_bytes([bytes[at], bytes[at + 1]])
    };
    let mut cases = Vec::new();
    for wrong_by in [1u16, 0x8000, 0x1234, 0xfffe] {
        for frame in [udp4(), tcp4(), udp6(), tcp6()] {
            let target = if frame.is_ipv4() { TARGET } else { TARGET6 };
            let expected = frame.clone().translated(target);
            // Right minus wrong is the same before and after.
            let (bad, bad_after) =
                (minus(right(&frame), wrong_by), minus(right(&expected), wrong_by));
            let name = format!("D9 {} wrong by {wrong_by:#x}", frame.summary());
            let expected = expected.checksum(bad_after).bytes();
            cases.push(translated(&name, frame.checksum(bad).bytes(), expected));
        }
    }
    // RFC 1624, eqn. 3 by hand: HC = 0x0000, 198.51.100.7 -> 192.0.2.9.
    // ~HC = ffff, ~m = 39cc 9bf8, m' = c000 0209: sum 297cc -> 97ce; HC' = 6831.
    let expected = udp4().translated(TARGET).ip_checksum(0x6831).bytes();
    cases.push(translated("D10 IP checksum 0 by offload", udp4().ip_checksum(0).bytes(), expected));
    // A carry out of the first fold. In network order: HC = 97cd, sum 1ffff -> 10000 -> 0001,
    // HC' = fffe; UDP, port 7c15 -> 1f91, HC = 3b48: sum 2ffff -> 10001 -> 0002, HC' = fffd.
    // A machine that adds the words with their bytes swapped has it elsewhere: HC = ce96 is
    // 96ce swapped, sum 1ffff; UDP, HC = 4a38 is 384a swapped, sum 3ffff -> 10002 -> 0003.
    for ([ip, udp], [ip_after, udp_after]) in
        [([0x97cd, 0x3b48], [0xfffe, 0xfffd]), ([0x96ce, 0x384a], [0xfeff, 0xfcff])]
    {
        let expected = udp4().translated(TARGET).ip_checksum(ip_after).checksum(udp_after).bytes();
        let before = udp4().ip_checksum(ip).checksum(udp).bytes();
        cases.push(translated("D3 a carry out of the carry", before, expected));
    }
    with_rig(
        |_| {},
        |rig| {
            rig.rules(&[rule(Any, 31765, TARGET), rule(Any, 31765, TARGET6)]);
            check(rig, cases);
        },
    );
}

/// A packet that the mirror cut: the checksum of what is missing is kept, by the difference only.
#[test]
fn c6_and_d12_truncated_packets_are_translated() {
    let cut = |frame: Frame, length: usize| {
        let target = if frame.is_ipv4() { TARGET } else { TARGET6 };
        let expected = frame.clone().translated(target).bytes()[..length].to_vec();
        let name = format!("C6 {} cut to {length}", frame.summary());
        case(name, mirror(&frame.bytes()[..length]), out(expected).nat().truncated())
    };
    let long = |frame: Frame| frame.payload(&pattern(1000));
    let cases = vec![
        cut(long(udp4()), 42),
        cut(long(udp4()), 43),
        cut(long(udp4()).tag(0x8100, 5), 128),
        cut(long(tcp4()), 54),
        cut(long(udp6()), 62),
        cut(long(tcp6()), 255),
    ];
    with_rig(
        |_| {},
        |rig| {
            rig.rules(&[rule(Any, 31765, TARGET), rule(Any, 31765, TARGET6)]);
            check(rig, cases);
        },
    );
}

/// The sums of the builder, which most expected frames rest on, against real frames.
#[test]
fn the_builder_computes_the_checksums_of_real_frames() {
    for hex in [NTP, IP_CHECKSUM_ZERO] {
        let frame = bytes(hex);
        let sum = Sum16BitWords::new().add_slice(&frame[14..34]).ones_complement();
        assert_eq!(sum, 0, "IP header");
        let address = |at: usize| -> [u8; 4] { frame[at..at + 4].try_into().unwrap() };
        let (from, to) = (address(26).into(), address(30).into());
        let sum = crate::frame::pseudo_header(from, to, 17, &frame[34..]);
        assert_eq!(sum.add_slice(&frame[34..]).ones_complement(), 0, "UDP");
    }
    let built = udp4()
        .macs([2, 0x29, 0x23, 0x74, 0xc7, 0x7d], [2, 0x85, 0x69, 0xc2, 0xab, 2])
        .from("172.31.0.238:60631")
        .to("78.46.93.39:123")
        .payload(&bytes(NTP)[42..])
        .bytes();
    assert_eq!(built[34..], bytes(NTP)[34..]);
}
