//! Translated flows: replies, the target that a flow keeps, and several weighted targets.

use std::collections::BTreeMap;

use config::NatProtocol::{Any, Tcp, Udp};
use dataplane::abi::{Note, Side};

use crate::case::{Case, case, check, out, unchanged};
use crate::frame::{Frame, echo4, echo6, mirror, outer, pattern, tcp4, tcp6, udp4, udp6};
use crate::rig::{Rig, echo_rule, rule, several, with_rig};

const TARGET: &str = "192.0.2.9:8081";
const TARGET6: &str = "[2001:db8::99]:8081";
const OTHER: &str = "192.0.2.10:8082";

fn there(target: &str, name: &str, frame: Frame) -> Case {
    let expected = frame.clone().translated(target).bytes();
    case(name, mirror(&frame.bytes()), out(expected).nat())
}

fn back(target: &str, name: &str, frame: Frame) -> Case {
    let expected = out(frame.clone().translated_back(target).bytes()).nat().noted(Note::Reply);
    case(name, mirror(&frame.bytes()), expected)
}

fn left(name: &str, frame: Frame) -> Case {
    unchanged(name, frame.bytes())
}

#[test]
fn replies_are_translated_back() {
    let both = |name: &str, target: &str, frame: Frame| {
        [
            left(&format!("{name}: a reply before its flow"), frame.clone().reply()),
            there(target, name, frame.clone()),
            back(target, &format!("{name}: reply"), frame.clone().reply()),
            back(target, &format!("{name}: again"), frame.clone().reply().payload(&pattern(1000))),
            there(target, &format!("{name}: on"), frame.payload(&pattern(99))),
        ]
    };
    let cases = [
        both("UDP", TARGET, udp4()),
        both("TCP", TARGET, tcp4()),
        both("UDP over IPv6", TARGET6, udp6()),
        both("TCP over IPv6", TARGET6, tcp6()),
        both("no UDP checksum", TARGET, udp4().from("10.1.0.2:40000").checksum(0)),
        both("client above server", TARGET, udp4().from("203.0.113.9:40000")),
        both("client port above", TARGET, udp4().from("198.51.100.7:40000")),
        both("client port below", TARGET, udp4().from("198.51.100.7:1")),
        both("options, tags", TARGET, tcp4().from("10.1.0.3:1").options(&[1; 8]).tag(0x8100, 1)),
        both("extensions", TARGET6, udp6().from("[fd00::3]:1").options_header(60, 2)),
    ];
    with_rig(
        |_| {},
        |rig| {
            rig.rules(&[rule(Any, 31765, TARGET), rule(Any, 31765, TARGET6)]);
            check(rig, cases.into_iter().flatten().collect());
        },
    );
}

#[test]
fn only_the_flow_s_own_replies_are_translated() {
    with_rig(
        |_| {},
        |rig| {
            rig.rules(&[rule(Udp, 31765, TARGET)]);
            let reply = udp4().reply();
            let other_vni = outer().carry_vni(8, &reply.bytes()).bytes();
            check(
                rig,
                vec![
                    there(TARGET, "the flow", udp4()),
                    left("other client", reply.clone().to("10.1.0.2:40000")),
                    left("other client port", reply.clone().to("10.1.0.1:40001")),
                    left("other server", reply.clone().from("198.51.100.8:31765")),
                    left("other server port", reply.clone().from("198.51.100.7:31764")),
                    left("other protocol", tcp4().reply()),
                    case("other VNI", other_vni, out(reply.bytes())),
                    back(TARGET, "the reply", reply),
                ],
            );
        },
    );
}

/// A wrong checksum stays wrong by as much; 0x0000 and 0xffff as `checksum.rs` has them.
#[test]
fn d9_a_wrong_checksum_of_a_reply_stays_wrong() {
    with_rig(
        |_| {},
        |rig| {
            // The sum of port and address stays the same, so the checksum does: 198.51.100.7:31765.
            let target = "198.51.100.8:31764";
            rig.rules(&[rule(Any, 31765, target)]);
            check(
                rig,
                vec![
                    there(target, "the flow", tcp4()),
                    back(target, "wrong", tcp4().reply().checksum(0x1bad)),
                    back(target, "zero", tcp4().reply().checksum(0)),
                ],
            );
        },
    );
}

#[test]
fn d16_icmp_echo() {
    let answers = |request: Frame, target: &str, name: &str| {
        vec![
            left(&format!("{name}: answer before its request"), request.clone().reply()),
            there(target, &format!("{name}: request"), request.clone()),
            back(target, &format!("{name}: answer"), request.clone().reply()),
            back(target, &format!("{name}: long answer"), request.reply().payload(&pattern(999))),
        ]
    };
    with_rig(
        |_| {},
        |rig| {
            rig.rules(&[echo_rule(&["192.0.2.9"]), echo_rule(&["2001:db8::99"])]);
            check(rig, answers(echo4(7), "192.0.2.9:0", "ICMP"));
            check(rig, answers(echo6(7), "[2001:db8::99]:0", "ICMPv6"));
            let message = |kind: u8| echo4(7).icmp([kind, 0, 0, 7, 0, 1]);
            check(
                rig,
                vec![
                    left("answer to another identifier", echo4(8).reply()),
                    left("timestamp request", message(13)),
                    left("address mask request", message(17)),
                    left("neighbour solicitation", echo6(7).icmp([135, 0, 0, 0, 0, 0])),
                    left("UDP", udp4()),
                ],
            );
        },
    );
}

#[test]
fn d16_rules_for_ports_do_not_match_echo() {
    // An identifier is not a port.
    let id = 31765;
    with_rig(
        |_| {},
        |rig| {
            rig.rules(&[rule(Any, id, TARGET), rule(Any, id, TARGET6)]);
            check(rig, vec![left("D16 ICMP", echo4(id)), left("D16 ICMPv6", echo6(id))]);
        },
    );
}

#[test]
fn a_flow_keeps_its_target() {
    with_rig(
        |_| {},
        |rig| {
            rig.rules(&[several(Udp, 31765, &[(TARGET, 1)])]);
            check(rig, vec![there(TARGET, "begins", udp4())]);
            // No new flow goes to the first target any more, but this one stays.
            rig.rules(&[several(Udp, 31765, &[(TARGET, 0), (OTHER, 5)])]);
            check(
                rig,
                vec![
                    there(TARGET, "drained", udp4()),
                    back(TARGET, "drained, reply", udp4().reply()),
                    there(OTHER, "a new flow", udp4().from("10.1.0.1:40001")),
                ],
            );
            // The target goes: so must the flow.
            rig.rules(&[several(Udp, 31765, &[(OTHER, 1)])]);
            check(
                rig,
                vec![
                    left("removed: the reply has no flow", udp4().reply()),
                    there(OTHER, "removed", udp4()),
                    back(OTHER, "removed, reply", udp4().reply()),
                ],
            );
            // The same target under another rule is another thing.
            rig.rules(&[rule(Udp, 53, OTHER)]);
            check(rig, vec![left("no rule", udp4()), left("no rule, reply", udp4().reply())]);
        },
    );
}

#[test]
fn the_first_packet_says_which_side_is_the_server() {
    let there_and_back = udp4().from("10.1.0.1:31765");
    with_rig(
        |_| {},
        |rig| {
            rig.rules(&[rule(Udp, 31765, TARGET)]);
            check(
                rig,
                vec![
                    there(TARGET, "both ports match", there_and_back.clone()),
                    back(TARGET, "the other direction is a reply", there_and_back.reply()),
                    there(TARGET, "to itself", udp4().from("198.51.100.7:31765")),
                    there(TARGET, "to itself again", udp4().from("198.51.100.7:31765")),
                ],
            );
        },
    );
}

#[test]
fn flows_are_counted() {
    let counts = |rig: &Rig| {
        let counters = rig.counters();
        [counters.side(Side::ConntrackCreated), counters.side(Side::ConntrackHit)]
    };
    with_rig(
        |_| {},
        |rig| {
            rig.rules(&[rule(Tcp, 31765, TARGET)]);
            for frame in [udp4(), tcp4().to("198.51.100.7:1"), tcp4().reply()] {
                rig.run(&mirror(&frame.bytes()));
                assert_eq!(counts(rig), [0, 0]);
            }
            for (frame, expected) in [
                (tcp4(), [1, 0]),
                (tcp4(), [1, 1]),
                (tcp4().reply(), [1, 2]),
                (tcp4().from("10.1.0.1:40001"), [2, 2]),
            ] {
                rig.run(&mirror(&frame.bytes()));
                assert_eq!(counts(rig), expected);
            }
            // Its target goes and comes: the entry is used again, the flow does not begin twice.
            rig.rules(&[]);
            rig.rules(&[rule(Tcp, 31765, TARGET)]);
            rig.run(&mirror(&tcp4().bytes()));
            assert_eq!(counts(rig), [2, 2]);
            rig.drain();
        },
    );
}

/// Which target each of many flows gets.
fn spread(rig: &Rig, flows: u16) -> BTreeMap<[u8; 4], u16> {
    let mut targets = BTreeMap::new();
    for n in 0..flows {
        let client = format!("10.{}.{}.1:{}", n % 7, n % 251, 1024 + n);
        rig.run(&mirror(&udp4().from(&client).bytes()));
        let frame = &rig.drain()[0];
        *targets.entry(frame[30..34].try_into().unwrap()).or_default() += 1;
    }
    targets
}

#[test]
fn several_targets_share_by_weight() {
    with_rig(
        |_| {},
        |rig| {
            let targets = [("192.0.2.1:1", 3), ("192.0.2.2:2", 1), ("192.0.2.3:3", 0)];
            rig.rules(&[several(Udp, 31765, &targets)]);
            let shares = spread(rig, 2000);
            let share = |last: u8| shares.get(&[192, 0, 2, last]).copied().unwrap_or(0);
            // Four standard deviations of a fair draw are 77.
            assert!(share(1).abs_diff(1500) < 90, "{shares:?}");
            assert_eq!((share(1) + share(2), share(3)), (2000, 0), "{shares:?}");
        },
    );
}

/// Two instances share nothing but the configuration, written in another order.
#[test]
fn instances_choose_alike() {
    let targets = [(TARGET, 2), (OTHER, 1), ("192.0.2.11:1", 1)];
    let choices = |targets: &[(&str, u16)]| {
        let mut choices = Vec::new();
        with_rig(
            |_| {},
            |rig| {
                rig.rules(&[several(Udp, 31765, targets)]);
                for n in 0..300 {
                    let frame = udp4().from(&format!("10.9.8.7:{}", 2000 + n)).bytes();
                    // The VNI is drawn for each session: it has no say.
                    rig.run(&outer().carry_vni(targets.len() as u32 * n, &frame).bytes());
                    choices.push(rig.drain()[0].clone());
                }
            },
        );
        choices
    };
    let one = choices(&targets);
    let reversed: Vec<_> = targets.into_iter().rev().collect();
    assert_eq!(one, choices(&reversed));
}
