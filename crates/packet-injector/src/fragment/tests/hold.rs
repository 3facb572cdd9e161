//! Held, released, translated.

use dataplane::abi::{INFO_DESTINATION, INFO_OVERSIZED, INFO_REWRITTEN, INFO_SOURCE, SendFailure};

use super::*;
use crate::fragment::header::Fragment;
use crate::split::Split;
use crate::testing::{fragments, l3_off, with_wrong_checksum};

const TRANSLATED: u32 = INFO_FRAGMENT | INFO_DESTINATION | INFO_REWRITTEN;

/// The same datagram as it came and as it has to leave; scapy made both.
const PAIRS: [(&str, &str); 2] = [("udp", "translated"), ("udp6", "translated6")];

#[test]
fn held_fragments_leave_behind_their_first_and_translated_like_it() {
    for (before, after) in PAIRS {
        let (came, leaves) = (fragments(before), fragments(after));
        let mut bench = Bench::new(10);
        for number in [2, 1] {
            let info = info(&came[number], 1, HOLD, WIDE);
            assert_eq!(bench.decide(&came[number], &info, UNKNOWN), Fate::Taken);
        }
        assert!(bench.sent().is_empty());
        let fate = bench.decide(&leaves[0], &info(&leaves[0], 1, TRANSLATED, WIDE), FLOW);
        assert_eq!(fate, as_it_is(), "{before}");
        assert_eq!(bench.sent(), [(FLOW, leaves[2].clone()), (FLOW, leaves[1].clone())]);
        bench.refused(SendFailure::FragmentTimeout, 0);
    }
}

#[test]
fn a_fragment_that_comes_late_to_be_held_is_translated_at_once() {
    for (before, after) in PAIRS {
        let (came, leaves) = (fragments(before), fragments(after));
        let mut bench = Bench::new(0);
        bench.decide(&leaves[0], &info(&leaves[0], 1, TRANSLATED, WIDE), FLOW);
        for number in [1, 2] {
            let info = info(&came[number], 1, HOLD, WIDE);
            let fate = bench.decide(&came[number], &info, UNKNOWN);
            let Fate::Send { flow_hash: FLOW, translation, split: None } = fate else {
                panic!("{fate:?}")
            };
            let mut frame = came[number].clone();
            translation.apply(&mut frame, info.l3_off.into());
            assert_eq!(frame, leaves[number], "{after}");
        }
    }
}

#[test]
fn a_wrong_header_checksum_stays_as_wrong() {
    let (came, leaves) = (fragments("udp"), fragments("translated"));
    let mut bench = Bench::new(10);
    let wrong = with_wrong_checksum(&came[1], 0x1234);
    bench.decide(&wrong, &info(&wrong, 1, HOLD, WIDE), UNKNOWN);
    bench.decide(&leaves[0], &info(&leaves[0], 1, TRANSLATED, WIDE), FLOW);
    assert_eq!(bench.sent(), [(FLOW, with_wrong_checksum(&leaves[1], 0x1234))]);
}

#[test]
fn only_what_the_program_changed_is_changed() {
    // "translated" has another destination and other MAC addresses; its source is the same.
    let (came, leaves) = (fragments("udp"), fragments("translated"));
    let mut only_address = leaves[1].clone();
    only_address[..12].copy_from_slice(&came[1][..12]);
    let mut only_macs = came[1].clone();
    only_macs[..12].copy_from_slice(&leaves[1][..12]);
    for (flags, expected) in [
        (INFO_FRAGMENT, &came[1]),
        (INFO_FRAGMENT | INFO_SOURCE, &came[1]),
        (INFO_FRAGMENT | INFO_DESTINATION, &only_address),
        (INFO_FRAGMENT | INFO_REWRITTEN, &only_macs),
    ] {
        let mut bench = Bench::new(10);
        bench.decide(&came[1], &info(&came[1], 1, HOLD, WIDE), UNKNOWN);
        bench.decide(&leaves[0], &info(&leaves[0], 1, flags, WIDE), FLOW);
        assert_eq!(bench.sent(), [(FLOW, expected.clone())], "{flags}");
    }
}

#[test]
fn a_translated_source_is_taken_over() {
    // The reply direction: "translated" with both addresses exchanged has another source.
    let exchange = |mut frame: Vec<u8>| {
        let (source, destination) = (frame[26..30].to_vec(), frame[30..34].to_vec());
        frame[26..30].copy_from_slice(&destination);
        frame[30..34].copy_from_slice(&source); // the checksum stays right
        frame
    };
    let came: Vec<_> = fragments("udp").into_iter().map(exchange).collect();
    let leaves: Vec<_> = fragments("translated").into_iter().map(exchange).collect();
    let mut bench = Bench::new(10);
    bench.decide(&came[1], &info(&came[1], 1, HOLD, WIDE), UNKNOWN);
    let flags = INFO_FRAGMENT | INFO_SOURCE | INFO_REWRITTEN;
    bench.decide(&leaves[0], &info(&leaves[0], 1, flags, WIDE), FLOW);
    assert_eq!(bench.sent(), [(FLOW, leaves[1].clone())]);
}

#[test]
fn datagrams_do_not_mix() {
    let (came, leaves) = (fragments("udp"), fragments("translated"));
    let mut bench = Bench::new(10);
    bench.decide(&came[1], &info(&came[1], 1, HOLD, WIDE), UNKNOWN);
    bench.decide(&leaves[0], &info(&leaves[0], 2, TRANSLATED, WIDE), FLOW);
    assert!(bench.sent().is_empty());
    bench.pass(30);
    bench.refused(SendFailure::FragmentTimeout, 1);
}

#[test]
fn an_oversized_fragment_is_fragmented_when_it_is_released() {
    let (came, leaves) = (fragments("udp"), fragments("translated"));
    let mut bench = Bench::new(10);
    let mtu = 220;
    bench.decide(&came[1], &info(&came[1], 1, HOLD | INFO_OVERSIZED, mtu), UNKNOWN);
    let flags = TRANSLATED | INFO_OVERSIZED;
    let fate = bench.decide(&leaves[0], &info(&leaves[0], 1, flags, mtu), FLOW);
    let at = Split { l3_off: 14, max_ip_len: 220 };
    let translation = Translation::default();
    assert_eq!(fate, Fate::Send { flow_hash: FLOW, translation, split: Some(at) });
    let expected = split(&leaves[1], at).unwrap();
    assert_eq!(expected.len(), 2);
    assert!(bench.sent().into_iter().map(|(_, frame)| frame.into_boxed_slice()).eq(expected));
}

#[test]
fn a_whole_oversized_packet_is_fragmented() {
    let frame = crate::testing::frame("tagged");
    let mut bench = Bench::new(10);
    let split = Some(Split { l3_off: l3_off(&frame), max_ip_len: 500 });
    let fate = bench.decide(&frame, &info(&frame, 0, INFO_OVERSIZED, 500), FLOW);
    let translation = Translation::default();
    assert_eq!(fate, Fate::Send { flow_hash: FLOW, translation, split });
    assert!(bench.tracker.is_idle(), "it is no fragment");
}

#[test]
fn a_fragment_that_the_mirror_cut_goes_by_what_its_header_says() {
    let (came, leaves) = (fragments("udp"), fragments("translated"));
    let mut bench = Bench::new(10);
    let cut = &came[1][..100];
    assert_eq!(bench.decide(cut, &info(cut, 1, HOLD, WIDE), UNKNOWN), Fate::Taken);
    bench.decide(&leaves[0], &info(&leaves[0], 1, TRANSLATED, WIDE), FLOW);
    assert_eq!(bench.sent(), [(FLOW, leaves[1][..100].to_vec())]);
    let fate = bench.decide(&leaves[2], &info(&leaves[2], 1, LATER, WIDE), FLOW);
    assert_eq!(fate, as_it_is(), "what follows does not overlap it");
}

#[test]
fn a_first_fragment_never_waits() {
    let mut bench = Bench::new(10);
    let invalid = Fate::Refused(SendFailure::FragmentInvalid);
    assert_eq!(bench.piece(0, 800, true, HOLD), invalid);
    assert_eq!(bench.piece(0, 800, true, HOLD | JOIN), invalid);
    assert!(bench.tracker.is_idle());
}

#[test]
fn a_second_fragment_header_is_refused() {
    for name in ["udp6", "chained6"] {
        for mut part in fragments(name) {
            let parsed = Fragment::parse(&part, l3_off(&part)).unwrap();
            part[parsed.ipv6.unwrap().header_off] = 44;
            for flags in [LATER, HOLD, JOIN] {
                let mut bench = Bench::new(10);
                let fate = bench.decide(&part, &info(&part, 1, flags, WIDE), FLOW);
                assert_eq!(fate, Fate::Refused(SendFailure::FragmentInvalid), "{name} {flags}");
            }
        }
    }
}

#[test]
fn the_first_fragment_counts_for_no_longer_than_the_timeout() {
    let mut bench = Bench::new(10);
    for (start, end, more) in [(0, 800, true), (800, 1600, true), (1600, 1700, false)] {
        assert_eq!(bench.piece(start, end, more, LATER), as_it_is());
    }
    bench.pass(29);
    // The next datagram begins: the time of this key does so, too, but not that of its first one.
    assert!(matches!(bench.piece(800, 1600, true, HOLD), Fate::Send { .. }));
    bench.pass(1);
    assert_eq!(bench.piece(1600, 1700, false, HOLD), Fate::Taken);
    bench.pass(28);
    bench.refused(SendFailure::FragmentTimeout, 0);
    bench.pass(1);
    bench.refused(SendFailure::FragmentTimeout, 1);
    assert!(bench.tracker.is_idle());
}
