//! C10: copies of a packet, from mirrors at both ends of a flow (DEDUP_WINDOW_MS).

use std::hash::Hasher as _;
use std::thread::sleep;
use std::time::Duration;

use config::NatProtocol::Udp;
use dataplane::MapName;
use dataplane::abi::Verdict::Duplicate;
use dataplane::abi::{INFO_DESTINATION, INFO_FRAGMENT, INFO_REWRITTEN, Note};
use libbpf_rs::{MapCore as _, MapFlags};
use siphasher::sip::SipHasher13;

use crate::case::{Case, case, check, out, unchanged, verdict};
use crate::frame::{Frame, ethernet, mirror, outer, pattern, tcp4, tcp6, udp4, udp6};
use crate::rig::{rule, with_rig};

const SECOND: u64 = 1_000_000_000;

fn copy(name: &str, frame: Frame) -> Case {
    case(name, mirror(&frame.bytes()), verdict(Duplicate))
}

fn first(name: &str, frame: Frame) -> Case {
    unchanged(name, frame.bytes())
}

#[test]
fn c10_the_second_copy_is_dropped() {
    let macs = [[0x02, 0, 0, 0, 0, 1], [0x02, 0, 0, 0, 0, 2]];
    let again = |name: &str, frame: Frame| {
        [first(name, frame.clone()), copy(&format!("{name}: copy"), frame)]
    };
    let sizes = [0, 1, 7, 8, 35, 36, 37, 63, 64, 65, 100, 1000, 1400];
    let sized = sizes.map(|n| again(&format!("C10 {n} bytes"), udp4().payload(&pattern(n))));
    with_rig(
        |config| {
            config.dedup_window_ns = 60 * SECOND;
            config.dedup_key = [0x1234, 0x5678];
        },
        |rig| {
            check(rig, sized.into_iter().flatten().collect());
            check(rig, again("C10 IPv6", udp6()).into());
            check(rig, again("C10 IPv6 TCP", tcp6()).into());
            check(
                rig,
                vec![
                    first("C10 TCP", tcp4()),
                    copy("C10 the other end's MAC addresses", tcp4().macs(macs[0], macs[1])),
                    copy("C10 behind a router", tcp4().ttl(60)),
                    copy("C10 with a tag", tcp4().tag(0x8100, 5)),
                    copy("C10 padded", tcp4().trailer(&[0; 6])),
                    case(
                        "C10 in the other session's VNI",
                        outer().carry_vni(99, &tcp4().bytes()).bytes(),
                        verdict(Duplicate),
                    ),
                    copy("C10 a third one", tcp4()),
                ],
            );
        },
    );
}

#[test]
fn c10_what_is_no_copy() {
    let last_byte = |n: usize| {
        let mut payload = pattern(n);
        payload[n - 1] ^= 1;
        // Both checksums 0, so that only the payload tells them apart.
        udp4().payload(&payload).checksum(0)
    };
    with_rig(
        |config| config.dedup_window_ns = 60 * SECOND,
        |rig| {
            check(
                rig,
                vec![
                    first("C10 a packet", tcp4()),
                    first("C10 retransmitted: another identification", tcp4().id(0x1235)),
                    first("C10 other TOS", tcp4().traffic_class(4)),
                    first("C10 other source", tcp4().from("10.1.0.2:40000")),
                    first("C10 other source port", tcp4().from("10.1.0.1:40001")),
                    first("C10 other protocol", udp4()),
                    first("C10 shorter", udp4().payload(&pattern(31))),
                    first("C10 36 bytes", udp4().payload(&pattern(36)).checksum(0)),
                    first("C10 the last of 36 bytes differs", last_byte(36)),
                    first("C10 37 bytes", udp4().payload(&pattern(37)).checksum(0)),
                    first("C10 the last of 37 bytes differs", last_byte(37)),
                    first("C10 1,400 bytes", udp4().payload(&pattern(1400)).checksum(0)),
                    first("C10 the last of 1,400 bytes differs", last_byte(1400)),
                    first("C10 IPv6", udp6()),
                    first("C10 IPv6, other flow label", udp6().flow_label(1)),
                ],
            );
        },
    );
    let arp = ethernet(0x0806, &pattern(28));
    with_rig(
        |config| {
            config.dedup_window_ns = 60 * SECOND;
            config.non_ip_forward = 1;
        },
        |rig| check(rig, vec![unchanged("not IP", arp.clone()), unchanged("not IP", arp)]),
    );
}

#[test]
fn c10_the_window() {
    let window = Duration::from_millis(200);
    with_rig(
        |config| config.dedup_window_ns = window.as_nanos() as u64,
        |rig| {
            check(rig, vec![first("C10", udp4()), copy("C10 within the window", udp4())]);
            sleep(window);
            check(rig, vec![first("C10 after it", udp4()), copy("C10 a new one begins", udp4())]);
        },
    );
    with_rig(|_| {}, |rig| check(rig, vec![first("C10 off", udp4()), first("C10 off", udp4())]));
}

/// Copies are looked for before translation: each is dropped whatever the first became.
#[test]
fn c10_copies_of_translated_packets() {
    let target = "192.0.2.9:8081";
    with_rig(
        |config| config.dedup_window_ns = 60 * SECOND,
        |rig| {
            rig.rules(&[rule(Udp, 31765, target)]);
            let expected = out(udp4().translated(target).bytes()).nat();
            check(
                rig,
                vec![
                    case("C10 translated", mirror(&udp4().bytes()), expected),
                    copy("C10 its copy", udp4()),
                ],
            );
        },
    );
}

/// The hash that the program remembers is SipHash-1-3 of what stands in dedup.h, by another
/// implementation, for every length around the chunks.
#[test]
fn packets_are_compared_by_siphash() {
    let keys = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
    with_rig(
        |config| {
            config.dedup_window_ns = 60 * SECOND;
            config.dedup_key = keys;
        },
        |rig| {
            let map = rig.pipeline.map(MapName::DEDUP).unwrap();
            for frame in (0..200).map(|n| udp4().payload(&pattern(n))).chain([tcp6(), udp6()]) {
                rig.run(&mirror(&frame.bytes()));
                rig.drain();
                let mut packet = frame.layer3();
                let length = packet.len() as u64;
                let header = if frame.is_ipv4() { 20 } else { 40 };
                if frame.is_ipv4() {
                    packet[8] = 0;
                    packet[10..12].fill(0);
                } else {
                    packet[7] = 0;
                }
                let mut message = packet[..header].to_vec();
                message.resize(40, 0);
                for chunk in packet[header..].chunks(64) {
                    message.extend(chunk);
                    message.resize(message.len().next_multiple_of(8), 0);
                    message.resize(40 + (message.len() - 40).next_multiple_of(64), 0);
                }
                message.extend(length.to_ne_bytes());
                let mut hasher = SipHasher13::new_with_keys(keys[0], keys[1]);
                hasher.write(&message);
                let key = hasher.finish().to_ne_bytes();
                let found = map.lookup(&key, MapFlags::ANY).unwrap();
                assert!(found.is_some(), "{} bytes", packet.len());
            }
        },
    );
}

/// Two copies in two sessions, whichever comes first: replies and fragments find their flow.
#[test]
fn c10_sessions_are_not_told_apart() {
    let target = "192.0.2.9:8081";
    let in_vni = |vni: u32, frame: &Frame| outer().carry_vni(vni, &frame.bytes()).bytes();
    let datagram = udp4().id(7).payload(&pattern(100));
    let pieces = datagram.fragments(&[48]);
    let expected = datagram.clone().translated(target).fragments(&[48]);
    let translated = |n: usize| {
        let info = INFO_FRAGMENT | INFO_DESTINATION | INFO_REWRITTEN;
        out(expected[n].bytes()).nat().fragment().info(info)
    };
    let reply = udp4().reply();
    let back = out(reply.clone().translated_back(target).bytes()).nat().noted(Note::Reply);
    with_rig(
        |config| config.dedup_window_ns = 60 * SECOND,
        |rig| {
            rig.rules(&[rule(Udp, 31765, target)]);
            check(
                rig,
                vec![
                    case("first, by the client", in_vni(1, &pieces[0]), translated(0)),
                    case("first, by the server", in_vni(2, &pieces[0]), verdict(Duplicate)),
                    case("later, by the server", in_vni(2, &pieces[1]), translated(1)),
                    case("later, by the client", in_vni(1, &pieces[1]), verdict(Duplicate)),
                    case("reply, by the server", in_vni(2, &reply), back),
                    case("reply, by the client", in_vni(1, &reply), verdict(Duplicate)),
                ],
            );
        },
    );
}
