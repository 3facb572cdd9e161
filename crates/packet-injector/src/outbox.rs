//! What one thread sends: frames straight from the ring in batches, jobs one by one between them.

use dataplane::ring::{FrameRef, Ring};

use crate::accounts::ThreadAccount;
use crate::job::{Item, Job};
use crate::raw::RawSender;

/// A sender with its batch and its accounts.
pub struct Outbox<'a> {
    ring: &'a Ring,
    sender: RawSender,
    account: ThreadAccount<'a>,
    frames: Vec<libc::iovec>,
    batch: usize,
}

impl<'a> Outbox<'a> {
    /// Sends `batch` frames with one system call at most.
    pub fn new(
        ring: &'a Ring,
        sender: RawSender,
        account: ThreadAccount<'a>,
        batch: usize,
    ) -> Self {
        Self { ring, sender, account, frames: Vec::with_capacity(batch), batch }
    }

    /// Frames or jobs that go out before the caller looks for more.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Sends something behind what is there already. Frames wait for [`Outbox::flush`].
    pub fn push(&mut self, item: Item) {
        match item {
            Item::Frame(frame) => self.push_frame(frame),
            Item::Job(job) => self.send_job(*job),
        }
    }

    /// Adds a frame to the batch, of which there must not be more than the batch size.
    pub fn push_frame(&mut self, frame: FrameRef) {
        self.frames.push(self.ring.iovec(frame));
    }

    /// Sends the batch.
    pub fn flush(&mut self) {
        if !self.frames.is_empty() {
            self.sender.send(&mut self.frames, &self.account.ring);
            self.frames.clear();
        }
    }

    fn send_job(&mut self, job: Job) {
        self.flush();
        let records = job.records();
        let account = if job.is_held() { self.account.held } else { self.account.ring };
        match job.into_frames(self.ring) {
            Ok(ready) => self.sender.send_whole(&ready.frames, records, &account),
            Err(reason) => account.add_failed(reason, records),
        }
    }
}
