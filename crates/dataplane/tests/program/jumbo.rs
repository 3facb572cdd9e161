//! A14, and every length: the whole frame stands in the ring, however long it is.

use config::NatProtocol::Any;

use crate::case::{Case, case, check, out, unchanged};
use crate::frame::{Frame, ethernet, outer, outer6, pattern, tcp6, udp4};
use crate::rig::{rule, with_rig, with_ring};

/// Frames are copied in spans of powers of two: all short lengths, and those around each power.
#[test]
fn every_length() {
    let powers = (11..=15).flat_map(|power| (1 << power) - 2..=(1 << power) + 2);
    let lengths = (14..=1100).chain(powers).chain([9014, 9015, 9216, 16000, 40000, 65000]);
    let cases =
        lengths.map(|n| unchanged(format!("length {n}"), ethernet(0x88b5, &pattern(n - 14))));
    let cases: Vec<Case> = cases.collect();
    with_rig(
        |config| config.non_ip_forward = 1,
        |rig| {
            rig.egress_mtu(65535);
            check(rig, cases);
        },
    );
}

/// The greatest frame that an outer UDP length can announce over IPv4 and IPv6.
#[test]
fn the_greatest_frames() {
    let inner = |n: usize| ethernet(0x88b5, &pattern(n - 14));
    let (v4, v6) = (inner(65535 - 20 - 8 - 8), inner(65535 - 8 - 8));
    let cases = vec![
        case("IPv4", outer().carry(&v4).bytes(), out(v4)),
        case("IPv6", outer6().carry(&v6).bytes(), out(v6)),
    ];
    with_rig(
        |config| config.non_ip_forward = 1,
        |rig| {
            rig.egress_mtu(65535);
            check(rig, cases);
        },
    );
}

#[test]
fn a14_jumbo_frames_translated() {
    let targets = ["192.0.2.9:8081", "[2001:db8::99]:8081"];
    let jumbo = |outer: Frame, frame: Frame, n: usize| {
        let headers = frame.clone().payload(&[]).bytes().len();
        let frame = frame.payload(&pattern(n - headers));
        let target = targets[usize::from(!frame.is_ipv4())];
        let expected = frame.clone().translated(target).bytes();
        case(format!("A14 {n} bytes"), outer.carry(&frame.bytes()).bytes(), out(expected).nat())
    };
    let mut cases = Vec::new();
    for n in [3300, 3400, 3500, 3600, 4096, 8192, 9001, 9014, 9216, 16000, 20000, 60000] {
        cases.push(jumbo(outer(), udp4(), n));
        cases.push(jumbo(outer6().tag(0x8100, 5), tcp6().tag(0x88a8, 7), n));
    }
    with_ring(
        4 << 20,
        |_| {},
        |rig| {
            rig.egress_mtu(65535);
            rig.rules(&targets.map(|target| rule(Any, 31765, target)));
            check(rig, cases);
        },
    );
}
