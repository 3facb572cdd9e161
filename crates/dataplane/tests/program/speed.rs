//! How long the program takes. Printed (`--nocapture`), not asserted: the machine decides.

use std::time::Duration;

use config::NatProtocol::Udp;
use dataplane::abi::Stage;
use dataplane::abi::Verdict::Queued;

use crate::frame::{mirror, pattern, udp4};
use crate::rig::{rule, with_ring};

const RING: u32 = 64 << 20;
const RUNS: u32 = 1_000_000;

#[test]
fn nanoseconds_of_a_translated_packet() {
    let inner = udp4().payload(&pattern(64)).bytes();
    let packet = mirror(&inner);
    // Rounds fit the ring, so that no run is the cheap one of a full ring; short ones, for one of them
    // is not disturbed.
    let record = (inner.len() + 16).next_multiple_of(8) as u32;
    let round = RING / record / 10;
    with_ring(
        RING,
        |_| {},
        |rig| {
            // There and back: each run finds the packet as the one before has left it.
            rig.rules(&[rule(Udp, 31765, "192.0.2.9:8081"), rule(Udp, 8081, "198.51.100.7:31765")]);
            let (mut done, mut total, mut fastest) = (0, Duration::ZERO, u64::MAX);
            while done < RUNS {
                let repeat = round.min(RUNS - done);
                let run = rig.pipeline.test_run(&packet, repeat).unwrap();
                fastest = fastest.min(run.nanoseconds);
                total += Duration::from_nanos(run.nanoseconds) * repeat;
                rig.ring.release(rig.ring.producer_position());
                done += repeat;
            }
            assert_eq!(rig.counters().verdict(Queued), u64::from(RUNS));
            assert_eq!(rig.counters().stage(Stage::NatApplied), u64::from(RUNS));
            let mean = total.as_nanos() / u128::from(RUNS);
            println!("{mean} ns a packet over {RUNS} runs, {fastest} ns in the fastest round");
        },
    );
}
