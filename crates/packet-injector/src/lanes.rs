//! Several workers: the reader hands each frame to the lane of its flow, so that a flow's frames
//! leave in order, and releases the ring as the workers get done.

use std::collections::VecDeque;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::thread::{self, Thread};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use dataplane::ring::{FrameRef, Record};

use crate::reader::Reader;
use crate::release::Releaser;

/// Frames that can wait in one lane.
const LANE_FRAMES: usize = 4096;

/// Records that can be under way in all lanes; bounds the reader's memory.
const RECORDS_UNDER_WAY: usize = 65_536;

/// Records read before the lanes are woken up and the ring is released again.
const STRIDE: usize = 256;

/// One producer, one consumer, and how far the consumer got. A cache line or more of its own.
#[repr(align(128))]
pub struct Lane {
    queue: ArrayQueue<FrameRef>,
    finished: AtomicU64,
    asleep: AtomicBool,
    worker: OnceLock<Thread>,
}

impl Lane {
    pub fn new() -> Self {
        Self {
            queue: ArrayQueue::new(LANE_FRAMES),
            finished: AtomicU64::new(0),
            asleep: AtomicBool::new(false),
            worker: OnceLock::new(),
        }
    }

    /// Says which thread takes from this lane.
    pub fn set_worker(&self, thread: Thread) {
        let _ = self.worker.set(thread);
    }

    /// The next frame, if there is one.
    pub fn take(&self) -> Option<FrameRef> {
        self.queue.pop()
    }

    /// Says that `frames` more frames have been sent or refused for good.
    pub fn finish(&self, frames: u64) {
        self.finished.fetch_add(frames, Ordering::Release);
    }

    /// Sleeps until a frame comes or a moment has passed.
    pub fn sleep(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst); // either we see the frame, or `wake` sees us asleep
        if self.queue.is_empty() {
            thread::park_timeout(Duration::from_millis(100));
        }
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// Wakes the worker up if it sleeps.
    pub fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed)
            && let Some(thread) = self.worker.get()
        {
            thread.unpark();
        }
    }
}

/// A record that was read and not yet released.
struct UnderWay {
    /// Behind the record.
    end: u64,
    /// Lane and the frame's number in it; `None`: the record holds no frame.
    frame: Option<(usize, u64)>,
}

/// Reads the ring into the lanes until the reader is finished and all lanes are done.
pub fn run(lanes: &[Lane], mut reader: Reader<'_>, mut releaser: Releaser<'_>) {
    let mut under_way = VecDeque::with_capacity(RECORDS_UNDER_WAY);
    let mut handed_over = vec![0u64; lanes.len()];
    loop {
        let mut read = 0;
        while read < STRIDE && under_way.len() < RECORDS_UNDER_WAY && !reader.is_finished() {
            let Some(record) = reader.next() else { break };
            let frame = hand_over(&record, lanes, &mut handed_over);
            under_way.push_back(UnderWay { end: record.end, frame });
            read += 1;
        }
        if read > 0 {
            lanes.iter().for_each(Lane::wake);
        }
        let released = release(&mut under_way, lanes, &mut releaser);
        if read > 0 || released {
            continue;
        }
        if !under_way.is_empty() {
            thread::yield_now(); // the workers have the next word
        } else if reader.is_finished() {
            return;
        } else {
            reader.wait();
        }
    }
}

fn hand_over(record: &Record, lanes: &[Lane], handed_over: &mut [u64]) -> Option<(usize, u64)> {
    let frame = record.frame?;
    let lane = lane_of(frame.flow_hash, lanes.len());
    while lanes[lane].queue.push(frame).is_err() {
        lanes[lane].wake();
        thread::yield_now();
    }
    handed_over[lane] += 1;
    Some((lane, handed_over[lane]))
}

/// Spreads 32-bit hashes evenly over `lanes` lanes.
fn lane_of(flow_hash: u32, lanes: usize) -> usize {
    ((u64::from(flow_hash) * lanes as u64) >> 32) as usize
}

/// Releases the longest prefix of records whose frames are finished.
fn release(
    under_way: &mut VecDeque<UnderWay>,
    lanes: &[Lane],
    releaser: &mut Releaser<'_>,
) -> bool {
    let mut prefix = None;
    let mut frames = 0;
    while let Some(record) = under_way.front() {
        if let Some((lane, number)) = record.frame {
            if lanes[lane].finished.load(Ordering::Acquire) < number {
                break;
            }
            frames += 1;
        }
        prefix = Some(record.end);
        under_way.pop_front();
    }
    if let Some(position) = prefix {
        releaser.release(position, frames);
    }
    prefix.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_spread_over_all_lanes_evenly() {
        for lanes in 1..=64 {
            let mut counts = vec![0u32; lanes];
            for step in 0..64_000u32 {
                counts[lane_of(step.wrapping_mul(67_109), lanes)] += 1;
            }
            let fair = 64_000 / lanes as u32;
            assert!(counts.iter().all(|&c| c > fair / 2 && c < fair * 2), "{lanes}: {counts:?}");
        }
    }
}
