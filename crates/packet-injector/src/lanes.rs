//! Several workers: the reader hands each frame to the lane of its flow, so that a flow's frames
//! leave in order, and releases the ring as the workers get done. Frames with an info take the way
//! through the intake, and what it releases goes to the lane behind them.

use std::collections::VecDeque;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::thread::{self, Thread};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use dataplane::ring::Record;

use crate::intake::Intake;
use crate::job::Item;
use crate::reader::Reader;
use crate::release::Releaser;

/// Items that can wait in one lane.
const LANE_ITEMS: usize = 4096;

/// Records that can be under way in all lanes; bounds the reader's memory.
const RECORDS_UNDER_WAY: usize = 65_536;

/// Records read before the lanes are woken up and the ring is released again.
const STRIDE: usize = 256;

/// One producer, one consumer, and how far the consumer got. A cache line or more of its own.
#[repr(align(128))]
pub struct Lane {
    queue: ArrayQueue<Item>,
    finished: AtomicU64,
    asleep: AtomicBool,
    worker: OnceLock<Thread>,
}

impl Lane {
    pub fn new() -> Self {
        Self {
            queue: ArrayQueue::new(LANE_ITEMS),
            finished: AtomicU64::new(0),
            asleep: AtomicBool::new(false),
            worker: OnceLock::new(),
        }
    }

    /// Says which thread takes from this lane.
    pub fn set_worker(&self, thread: Thread) {
        let _ = self.worker.set(thread);
    }

    /// The next item, if there is one.
    pub fn take(&self) -> Option<Item> {
        self.queue.pop()
    }

    /// Says that `items` more items have been sent or refused for good.
    pub fn finish(&self, items: u64) {
        self.finished.fetch_add(items, Ordering::Release);
    }

    fn finished(&self) -> u64 {
        self.finished.load(Ordering::Acquire)
    }

    /// Sleeps until an item comes or a moment has passed.
    pub fn sleep(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst); // either we see the item, or `wake` sees us asleep
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
    /// Records with a frame in it: 1, or 0.
    count: u64,
    /// Lane and the item's number in it. `None`: there is nothing to wait for.
    item: Option<(usize, u64)>,
}

/// The lanes, as the reader sees them.
struct Lanes<'a> {
    lanes: &'a [Lane],
    handed_over: Vec<u64>,
}

impl Lanes<'_> {
    /// Puts the item into the lane of its flow; returns lane and number.
    fn hand_over(&mut self, flow_hash: u32, item: Item) -> (usize, u64) {
        let index = lane_of(flow_hash, self.lanes.len());
        let mut item = item;
        while let Err(refused) = self.lanes[index].queue.push(item) {
            item = refused;
            self.lanes[index].wake();
            thread::yield_now();
        }
        self.handed_over[index] += 1;
        (index, self.handed_over[index])
    }

    fn wake(&self) {
        self.lanes.iter().for_each(Lane::wake);
    }

    fn is_done(&self, item: (usize, u64)) -> bool {
        self.lanes[item.0].finished() >= item.1
    }

    /// Whether the workers have nothing left.
    fn are_done(&self) -> bool {
        self.handed_over.iter().enumerate().all(|(lane, number)| self.is_done((lane, *number)))
    }
}

/// Reads the ring into the lanes until the reader is finished and all lanes are done. Returns how
/// many fragments were held then.
pub fn run(
    lanes: &[Lane],
    mut reader: Reader<'_>,
    mut intake: Intake<'_>,
    mut releaser: Releaser<'_>,
) -> u64 {
    let mut lanes = Lanes { lanes, handed_over: vec![0; lanes.len()] };
    let mut under_way = VecDeque::with_capacity(RECORDS_UNDER_WAY);
    loop {
        let mut read = 0;
        while read < STRIDE && under_way.len() < RECORDS_UNDER_WAY && !reader.is_finished() {
            let Some(record) = reader.next() else { break };
            under_way.push_back(start(&record, &mut lanes, &mut intake));
            read += 1;
        }
        intake.expire();
        if read > 0 {
            lanes.wake();
        }
        let released = release(&mut under_way, &lanes, &mut releaser);
        if read > 0 || released {
            continue;
        }
        if !under_way.is_empty() {
            thread::yield_now(); // the workers have the next word
        } else if !reader.is_finished() {
            reader.wait();
        } else if lanes.are_done() {
            return intake.close();
        } else {
            thread::yield_now();
        }
    }
}

/// Gets a record under way.
fn start(record: &Record, lanes: &mut Lanes<'_>, intake: &mut Intake<'_>) -> UnderWay {
    let Some(frame) = record.frame else {
        return UnderWay { end: record.end, count: 0, item: None };
    };
    let item = if frame.has_info {
        let item = intake.admit(frame).map(|(flow_hash, item)| lanes.hand_over(flow_hash, item));
        for (flow_hash, job) in intake.released() {
            lanes.hand_over(flow_hash, job);
        }
        item
    } else {
        Some(lanes.hand_over(frame.flow_hash, Item::Frame(frame)))
    };
    UnderWay { end: record.end, count: 1, item }
}

/// Spreads 32-bit hashes evenly over `lanes` lanes.
fn lane_of(flow_hash: u32, lanes: usize) -> usize {
    ((u64::from(flow_hash) * lanes as u64) >> 32) as usize
}

/// Releases the longest prefix of records whose frames are finished.
fn release(
    under_way: &mut VecDeque<UnderWay>,
    lanes: &Lanes<'_>,
    releaser: &mut Releaser<'_>,
) -> bool {
    let mut prefix = None;
    let mut records = 0;
    while let Some(record) = under_way.front() {
        if record.item.is_some_and(|item| !lanes.is_done(item)) {
            break;
        }
        records += record.count;
        prefix = Some(record.end);
        under_way.pop_front();
    }
    if let Some(position) = prefix {
        releaser.release(position, records);
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
