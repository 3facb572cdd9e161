//! D19 and D20: which packets are translated, by which rule, and with which link layer.

use config::NatProtocol::{Any, Tcp, Udp};
use config::NatRule;
use dataplane::abi::Verdict::{NextHopUnresolved, Unmatched};

use crate::case::{Case, case, check, out, unchanged, verdict};
use crate::frame::{Frame, ethernet, mirror, outer, outer6, pattern, tcp4, tcp6, udp4, udp6};
use crate::rig::{rule, rule_for, with_rig};

const TARGET: &str = "192.0.2.9:8081";
const TARGET6: &str = "[2001:db8::99]:8081";

fn to(target: &str, name: &str, frame: Frame) -> Case {
    let expected = frame.clone().translated(target).bytes();
    case(name, mirror(&frame.bytes()), out(expected).nat())
}

fn left(name: &str, frame: Frame) -> Case {
    unchanged(name, frame.bytes())
}

fn with_rules(rules: &[NatRule], cases: Vec<Case>) {
    with_rig(
        |_| {},
        |rig| {
            rig.rules(rules);
            check(rig, cases);
        },
    );
}

#[test]
fn d19_udp_rule() {
    with_rules(
        &[rule(Udp, 31765, TARGET)],
        vec![
            to(TARGET, "D19 matches", udp4()),
            to(TARGET, "D19 whatever the address", udp4().to("203.0.113.200:31765")),
            to(TARGET, "D19 empty payload", udp4().payload(&[])),
            to(TARGET, "D19 odd payload", udp4().payload(&pattern(31))),
            left("D19 port one lower", udp4().to("198.51.100.7:31764")),
            left("D19 port one higher", udp4().to("198.51.100.7:31766")),
            left("D19 port with its bytes swapped", udp4().to("198.51.100.7:5500")),
            left("D19 TCP to the same port", tcp4()),
            left("D19 IPv6 to the same port", udp6()),
            left(
                "D19 the rule's port as source",
                udp4().from("203.0.113.7:31765").to("10.1.0.1:1"),
            ),
            left("D16 ICMP", udp4().raw(1).payload(&udp4().layer4())),
            left("D17 UDP-Lite", udp4().raw(136).payload(&udp4().layer4())),
            left("D17 SCTP", udp4().raw(132).payload(&udp4().layer4())),
            unchanged("C2 nested VXLAN is not looked into", mirror(&udp4().bytes())),
        ],
    );
}

#[test]
fn d19_tcp_rule() {
    with_rules(
        &[rule(Tcp, 31765, TARGET), rule(Tcp, 31765, TARGET6)],
        vec![
            to(TARGET, "D19 TCP", tcp4()),
            to(TARGET6, "D19 TCP, IPv6", tcp6()),
            to(TARGET, "D18 bad data offset", tcp4().data_offset(0x10)),
            to(TARGET, "D18 data offset beyond the packet", tcp4().data_offset(0xf0).payload(&[])),
            to(TARGET, "D18 no payload", tcp4().payload(&[])),
            left("D19 UDP to the same port", udp4()),
            left("D19 UDP to the same port, IPv6", udp6()),
        ],
    );
}

#[test]
fn d19_any_rule() {
    with_rules(
        &[rule(Any, 31765, TARGET), rule(Any, 31765, TARGET6)],
        vec![
            to(TARGET, "D19 any: UDP", udp4()),
            to(TARGET, "D19 any: TCP", tcp4()),
            to(TARGET6, "D19 any: UDP, IPv6", udp6()),
            to(TARGET6, "D19 any: TCP, IPv6", tcp6()),
            left("D17 any is TCP and UDP only", udp4().raw(136).payload(&udp4().layer4())),
            left("D16 ICMPv6", udp6().raw(58).payload(&udp6().layer4())),
        ],
    );
}

#[test]
fn d19_addresses() {
    let rules = [
        rule_for(Udp, 53, Some("198.51.100.0/24"), None, "192.0.2.24:1"),
        rule_for(Udp, 53, Some("198.51.100.64/26"), None, "192.0.2.26:2"),
        rule_for(Udp, 53, Some("198.51.100.70/32"), None, "192.0.2.32:3"),
        rule_for(Udp, 53, Some("2001:db8::/32"), None, "[2001:db8::32]:4"),
        rule_for(Udp, 53, Some("2001:db8::/47"), None, "[2001:db8::47]:5"),
        rule_for(Udp, 54, Some("0.0.0.0/0"), None, "192.0.2.54:6"),
    ];
    let at = |address: &str| udp4().to(&format!("{address}:53"));
    let at6 = |address: &str| udp6().to(&format!("[{address}]:53"));
    with_rules(
        &rules,
        vec![
            to("192.0.2.24:1", "D19 first of /24", at("198.51.100.0")),
            to("192.0.2.24:1", "D19 before the /26", at("198.51.100.63")),
            to("192.0.2.26:2", "D19 first of the /26", at("198.51.100.64")),
            to("192.0.2.32:3", "D19 the /32", at("198.51.100.70")),
            to("192.0.2.26:2", "D19 beside the /32", at("198.51.100.71")),
            to("192.0.2.26:2", "D19 last of the /26", at("198.51.100.127")),
            to("192.0.2.24:1", "D19 behind the /26", at("198.51.100.128")),
            to("192.0.2.24:1", "D19 last of /24", at("198.51.100.255")),
            left("D19 one before /24", at("198.51.99.255")),
            left("D19 one behind /24", at("198.51.101.0")),
            to("[2001:db8::32]:4", "D19 IPv6 /32", at6("2001:db8:8000::1")),
            to("[2001:db8::47]:5", "D19 IPv6 first of /47", at6("2001:db8::")),
            to(
                "[2001:db8::47]:5",
                "D19 IPv6 last of /47",
                at6("2001:db8:1:ffff:ffff:ffff:ffff:ffff"),
            ),
            to("[2001:db8::32]:4", "D19 IPv6 behind the /47", at6("2001:db8:2::")),
            left("D19 IPv6 one behind /32", at6("2001:db9::")),
            to("192.0.2.54:6", "D19 /0", udp4().to("255.255.255.255:54")),
            left(
                "D19 the source address does not count",
                udp4().from("198.51.100.70:53").to("203.0.113.1:53"),
            ),
        ],
    );
}

#[test]
fn d19_precedence() {
    let net = Some("198.51.100.0/24");
    let exact = Some("198.51.100.7/32");
    // From the most to the least specific; each list begins one rule later.
    let rules = [
        rule_for(Udp, 31765, exact, Some(7), "192.0.2.1:1"),
        rule_for(Udp, 31765, net, Some(7), "192.0.2.2:2"),
        rule_for(Udp, 31765, None, Some(7), "192.0.2.3:3"),
        rule_for(Any, 31765, exact, Some(7), "192.0.2.4:4"),
        rule_for(Any, 31765, None, Some(7), "192.0.2.5:5"),
        rule_for(Udp, 31765, exact, None, "192.0.2.6:6"),
        rule_for(Udp, 31765, net, None, "192.0.2.7:7"),
        rule_for(Udp, 31765, None, None, "192.0.2.8:8"),
        rule_for(Any, 31765, exact, None, "192.0.2.9:9"),
        rule_for(Any, 31765, None, None, "192.0.2.10:10"),
    ];
    with_rig(
        |_| {},
        |rig| {
            for first in 0..rules.len() {
                // The order in which rules are written must not matter.
                let mut list = rules[first..].to_vec();
                if first % 2 == 1 {
                    list.reverse();
                }
                rig.rules(&list);
                let target = rules[first].targets[0].to_string();
                check(rig, vec![to(&target, &format!("D19 precedence {first}"), udp4())]);
            }
            rig.rules(&rules);
            let in_vni = |vni, target: &str, frame: Frame| {
                let packet = outer().carry_vni(vni, &frame.bytes()).bytes();
                case(
                    format!("D19 VNI {vni:#x}"),
                    packet,
                    out(frame.translated(target).bytes()).nat(),
                )
            };
            check(
                rig,
                vec![
                    to("192.0.2.4:4", "D19 TCP", tcp4()),
                    to("192.0.2.5:5", "D19 TCP elsewhere", tcp4().to("203.0.113.1:31765")),
                    to("192.0.2.2:2", "D19 beside", udp4().to("198.51.100.8:31765")),
                    in_vni(8, "192.0.2.6:6", udp4()),
                    in_vni(8, "192.0.2.9:9", tcp4()),
                    in_vni(0x070000, "192.0.2.10:10", tcp4().to("203.0.113.1:31765")),
                ],
            );
        },
    );
}

#[test]
fn d19_vni_of_a_rule() {
    let rules = [
        rule_for(Udp, 31765, None, Some(0), "192.0.2.1:1"),
        rule_for(Udp, 31765, None, Some(0xffffff), "192.0.2.2:2"),
        rule_for(Udp, 31765, None, Some(0x54f9d1), "192.0.2.3:3"),
    ];
    let frame = udp4();
    let packet = |vni| outer6().carry_vni(vni, &frame.bytes()).bytes();
    let matches = |vni, target: &str| {
        let expected = frame.clone().translated(target).bytes();
        case(format!("D19 VNI {vni:#x}"), packet(vni), out(expected).nat())
    };
    let other = |vni| case(format!("D19 VNI {vni:#x}, no rule"), packet(vni), out(frame.bytes()));
    let cases = vec![
        matches(0, "192.0.2.1:1"),
        matches(0xffffff, "192.0.2.2:2"),
        matches(0x54f9d1, "192.0.2.3:3"),
        other(1),
        other(0xd1f954),
        other(0xfffffe),
    ];
    with_rules(&rules, cases);
}

#[test]
fn d13_transport_header_that_is_not_whole() {
    let part = |frame: Frame, n: usize| {
        let protocol = if frame.bytes()[23] == 6 { 6 } else { 17 };
        let header = frame.layer4()[..n].to_vec();
        frame.raw(protocol).payload(&header)
    };
    let mut cases = Vec::new();
    cases.extend((0..8).map(|n| left(&format!("D13 {n} bytes of UDP"), part(udp4(), n))));
    cases.extend((0..20).map(|n| left(&format!("D13 {n} bytes of TCP"), part(tcp4(), n))));
    cases.push(to(TARGET, "D13 8 bytes of UDP", udp4().payload(&[])));
    // What is missing stands behind the IP packet: not a part of it.
    let udp = udp4().layer4();
    cases.push(left("D13 the rest in the trailer", part(udp4(), 7).trailer(&udp[7..])));
    with_rules(&[rule(Any, 31765, TARGET)], cases);
}

#[test]
fn d20_link_layer() {
    let macs = [[0x0a; 6], [0x0c; 6]];
    with_rules(
        &[rule(Any, 31765, TARGET), rule(Any, 31765, TARGET6), rule(Any, 1000, "192.0.2.77:1000")],
        vec![
            to(TARGET, "D20 802.1Q", udp4().tag(0x8100, 0x2005)),
            to(TARGET, "D20 QinQ", tcp4().tag(0x88a8, 100).tag(0x8100, 5)),
            to(TARGET6, "D20 QinQ, IPv6", udp6().tag(0x88a8, 100).tag(0x8100, 5)),
            to(TARGET, "D20 options", tcp4().options(&[1; 40])),
            to(TARGET, "D20 padding stays", udp4().payload(&[1]).trailer(&[0xaa; 17])),
            to("192.0.2.77:1000", "D20 each target its next hop", udp4().to("198.51.100.7:1000")),
            left(
                "D20 untranslated keeps its addresses",
                udp4().macs(macs[0], macs[1]).to("1.2.3.4:5"),
            ),
            unchanged(
                "D20 untranslated, no transport",
                udp4().macs(macs[0], macs[1]).raw(1).bytes(),
            ),
        ],
    );
}

#[test]
fn d20_next_hop_unresolved() {
    let unresolved =
        |name: &str, frame: Frame| case(name, mirror(&frame.bytes()), verdict(NextHopUnresolved));
    with_rig(
        |_| {},
        |rig| {
            rig.rules_unresolved(&[rule(Udp, 31765, TARGET), rule(Udp, 53, "192.0.2.10:53")]);
            rig.resolve("192.0.2.10", Some(crate::rig::next_hop("192.0.2.10".parse().unwrap())));
            check(
                rig,
                vec![
                    unresolved("D20 no next hop yet", udp4()),
                    to("192.0.2.10:53", "D20 the other one has", udp4().to("198.51.100.7:53")),
                    left("D20 no rule needs none", tcp4()),
                ],
            );
            rig.resolve("192.0.2.9", Some(crate::rig::next_hop("192.0.2.9".parse().unwrap())));
            check(rig, vec![to(TARGET, "D20 now it has", udp4())]);
            rig.resolve("192.0.2.9", None);
            check(rig, vec![unresolved("D20 lost again", udp4())]);
        },
    );
}

#[test]
fn d19_rules_replaced_hundreds_of_times() {
    with_rig(
        |_| {},
        |rig| {
            for n in 0..300u16 {
                let target = format!("192.0.2.9:{}", 8000 + n);
                // The next hop of a target is known from the first time on.
                match n {
                    0 => rig.rules(&[rule(Udp, 31765, &target)]),
                    _ => rig.rules_unresolved(&[rule(Udp, 31765, &target)]),
                }
                check(rig, vec![to(&target, &format!("D19 list {n}"), udp4())]);
            }
            rig.rules_unresolved(&[rule(Udp, 53, TARGET)]);
            check(rig, vec![left("D19 the old rule is gone", udp4())]);
        },
    );
}

#[test]
fn unmatched_packets_are_dropped() {
    let dropped = |name: &str, frame: Frame| case(name, mirror(&frame.bytes()), verdict(Unmatched));
    with_rig(
        |config| {
            config.unmatched_drop = 1;
            config.non_ip_forward = 1;
        },
        |rig| {
            check(rig, vec![dropped("no rules at all", udp4())]);
            rig.rules(&[rule(Udp, 31765, TARGET)]);
            check(
                rig,
                vec![
                    to(TARGET, "matched", udp4()),
                    dropped("other protocol", tcp4()),
                    dropped("other port", udp4().to("198.51.100.7:1")),
                    dropped("other family", udp6()),
                    dropped("ICMP", udp4().raw(1)),
                    dropped("no transport header", udp4().raw(17).payload(&[1, 2, 3])),
                    unchanged("not IP", ethernet(0x0806, &pattern(28))),
                ],
            );
            rig.rules(&[]);
            check(rig, vec![dropped("rules are gone", udp4())]);
        },
    );
}
