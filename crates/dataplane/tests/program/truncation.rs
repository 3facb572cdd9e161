//! Every length: packets cut at each byte, on the wire and by the mirror.

use config::NatProtocol::Any;
use dataplane::abi::Verdict::{InnerMalformed, InnerShort, NonIp, OuterLength};

use crate::case::{Case, case, check, out, passed, verdict};
use crate::frame::{Frame, outer, outer6, pattern, tcp4, tcp6, udp4, udp6};
use crate::rig::{rule, with_rig};

const TARGETS: [&str; 2] = ["192.0.2.9:8081", "[2001:db8::99]:8081"];

fn outers() -> Vec<Frame> {
    vec![
        outer(),
        outer().tag(0x8100, 5),
        outer().tag(0x88a8, 100).tag(0x8100, 5).options(&[1; 12]),
        outer6(),
        outer6().tag(0x8100, 5).options_header(60, 2),
    ]
}

fn inners() -> Vec<Frame> {
    let hop = |frame: Frame| frame.options_header(0, 1);
    vec![
        udp4(),
        tcp4().tag(0x8100, 7),
        udp4().options(&[1; 16]).tag(0x88a8, 7).tag(0x8100, 8),
        tcp4().options(&[1; 40]),
        udp4().checksum(0).payload(&[]),
        udp6(),
        tcp6().tag(0x8100, 7),
        hop(udp6()).options_header(43, 3).fragment_header(0),
        hop(tcp6()).options_header(60, 2),
        udp4().trailer(&pattern(20)),
    ]
}

fn every_pair(cases: impl Fn(&Frame, &Frame) -> Vec<Case>) {
    with_rig(
        |_| {},
        |rig| {
            rig.rules(&TARGETS.map(|target| rule(Any, 31765, target)));
            for outer in outers() {
                for inner in inners() {
                    check(rig, cases(&outer, &inner));
                }
            }
        },
    );
}

fn translated(inner: &Frame) -> Vec<u8> {
    inner.clone().translated(TARGETS[usize::from(!inner.is_ipv4())]).bytes()
}

/// The wire cut the packet: the outer IP length promises more than there is.
#[test]
fn cut_on_the_wire() {
    every_pair(|outer, inner| {
        let packet = outer.clone().carry(&inner.bytes()).bytes();
        let udp_end = outer.layer4_offset() + 8;
        let one = |length: usize| {
            let outcome = match length {
                _ if length < udp_end => passed(), // the port can't be known
                _ if length < packet.len() => verdict(OuterLength),
                _ => out(translated(inner)).nat(),
            };
            let name = format!("{} in {}, {length} bytes", inner.summary(), outer.summary());
            case(name, packet[..length].to_vec(), outcome)
        };
        (14..=packet.len()).map(one).collect()
    });
}

/// The mirror cut the inner frame: the outer lengths are right.
#[test]
fn cut_by_the_mirror() {
    every_pair(|outer, inner| {
        let whole = inner.bytes();
        let ip = inner.layer3_offset();
        let ip_header = if inner.is_ipv4() { 20 } else { 40 };
        let ip_end = ip + inner.layer3().len();
        let transport = inner.layer4_offset() + if inner.is_tcp() { 20 } else { 8 };
        let one = |length: usize| {
            let frame = &whole[..length];
            let truncated = |outcome: crate::case::Outcome| {
                if length < ip_end { outcome.truncated() } else { outcome }
            };
            let outcome = match length {
                _ if length < 14 => verdict(InnerShort),
                _ if length < ip => verdict(NonIp), // ends in a VLAN tag
                _ if length < ip + ip_header => verdict(InnerMalformed),
                _ if length < transport => truncated(out(frame)),
                _ => truncated(out(&translated(inner)[..length]).nat()),
            };
            let name = format!("{} in {}, cut to {length}", inner.summary(), outer.summary());
            case(name, outer.clone().carry(frame).bytes(), outcome)
        };
        (0..=whole.len()).map(one).collect()
    });
}
