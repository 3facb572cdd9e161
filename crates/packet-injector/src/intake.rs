//! Frames that can't just be sent, between the reader and the lanes.

use std::time::Instant;

use dataplane::abi::{INFO_FRAGMENT, fragment_key};
use dataplane::control::Control;
use dataplane::ring::{FrameRef, Ring};

use crate::accounts::Accounts;
use crate::audit::Audit;
use crate::fragment::{Fate, Tracker};
use crate::job::{Item, Job, Source};

/// The reader's part of the work on fragments, and its accounts.
pub struct Intake<'a> {
    ring: &'a Ring,
    accounts: &'a Accounts,
    control: &'a Control,
    tracker: Tracker,
    audit: Option<Audit>,
    /// The fragment at hand.
    bytes: Vec<u8>,
}

impl<'a> Intake<'a> {
    /// Holds `buffers` fragments at most. Refused ones are told to `audit`.
    pub fn new(
        ring: &'a Ring,
        accounts: &'a Accounts,
        control: &'a Control,
        buffers: usize,
        audit: Option<Audit>,
    ) -> Self {
        let tracker = Tracker::new(buffers, control.fragment_timeout());
        Self { ring, accounts, control, tracker, audit, bytes: Vec::new() }
    }

    /// Takes in a frame that has an info: what is to be sent of it, from the ring, and the hash of
    /// its flow. `None`: its record is finished. Then come [`Intake::released`] ones.
    pub fn admit(&mut self, frame: FrameRef) -> Option<(u32, Item)> {
        let Some(info) = self.ring.info(frame) else {
            return Some((frame.flow_hash, Item::Frame(frame)));
        };
        if u32::from(info.flags) & INFO_FRAGMENT != 0 {
            self.ring.copy(frame, &mut self.bytes);
        }
        match self.tracker.decide(&self.bytes, &info, frame.flow_hash, Instant::now()) {
            Fate::Send { flow_hash, translation, split } => {
                if translation.is_empty() && split.is_none() {
                    return Some((flow_hash, Item::Frame(frame)));
                }
                let source = Source::Ring { frame, l3_off: info.l3_off.into(), translation };
                return Some((flow_hash, Item::Job(Box::new(Job { source, split }))));
            }
            Fate::Taken => self.accounts.add_taken(),
            Fate::Refused(reason) => {
                self.accounts.reader().ring.add_failed(reason, 1);
                if let Some(audit) = &mut self.audit {
                    audit.refused(reason, &info.key);
                }
            }
        }
        self.count_refused(Some(&info.key));
        None
    }

    /// What was held and goes out now, in this order. Counts what is given up instead.
    pub fn released(&mut self) -> impl Iterator<Item = (u32, Item)> {
        self.count_refused(None);
        let released = self.tracker.released().into_iter();
        released.map(|(flow_hash, job)| (flow_hash, Item::Job(Box::new(job))))
    }

    /// Gives up what has been held for too long. To be called again and again.
    pub fn expire(&mut self) {
        if !self.tracker.is_idle() {
            self.tracker.set_timeout(self.control.fragment_timeout());
            self.tracker.expire(Instant::now());
            self.count_refused(None);
        }
    }

    /// Gives up what is held, and says how much that was.
    pub fn close(mut self) -> u64 {
        self.tracker.close();
        let held = self.count_refused(None);
        if let Some(audit) = self.audit {
            audit.finish();
        }
        held
    }

    /// Counts the held fragments that were given up. All but the timeouts belong to the datagram
    /// `key`, of which a fragment has just come.
    fn count_refused(&mut self, key: Option<&fragment_key>) -> u64 {
        let refused = self.tracker.refused();
        for reason in &refused {
            self.accounts.reader().held.add_failed(*reason, 1);
            if let (Some(audit), Some(key)) = (&mut self.audit, key) {
                audit.refused(*reason, key);
            }
        }
        refused.len() as u64
    }
}
