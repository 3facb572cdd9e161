//! Walks the ring: the one consumer, in order, without copying a frame.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use dataplane::ring::{Record, Ring};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Longest sleep on an idle ring, milliseconds; a new record ends it at once.
const IDLE: u8 = 100;

/// The reader's place in the ring.
pub struct Reader<'a> {
    ring: &'a Ring,
    map: BorrowedFd<'a>,
    stop: &'a AtomicBool,
    position: u64,
    producer: u64,
    /// Once a stop is asked for: where the ring ended then.
    end: Option<u64>,
}

impl<'a> Reader<'a> {
    /// Starts at the consumer position, where the last injector stopped releasing.
    pub fn new(ring: &'a Ring, map: BorrowedFd<'a>, stop: &'a AtomicBool) -> Self {
        let position = ring.consumer_position();
        Self { ring, map, stop, position, producer: position, end: None }
    }

    /// The next committed record, if there is one now.
    pub fn next(&mut self) -> Option<Record> {
        if self.position >= self.producer {
            self.producer = self.ring.producer_position();
        }
        let record = self.ring.record_at(self.position, self.producer)?;
        self.position = record.end;
        Some(record)
    }

    /// Whether all work is done: a stop was asked for, and everything that was in the ring at that
    /// moment has been read.
    pub fn is_finished(&mut self) -> bool {
        if !self.stop.load(Ordering::Relaxed) {
            return false;
        }
        let end = *self.end.get_or_insert_with(|| self.ring.producer_position());
        self.position >= end
    }

    /// Sleeps until the kernel commits a record, a signal comes, or a moment has passed. Only for a
    /// reader that has released everything: the kernel wakes up only a consumer that has caught up.
    pub fn wait(&self) {
        let mut fds = [PollFd::new(self.map, PollFlags::POLLIN)];
        // An error is EINTR: the caller looks at the stop flag next.
        let _ = poll(&mut fds, PollTimeout::from(IDLE));
    }
}
