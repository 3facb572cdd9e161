//! The tracker, driven with records as the XDP program writes them.

mod bounds;
mod hold;
mod overlap;
mod reassemble;

use std::time::{Duration, Instant};

use dataplane::abi::{INFO_FRAGMENT, INFO_HOLD, INFO_REASSEMBLE, SendFailure, frame_info};
use etherparse::{IpFragOffset, IpNumber, Ipv4Header};

use crate::fragment::{Fate, Tracker, Translation};
use crate::job::{Job, Source};
use crate::split::split;
use crate::testing::info;

/// Any MTU that nothing exceeds.
const WIDE: u16 = 9000;
/// Flow hash of a later fragment whose first was not seen, and of its flow.
const UNKNOWN: u32 = 1;
const FLOW: u32 = 7;

const TIMEOUT: Duration = Duration::from_secs(30);

const LATER: u32 = INFO_FRAGMENT;
const HOLD: u32 = INFO_FRAGMENT | INFO_HOLD;
const JOIN: u32 = INFO_FRAGMENT | INFO_REASSEMBLE;

/// A tracker and its clock.
struct Bench {
    tracker: Tracker,
    now: Instant,
    /// What was released and not yet looked at.
    jobs: Vec<(u32, Job)>,
}

impl Bench {
    fn new(buffers: usize) -> Self {
        Self { tracker: Tracker::new(buffers, TIMEOUT), now: Instant::now(), jobs: Vec::new() }
    }

    /// A frame comes; what this releases can be looked at with [`Bench::sent`].
    fn decide(&mut self, frame: &[u8], info: &frame_info, flow_hash: u32) -> Fate {
        let fate = self.tracker.decide(frame, info, flow_hash, self.now);
        self.jobs.extend(self.tracker.released());
        fate
    }

    /// A fragment of datagram 1 comes.
    fn piece(&mut self, start: usize, end: usize, more: bool, flags: u32) -> Fate {
        let frame = piece(start, end, more);
        self.decide(&frame, &info(&frame, 1, flags, WIDE), FLOW)
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.tracker.expire(self.now);
    }

    /// Frames that left since the last look, with their flow hashes; their buffers are free again.
    fn sent(&mut self) -> Vec<(u32, Vec<u8>)> {
        let frames = |(hash, job): (u32, Job)| {
            let Source::Held { frame, .. } = job.source else { panic!("held frames only") };
            let frames = job.split.map_or_else(|| Ok(vec![frame.clone()]), |at| split(&frame, at));
            frames.unwrap().into_iter().map(move |frame| (hash, frame.into_vec()))
        };
        std::mem::take(&mut self.jobs).into_iter().flat_map(frames).collect()
    }

    /// Asserts why held fragments were given up since the last look.
    fn refused(&mut self, reason: SendFailure, count: usize) {
        assert_eq!(self.tracker.refused(), vec![reason; count]);
    }
}

/// Sent as it stands in the ring.
fn as_it_is() -> Fate {
    Fate::Send { flow_hash: FLOW, translation: Translation::default(), split: None }
}

/// Bytes `start` to `end` of a datagram whose byte i is i modulo 251.
fn piece(start: usize, end: usize, more: bool) -> Vec<u8> {
    let data: Vec<u8> = (start..end).map(|i| (i % 251) as u8).collect();
    with_data(start, &data, more)
}

fn with_data(start: usize, data: &[u8], more: bool) -> Vec<u8> {
    let len = data.len() as u16;
    let mut header =
        Ipv4Header::new(len, 64, IpNumber::UDP, [198, 51, 100, 1], [192, 0, 2, 9]).unwrap();
    assert!(start.is_multiple_of(8));
    header.dont_fragment = false;
    header.identification = 1;
    header.fragment_offset = IpFragOffset::try_new((start / 8) as u16).unwrap();
    header.more_fragments = more;
    header.header_checksum = header.calc_header_checksum();
    let mut frame = [&[2; 12][..], &[8, 0]].concat();
    frame.extend(header.to_bytes());
    frame.extend(data);
    frame
}
