//! C9: what the egress asks for: the DF bit, the MTU, room in the ring.

use config::NatProtocol::Any;
use dataplane::abi::Verdict::{self, Queued, RingFull, TooBig};
use dataplane::abi::{INFO_DESTINATION, INFO_OVERSIZED, INFO_REWRITTEN, Note, Stage, VerdictClass};

use crate::case::{Case, case, check, counted, difference, ledger, out, unchanged, verdict};
use crate::frame::{DF, Frame, ethernet, mirror, pattern, tcp4, tcp6, udp4, udp6};
use crate::rig::{rule, with_rig, with_ring};

/// With an IP total length of `n`.
fn sized(frame: Frame, n: usize) -> Frame {
    let empty = frame.clone().payload(&[]);
    let header = empty.bytes().len() - empty.layer3_offset();
    frame.payload(&pattern(n - header))
}

fn df(frame: Frame, n: usize) -> Frame {
    sized(frame.flags(DF), n)
}

fn cleared(name: &str, frame: Frame) -> Case {
    let expected = frame.clone().flags(0).bytes();
    case(name, mirror(&frame.bytes()), out(expected).df_cleared())
}

fn kept(name: &str, frame: Frame) -> Case {
    unchanged(name, frame.bytes())
}

#[test]
fn c9_df_threshold() {
    let cases = vec![
        kept("C9 DF, 1399", df(udp4(), 1399)),
        kept("C9 DF, 1400", df(udp4(), 1400)),
        cleared("C9 DF, 1401", df(udp4(), 1401)),
        cleared("C9 DF, 1401, TCP, tagged", df(tcp4().tag(0x8100, 5), 1401)),
        cleared("C9 DF, 1401, options", df(udp4().options(&[1; 16]), 1401)),
        cleared("C9 DF, 1401, ICMP", udp4().raw(1).flags(DF).payload(&pattern(1381))),
        kept("C9 DF, 1400 and a trailer", df(udp4(), 1400).trailer(&pattern(50))),
        cleared("C9 DF, 1500", df(udp4(), 1500)),
        kept("C9 no DF, 1500", sized(udp4(), 1500)),
        kept("C9 reserved flag stays, 1400", df(udp4(), 1400).flags(0xc000)),
        case(
            "C9 reserved flag stays, 1500",
            mirror(&sized(udp4().flags(0xc000), 1500).bytes()),
            out(sized(udp4().flags(0x8000), 1500).bytes()).df_cleared(),
        ),
        kept("C9 IPv6 has no DF", sized(udp6(), 1500)),
        case(
            "C9 the length counts that the header says",
            mirror(&df(udp4(), 1500).bytes()[..200]),
            out(&sized(udp4(), 1500).bytes()[..200]).df_cleared().truncated(),
        ),
        // A wrong checksum stays wrong: 0x1bad + 0x4000 (RFC 1624: DF out of the sum).
        case(
            "C9 wrong IP checksum",
            mirror(&df(udp4(), 1500).ip_checksum(0x1bad).bytes()),
            out(sized(udp4(), 1500).ip_checksum(0x5bad).bytes()).df_cleared(),
        ),
        // 0xf000 + 0x4000 has a carry: 0x3001.
        case(
            "C9 carry in the IP checksum",
            mirror(&df(udp4(), 1500).ip_checksum(0xf000).bytes()),
            out(sized(udp4(), 1500).ip_checksum(0x3001).bytes()).df_cleared(),
        ),
    ];
    with_rig(|_| {}, |rig| check(rig, cases));
}

#[test]
fn c9_df_and_translation() {
    let target = "192.0.2.9:8081";
    let both = |name: &str, frame: Frame| {
        let expected = frame.clone().flags(0).translated(target).bytes();
        case(name, mirror(&frame.bytes()), out(expected).nat().df_cleared())
    };
    with_rig(
        |config| config.df_clear_threshold = 60,
        |rig| {
            rig.rules(&[rule(Any, 31765, target)]);
            check(
                rig,
                vec![
                    both("C9 UDP", df(udp4(), 61)),
                    both("C9 TCP", df(tcp4(), 1000)),
                    kept("C9 untranslated below", df(udp4().to("1.2.3.4:5"), 60)),
                    cleared("C9 untranslated above", df(udp4().to("1.2.3.4:5"), 61)),
                ],
            );
        },
    );
}

#[test]
fn c9_df_threshold_at_its_limits() {
    with_rig(
        |config| config.df_clear_threshold = 0,
        |rig| {
            check(rig, vec![cleared("C9 threshold 0", df(udp4(), 28))]);
        },
    );
    with_rig(
        |config| config.df_clear_threshold = 65535,
        |rig| {
            rig.egress_mtu(65535);
            check(rig, vec![kept("C9 threshold 65535", df(udp4(), 65000))]);
        },
    );
}

/// The injector fragments it.
fn oversized(name: &str, frame: Frame, target: Option<&str>) -> Case {
    let outcome = match target {
        Some(target) => out(frame.clone().translated(target).bytes())
            .nat()
            .info(INFO_OVERSIZED | INFO_DESTINATION | INFO_REWRITTEN),
        None => out(frame.bytes()).info(INFO_OVERSIZED),
    };
    case(name, mirror(&frame.bytes()), outcome.noted(Note::Oversized))
}

#[test]
fn the_injector_is_told_what_fits() {
    let (plain, service) = (udp4().raw(1), udp4().raw(1).tag(0x88a8, 5));
    let info = |rig: &crate::rig::Rig, frame: Frame| {
        rig.run(&mirror(&sized(frame, 2000).bytes()));
        rig.drain_records()[0].1.unwrap()
    };
    with_rig(
        |_| {},
        |rig| {
            for (frame, l3_off, max) in [
                (plain.clone(), 14, 1500),
                (plain.clone().tag(0x8100, 5), 18, 1500),
                (service.clone(), 18, 1496),
                (service.tag(0x8100, 5), 22, 1492),
            ] {
                let info = info(rig, frame);
                assert_eq!((info.l3_off, info.max_ip_len), (l3_off, max));
            }
        },
    );
}

#[test]
fn c9_egress_mtu() {
    let too_big = |name: &str, frame: Vec<u8>| case(name, mirror(&frame), verdict(TooBig));
    let ether = |n: usize| ethernet(0x88b5, &pattern(n - 14));
    let tagged = |n: usize| udp4().tag(0x8100, 5).ethertype(0x88b5).layer2(&pattern(n - 18));
    let service = |n: usize| udp4().tag(0x88a8, 5).ethertype(0x88b5).layer2(&pattern(n - 18));
    let with_mtu = |mtu: usize| {
        let limit = mtu + 14;
        vec![
            unchanged(format!("C9 one byte below MTU {mtu}"), ether(limit - 1)),
            unchanged(format!("C9 at MTU {mtu}"), ether(limit)),
            too_big(&format!("C9 one byte above MTU {mtu}"), ether(limit + 1)),
            unchanged(format!("C9 802.1Q, at MTU {mtu}"), tagged(limit + 4)),
            too_big(&format!("C9 802.1Q, one byte above MTU {mtu}"), tagged(limit + 5)),
            unchanged(format!("C9 802.1ad counts to MTU {mtu}"), service(limit)),
            too_big(&format!("C9 802.1ad, one byte above MTU {mtu}"), service(limit + 1)),
        ]
    };
    with_rig(
        |config| config.non_ip_forward = 1,
        |rig| {
            for mtu in [68, 576, 1500, 8999, 9001, 9216] {
                rig.egress_mtu(mtu as u32);
                check(rig, with_mtu(mtu));
            }
            rig.egress_mtu(1500);
            rig.rules(&[rule(Any, 31765, "192.0.2.9:8081")]);
            check(
                rig,
                vec![
                    too_big("C9 IPv6", sized(tcp6(), 1501).bytes()),
                    too_big("C9 the trailer counts", sized(udp4(), 1500).trailer(&[0]).bytes()),
                    too_big("C9 cut by the mirror", sized(udp4(), 3000).bytes()[..2000].to_vec()),
                    oversized("C9 translated", sized(udp4(), 1501), Some("192.0.2.9:8081")),
                    oversized("C9 other port", sized(udp4().to("198.51.100.7:1"), 1501), None),
                    oversized("C9 802.1Q", sized(udp4().tag(0x8100, 5).raw(1), 1501), None),
                    oversized("C9 802.1ad", sized(udp4().tag(0x88a8, 5).raw(1), 1497), None),
                ],
            );
            let flags = INFO_OVERSIZED | INFO_DESTINATION | INFO_REWRITTEN;
            let translated = sized(udp4(), 1501).translated("192.0.2.9:8081").bytes();
            let outcome = out(translated).nat().df_cleared().noted(Note::Oversized).info(flags);
            check(rig, vec![case("C9 DF", mirror(&df(udp4(), 1501).bytes()), outcome)]);
        },
    );
    with_rig(
        |config| config.df_clear_threshold = 65535,
        |rig| {
            check(
                rig,
                vec![
                    too_big("C9 DF is respected", df(udp4(), 1501).bytes()),
                    oversized("C9 no DF", sized(udp4(), 1501), None),
                ],
            );
        },
    );
}

/// Nobody drains a small ring: from some packet on every one is dropped, by name.
#[test]
fn a_full_ring_is_a_named_drop() {
    let inner = udp4().payload(&pattern(900)).bytes();
    let packet = mirror(&inner);
    with_ring(
        64 << 10,
        |_| {},
        |rig| {
            let start = rig.counters();
            let mut before = start.clone();
            let mut verdicts = Vec::new();
            for _ in 0..100 {
                let run = rig.run(&packet);
                let after = rig.counters();
                assert_eq!(ledger(&before, &after), Vec::<String>::new());
                assert_eq!(run.action, 1, "XDP_DROP");
                verdicts.push(counted(&before, &after).unwrap());
                before = after;
            }
            let queued = verdicts.iter().take_while(|v| **v == Queued).count();
            // A record is its frame, our 8 bytes, the kernel's 8, to a multiple of 8.
            assert_eq!(queued, (64 << 10) / (inner.len() + 16).next_multiple_of(8));
            assert!(verdicts[queued..].iter().all(|v| *v == RingFull));
            let end = rig.counters();
            let moved = |stage| end.stage(stage) - start.stage(stage);
            assert_eq!(moved(Stage::Total), 100);
            assert_eq!(moved(Stage::Forwarded), queued as u64);
            assert_eq!(moved(Stage::Errors), 100 - queued as u64);
            let dropped: u64 = Verdict::ALL
                .iter()
                .filter(|v| v.class() != VerdictClass::Forward)
                .map(|v| end.verdict(*v))
                .sum();
            assert_eq!(dropped, 100 - queued as u64);
            let frames = rig.drain();
            assert_eq!(frames.len(), queued);
            assert!(frames.iter().all(|frame| difference("frame", frame, &inner).is_none()));
            check(rig, vec![unchanged("room again", inner)]);
        },
    );
}

/// A frame that the ring can't hold even when it is empty.
#[test]
fn a_frame_larger_than_the_ring() {
    with_ring(
        4096,
        |_| {},
        |rig| {
            rig.egress_mtu(9216);
            let frame = |n| sized(udp4(), n).bytes();
            check(
                rig,
                vec![
                    unchanged("fits", frame(4000)),
                    case("does not", mirror(&frame(4200)), verdict(RingFull)),
                    unchanged("fits again", frame(4000)),
                ],
            );
        },
    );
}
