//! Memory is bounded, and nothing is held for ever.

use dataplane::abi::fragment_key;
use dataplane::plain;

use super::*;

const NO_ROOM: Fate = Fate::Refused(SendFailure::FragmentNoRoom);

fn later(bench: &mut Bench, id: u32, flags: u32) -> Fate {
    let frame = piece(800, 900, false);
    bench.decide(&frame, &info(&frame, id, flags, WIDE), FLOW)
}

fn first(bench: &mut Bench, id: u32) -> Fate {
    let frame = piece(0, 800, true);
    bench.decide(&frame, &info(&frame, id, LATER, WIDE), FLOW)
}

#[test]
fn full_buffers_refuse_what_would_have_to_be_held() {
    let mut bench = Bench::new(3);
    for id in 0..3 {
        assert_eq!(later(&mut bench, id, HOLD), Fate::Taken);
    }
    assert_eq!(later(&mut bench, 3, HOLD), NO_ROOM);
    assert_eq!(first(&mut bench, 3), as_it_is(), "others pass");
    assert_eq!(first(&mut bench, 0), as_it_is());
    assert_eq!(later(&mut bench, 4, HOLD), NO_ROOM, "released, but not sent yet");
    assert_eq!(bench.sent().len(), 1);
    assert_eq!(later(&mut bench, 4, HOLD), Fate::Taken, "sent: its buffer is free");
    bench.pass(30);
    bench.refused(SendFailure::FragmentTimeout, 3);
    for id in 10..13 {
        assert_eq!(later(&mut bench, id, HOLD), Fate::Taken);
    }
}

#[test]
fn no_buffers_hold_nothing() {
    let mut bench = Bench::new(0);
    assert_eq!(later(&mut bench, 1, HOLD), NO_ROOM);
    assert_eq!(first(&mut bench, 1), as_it_is());
    assert_eq!(later(&mut bench, 1, LATER), as_it_is());
    assert_eq!(later(&mut bench, 2, JOIN), NO_ROOM);
}

#[test]
fn a_datagram_that_cannot_be_held_whole_makes_room_at_once() {
    let mut bench = Bench::new(2);
    assert_eq!(bench.piece(0, 8, true, JOIN), Fate::Taken);
    assert_eq!(bench.piece(8, 16, true, JOIN), Fate::Taken);
    assert_eq!(bench.piece(16, 24, true, JOIN), NO_ROOM);
    bench.refused(SendFailure::FragmentNoRoom, 2);
    assert_eq!(bench.piece(24, 30, false, JOIN), NO_ROOM);
    assert_eq!(later(&mut bench, 2, JOIN), Fate::Taken);
}

#[test]
fn datagrams_that_hold_nothing_any_more_keep_no_memory_for_it() {
    let mut bench = Bench::new(10);
    later(&mut bench, 1, HOLD);
    later(&mut bench, 2, HOLD);
    let room = |bench: &mut Bench, id| {
        let key = fragment_key { id, ..fragment_key::default() };
        let datagram = bench.tracker.table.take(plain::bytes(&key).try_into().unwrap()).unwrap();
        let room = datagram.held.capacity();
        bench.tracker.table.put(datagram);
        room
    };
    assert!(room(&mut bench, 1) > 0 && room(&mut bench, 2) > 0);
    first(&mut bench, 1);
    assert_eq!(room(&mut bench, 1), 0, "released");
    let frame = piece(800, 808, true); // overlaps
    bench.decide(&frame, &info(&frame, 2, HOLD, WIDE), FLOW);
    bench.refused(SendFailure::FragmentOverlap, 1);
    assert_eq!(room(&mut bench, 2), 0, "refused");
}

#[test]
fn each_fragment_expires_with_its_datagram() {
    let mut bench = Bench::new(10);
    later(&mut bench, 1, HOLD);
    bench.pass(20);
    later(&mut bench, 2, HOLD);
    bench.piece(800, 808, true, HOLD); // of datagram 1: overlaps, with another length
    bench.refused(SendFailure::FragmentOverlap, 1);
    bench.pass(9);
    bench.refused(SendFailure::FragmentTimeout, 0);
    bench.pass(20);
    bench.refused(SendFailure::FragmentTimeout, 0);
    bench.pass(1);
    bench.refused(SendFailure::FragmentTimeout, 1);
    assert!(bench.tracker.is_idle());
}

#[test]
fn a_new_timeout_counts_for_what_is_held() {
    let mut bench = Bench::new(10);
    later(&mut bench, 1, HOLD);
    bench.tracker.set_timeout(Duration::from_secs(2));
    bench.pass(1);
    bench.refused(SendFailure::FragmentTimeout, 0);
    bench.pass(1);
    bench.refused(SendFailure::FragmentTimeout, 1);
}

#[test]
fn at_the_end_all_that_is_held_is_given_up() {
    let mut bench = Bench::new(10);
    later(&mut bench, 1, HOLD);
    later(&mut bench, 2, JOIN);
    first(&mut bench, 3);
    bench.tracker.close();
    bench.refused(SendFailure::FragmentTimeout, 2);
    assert!(bench.tracker.is_idle());
}

#[test]
fn datagrams_that_hold_nothing_are_forgotten_the_oldest_first() {
    let mut bench = Bench::new(100);
    later(&mut bench, 0, HOLD);
    for id in 1..100_000 {
        assert_eq!(first(&mut bench, id), as_it_is());
    }
    assert!(matches!(later(&mut bench, 99_999, HOLD), Fate::Send { .. }), "the latest is known");
    assert_eq!(later(&mut bench, 1, HOLD), Fate::Taken, "an old one is not");
    first(&mut bench, 0);
    assert_eq!(bench.sent().len(), 1, "what is held is never forgotten");
}

#[test]
fn fragments_are_remembered_within_bounds() {
    let mut bench = Bench::new(100);
    for id in 0..20 {
        for at in (8..65_000).step_by(8) {
            let frame = piece(at, at + 8, true);
            assert_eq!(bench.decide(&frame, &info(&frame, id, LATER, WIDE), FLOW), as_it_is());
        }
    }
    let frame = piece(8, 24, true);
    let overlaps =
        |bench: &mut Bench, id| bench.decide(&frame, &info(&frame, id, LATER, WIDE), FLOW);
    assert_eq!(overlaps(&mut bench, 0), as_it_is(), "forgotten");
    assert_eq!(overlaps(&mut bench, 19), Fate::Refused(SendFailure::FragmentOverlap));
}

#[test]
fn fragments_beside_held_ones_are_remembered_within_bounds() {
    let mut bench = Bench::new(100);
    let mut feed = |id, start, end, flags| {
        let frame = piece(start, end, true);
        bench.decide(&frame, &info(&frame, id, flags, WIDE), FLOW)
    };
    for id in 0..10 {
        assert_eq!(feed(id, 65_000, 65_008, HOLD), Fate::Taken);
        for at in (8..65_000).step_by(8) {
            assert_eq!(feed(id, at, at + 8, LATER), as_it_is());
        }
    }
    assert_eq!(feed(0, 8, 24, LATER), Fate::Refused(SendFailure::FragmentOverlap));
    assert_eq!(feed(9, 8, 24, LATER), as_it_is(), "there was no room to remember these");
}
