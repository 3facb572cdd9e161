//! Fragments that can't all be true, copies, and identifications that come again.

use super::*;

const OVERLAP: Fate = Fate::Refused(SendFailure::FragmentOverlap);
const INVALID: Fate = Fate::Refused(SendFailure::FragmentInvalid);

/// Only later fragments may have to wait.
fn flags(start: usize) -> u32 {
    if start == 0 { LATER } else { HOLD }
}

#[test]
fn an_overlap_ends_the_datagram() {
    for (start, end, more) in [
        (0, 808, true),     // over the beginning of the second
        (792, 1000, true),  // into the first
        (800, 1592, true),  // shorter than the second
        (800, 1608, true),  // longer
        (800, 1600, false), // the same, but the last
        (808, 816, true),   // inside: teardrop
        (0, 2400, false),   // around all
        (1592, 1608, false),
    ] {
        let mut bench = Bench::new(10);
        assert_eq!(bench.piece(800, 1600, true, HOLD), Fate::Taken);
        assert_eq!(bench.piece(600, 800, true, HOLD), Fate::Taken);
        assert_eq!(bench.piece(start, end, more, flags(start)), OVERLAP, "{start} {end} {more}");
        bench.refused(SendFailure::FragmentOverlap, 2);
        bench.pass(29);
        assert_eq!(bench.piece(0, 600, true, LATER), OVERLAP, "what comes later as well");
        bench.pass(1);
        assert_eq!(bench.piece(0, 600, true, LATER), as_it_is(), "until the time is over");
        assert!(bench.sent().is_empty());
    }
}

#[test]
fn a_contradiction_about_the_end_ends_the_datagram() {
    for (start, end, more) in [(1600, 1700, false), (1600, 1704, true), (0, 100, false)] {
        let mut bench = Bench::new(10);
        bench.piece(800, 900, false, HOLD);
        assert_eq!(bench.piece(start, end, more, flags(start)), INVALID, "{start} {end} {more}");
        bench.refused(SendFailure::FragmentInvalid, 1);
        assert_eq!(bench.piece(400, 800, true, LATER), INVALID);
    }
}

#[test]
fn an_impossible_fragment_is_refused_alone() {
    let mut bench = Bench::new(10);
    bench.piece(800, 1600, true, HOLD);
    for (start, end, more) in [
        (0, 801, true),          // not whole units of 8 bytes
        (1600, 1600, false),     // no data
        (65_520, 65_535, false), // with its header beyond 65,535 bytes
        (65_528, 65_536, false),
    ] {
        assert_eq!(bench.piece(start, end, more, flags(start)), INVALID, "{start} {end} {more}");
    }
    bench.refused(SendFailure::FragmentInvalid, 0);
    assert_eq!(bench.piece(1600, 65_515, false, HOLD), Fate::Taken, "the longest that can be");
    assert_eq!(bench.piece(0, 800, true, LATER), as_it_is());
    assert_eq!(bench.sent().len(), 2);
}

#[test]
fn an_ipv6_fragment_obeys_the_same_limits() {
    let mut bench = Bench::new(10);
    let pieces = crate::testing::fragments("chained6");
    let mut odd = pieces[0].clone();
    odd[19] -= 1; // payload length
    let check =
        |bench: &mut Bench, frame: &[u8]| bench.decide(frame, &info(frame, 1, LATER, WIDE), FLOW);
    assert_eq!(check(&mut bench, &odd), INVALID);
    let at = 14 + 40 + 40 + 2; // behind 40 bytes of other extension headers
    let mut far = pieces[2].clone();
    assert_eq!(far[at - 2..at], [6, 0], "the fragment header announces TCP");
    far[at..at + 2].copy_from_slice(&65_320u16.to_be_bytes()); // and 204 bytes of data
    assert_eq!(check(&mut bench, &far), INVALID, "with 40 bytes of headers beyond 65,535");
    assert_eq!(check(&mut bench, &pieces[0]), as_it_is());
    assert_eq!(check(&mut bench, &pieces[0][..60]), INVALID, "the chain is cut");
}

#[test]
fn copies_pass() {
    // Who mirrors both ends of a flow gets everything twice.
    let mut bench = Bench::new(10);
    assert_eq!(bench.piece(800, 900, false, HOLD), Fate::Taken);
    assert_eq!(bench.piece(800, 900, false, HOLD), Fate::Taken);
    assert_eq!(bench.piece(0, 800, true, LATER), as_it_is());
    assert_eq!(bench.sent().len(), 2);
    assert_eq!(bench.piece(0, 800, true, LATER), as_it_is());
    for (start, end, more) in [(800, 900, false), (0, 800, true), (800, 900, false)] {
        assert_eq!(bench.piece(start, end, more, LATER), as_it_is());
    }
    bench.refused(SendFailure::FragmentOverlap, 0);
}

#[test]
fn an_identification_may_come_again_once_its_datagram_is_complete() {
    // 65,536 datagrams are over in seconds on a fast flow (RFC 4963).
    let mut bench = Bench::new(10);
    for (size, copies) in [(1480, 1), (2000, 2), (900, 2), (1480, 1), (3000, 2), (3000, 1)] {
        bench.pass(1);
        let parts: Vec<_> =
            (0..size).step_by(800).map(|at| (at, size.min(at + 800), at + 800 < size)).collect();
        for &(start, end, more) in &parts {
            for _ in 0..copies {
                let fate = bench.piece(start, end, more, LATER);
                assert_eq!(fate, as_it_is(), "{size}: {start}");
            }
        }
    }
}
