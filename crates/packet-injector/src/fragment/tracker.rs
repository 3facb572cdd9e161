//! Decides about each fragment.

use std::hash::{BuildHasher, RandomState};
use std::iter::repeat_n;
use std::time::{Duration, Instant};

use dataplane::abi::{
    INFO_FRAGMENT, INFO_HOLD, INFO_OVERSIZED, INFO_REASSEMBLE, SendFailure, frame_info,
};
use dataplane::plain;

use crate::fragment::buffers::{Buffers, Lease};
use crate::fragment::datagram::{Datagram, First, Held, Key};
use crate::fragment::header::Fragment;
use crate::fragment::join::join;
use crate::fragment::ranges::{Claim, Standing};
use crate::fragment::table::Table;
use crate::fragment::translation::Translation;
use crate::job::{Job, Source};
use crate::split::Split;

/// What becomes of a record.
#[derive(Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is sent, to the lane of this flow, when this has been done to it.
    Send { flow_hash: u32, translation: Translation, split: Option<Split> },
    /// Its frame was copied: the record can be released.
    Taken,
    /// It is not sent.
    Refused(SendFailure),
}

/// All datagrams whose fragments come through the ring.
#[derive(Debug)]
pub struct Tracker {
    pub(super) table: Table,
    buffers: Buffers,
    hasher: RandomState,
    timeout: Duration,
    /// Held fragments that go out now, or the datagrams made of them, with their flow hashes.
    released: Vec<(u32, Job)>,
    /// Why held fragments were given up, one each.
    refused: Vec<SendFailure>,
}

/// A fragment as it comes from the ring.
struct Arrival<'a> {
    frame: &'a [u8],
    info: &'a frame_info,
    fragment: Fragment,
    flow_hash: u32,
    now: Instant,
}

impl Arrival<'_> {
    fn has(&self, flag: u32) -> bool {
        u32::from(self.info.flags) & flag != 0
    }

    fn l3_off(&self) -> usize {
        self.info.l3_off.into()
    }

    fn claim(&self, digest: u64) -> Claim {
        let Fragment { start, end, more, .. } = self.fragment;
        Claim { start, end, more, digest }
    }

    fn first(&self) -> First {
        let flags = u32::from(self.info.flags);
        First {
            seen: self.now,
            translation: Translation::of(self.frame, self.l3_off(), flags),
            flow_hash: self.flow_hash,
        }
    }
}

impl Tracker {
    /// Holds `buffers` fragments at most, each for `timeout` at most.
    pub fn new(buffers: usize, timeout: Duration) -> Self {
        Self {
            table: Table::new(buffers),
            buffers: Buffers::new(buffers),
            hasher: RandomState::new(),
            timeout,
            released: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// Changes how long fragments are held.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Whether no datagram is known.
    pub fn is_idle(&self) -> bool {
        self.table.is_empty()
    }

    /// Decides about a frame that came with `info` at `now`. What this means for held ones is in
    /// [`Tracker::released`] and [`Tracker::refused`] afterwards; released ones follow this frame.
    /// `frame` counts only under `INFO_FRAGMENT`.
    pub fn decide(
        &mut self,
        frame: &[u8],
        info: &frame_info,
        flow_hash: u32,
        now: Instant,
    ) -> Fate {
        if u32::from(info.flags) & INFO_FRAGMENT == 0 {
            return send(info, flow_hash, Translation::default());
        }
        self.expire(now);
        let waits = u32::from(info.flags) & INFO_HOLD != 0;
        let fragment = Fragment::parse(frame, info.l3_off.into())
            .filter(|part| part.is_possible() && !(waits && part.start == 0));
        let Some(fragment) = fragment else { return Fate::Refused(SendFailure::FragmentInvalid) };
        let key: Key = plain::bytes(&info.key).try_into().expect("a key has a key's length");
        let known = self.table.take(&key);
        let mut datagram = known.unwrap_or_else(|| self.table.begin(key, now));
        let arrival = Arrival { frame, info, fragment, flow_hash, now };
        let fate = if let Some(reason) = datagram.refused {
            Fate::Refused(reason)
        } else {
            let result = if arrival.has(INFO_REASSEMBLE) {
                self.gather(&mut datagram, &arrival)
            } else {
                self.pass(&mut datagram, &arrival)
            };
            result.unwrap_or_else(|reason| self.give_up(&mut datagram, reason))
        };
        self.table.put(datagram);
        fate
    }

    /// Forwards a fragment, or holds it until the first one of its datagram comes.
    ///
    /// # Errors
    /// Why the whole datagram is to be refused.
    fn pass(
        &mut self,
        datagram: &mut Datagram,
        arrival: &Arrival<'_>,
    ) -> Result<Fate, SendFailure> {
        self.renew(datagram, arrival.now);
        let claim = arrival.claim(0);
        let standing = datagram.check(&claim)?;
        let (mut flow_hash, mut translation) = (arrival.flow_hash, Translation::default());
        if claim.start == 0 {
            let first = arrival.first();
            datagram.first = Some(first);
            self.release(datagram, &first);
        } else if arrival.has(INFO_HOLD) {
            match datagram.first_within(self.timeout, arrival.now) {
                Some(first) => (flow_hash, translation) = (first.flow_hash, first.translation),
                None => return Ok(self.hold(datagram, arrival, claim, standing)),
            }
        }
        if standing == Standing::New && self.table.has_room() {
            datagram.add(claim);
        }
        if datagram.ranges.are_complete() {
            datagram.complete();
        }
        Ok(send(arrival.info, flow_hash, translation))
    }

    /// Collects a fragment until its datagram can be joined.
    ///
    /// # Errors
    /// Why the whole datagram is to be refused.
    fn gather(
        &mut self,
        datagram: &mut Datagram,
        arrival: &Arrival<'_>,
    ) -> Result<Fate, SendFailure> {
        let data = arrival.fragment.data(arrival.frame).ok_or(SendFailure::FragmentInvalid)?;
        let claim = arrival.claim(self.hasher.hash_one(data));
        let duplicate = Ok(Fate::Refused(SendFailure::FragmentDuplicate));
        if datagram.is_copy_of_previous(&claim) {
            return duplicate; // and renews nothing: the same datagram may come again in time
        }
        self.renew(datagram, arrival.now);
        if datagram.ranges.check(&claim)? == Standing::Copy {
            return duplicate;
        }
        if claim.start == 0 {
            datagram.first = Some(arrival.first());
        }
        if let Fate::Refused(reason) = self.hold(datagram, arrival, claim, Standing::New) {
            return Err(reason);
        }
        if datagram.ranges.are_complete() {
            self.join(datagram, arrival.flow_hash);
        }
        Ok(Fate::Taken)
    }

    /// Lets the time begin again if a new datagram begins behind a complete one.
    fn renew(&mut self, datagram: &mut Datagram, now: Instant) {
        if datagram.previous.is_some() && datagram.ranges.is_empty() {
            self.table.renew(datagram, now);
        }
    }

    fn hold(
        &mut self,
        datagram: &mut Datagram,
        arrival: &Arrival<'_>,
        claim: Claim,
        standing: Standing,
    ) -> Fate {
        let Some(lease) = self.buffers.lease() else {
            return Fate::Refused(SendFailure::FragmentNoRoom);
        };
        if standing == Standing::New {
            datagram.add(claim);
        }
        datagram.held.push(Held {
            frame: arrival.frame.into(),
            l3_off: arrival.l3_off(),
            max_ip_len: arrival.info.max_ip_len.into(),
            df_clear_threshold: arrival.info.df_clear_threshold,
            oversized: arrival.has(INFO_OVERSIZED),
            start: claim.start,
            lease,
        });
        Fate::Taken
    }

    /// Sends what waited for the first fragment.
    fn release(&mut self, datagram: &mut Datagram, first: &First) {
        for held in std::mem::take(&mut datagram.held) {
            let Held { mut frame, l3_off, max_ip_len, oversized, lease, .. } = held;
            first.translation.apply(&mut frame, l3_off);
            let split = oversized.then_some(Split { l3_off, max_ip_len });
            let source = Source::Held { frame, lease };
            self.released.push((first.flow_hash, Job { source, split }));
        }
    }

    /// Sends a complete datagram as a whole.
    fn join(&mut self, datagram: &mut Datagram, flow_hash: u32) {
        let mut parts = std::mem::take(&mut datagram.held);
        match join(&mut parts) {
            Ok(joined) => {
                let flow_hash = datagram.first.map_or(flow_hash, |first| first.flow_hash);
                let leases = parts.into_iter().map(|part| part.lease);
                if let Some(lease) = leases.reduce(Lease::plus) {
                    let source = Source::Held { frame: joined.frame, lease };
                    self.released.push((flow_hash, Job { source, split: joined.split }));
                }
            }
            Err(reason) => self.refused.extend(repeat_n(reason, parts.len())),
        }
        datagram.complete();
    }

    /// Refuses everything of a datagram, now and until its time is over.
    fn give_up(&mut self, datagram: &mut Datagram, reason: SendFailure) -> Fate {
        self.refused.extend(repeat_n(reason, datagram.held.len()));
        datagram.refuse(reason);
        Fate::Refused(reason)
    }

    /// Gives up fragments whose time is over.
    pub fn expire(&mut self, now: Instant) {
        while let Some(datagram) = self.table.expire(self.timeout, now) {
            self.time_out(&datagram);
        }
    }

    /// Gives up all that is held.
    pub fn close(&mut self) {
        while let Some(datagram) = self.table.remove_any() {
            self.time_out(&datagram);
        }
    }

    fn time_out(&mut self, datagram: &Datagram) {
        self.refused.extend(repeat_n(SendFailure::FragmentTimeout, datagram.held.len()));
    }

    /// What was held and goes out now, in this order, each to the lane of its flow hash.
    pub fn released(&mut self) -> Vec<(u32, Job)> {
        std::mem::take(&mut self.released)
    }

    /// Why held fragments are not sent, one reason each.
    pub fn refused(&mut self) -> Vec<SendFailure> {
        std::mem::take(&mut self.refused)
    }
}

fn send(info: &frame_info, flow_hash: u32, translation: Translation) -> Fate {
    let split = Split { l3_off: info.l3_off.into(), max_ip_len: info.max_ip_len.into() };
    let oversized = u32::from(info.flags) & INFO_OVERSIZED != 0;
    Fate::Send { flow_hash, translation, split: oversized.then_some(split) }
}
