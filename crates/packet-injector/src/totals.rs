//! What counters add up to, for reports.

use dataplane::abi::SendFailure;

/// Totals of one thread, or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Records.
    pub sent: u64,
    pub frames: u64,
    /// Of these frames.
    pub sent_bytes: u64,
    pub calls: u64,
    pub retries: u64,
    /// Records.
    pub failed: [u64; SendFailure::ALL.len()],
}

impl Totals {
    pub fn failed(&self) -> u64 {
        self.failed.iter().sum()
    }

    /// Records that were sent or refused for good.
    pub fn finished(&self) -> u64 {
        self.sent + self.failed()
    }

    pub fn plus(mut self, other: &Self) -> Self {
        self.sent += other.sent;
        self.frames += other.frames;
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
        self.frames -= earlier.frames;
        self.sent_bytes -= earlier.sent_bytes;
        self.calls -= earlier.calls;
        self.retries -= earlier.retries;
        for (mine, theirs) in self.failed.iter_mut().zip(earlier.failed) {
            *mine -= theirs;
        }
        self
    }
}
