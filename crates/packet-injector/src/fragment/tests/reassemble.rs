//! REASSEMBLE=1: whole datagrams.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::fragment::header::Fragment;
use crate::split::Split;
use crate::testing::packet::{Packet, packet};
use crate::testing::{fragments, frame, l3_off, with_wrong_checksum};

const DUPLICATE: Fate = Fate::Refused(SendFailure::FragmentDuplicate);

/// Names of frames that scapy fragmented.
const WHOLE: [&str; 8] =
    ["udp", "small-pieces", "tagged", "options", "udp6", "translated6", "echo6", "chained6"];

/// A fragment comes; only the first one has the hash of the flow.
fn feed(bench: &mut Bench, frame: &[u8], max_ip_len: u16) -> Fate {
    let first = Fragment::parse(frame, l3_off(frame)).is_some_and(|part| part.start == 0);
    let flow_hash = if first { FLOW } else { UNKNOWN };
    bench.decide(frame, &info(frame, 1, JOIN, max_ip_len), flow_hash)
}

#[test]
fn fragments_become_the_datagram_that_they_were_in_any_order() {
    for name in WHOLE {
        let parts = fragments(name);
        let last = parts.len() - 1;
        let forward: Vec<_> = (0..=last).collect();
        let backward: Vec<_> = (0..=last).rev().collect();
        let last_first: Vec<_> = [last].into_iter().chain(0..last).collect();
        let middle_last: Vec<_> = [0].into_iter().chain(2..=last).chain([1]).collect();
        for order in [forward, backward, last_first, middle_last] {
            let mut bench = Bench::new(100);
            for &number in &order {
                assert!(bench.sent().is_empty());
                assert_eq!(feed(&mut bench, &parts[number], WIDE), Fate::Taken);
            }
            assert_eq!(bench.jobs.first().map(|(_, job)| job.records()), Some(order.len() as u64));
            assert_eq!(bench.sent(), [(FLOW, frame(name))], "{name} {order:?}");
            bench.refused(SendFailure::FragmentInvalid, 0);
        }
    }
}

#[test]
fn the_first_fragments_checksum_error_is_the_datagrams() {
    for name in ["udp", "options"] {
        let mut parts = fragments(name);
        parts[0] = with_wrong_checksum(&parts[0], 0x4321);
        let mut bench = Bench::new(100);
        parts.iter().for_each(|part| assert_eq!(feed(&mut bench, part, WIDE), Fate::Taken));
        assert_eq!(bench.sent(), [(FLOW, with_wrong_checksum(&frame(name), 0x4321))], "{name}");
    }
}

#[test]
fn trailers_are_left_out() {
    let mut bench = Bench::new(100);
    for mut part in fragments("udp") {
        part.extend([0xee; 9]);
        assert_eq!(feed(&mut bench, &part, WIDE), Fate::Taken);
    }
    assert_eq!(bench.sent(), [(FLOW, frame("udp"))]);
}

#[test]
fn copies_are_refused_before_and_after_the_datagram_is_whole() {
    let parts = fragments("udp");
    let mut bench = Bench::new(100);
    for part in &parts {
        assert_eq!(feed(&mut bench, part, WIDE), Fate::Taken);
        assert_eq!(feed(&mut bench, part, WIDE), DUPLICATE);
    }
    assert_eq!(bench.sent().len(), 1);
    parts.iter().for_each(|part| assert_eq!(feed(&mut bench, part, WIDE), DUPLICATE));
    assert!(bench.sent().is_empty());
}

#[test]
fn a_datagram_may_come_again_after_the_timeout_whatever_copies_came_in_between() {
    let parts = fragments("udp");
    let mut bench = Bench::new(100);
    let all = |bench: &mut Bench, fate: Fate| {
        parts.iter().for_each(|part| assert_eq!(feed(bench, part, WIDE), fate));
        bench.sent()
    };
    assert_eq!(all(&mut bench, Fate::Taken), [(FLOW, frame("udp"))]);
    for _ in 0..2 {
        bench.pass(20);
        assert_eq!(all(&mut bench, DUPLICATE), []);
        bench.pass(10);
        assert_eq!(all(&mut bench, Fate::Taken), [(FLOW, frame("udp"))]);
    }
}

#[test]
fn an_identification_may_come_again_with_other_data() {
    let mut bench = Bench::new(100);
    for content in 0..5 {
        bench.pass(1);
        for (start, more) in [(0, true), (80, true), (160, false)] {
            let frame = with_data(start, &[content; 80], more);
            assert_eq!(feed(&mut bench, &frame, WIDE), Fate::Taken);
        }
        let sent = bench.sent();
        assert_eq!(sent, [(FLOW, with_data(0, &[content; 240], false))]);
    }
    bench.pass(20);
    assert_eq!(feed(&mut bench, &with_data(0, &[9; 80], true), WIDE), Fate::Taken);
    bench.pass(29);
    bench.refused(SendFailure::FragmentTimeout, 0);
    bench.pass(1);
    bench.refused(SendFailure::FragmentTimeout, 1);
}

#[test]
fn a_fragment_that_the_mirror_cut_ends_the_datagram() {
    let parts = fragments("udp");
    let mut bench = Bench::new(100);
    feed(&mut bench, &parts[0], WIDE);
    let invalid = Fate::Refused(SendFailure::FragmentInvalid);
    assert_eq!(feed(&mut bench, &parts[1][..200], WIDE), invalid);
    bench.refused(SendFailure::FragmentInvalid, 1);
    assert_eq!(feed(&mut bench, &parts[2], WIDE), invalid);
}

#[test]
fn a_datagram_that_is_too_long_with_the_first_ones_headers_is_refused() {
    let mut first = frame("options"); // 40 bytes of header, 208 of data
    first[20] = 0x20;
    let mut bench = Bench::new(100);
    assert_eq!(feed(&mut bench, &first, WIDE), Fate::Taken);
    assert_eq!(bench.piece(208, 65_504, true, JOIN), Fate::Taken);
    assert_eq!(bench.piece(65_504, 65_515, false, JOIN), Fate::Taken);
    bench.refused(SendFailure::FragmentInvalid, 3);
    assert!(bench.sent().is_empty());
}

#[test]
fn the_longest_datagram_is_joined() {
    let mut bench = Bench::new(100);
    for at in (0..65_515).step_by(4096) {
        let end = 65_515.min(at + 4096);
        assert_eq!(bench.piece(at, end, end < 65_515, JOIN), Fate::Taken);
    }
    let Some((_, job)) = bench.jobs.pop() else { panic!("it is whole") };
    assert!(job.split.is_some(), "and exceeds the MTU");
    let Source::Held { frame, .. } = job.source else { panic!("it was held") };
    assert_eq!(frame[14..].len(), 65_535);
    assert!(frame[34..].iter().enumerate().all(|(i, byte)| *byte == (i % 251) as u8));
}

#[test]
fn a_datagram_above_the_mtu_is_fragmented_again_where_that_is_allowed() {
    let mut bench = Bench::new(100);
    fragments("tagged")
        .iter()
        .for_each(|part| assert_eq!(feed(&mut bench, part, 600), Fate::Taken));
    let expected = split(&frame("tagged"), Split { l3_off: 22, max_ip_len: 600 }).unwrap();
    let sent = bench.sent();
    assert!(sent.into_iter().map(|(_, frame)| frame.into_boxed_slice()).eq(expected));

    let too_big = SendFailure::ReassembledTooBig;
    fragments("udp6").iter().for_each(|part| assert_eq!(feed(&mut bench, part, 600), Fate::Taken));
    bench.refused(too_big, 3);
    let mut bench = Bench::new(100);
    for mut part in fragments("udp") {
        part[20] |= 0x40; // DF
        assert_eq!(feed(&mut bench, &part, 600), Fate::Taken);
    }
    bench.refused(too_big, 3);
    assert!(bench.sent().is_empty());
}

/// The same frame with DF; its header checksum counts that in.
fn with_df(frame: &[u8]) -> Vec<u8> {
    let mut frame = with_wrong_checksum(frame, !0x4000);
    let at = l3_off(&frame) + 6;
    frame[at] |= 0x40;
    frame
}

#[test]
fn a_datagram_loses_df_above_the_threshold() {
    let whole = frame("udp"); // of 1,028 bytes
    let join = |df_clear_threshold, max_ip_len| {
        let mut bench = Bench::new(100);
        for part in fragments("udp") {
            let part = with_df(&part);
            let info = frame_info { df_clear_threshold, ..info(&part, 1, JOIN, max_ip_len) };
            assert_eq!(bench.decide(&part, &info, FLOW), Fate::Taken);
        }
        bench
    };
    assert_eq!(join(1028, WIDE).sent(), [(FLOW, with_df(&whole))]);
    assert_eq!(join(1027, WIDE).sent(), [(FLOW, whole.clone())]);
    join(1028, 600).refused(SendFailure::ReassembledTooBig, 3);
    let expected = split(&whole, Split { l3_off: 14, max_ip_len: 600 }).unwrap();
    let sent = join(1027, 600).sent();
    assert!(sent.into_iter().map(|(_, frame)| frame.into_boxed_slice()).eq(expected));
}

#[test]
fn a_datagram_of_which_a_part_has_passed_is_refused() {
    // REASSEMBLE was switched on between its fragments.
    let mut bench = Bench::new(100);
    assert_eq!(bench.piece(0, 80, true, LATER), as_it_is());
    assert_eq!(bench.piece(80, 90, false, JOIN), Fate::Taken);
    bench.refused(SendFailure::FragmentInvalid, 1);
    assert!(bench.sent().is_empty());
}

proptest! {
    #[test]
    fn fragmenting_then_reassembling_is_the_identity(
        packet in packet(),
        mtu in 68usize..9000,
        again in 68usize..9000,
        order in vec(any::<prop::sample::Index>(), 300),
    ) {
        let whole = Packet { offset: 0, more: false, ..packet }.build();
        let l3_off = l3_off(&whole);
        let mut parts = Vec::new();
        for part in split(&whole, Split { l3_off, max_ip_len: mtu }).unwrap() {
            parts.extend(split(&part, Split { l3_off, max_ip_len: again }).unwrap());
        }
        prop_assume!(parts.len() > 1);
        let mut bench = Bench::new(10_000);
        for pick in order {
            if parts.len() > 1 {
                let part = parts.swap_remove(pick.index(parts.len()));
                prop_assert_eq!(feed(&mut bench, &part, u16::MAX), Fate::Taken);
            }
        }
        for part in parts {
            prop_assert!(bench.sent().is_empty());
            prop_assert_eq!(feed(&mut bench, &part, u16::MAX), Fate::Taken);
        }
        prop_assert_eq!(bench.sent(), [(FLOW, whole)]);
    }
}
