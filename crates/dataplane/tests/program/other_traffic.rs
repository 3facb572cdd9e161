//! A13: everything that is not VXLAN goes to the host, not a byte of it touched.

use crate::case::{Case, case, check, passed};
use crate::frame::{Frame, UDP, ethernet, outer, pattern, tcp4, tcp6, udp4, udp6};
use crate::rig::{rule, with_rig};
use config::NatProtocol;

fn host(name: &str, packet: Vec<u8>) -> Case {
    case(name, packet, passed())
}

#[test]
fn a13_other_traffic() {
    let arp =
        [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 192, 0, 2, 2];
    let solicitation = [135, 0, 0x12, 0x34, 0, 0, 0, 0].into_iter().chain([0x20; 16]);
    let solicitation: Vec<u8> = solicitation.collect();
    let cases = vec![
        host("A13 ARP", ethernet(0x0806, &arp)),
        host("A13 ARP, padded", ethernet(0x0806, &[&arp[..], &[0; 18]].concat())),
        host("A13 SSH", tcp4().to("192.0.2.102:22").bytes()),
        host("A13 TCP to 4789", tcp4().to("192.0.2.102:4789").bytes()),
        host("A13 TCP to 4789, IPv6", tcp6().to("[2001:db8::7]:4789").bytes()),
        host("A13 UDP-Lite to 4789", outer().raw(136).payload(&outer().layer4()).bytes()),
        host("A13 DHCP", udp4().from("0.0.0.0:68").to("255.255.255.255:67").bytes()),
        host("A13 what a NAT rule would match", udp4().bytes()),
        host("A13 what a NAT rule would match, IPv6", udp6().bytes()),
        host("A13 ICMP echo", udp4().raw(1).payload(&[8, 0, 0xf7, 0xfe, 0, 1, 0, 0]).bytes()),
        host("A13 neighbour solicitation", udp6().raw(58).payload(&solicitation).bytes()),
        host("A13 LLDP", ethernet(0x88cc, &pattern(46))),
        host("A13 802.3 with LLC", ethernet(0x0026, &pattern(46))),
        host("A13 EAPOL", ethernet(0x888e, &pattern(46))),
        host("A13 MPLS", ethernet(0x8847, &pattern(46))),
        host("A13 PPPoE", ethernet(0x8864, &pattern(46))),
        host("A13 Ethernet header only", ethernet(0x0800, &[])),
        host("A13 Ethernet header only, IPv6", ethernet(0x86dd, &[])),
        host("A13 VLAN tag cut", ethernet(0x8100, &[0, 5, 8])),
        host("A13 VLAN tag, then nothing", ethernet(0x8100, &[0, 5, 8, 0])),
        host("A11 GRE", udp4().raw(47).payload(&pattern(60)).bytes()),
        host("A11 IP in IP", udp4().raw(4).payload(&outer().layer3()).bytes()),
        host("A11 VXLAN behind MPLS", ethernet(0x8847, &outer().layer3())),
        host("A13 IPv6 without a next header", udp6().raw(59).payload(&[]).bytes()),
        host(
            "A13 IPv6 chain that is cut",
            udp6().raw(0).payload(&[17, 200, 1, 4, 0, 0, 0, 0]).bytes(),
        ),
        host("A13 jumbo TCP", tcp4().payload(&pattern(8900)).bytes()),
    ];
    let rules = [
        rule(NatProtocol::Any, 31765, "192.0.2.9:8081"),
        rule(NatProtocol::Any, 31765, "[2001:db8::99]:8081"),
    ];
    with_rig(
        |config| {
            config.allowlist_enabled = 1;
            config.unmatched_drop = 1;
        },
        |rig| {
            rig.rules(&rules);
            check(rig, cases);
        },
    );
}

#[test]
fn a13_udp_header_that_is_not_whole() {
    let packet = outer().carry(&udp4().bytes()).bytes();
    let fragment = |bytes: usize| -> Frame { outer().raw(UDP).payload(&outer().layer4()[..bytes]) };
    let mut cases: Vec<Case> = (14..42)
        .map(|end| host(&format!("A13 cut at byte {end}"), packet[..end].to_vec()))
        .collect();
    cases.extend((0..8).map(|n| host(&format!("A13 {n} bytes of UDP"), fragment(n).bytes())));
    with_rig(|_| {}, |rig| check(rig, cases));
}
