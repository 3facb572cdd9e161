//! How many fragments may be held: FRAGMENT_BUFFERS.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// A number of buffers, of which some are in use.
#[derive(Debug)]
pub struct Buffers {
    limit: usize,
    in_use: Arc<AtomicUsize>,
}

/// Buffers in use, free again when this is dropped: by whichever thread sent their fragments.
#[derive(Debug)]
pub struct Lease {
    in_use: Arc<AtomicUsize>,
    count: usize,
}

impl Buffers {
    pub fn new(limit: usize) -> Self {
        Self { limit, in_use: Arc::default() }
    }

    /// One buffer, if there is one. Only the reader leases, so nobody comes in between.
    pub fn lease(&mut self) -> Option<Lease> {
        if self.in_use.load(Relaxed) >= self.limit {
            return None;
        }
        self.in_use.fetch_add(1, Relaxed);
        Some(Lease { in_use: Arc::clone(&self.in_use), count: 1 })
    }
}

impl Lease {
    /// Joins two leases of the same buffers.
    pub fn plus(mut self, mut other: Self) -> Self {
        self.count += std::mem::take(&mut other.count);
        self
    }

    /// Buffers in use.
    pub fn count(&self) -> usize {
        self.count
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.in_use.fetch_sub(self.count, Relaxed);
    }
}
