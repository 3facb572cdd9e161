//! D15: ICMP and ICMPv6 errors about a translated flow (RFC 5508 section 4).

use config::NatProtocol::Any;
use dataplane::abi::Note;

use crate::case::{Case, case, check, out, unchanged};
use crate::frame::{Frame, echo4, echo6, mirror, pattern, tcp4, tcp6, udp4, udp6};
use crate::rig::{EGRESS, echo_rule, next_hop, rule, with_rig};

const TARGET: &str = "192.0.2.9:8081";
const TARGET6: &str = "[2001:db8::99]:8081";

/// What an error quotes of a packet: IPv4 at least the header and 8 bytes (RFC 792), more mostly.
fn quote(frame: &Frame, bytes: usize) -> Vec<u8> {
    let packet = frame.layer3();
    packet[..packet.len().min(bytes)].to_vec()
}

fn l2(target: &str, frame: Frame) -> Frame {
    let target: std::net::SocketAddr = target.parse().unwrap();
    frame.macs(next_hop(target.ip()), EGRESS)
}

fn translated(name: &str, before: Frame, after: Frame, target: &str) -> Case {
    let expected = out(l2(target, after).bytes()).nat().noted(Note::IcmpError);
    case(name, mirror(&before.bytes()), expected)
}

/// Errors about the packets of a flow in both directions, by a router and by the endpoints.
fn errors(flow: Frame, target: &str, sizes: &[usize]) -> Vec<Case> {
    let v4 = flow.is_ipv4();
    let kind = if v4 { 3 } else { 1 };
    let (router, server, client) = match v4 {
        true => ("203.0.113.1", "198.51.100.7", "10.1.0.1"),
        false => ("2001:db8:ff::1", "2001:db8::7", "fd00::1"),
    };
    let new = target.parse::<std::net::SocketAddr>().unwrap().ip().to_string();
    let reply = flow.clone().reply();
    let (flow_after, reply_after) = (flow.clone().to(target), reply.clone().from(target));
    let mut cases = vec![case(
        format!("{} begins", flow.summary()),
        mirror(&flow.bytes()),
        out(flow.clone().translated(target).bytes()).nat(),
    )];
    for &size in sizes {
        let name = format!("D15 {}, {size} bytes quoted", flow.summary());
        let (there, back) = (quote(&flow, size), quote(&reply, size));
        let (there_after, back_after) = (quote(&flow_after, size), quote(&reply_after, size));
        cases.extend([
            translated(
                &format!("{name}: by a router"),
                flow.error(router, kind, &there),
                flow.error(router, kind, &there_after),
                target,
            ),
            translated(
                &format!("{name}: by the server"),
                flow.error(server, kind, &there),
                flow.error(&new, kind, &there_after),
                target,
            ),
            translated(
                &format!("{name}: about a reply, by a router"),
                reply.error(router, kind, &back),
                reply_after.error(router, kind, &back_after),
                target,
            ),
            translated(
                &format!("{name}: about a reply, by the client"),
                reply.error(client, kind, &back),
                reply_after.error(client, kind, &back_after),
                target,
            ),
        ]);
    }
    cases
}

#[test]
fn d15_errors_about_a_translated_flow() {
    with_rig(
        |_| {},
        |rig| {
            rig.rules(&[rule(Any, 31765, TARGET), rule(Any, 31765, TARGET6)]);
            check(rig, errors(udp4(), TARGET, &[28, 40, 548]));
            check(rig, errors(udp4().from("10.1.0.1:2").checksum(0), TARGET, &[28, 548]));
            check(rig, errors(tcp4(), TARGET, &[28, 36, 40, 548]));
            check(rig, errors(tcp4().from("10.1.0.1:3").options(&[1; 8]), TARGET, &[36, 48, 548]));
            check(rig, errors(udp6(), TARGET6, &[48, 60, 1232]));
            check(rig, errors(tcp6().payload(&pattern(1400)), TARGET6, &[48, 60, 1232]));
            let chain = udp6().from("[fd00::1]:4").options_header(0, 1).options_header(60, 2);
            check(rig, errors(chain, TARGET6, &[72, 1232]));
        },
    );
}

#[test]
fn d15_every_kind_of_error() {
    with_rig(
        |_| {},
        |rig| {
            rig.rules(&[rule(Any, 31765, TARGET), rule(Any, 31765, TARGET6)]);
            rig.run(&mirror(&udp4().bytes()));
            rig.run(&mirror(&udp6().bytes()));
            rig.drain();
            let v4 = |kind: u8| {
                let about = |frame: Frame| udp4().error("203.0.113.1", kind, &quote(&frame, 60));
                translated(
                    &format!("D15 type {kind}"),
                    about(udp4()),
                    about(udp4().to(TARGET)),
                    TARGET,
                )
            };
            check(rig, [3, 4, 5, 11, 12].map(v4).into());
            let v6 = |kind: u8| {
                let about = |frame: Frame| udp6().error("2001:db8:f::1", kind, &quote(&frame, 99));
                translated(
                    &format!("D15 ICMPv6 type {kind}"),
                    about(udp6()),
                    about(udp6().to(TARGET6)),
                    TARGET6,
                )
            };
            check(rig, [1, 2, 3, 4, 100, 127].map(v6).into());
        },
    );
}

#[test]
fn d15_errors_about_echo() {
    with_rig(
        |_| {},
        |rig| {
            rig.rules(&[echo_rule(&["192.0.2.9"]), echo_rule(&["2001:db8::99"])]);
            check(rig, errors(echo4(9), "192.0.2.9:0", &[28, 548]));
            check(rig, errors(echo6(9), "[2001:db8::99]:0", &[48, 1232]));
        },
    );
}

#[test]
fn d15_errors_that_stay_as_they_are() {
    let about =
        |frame: Frame, bytes: usize| udp4().error("203.0.113.1", 3, &quote(&frame, bytes)).bytes();
    let mut wrong_version = quote(&udp4(), 60);
    wrong_version[0] = 0x65;
    with_rig(
        |_| {},
        |rig| {
            rig.rules(&[rule(Any, 31765, TARGET), rule(Any, 31765, TARGET6)]);
            rig.run(&mirror(&udp4().bytes()));
            rig.drain();
            let broken = udp4().error("203.0.113.1", 3, &wrong_version).bytes();
            check(
                rig,
                vec![
                    unchanged("D15 another flow", about(udp4().from("10.1.0.1:1"), 60)),
                    unchanged("D15 7 bytes behind the header", about(udp4(), 27)),
                    unchanged("D15 a later fragment", about(udp4().flags(3), 60)),
                    unchanged("D15 half an IP header", about(udp4(), 15)),
                    unchanged("D15 nothing quoted", about(udp4(), 0)),
                    unchanged("D15 GRE quoted", about(udp4().raw(47), 60)),
                    unchanged("D15 no IP quoted", broken),
                    unchanged(
                        "D15 IPv6 quoted in ICMP",
                        udp4().error("203.0.113.1", 3, &quote(&udp6(), 80)).bytes(),
                    ),
                    unchanged("D16 another ICMP message", {
                        let quoted = quote(&udp4(), 60);
                        udp4().error("203.0.113.1", 13, &quoted).bytes()
                    }),
                ],
            );
        },
    );
}

/// A wrong checksum of the error, or inside it, stays wrong by as much.
#[test]
fn d15_wrong_checksums_stay_wrong() {
    // Address and port add up to the same sum: every checksum stays what it is.
    let target = "198.51.100.8:31764";
    let wrong = |frame: Frame| frame.checksum(0x1bad).ip_checksum(0x2bad);
    let about = |frame: Frame| udp4().error("203.0.113.1", 3, &quote(&wrong(frame), 60));
    let before = wrong(about(udp4()));
    // The sum of the addresses in an IP header alone does change: 7 becomes 8.
    let after = about(udp4().to(target).checksum(0x1bad)).payload(&{
        let mut quoted = quote(&wrong(udp4().to(target)), 60);
        quoted[10..12].copy_from_slice(&0x2bacu16.to_be_bytes());
        quoted
    });
    with_rig(
        |_| {},
        |rig| {
            rig.rules(&[rule(Any, 31765, target)]);
            rig.run(&mirror(&udp4().bytes()));
            rig.drain();
            // Embedded: checksum -1, address +1, port -1: the ICMP sum moves by -1, so it by +1.
            let after = after.checksum(0x1bae).ip_checksum(0x2bad);
            check(rig, vec![translated("D15 wrong", before, after, target)]);
        },
    );
}
