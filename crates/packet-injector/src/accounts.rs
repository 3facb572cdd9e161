//! The injector's counters in pinned memory: they outlive it, and a restarted one goes on.

use std::mem::offset_of;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use anyhow::{Context, Result};
use dataplane::abi::{MAX_WORKERS, SendFailure, injector_state, worker_stats};
use dataplane::ring::Ring;
use dataplane::shared::Shared;
use dataplane::{MapName, Pins};

/// Both pinned arrays of the injector.
pub struct Accounts {
    state: Shared<injector_state>,
    workers: Shared<worker_stats>,
}

/// What an injector finds when it starts.
pub struct TakeOver {
    /// Records released so far, by all injectors.
    pub released: u64,
    /// Records that the last injector sent and did not release: they are sent again.
    pub resent: u64,
}

/// Totals of one worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub sent: u64,
    pub sent_bytes: u64,
    pub calls: u64,
    pub retries: u64,
    pub failed: [u64; SendFailure::ALL.len()],
}

impl Totals {
    pub fn failed(&self) -> u64 {
        self.failed.iter().sum()
    }

    /// Sent or refused for good.
    pub fn finished(&self) -> u64 {
        self.sent + self.failed()
    }

    pub fn plus(mut self, other: &Self) -> Self {
        self.sent += other.sent;
        self.sent_bytes += other.sent_bytes;
        self.calls += other.calls;
        self.retries += other.retries;
        for (mine, theirs) in self.failed.iter_mut().zip(other.failed) {
            *mine += theirs;
        }
        self
    }

    pub fn since(mut self, earlier: &Self) -> Self {
        self.sent -= earlier.sent;
        self.sent_bytes -= earlier.sent_bytes;
        self.calls -= earlier.calls;
        self.retries -= earlier.retries;
        for (mine, theirs) in self.failed.iter_mut().zip(earlier.failed) {
            *mine -= theirs;
        }
        self
    }
}

impl Accounts {
    pub fn open(pins: &Pins) -> Result<Self> {
        Ok(Self {
            state: Shared::map(&pins.open(MapName::INJECTOR)?)?,
            workers: Shared::map(&pins.open(MapName::WORKERS)?)?,
        })
    }

    /// Goes on where the last injector stopped. Records that it had sent but not released are sent
    /// again, and counted as `resent`. So are those that it was sending when it died: whether they
    /// left nobody knows, they are `in_doubt`.
    pub fn take_over(&self, ring: &Ring) -> Result<TakeOver> {
        let position = ring.consumer_position();
        let slot = (0..2)
            .find(|slot| self.state.u64_at(0, Self::position(*slot)).load(Acquire) == position)
            .context("injector_map does not know the ring's consumer position")?;
        let released = self.state.u64_at(0, Self::released(slot)).load(Acquire);
        let finished: u64 = self.totals().iter().map(Totals::finished).sum();
        let resent = self.state.u64_at(0, offset_of!(injector_state, resent));
        let in_doubt = self.state.u64_at(0, offset_of!(injector_state, in_doubt));
        let before = finished + in_doubt.load(Relaxed) - resent.load(Relaxed);
        let in_flight = self.take_in_flight();
        let again = before.saturating_sub(released) + in_flight;
        in_doubt.fetch_add(in_flight, Relaxed);
        resent.fetch_add(again, Relaxed);
        self.state.u32_at(0, offset_of!(injector_state, pid)).store(std::process::id(), Relaxed);
        Ok(TakeOver { released, resent: again })
    }

    /// What a dead injector was sending.
    fn take_in_flight(&self) -> u64 {
        let workers = 0..MAX_WORKERS as usize;
        let field = offset_of!(worker_stats, in_flight);
        workers.map(|worker| self.workers.u64_at(worker, field).swap(0, Relaxed)).sum()
    }

    /// Notes that `released` records stand before `position`. To be called before the position is
    /// given to the kernel: whichever of the two slots has the ring's position is the valid one,
    /// the first of them at the very beginning, when both have.
    pub fn note_release(&self, position: u64, released: u64) {
        let slot = usize::from(
            self.state.u64_at(0, Self::position(0)).load(Relaxed)
                >= self.state.u64_at(0, Self::position(1)).load(Relaxed),
        );
        self.state.u64_at(0, Self::released(slot)).store(released, Release);
        self.state.u64_at(0, Self::position(slot)).store(position, Release);
    }

    /// Totals of all workers that there can be.
    pub fn totals(&self) -> Vec<Totals> {
        (0..MAX_WORKERS as usize).map(|worker| self.worker(worker).totals()).collect()
    }

    /// The counters of one worker.
    pub fn worker(&self, index: usize) -> WorkerAccount<'_> {
        WorkerAccount { workers: &self.workers, index }
    }

    fn position(slot: usize) -> usize {
        offset_of!(injector_state, position) + 8 * slot
    }

    fn released(slot: usize) -> usize {
        offset_of!(injector_state, released) + 8 * slot
    }
}

/// The counters of one worker, which is the only one to write them.
#[derive(Clone, Copy)]
pub struct WorkerAccount<'a> {
    workers: &'a Shared<worker_stats>,
    index: usize,
}

impl WorkerAccount<'_> {
    /// `frames` frames go to the kernel now; to be set to 0 when all of them are counted.
    pub fn set_in_flight(&self, frames: u64) {
        let field = offset_of!(worker_stats, in_flight);
        self.workers.u64_at(self.index, field).store(frames, Relaxed);
    }

    /// The kernel took `frames` frames of `bytes` bytes in one call.
    pub fn add_sent(&self, frames: u64, bytes: u64) {
        self.add(offset_of!(worker_stats, sent), frames);
        self.add(offset_of!(worker_stats, sent_bytes), bytes);
        self.add(offset_of!(worker_stats, calls), 1);
    }

    /// A call was repeated.
    pub fn add_retry(&self) {
        self.add(offset_of!(worker_stats, retries), 1);
    }

    /// The kernel refused a frame for good.
    pub fn add_failed(&self, reason: SendFailure) {
        self.add(offset_of!(worker_stats, failed) + 8 * reason as usize, 1);
    }

    /// What it adds up to.
    pub fn totals(&self) -> Totals {
        let load = |offset| self.workers.u64_at(self.index, offset).load(Relaxed);
        Totals {
            sent: load(offset_of!(worker_stats, sent)),
            sent_bytes: load(offset_of!(worker_stats, sent_bytes)),
            calls: load(offset_of!(worker_stats, calls)),
            retries: load(offset_of!(worker_stats, retries)),
            failed: SendFailure::ALL
                .map(|reason| load(offset_of!(worker_stats, failed) + 8 * reason as usize)),
        }
    }

    /// One writer, so a load and a store do; readers see whole values.
    fn add(&self, offset: usize, amount: u64) {
        let counter = self.workers.u64_at(self.index, offset);
        counter.store(counter.load(Relaxed) + amount, Relaxed);
    }
}
