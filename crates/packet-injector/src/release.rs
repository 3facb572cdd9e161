//! Gives the ring back to the kernel: in order, and only what has been sent or refused for good.

use dataplane::ring::Ring;

use crate::accounts::Accounts;

/// The released prefix of the ring.
pub struct Releaser<'a> {
    ring: &'a Ring,
    accounts: &'a Accounts,
    /// Where it ends, and how many records it has.
    position: u64,
    released: u64,
}

impl<'a> Releaser<'a> {
    /// `released` records stand before the consumer position.
    pub fn new(ring: &'a Ring, accounts: &'a Accounts, released: u64) -> Self {
        Self { ring, accounts, position: ring.consumer_position(), released }
    }

    /// Releases everything before `position`, which holds `records` more records.
    pub fn release(&mut self, position: u64, records: u64) {
        self.released += records;
        self.accounts.note_release(self.position, position, self.released);
        self.ring.release(position);
        self.position = position;
    }
}
