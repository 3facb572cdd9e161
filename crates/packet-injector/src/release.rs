//! Gives the ring back to the kernel: in order, and only what has been sent or refused for good.

use dataplane::ring::Ring;

use crate::accounts::Accounts;

/// The released prefix of the ring.
pub struct Releaser<'a> {
    ring: &'a Ring,
    accounts: &'a Accounts,
    released: u64,
}

impl<'a> Releaser<'a> {
    /// `released` records stand before the consumer position.
    pub fn new(ring: &'a Ring, accounts: &'a Accounts, released: u64) -> Self {
        Self { ring, accounts, released }
    }

    /// Releases everything before `position`, which holds `records` more frames.
    pub fn release(&mut self, position: u64, records: u64) {
        self.released += records;
        self.accounts.note_release(position, self.released);
        self.ring.release(position);
    }
}
