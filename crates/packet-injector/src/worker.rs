//! A worker: takes what its lane has, up to a batch, and sends it.

use std::sync::atomic::{AtomicBool, Ordering};

use dataplane::ring::Ring;

use crate::accounts::WorkerAccount;
use crate::lanes::Lane;
use crate::raw::RawSender;

/// Looks at an empty lane before going to sleep.
const SPINS: u32 = 200;

/// Sends the lane's frames until the reader is done and the lane is empty.
pub fn run(
    ring: &Ring,
    lane: &Lane,
    mut sender: RawSender,
    account: WorkerAccount<'_>,
    batch: usize,
    reader_done: &AtomicBool,
) {
    let mut frames = Vec::with_capacity(batch);
    let mut spins = 0;
    loop {
        while frames.len() < batch {
            let Some(frame) = lane.take() else { break };
            frames.push(ring.iovec(frame));
        }
        if !frames.is_empty() {
            sender.send(&mut frames, &account);
            lane.finish(frames.len() as u64);
            frames.clear();
            spins = 0;
        } else if reader_done.load(Ordering::Acquire) {
            return;
        } else if spins < SPINS {
            spins += 1;
            std::hint::spin_loop();
        } else {
            lane.sleep();
            spins = 0;
        }
    }
}
