//! D20: the link layer of frames that are not translated, under REWRITE_L2=all.

use config::NatProtocol::Any;
use dataplane::abi::INFO_FRAGMENT;
use dataplane::abi::INFO_HOLD;
use dataplane::abi::Verdict::NextHopUnresolved;
use dataplane::next_hops::Family::{Ipv4, Ipv6};

use crate::case::{Case, case, check, out, unchanged, verdict};
use crate::frame::{Frame, Mac, ethernet, mirror, pattern, tcp4, udp4, udp6};
use crate::rig::{EGRESS, rule, with_rig};

const VIA4: Mac = [0x02, 0x4e, 0xff, 0, 0, 4];
const VIA6: Mac = [0x02, 0x4e, 0xff, 0, 0, 6];
const TARGET: &str = "192.0.2.9:8081";

fn via(mac: Mac, name: &str, frame: Frame) -> Case {
    let expected = frame.clone().macs(mac, EGRESS).bytes();
    case(name, mirror(&frame.bytes()), out(expected))
}

fn arp(mac: Option<Mac>) -> Case {
    let frame = ethernet(0x0806, &pattern(28));
    let Some(mac) = mac else { return case("ARP", mirror(&frame), verdict(NextHopUnresolved)) };
    let expected = [&mac[..], &EGRESS, &frame[12..]].concat();
    case("ARP", mirror(&frame), out(expected))
}

#[test]
fn d20_every_frame_gets_a_new_link_layer() {
    let unresolved =
        |frame: Frame| case("D20 no next hop", mirror(&frame.bytes()), verdict(NextHopUnresolved));
    with_rig(
        |config| {
            config.rewrite_l2_all = 1;
            config.non_ip_forward = 1;
        },
        |rig| {
            check(rig, vec![unresolved(udp4()), unresolved(udp6()), arp(None)]);
            rig.next_hop_of(Ipv6, Some(VIA6));
            check(rig, vec![unresolved(udp4()), via(VIA6, "D20 IPv6", udp6()), arp(Some(VIA6))]);
            rig.next_hop_of(Ipv4, Some(VIA4));
            rig.rules(&[rule(Any, 31765, TARGET)]);
            let translated = out(udp4().translated(TARGET).bytes()).nat();
            let fragment = || udp4().raw(17).flags(6);
            check(
                rig,
                vec![
                    via(VIA4, "D20 other port", udp4().to("198.51.100.7:1")),
                    via(
                        VIA4,
                        "D20 tagged",
                        tcp4().to("198.51.100.7:1").tag(0x88a8, 3).tag(0x8100, 4),
                    ),
                    via(VIA4, "D20 no transport", udp4().raw(47)),
                    via(VIA6, "D20 IPv6", udp6()),
                    arp(Some(VIA4)),
                    case("D20 translated: its target's", mirror(&udp4().bytes()), translated),
                    // What becomes of it is known when its first fragment is.
                    case(
                        "D20 held",
                        mirror(&fragment().bytes()),
                        out(fragment().bytes()).fragment().info(INFO_FRAGMENT | INFO_HOLD),
                    ),
                ],
            );
            rig.next_hop_of(Ipv4, None);
            check(rig, vec![unresolved(tcp4().to("198.51.100.7:1"))]);
        },
    );
}

#[test]
fn d20_rewrite_l2_nat_leaves_untranslated_frames_alone() {
    with_rig(
        |_| {},
        |rig| {
            rig.next_hop_of(Ipv4, Some(VIA4));
            rig.rules(&[rule(Any, 31765, TARGET)]);
            check(rig, vec![unchanged("D20", udp4().to("198.51.100.7:1").bytes())]);
        },
    );
}
