//! One worker: reading and sending in one thread, without a lane between them.

use dataplane::ring::Ring;

use crate::accounts::WorkerAccount;
use crate::raw::RawSender;
use crate::reader::Reader;
use crate::release::Releaser;

/// Drains the ring until the reader is finished. A batch is what is there, up to `batch` frames.
pub fn run(
    ring: &Ring,
    mut reader: Reader<'_>,
    mut releaser: Releaser<'_>,
    mut sender: RawSender,
    account: WorkerAccount<'_>,
    batch: usize,
) {
    let mut frames = Vec::with_capacity(batch);
    loop {
        let mut end = None;
        while frames.len() < batch {
            let Some(record) = reader.next() else { break };
            end = Some(record.end);
            frames.extend(record.frame.map(|frame| ring.iovec(frame)));
        }
        if let Some(position) = end {
            sender.send(&mut frames, &account);
            releaser.release(position, frames.len() as u64);
            frames.clear();
        } else if !reader.is_finished() {
            reader.wait();
        }
        if reader.is_finished() {
            return;
        }
    }
}
