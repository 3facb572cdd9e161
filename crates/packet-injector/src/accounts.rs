//! The injector's counters in pinned memory: they outlive it, and a restarted one goes on.
//!
//! A record ends in one counter, by one store: sent, or refused by reason. A record that is held
//! outside the ring leaves it by being `taken`, and ends in the thread's second entry of
//! `worker_map`. So the sums close whenever the process is killed.

use std::mem::offset_of;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use anyhow::{Context, Result};
use dataplane::abi::{HELD_ENTRIES, READER_ENTRY, SendFailure, injector_state, worker_stats};
use dataplane::shared::Shared;
use dataplane::{MapName, Pins};

use crate::totals::Totals;

/// Entries of all threads: the workers, then the reader.
const THREADS: usize = HELD_ENTRIES as usize;

/// Both pinned arrays of the injector.
pub struct Accounts {
    state: Shared<injector_state>,
    workers: Shared<worker_stats>,
}

/// What an injector finds when it starts.
#[derive(Debug, PartialEq, Eq)]
pub struct TakeOver {
    /// Records released so far, by all injectors.
    pub released: u64,
    /// Records that the last injector sent and did not release: they are sent again.
    pub resent: u64,
    /// Records that the last injector held outside the ring when it died.
    pub lost: u64,
}

impl Accounts {
    pub fn open(pins: &Pins) -> Result<Self> {
        Ok(Self {
            state: Shared::map(&pins.open(MapName::INJECTOR)?)?,
            workers: Shared::map(&pins.open(MapName::WORKERS)?)?,
        })
    }

    /// Accounts that end with the process.
    #[cfg(test)]
    pub fn private() -> Self {
        Self { state: Shared::private(1).unwrap(), workers: Shared::private(2 * THREADS).unwrap() }
    }

    /// Goes on where the last injector stopped; `position` is the ring's consumer position.
    /// Records that it had finished but not released are sent again, and counted as `resent`. So
    /// are those that it was sending when it died: whether they left nobody knows, they are
    /// `in_doubt`. What it held is `lost`. Killed half-way, a second call repeats the work; the
    /// records in doubt may then be counted twice in both terms, never less than once.
    pub fn take_over(&self, position: u64) -> Result<TakeOver> {
        let slot = (0..2)
            .find(|slot| self.state.u64_at(0, Self::position(*slot)).load(Acquire) == position)
            .context("injector_map does not know the ring's consumer position")?;
        let released = self.state.u64_at(0, Self::released(slot)).load(Acquire);
        let lost = self.lose_held();
        let resent = self.state.u64_at(0, offset_of!(injector_state, resent));
        let in_doubt = self.state.u64_at(0, offset_of!(injector_state, in_doubt));
        let finished: u64 = (0..THREADS).map(|entry| self.entry(entry).totals().finished()).sum();
        let left = finished + self.taken() + in_doubt.load(Relaxed) - resent.load(Relaxed);
        let in_flight: u64 = (0..THREADS).map(|entry| self.entry(entry).in_flight()).sum();
        let again = left.saturating_sub(released) + in_flight;
        in_doubt.fetch_add(in_flight, Relaxed);
        resent.fetch_add(again, Relaxed);
        (0..2 * THREADS).for_each(|entry| self.entry(entry).set_in_flight(0));
        self.state.u32_at(0, offset_of!(injector_state, pid)).store(std::process::id(), Relaxed);
        Ok(TakeOver { released, resent: again, lost })
    }

    /// Counts what the last injector held as lost: everything that it took and did not finish.
    fn lose_held(&self) -> u64 {
        let held = THREADS..2 * THREADS;
        let finished: u64 = held.map(|entry| self.entry(entry).totals().finished()).sum();
        let lost = self.state.u64_at(0, offset_of!(injector_state, lost));
        let now = self.taken().saturating_sub(finished);
        now.saturating_sub(lost.swap(now, Relaxed))
    }

    /// Notes that `released` records stand before position `to`. To be called before the kernel is
    /// given that position instead of `from`: of the two slots the one with the ring's position is
    /// valid (the first of them at the very beginning, when both have it), the other is written.
    pub fn note_release(&self, from: u64, to: u64, released: u64) {
        let slot = usize::from(self.state.u64_at(0, Self::position(0)).load(Relaxed) == from);
        self.state.u64_at(0, Self::released(slot)).store(released, Release);
        self.state.u64_at(0, Self::position(slot)).store(to, Release);
    }

    /// A record is held outside the ring from now on. To be called by the reader only, before the
    /// record is released, and before its frame goes anywhere.
    pub fn add_taken(&self) {
        let taken = self.state.u64_at(0, offset_of!(injector_state, taken));
        taken.store(taken.load(Relaxed) + 1, Relaxed);
    }

    /// Records that were held outside the ring so far, by all injectors.
    pub fn taken(&self) -> u64 {
        self.state.u64_at(0, offset_of!(injector_state, taken)).load(Relaxed)
    }

    /// Totals of all workers that there can be, then of the reader.
    pub fn totals(&self) -> Vec<Totals> {
        let of = |thread: usize| {
            self.entry(thread).totals().plus(&self.entry(THREADS + thread).totals())
        };
        (0..THREADS).map(of).collect()
    }

    /// The counters of one worker.
    pub fn worker(&self, index: usize) -> ThreadAccount<'_> {
        ThreadAccount { ring: self.entry(index), held: self.entry(THREADS + index) }
    }

    /// The counters of the reader.
    pub fn reader(&self) -> ThreadAccount<'_> {
        self.worker(READER_ENTRY as usize)
    }

    fn entry(&self, index: usize) -> Account<'_> {
        Account { entries: &self.workers, index }
    }

    fn position(slot: usize) -> usize {
        offset_of!(injector_state, position) + 8 * slot
    }

    fn released(slot: usize) -> usize {
        offset_of!(injector_state, released) + 8 * slot
    }
}

/// Both entries of one thread.
#[derive(Clone, Copy)]
pub struct ThreadAccount<'a> {
    /// For records that stand in the ring.
    pub ring: Account<'a>,
    /// For records that are held outside.
    pub held: Account<'a>,
}

/// An entry of `worker_map`, which one thread writes.
#[derive(Clone, Copy)]
pub struct Account<'a> {
    entries: &'a Shared<worker_stats>,
    index: usize,
}

impl Account<'_> {
    /// `records` records go to the kernel now; to be set to 0 when all of them are counted.
    pub fn set_in_flight(&self, records: u64) {
        let field = offset_of!(worker_stats, in_flight);
        self.entries.u64_at(self.index, field).store(records, Relaxed);
    }

    fn in_flight(&self) -> u64 {
        self.load(offset_of!(worker_stats, in_flight))
    }

    /// The kernel took all frames of `records` records.
    pub fn add_sent(&self, records: u64) {
        self.add(offset_of!(worker_stats, sent), records);
    }

    /// The kernel took `frames` frames of `bytes` bytes in one call.
    pub fn add_call(&self, frames: u64, bytes: u64) {
        self.add(offset_of!(worker_stats, frames), frames);
        self.add(offset_of!(worker_stats, sent_bytes), bytes);
        self.add(offset_of!(worker_stats, calls), 1);
    }

    /// A call was repeated.
    pub fn add_retry(&self) {
        self.add(offset_of!(worker_stats, retries), 1);
    }

    /// `records` records are refused for good.
    pub fn add_failed(&self, reason: SendFailure, records: u64) {
        self.add(offset_of!(worker_stats, failed) + 8 * reason as usize, records);
    }

    /// What it adds up to.
    fn totals(&self) -> Totals {
        Totals {
            sent: self.load(offset_of!(worker_stats, sent)),
            frames: self.load(offset_of!(worker_stats, frames)),
            sent_bytes: self.load(offset_of!(worker_stats, sent_bytes)),
            calls: self.load(offset_of!(worker_stats, calls)),
            retries: self.load(offset_of!(worker_stats, retries)),
            failed: SendFailure::ALL
                .map(|reason| self.load(offset_of!(worker_stats, failed) + 8 * reason as usize)),
        }
    }

    fn load(&self, offset: usize) -> u64 {
        self.entries.u64_at(self.index, offset).load(Relaxed)
    }

    /// One writer, so a load and a store do; readers see whole values.
    fn add(&self, offset: usize, amount: u64) {
        let counter = self.entries.u64_at(self.index, offset);
        counter.store(counter.load(Relaxed) + amount, Relaxed);
    }
}

#[cfg(test)]
mod tests;
