//! D11 to D14: inner IP fragments.

use config::NatProtocol::{Any, Udp};
use dataplane::abi::Verdict::{FragmentTiny, NextHopUnresolved, Unmatched};
use dataplane::abi::{
    INFO_DESTINATION, INFO_FRAGMENT, INFO_HOLD, INFO_REASSEMBLE, INFO_REWRITTEN, INFO_SOURCE, Note,
};

use crate::case::{Case, case, check, out, verdict};
use crate::frame::{DF, Frame, TCP, UDP, echo6, mirror, outer, pattern, tcp4, tcp6, udp4, udp6};
use crate::rig::{echo_rule, rule, rule_for, with_rig};

const TARGET: &str = "192.0.2.9:8081";
const TARGET6: &str = "[2001:db8::99]:8081";
const TRANSLATED: u32 = INFO_FRAGMENT | INFO_DESTINATION | INFO_REWRITTEN;

/// Each fragment as it must leave: the first with port and checksum of the translated datagram,
/// the later ones with another address and nothing else.
fn translated(name: &str, datagram: &Frame, cuts: &[usize], order: &[usize]) -> Vec<Case> {
    let target = if datagram.is_ipv4() { TARGET } else { TARGET6 };
    let (input, expected) =
        (datagram.fragments(cuts), datagram.clone().translated(target).fragments(cuts));
    let one = |&n: &usize| {
        let name = format!("{name}, fragment {n}");
        case(
            name,
            mirror(&input[n].bytes()),
            out(expected[n].bytes()).nat().fragment().info(TRANSLATED),
        )
    };
    order.iter().map(one).collect()
}

/// No rule matches: it leaves as it is, and the injector only looks at its place in the datagram.
fn left(name: &str, frame: Frame) -> Case {
    case(name, mirror(&frame.bytes()), out(frame.bytes()).fragment().info(INFO_FRAGMENT))
}

/// Nobody asks for its ports: it leaves as it is.
fn not_tracked(name: &str, frame: Frame) -> Case {
    case(name, mirror(&frame.bytes()), out(frame.bytes()).fragment())
}

/// The injector keeps it until its first fragment comes.
fn held(name: &str, frame: Frame) -> Case {
    case(
        name,
        mirror(&frame.bytes()),
        out(frame.bytes()).fragment().info(INFO_FRAGMENT | INFO_HOLD),
    )
}

fn tiny(name: &str, frame: Frame) -> Case {
    case(name, mirror(&frame.bytes()), verdict(FragmentTiny))
}

fn with_rules(cases: impl FnOnce() -> Vec<Case>) {
    with_rig(
        |_| {},
        |rig| {
            rig.rules(&[rule(Any, 31765, TARGET), rule(Any, 31765, TARGET6)]);
            check(rig, cases());
        },
    );
}

#[test]
fn d11_later_fragments_follow_the_first() {
    let long = |frame: Frame| frame.payload(&pattern(100));
    with_rules(|| {
        let chain = || udp6().options_header(0, 1).options_header(43, 3);
        [
            translated("D11 two", &long(udp4()), &[48], &[0, 1]),
            translated("D11 header only in the first", &long(udp4()).id(2), &[8], &[0, 1]),
            translated("D11 four", &long(udp4()).id(3), &[16, 48, 64], &[0, 1, 2, 3]),
            translated("D11 later ones out of order", &long(udp4()).id(4), &[16, 48], &[0, 2, 1]),
            translated("D11 later ones twice", &long(udp4()).id(5), &[48], &[0, 1, 1]),
            translated("D11 TCP", &long(tcp4()), &[24], &[0, 1]),
            translated("D11 tagged", &long(udp4()).id(6).tag(0x8100, 5), &[48], &[0, 1]),
            translated("D11 options", &long(udp4()).id(7).options(&[1; 8]), &[48], &[0, 1]),
            translated("D11 UDP checksum 0", &long(udp4()).id(8).checksum(0), &[48], &[0, 1]),
            translated(
                "D12 UDP checksum over the whole datagram",
                &long(udp4()).id(9),
                &[48],
                &[0, 1],
            ),
            translated("D14 IPv6", &long(udp6()), &[48], &[0, 1]),
            translated("D14 IPv6, chain before", &chain().id(2), &[16], &[0, 1]),
            translated(
                "D14 IPv6, tagged",
                &long(udp6()).id(3).tag(0x88a8, 1),
                &[48, 64],
                &[0, 2, 1],
            ),
        ]
        .into_iter()
        .flatten()
        .collect()
    });
}

/// Behind the fragment header may stand further extension headers: then only the first fragment
/// tells the transport protocol.
#[test]
fn d14_extension_headers_behind_the_fragment_header() {
    let part_of = |id: u16, payload: &[u8], more: u16, offset: u16, to: &str| {
        udp6().to(to).id(id).raw(60).payload(payload).fragment_header(offset | more)
    };
    let part = |payload: &[u8], more, offset, to: &str| part_of(1, payload, more, offset, to);
    let options = [UDP, 0, 1, 4, 0, 0, 0, 0];
    let datagram = |frame: Frame| [&options[..], &frame.payload(&pattern(40)).layer4()].concat();
    let (before, after) = (datagram(udp6()), datagram(udp6().to(TARGET6)));
    let live = "[2001:db8::7]:31765";
    let link_layer = |frame: Frame| frame.translated(TARGET6).bytes();
    with_rules(|| {
        vec![
            case(
                "D14 first",
                mirror(&part(&before[..32], 1, 0, live).bytes()),
                out(link_layer(part(&after[..32], 1, 0, live))).nat().fragment().info(TRANSLATED),
            ),
            case(
                "D14 later",
                mirror(&part(&before[32..], 0, 32, live).bytes()),
                out(link_layer(part(&after[32..], 0, 32, live))).nat().fragment().info(TRANSLATED),
            ),
            held("D14 later of another datagram", part_of(99, &before[32..], 0, 32, live)),
        ]
    });
}

#[test]
fn d11_later_fragments_without_their_first() {
    let datagram = |id| udp4().id(id).payload(&pattern(100));
    let later = |frame: Frame| frame.fragments(&[48])[1].clone();
    with_rules(|| {
        let mut cases = vec![
            held("D11 never seen", later(datagram(1))),
            held("D11 TCP", later(tcp4().payload(&pattern(100)))),
            held("D11 IPv6", later(udp6().payload(&pattern(100)))),
            held("D11 ICMP, perhaps of an echo request", datagram(9).raw(1).flags(6)),
            not_tracked("D17 ESP needs no port", datagram(9).raw(50).flags(6)),
            held("D14 ICMPv6", udp6().raw(58).fragment_header(48)),
            held("D17 ESP over IPv6: only its first one's protocol counts", {
                udp6().raw(50).fragment_header(48)
            }),
        ];
        cases.extend(translated("D11 the first of 1", &datagram(1), &[48], &[0]));
        cases.extend([
            held("D11 other id", later(datagram(2))),
            held("D11 other source", later(datagram(1)).from("10.1.0.2:0")),
            held("D11 other destination", later(datagram(1)).to("198.51.100.8:0")),
            held("D11 other protocol", later(datagram(1)).raw(TCP)),
        ]);
        let packet = outer().carry_vni(8, &later(datagram(1)).bytes()).bytes();
        let waits = out(later(datagram(1)).bytes()).fragment().info(INFO_FRAGMENT | INFO_HOLD);
        cases.push(case("D11 other VNI", packet, waits));
        cases.extend(translated("D11 the right one", &datagram(1), &[48], &[1]));
        cases
    });
}

#[test]
fn d13_tiny_fragments_are_refused() {
    let piece = |n: usize, id: u16| {
        udp4().id(id).raw(TCP).payload(&tcp4().layer4()[..n]).flags(crate::frame::MF)
    };
    let later = |id: u16, flags: u16| udp4().id(id).raw(TCP).payload(&pattern(40)).flags(flags);
    let chain = |cut: usize| {
        let rest = [&[TCP, 0, 1, 4, 0, 0, 0, 0][..], &tcp6().layer4()].concat();
        udp6().id(cut as u16).raw(60).payload(&rest[..cut]).fragment_header(1)
    };
    with_rules(|| {
        let mut cases = vec![
            tiny("D13 8 bytes of TCP", piece(8, 1)),
            tiny("D13 16 bytes of TCP", piece(16, 2)),
            held("D13 what follows it waits for a first one in vain", later(2, 2)),
            tiny("D13 offset 8 in TCP could replace its flags (RFC 3128)", later(5, 1)),
            tiny("D13 the chain of headers ends in the first fragment (RFC 7112)", chain(4)),
            tiny("D13 no byte of TCP behind the chain", chain(8)),
            tiny("D13 16 bytes of TCP behind the chain", chain(24)),
        ];
        let datagram = tcp4().id(3).payload(&pattern(60));
        cases.extend(translated("D13 a whole header", &datagram, &[24], &[0, 1]));
        cases.push(tiny("D13 then a tiny one with its id", piece(8, 3)));
        // The mirror cut it, not the sender: its later ones follow it.
        let whole = mirror(&udp4().id(4).payload(&pattern(60)).flags(crate::frame::MF).bytes());
        let frame = whole[50..50 + 38].to_vec();
        let cut = out(frame.clone()).fragment().truncated().info(INFO_FRAGMENT);
        cases.push(case("D13 cut by the mirror", mirror(&frame), cut));
        cases.push(left("D13 what follows that", udp4().id(4).raw(UDP).flags(10)));
        cases
    });
    // Nobody looks at ports: a sensor sees the attack as it is.
    with_rig(|_| {}, |rig| check(rig, vec![not_tracked("D13 no rules", piece(8, 1))]));
}

/// A second one is of no use but to hide which counts: no ports, so no rule.
#[test]
fn d14_two_fragment_headers() {
    let twice = |first: u16, second: u16| {
        udp6().payload(&pattern(100)).fragment_header(first).fragment_header(second)
    };
    let unmatched =
        |name: &str, frame: Frame| case(name, mirror(&frame.bytes()), verdict(Unmatched));
    with_rig(
        |config| config.unmatched_drop = 1,
        |rig| {
            rig.rules(&[rule(Any, 31765, TARGET6)]);
            check(
                rig,
                vec![
                    unmatched("D14 atomic, then later", twice(0, 1480)),
                    unmatched("D14 atomic, then first", twice(0, 1)),
                    unmatched("D14 atomic twice", twice(0, 0)),
                    unmatched("D14 first, then later", twice(1, 1480)),
                ],
            );
        },
    );
}

#[test]
fn reassembly_asks_for_every_fragment() {
    let asked = |name: &str, frame: Frame, more: u32| {
        let info = INFO_FRAGMENT | INFO_REASSEMBLE | more;
        case(name, mirror(&frame.bytes()), out(frame.bytes()).fragment().info(info))
    };
    with_rig(
        |config| config.reassemble = 1,
        |rig| {
            let parts = udp4().payload(&pattern(100)).fragments(&[48]);
            check(
                rig,
                vec![
                    asked("later", parts[1].clone(), 0),
                    asked("first", parts[0].clone(), 0),
                    asked("ESP", udp4().raw(50).flags(6), 0),
                    asked("IPv6", udp6().raw(50).fragment_header(48), 0),
                ],
            );
            rig.rules(&[rule(Udp, 31764, TARGET)]);
            let other = udp4().id(2).payload(&pattern(100)).fragments(&[48]);
            check(rig, vec![asked("later, with rules", other[1].clone(), INFO_HOLD)]);
        },
    );
}

#[test]
fn d11_fragments_of_replies_and_echo() {
    let datagram = || udp4().payload(&pattern(100)).id(7);
    let there = datagram().fragments(&[48]);
    let back = datagram().reply().id(8).fragments(&[48]);
    let expected = datagram().reply().id(8).translated_back(TARGET).fragments(&[48]);
    let reply = |n: usize| {
        let outcome = out(expected[n].bytes()).nat().fragment().noted(Note::Reply);
        let info = INFO_FRAGMENT | INFO_SOURCE | INFO_REWRITTEN;
        case(format!("D11 reply, fragment {n}"), mirror(&back[n].bytes()), outcome.info(info))
    };
    let request = echo6(9).payload(&pattern(100));
    let pieces = request.clone().fragments(&[48]);
    let to = "[2001:db8::99]:0";
    let after = request.translated(to).fragments(&[48]);
    let echo = |n: usize| {
        let outcome = out(after[n].bytes()).nat().fragment().info(TRANSLATED);
        case(format!("D11 echo request, fragment {n}"), mirror(&pieces[n].bytes()), outcome)
    };
    with_rig(
        |_| {},
        |rig| {
            rig.rules(&[rule(Udp, 31765, TARGET), echo_rule(&["2001:db8::99"])]);
            rig.run(&mirror(&there[0].bytes()));
            rig.drain();
            check(rig, vec![reply(0), reply(1), echo(0), echo(1)]);
        },
    );
}

#[test]
fn d11_no_rule_and_other_fates() {
    let datagram = |port: u16, id| {
        udp4().to(&format!("198.51.100.7:{port}")).id(id).payload(&pattern(100)).fragments(&[48])
    };
    let whole = |verdict_, name: &str, frames: Vec<Frame>| -> Vec<Case> {
        let one = |frame: &Frame| case(name, mirror(&frame.bytes()), verdict(verdict_));
        frames.iter().map(one).collect()
    };
    let forwarded = |name: &str, frames: Vec<Frame>| -> Vec<Case> {
        frames.into_iter().map(|frame| left(name, frame)).collect()
    };
    with_rig(
        |_| {},
        |rig| {
            // Without rules a later fragment needs no first.
            let [first, later] = &datagram(31765, 1)[..] else { unreachable!() };
            check(rig, vec![not_tracked("D11 no rules", first.clone())]);
            check(rig, vec![not_tracked("D11 no rules", later.clone())]);
            check(rig, vec![not_tracked("D11 no rules, no first", datagram(31765, 2)[1].clone())]);
            rig.rules(&[rule(Udp, 31765, TARGET)]);
            check(rig, forwarded("D11 other port", datagram(31764, 3)));
            rig.rules_unresolved(&[rule(Udp, 31765, "192.0.2.200:1")]);
            check(rig, whole(NextHopUnresolved, "D20 unresolved", datagram(31765, 4)));
            rig.rules(&[rule_for(Udp, 31765, Some("203.0.113.0/24"), None, TARGET)]);
            check(rig, forwarded("D11 other address", datagram(31765, 5)));
        },
    );
    with_rig(
        |config| config.unmatched_drop = 1,
        |rig| {
            rig.rules(&[rule(Udp, 31765, TARGET)]);
            check(rig, whole(Unmatched, "UNMATCHED=drop", datagram(31764, 6)));
            check(
                rig,
                translated("UNMATCHED=drop", &udp4().payload(&pattern(100)), &[48], &[0, 1]),
            );
        },
    );
}

#[test]
fn c9_df_of_fragments() {
    // DF and MF at once is odd but seen; the bit goes when the packet is long.
    let fragment = |flags| udp4().raw(1).payload(&pattern(500)).flags(flags);
    let cleared = |name: &str, flags: u16| {
        let expected = out(fragment(flags & !DF).bytes()).df_cleared().fragment();
        case(name, mirror(&fragment(flags).bytes()), expected)
    };
    with_rig(
        |config| config.df_clear_threshold = 400,
        |rig| {
            check(
                rig,
                vec![
                    cleared("C9 first with DF", 0x6000),
                    cleared("C9 later with DF", 0x4000 | 50),
                    not_tracked("C9 later without", fragment(50)),
                ],
            );
        },
    );
}
