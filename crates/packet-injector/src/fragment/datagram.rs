//! What is known of one datagram.

use std::time::{Duration, Instant};

use dataplane::abi::SendFailure;

use crate::fragment::buffers::Lease;
use crate::fragment::ranges::{Claim, Ranges, Standing};
use crate::fragment::translation::Translation;

/// What all fragments of a datagram share: the bytes of a `fragment_key`.
pub type Key = [u8; size_of::<dataplane::abi::fragment_key>()];

/// A datagram, from its first arrival until the time is over.
#[derive(Debug)]
pub struct Datagram {
    pub key: Key,
    /// Arrivals are numbered: an older datagram has a smaller number.
    pub number: u64,
    pub since: Instant,
    pub first: Option<First>,
    pub ranges: Ranges,
    /// A datagram with this key of which everything has come: what comes now are copies of its
    /// fragments, or those of a new datagram, whose `ranges` begin again.
    pub previous: Option<Ranges>,
    /// All `ranges` are in `previous`, too, so that nobody knows yet which of both they are.
    pub only_copies: bool,
    /// Why all of its fragments are refused.
    pub refused: Option<SendFailure>,
    /// In the order of their arrival.
    pub held: Vec<Held>,
}

/// What the first fragment told.
#[derive(Clone, Copy, Debug)]
pub struct First {
    pub seen: Instant,
    pub translation: Translation,
    pub flow_hash: u32,
}

/// A fragment outside the ring.
#[derive(Debug)]
pub struct Held {
    pub frame: Box<[u8]>,
    pub l3_off: usize,
    /// Bytes of the largest IP packet that the egress takes behind this link layer.
    pub max_ip_len: usize,
    /// Bytes of IPv4 total length above which a joined datagram loses DF.
    pub df_clear_threshold: u16,
    /// Has to be fragmented further to leave.
    pub oversized: bool,
    /// Its first byte's place in the datagram.
    pub start: u32,
    pub lease: Lease,
}

impl Datagram {
    pub fn new(key: Key, number: u64, now: Instant) -> Self {
        Self {
            key,
            number,
            since: now,
            first: None,
            ranges: Ranges::default(),
            previous: None,
            only_copies: false,
            refused: None,
            held: Vec::new(),
        }
    }

    /// What the first fragment told, unless that is too long ago.
    pub fn first_within(&self, timeout: Duration, now: Instant) -> Option<First> {
        self.first.filter(|first| now.duration_since(first.seen) < timeout)
    }

    /// Fragments that are remembered for it.
    pub fn remembered(&self) -> usize {
        self.ranges.len() + self.previous.as_ref().map_or(0, Ranges::len)
    }

    /// Whether the claim is one of the datagram that had this key before.
    pub fn is_copy_of_previous(&self, claim: &Claim) -> bool {
        self.previous.as_ref().is_some_and(|previous| previous.contains(claim))
    }

    /// Everything of it has come.
    pub fn complete(&mut self) {
        self.previous = Some(std::mem::take(&mut self.ranges));
        self.only_copies = true;
    }

    /// Nothing of it is wanted any more.
    pub fn refuse(&mut self, reason: SendFailure) {
        self.refused = Some(reason);
        self.ranges = Ranges::default();
        self.previous = None;
        self.held = Vec::new(); // with its memory: the datagram stays known
    }

    /// Holds a claim against the ranges. If all of them may be mere copies of what came before, those
    /// that contradict the claim are.
    ///
    /// # Errors
    /// See [`Ranges::check`].
    pub fn check(&mut self, claim: &Claim) -> Result<Standing, SendFailure> {
        let standing = self.ranges.check(claim);
        if standing.is_ok() || !self.only_copies || self.is_copy_of_previous(claim) {
            return standing;
        }
        self.ranges = std::mem::take(&mut self.ranges).without_contradictions_to(claim);
        self.only_copies = false;
        Ok(Standing::New)
    }

    /// Adds a claim that is new.
    pub fn add(&mut self, claim: Claim) {
        self.only_copies &= self.is_copy_of_previous(&claim);
        self.ranges.add(claim);
    }
}
