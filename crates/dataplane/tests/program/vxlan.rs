//! B: the VXLAN header.

use config::VniSet;
use dataplane::abi::VNI_SLOTS;
use dataplane::abi::Verdict::{InnerShort, NonIp, PassedVni, VniMismatch, VxlanNoVni};

use crate::case::{Case, case, check, out, unchanged, verdict};
use crate::frame::{ethernet, mirror, outer, outer6, pattern, udp4};
use crate::rig::with_rig;

fn inner() -> Vec<u8> {
    udp4().bytes()
}

fn header(header: [u8; 8]) -> Vec<u8> {
    outer().vxlan(header, &inner()).bytes()
}

fn vni(vni: u32) -> Vec<u8> {
    outer().carry_vni(vni, &inner()).bytes()
}

#[test]
fn b1_to_b3_and_b6_flags_and_reserved_bits() {
    let accepted = |name: &str, bytes| case(name, header(bytes), out(inner()));
    let refused = |name: &str, bytes| case(name, header(bytes), verdict(VxlanNoVni));
    let cases = vec![
        refused("B1 I flag clear", [0, 0, 0, 0, 0, 0, 7, 0]),
        refused("B1 I flag clear, all others set", [0xf7, 0xff, 0xff, 0xff, 0, 0, 7, 0xff]),
        accepted("B2 reserved flags set", [0xff, 0, 0, 0, 0, 0, 7, 0]),
        accepted("B2 reserved 24 bits set", [8, 0xff, 0xff, 0xff, 0, 0, 7, 0]),
        accepted("B2 reserved 8 bits set", [8, 0, 0, 0, 0, 0, 7, 0xff]),
        accepted("B2 everything set", [0xff; 8]),
        accepted("B2 group policy (GBP)", [0x88, 0x48, 0x12, 0x34, 0, 0, 7, 0]),
        accepted("B2 remote checksum offload", [0x28, 0, 0, 0, 0, 0, 7, 0x91]),
        accepted("B6 GPE bits, next protocol Ethernet", [0x0c, 0, 0, 3, 0, 0, 7, 0]),
        accepted("B6 GPE bits, next protocol IPv4", [0x0c, 0, 0, 1, 0, 0, 7, 0]),
        accepted("B6 OAM bit", [0x09, 0, 0, 0, 0, 0, 7, 0]),
        accepted("B6 version 3", [0x38, 0, 0, 0, 0, 0, 7, 0]),
        case(
            "B6 GPE payload that is no Ethernet frame",
            outer().vxlan([0x0c, 0, 0, 1, 0, 0, 7, 0], &udp4().layer3()).bytes(),
            verdict(NonIp),
        ),
    ];
    with_rig(|_| {}, |rig| check(rig, cases));
}

#[test]
fn b4_any_vni_and_those_seen() {
    let accepted = |n: u32| case(format!("B4 VNI {n:#x}"), vni(n), out(inner()));
    let length = inner().len() as u64;
    with_rig(
        |_| {},
        |rig| {
            check(rig, [0, 1, 0x54f9d1, 0xffffff, 1].map(accepted).into());
            check(
                rig,
                vec![case("B4 not counted without I flag", header([0; 8]), verdict(VxlanNoVni))],
            );
            let once = |vni| (vni, 1, length);
            let expected = [once(0), (1, 2, 2 * length), once(0x54f9d1), once(0xffffff)];
            assert_eq!(rig.vnis_seen(), expected);
        },
    );
}

#[test]
fn b4_vnis_with_the_same_lower_bits_are_counted_apart() {
    let accepted = |n: u32| case(format!("B4 VNI {n:#x}"), vni(n), out(inner()));
    let length = inner().len() as u64;
    let [a, b, c] = [7, 7 + VNI_SLOTS, 7 + 2 * VNI_SLOTS];
    with_rig(
        |_| {},
        |rig| {
            check(rig, [b, a, a, c, b, c, a, c].map(accepted).into());
            let seen = |vni, packets| (vni, packets, packets * length);
            assert_eq!(rig.vnis_seen(), [seen(a, 3), seen(b, 2), seen(c, 3)]);
        },
    );
}

#[test]
fn b4_list_of_vnis() {
    let listed = |n: u32| case(format!("B4 listed {n:#x}"), vni(n), out(inner()));
    let other = |n: u32| case(format!("B4 not listed {n:#x}"), vni(n), verdict(VniMismatch));
    let reserved = case(
        "B4 the reserved byte does not count",
        header([8, 0, 0, 0, 0x54, 0xf9, 0xd1, 7]),
        out(inner()),
    );
    let low_byte = case(
        "B4 reserved byte looks like a VNI",
        header([8, 0, 0, 0, 0, 0, 1, 7]),
        verdict(VniMismatch),
    );
    with_rig(
        |_| {},
        |rig| {
            rig.accept(&VniSet::list([7, 0x54f9d1]).unwrap());
            let cases = vec![
                listed(7),
                listed(0x54f9d1),
                other(0),
                other(6),
                other(8),
                other(0xd1f954), // bytes swapped
                other(0x070000),
                other(0x000700),
                other(0xffffff),
                reserved,
                low_byte,
                case(
                    "B4 not listed, IPv6",
                    outer6().carry_vni(9, &inner()).bytes(),
                    verdict(VniMismatch),
                ),
                case(
                    "B4 not listed, inner frame too short",
                    outer().carry_vni(9, &[1; 5]).bytes(),
                    verdict(VniMismatch),
                ),
            ];
            check(rig, cases);
            rig.accept(&VniSet::list([0, 0xffffff]).unwrap());
            check(rig, vec![listed(0), listed(0xffffff), other(7), other(0x54f9d1), other(1)]);
            rig.accept(&VniSet::any());
            check(rig, vec![listed(7), listed(12345)]);
            assert!(rig.vnis_seen().iter().any(|(vni, ..)| *vni == 0xd1f954), "refused ones count");
        },
    );
}

#[test]
fn b4_a_list_replaced_hundreds_of_times() {
    with_rig(
        |_| {},
        |rig| {
            for n in 0..600 {
                rig.accept(&VniSet::list([n]).unwrap());
            }
            let cases = vec![
                case("B4 the last one", vni(599), out(inner())),
                case("B4 the one before", vni(598), verdict(VniMismatch)),
                case(
                    "B4 the same generation before it wrapped",
                    vni(599 - 256),
                    verdict(VniMismatch),
                ),
            ];
            check(rig, cases);
        },
    );
}

#[test]
fn b4_foreign_vnis_for_the_host() {
    let foreign = |name: &str, packet| case(name, packet, verdict(PassedVni));
    let cases = vec![
        case("B4 listed", vni(7), out(inner())),
        foreign("B4 VNI_MISMATCH=pass", vni(8)),
        foreign("B4 VNI_MISMATCH=pass, IPv6", outer6().carry_vni(8, &inner()).bytes()),
        foreign("B4 VNI_MISMATCH=pass, jumbo", outer().carry_vni(8, &pattern(9000)).bytes()),
        case("B1 still no VNI", header([0; 8]), verdict(VxlanNoVni)),
    ];
    with_rig(
        |config| config.vni_mismatch_pass = 1,
        |rig| {
            rig.accept(&VniSet::list([7]).unwrap());
            check(rig, cases);
        },
    );
}

#[test]
fn b5_one_layer_is_stripped() {
    let once = mirror(&inner());
    let twice = mirror(&once);
    let cases = vec![
        unchanged("B5 nested VXLAN", once.clone()),
        unchanged("B5 nested twice", twice),
        case("B5 nested in IPv6", outer6().carry(&once).bytes(), out(once)),
    ];
    with_rig(|_| {}, |rig| check(rig, cases));
}

#[test]
fn b7_short_inner_frames() {
    let frame = ethernet(0x88b5, &[]);
    let short =
        |n: usize| case(format!("B7 inner frame of {n}"), mirror(&frame[..n]), verdict(InnerShort));
    let padded = |n: usize| {
        let packet = outer().carry(&frame[..n]).trailer(&[0x55; 40]).bytes();
        case(format!("B7 inner frame of {n} and padding"), packet, verdict(InnerShort))
    };
    let mut cases: Vec<Case> = (0..14).flat_map(|n| [short(n), padded(n)]).collect();
    cases.push(unchanged("B7 inner frame of exactly 14", frame.clone()));
    let macs = |destination, source| udp4().macs(destination, source).bytes();
    cases.extend([
        unchanged("B7 inner source MAC zero", macs([2; 6], [0; 6])),
        unchanged("B7 inner source MAC multicast", macs([2; 6], [1, 0, 0x5e, 0, 0, 1])),
        unchanged("B7 inner broadcast", macs([0xff; 6], [2; 6])),
        unchanged("B7 inner source MAC the outer one's", macs([2; 6], [2, 0, 0, 0, 0, 0x51])),
    ]);
    with_rig(|config| config.non_ip_forward = 1, |rig| check(rig, cases));
}
