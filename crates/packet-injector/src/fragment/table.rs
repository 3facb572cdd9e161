//! The datagrams that are known: bounded, and all found, forgotten or expired in O(log n).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use crate::fragment::datagram::{Datagram, Key};

/// Datagrams of which nothing is held that are known at most, beside those of which something is.
const IDLE_DATAGRAMS: usize = 16_384;

/// Fragments that are remembered at most, beside those that are held.
const PASSED_FRAGMENTS: usize = 65_536;

/// Datagrams by key and by age.
#[derive(Debug)]
pub struct Table {
    datagrams: HashMap<Key, Datagram>,
    by_age: BTreeMap<u64, Key>,
    /// Numbers of those that hold nothing, but for the one that is taken out.
    idle: BTreeSet<u64>,
    next: u64,
    /// Fragments remembered in all of them.
    fragments: usize,
    max_datagrams: usize,
    max_fragments: usize,
}

impl Table {
    /// Has room for datagrams of which `held` fragments are held.
    pub fn new(held: usize) -> Self {
        Self {
            datagrams: HashMap::new(),
            by_age: BTreeMap::new(),
            idle: BTreeSet::new(),
            next: 0,
            fragments: 0,
            max_datagrams: held + IDLE_DATAGRAMS,
            max_fragments: held + PASSED_FRAGMENTS,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.by_age.is_empty()
    }

    /// Whether one more fragment can be remembered; if not, all room is with datagrams of which
    /// something is held.
    pub fn has_room(&self) -> bool {
        self.fragments < self.max_fragments || !self.idle.is_empty()
    }

    /// Takes a datagram out, to be put back by [`Table::put`].
    pub fn take(&mut self, key: &Key) -> Option<Datagram> {
        let datagram = self.datagrams.remove(key)?;
        self.idle.remove(&datagram.number);
        self.fragments -= datagram.remembered();
        Some(datagram)
    }

    /// A datagram that was not known. Room for it is made in [`Table::put`].
    pub fn begin(&mut self, key: Key, now: Instant) -> Datagram {
        Datagram::new(key, self.number(key), now)
    }

    fn number(&mut self, key: Key) -> u64 {
        let number = self.next;
        self.next += 1;
        self.by_age.insert(number, key);
        number
    }

    /// Puts a datagram back. If there is no room, those that hold nothing are forgotten, the oldest
    /// first; this one too, if it is the last of them.
    pub fn put(&mut self, datagram: Datagram) {
        self.fragments += datagram.remembered();
        if datagram.held.is_empty() {
            self.idle.insert(datagram.number);
        }
        self.datagrams.insert(datagram.key, datagram);
        while self.datagrams.len() > self.max_datagrams || self.fragments > self.max_fragments {
            let Some(oldest) = self.idle.pop_first() else { break };
            self.forget(oldest);
        }
    }

    /// Lets the time of a datagram that is taken out begin again.
    pub fn renew(&mut self, datagram: &mut Datagram, now: Instant) {
        self.by_age.remove(&datagram.number);
        datagram.number = self.number(datagram.key);
        datagram.since = now;
    }

    /// The oldest datagram, if it came `timeout` or longer ago; it is known no more.
    pub fn expire(&mut self, timeout: Duration, now: Instant) -> Option<Datagram> {
        let (&number, key) = self.by_age.first_key_value()?;
        if now.duration_since(self.datagrams.get(key)?.since) < timeout {
            return None;
        }
        self.forget(number)
    }

    /// Any datagram; it is known no more.
    pub fn remove_any(&mut self) -> Option<Datagram> {
        let (&number, _) = self.by_age.first_key_value()?;
        self.forget(number)
    }

    fn forget(&mut self, number: u64) -> Option<Datagram> {
        let key = self.by_age.remove(&number)?;
        self.take(&key)
    }
}
