//! A worker: takes what its lane has, up to a batch, and sends it.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::lanes::Lane;
use crate::outbox::Outbox;

/// Looks at an empty lane before going to sleep.
const SPINS: u32 = 200;

/// Sends the lane's items until the reader is done, which it is when the lane is empty.
pub fn run(lane: &Lane, mut outbox: Outbox<'_>, reader_done: &AtomicBool) {
    let mut spins = 0;
    loop {
        let mut items = 0;
        while items < outbox.batch() {
            let Some(item) = lane.take() else { break };
            outbox.push(item);
            items += 1;
        }
        if items > 0 {
            outbox.flush();
            lane.finish(items as u64);
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
