//! The ledger: every packet that came in, by what became of it. All views are made from one
//! [`Snapshot`].

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use serde::Serialize;

use crate::abi::{
    HELD_ENTRIES, MAX_WORKERS, Note, SendFailure, Stage, Verdict, VerdictClass, WORKER_ENTRIES_MAX,
    injector_state, worker_stats,
};
use crate::ring::{Fill, Ring};
use crate::stats::Counters;
use crate::{MapName, Pins, plain};

/// How often counters are read that don't belong together.
const ATTEMPTS: u32 = 4;

/// Opened maps that a snapshot is read from.
pub struct Ledger {
    stats: MapHandle,
    injector: MapHandle,
    workers: MapHandle,
    ring: Ring,
}

/// One worker's counters, over all injectors that ever ran.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Worker {
    /// Records whose frames the kernel took.
    pub sent: u64,
    /// These frames.
    pub frames: u64,
    /// Bytes of these.
    pub sent_bytes: u64,
    /// `sendmmsg` calls.
    pub calls: u64,
    /// Calls repeated after ENOBUFS or EAGAIN.
    pub retries: u64,
}

/// Every term of the ledger at one time.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    /// Packets that reached the XDP program.
    pub total: u64,
    /// Handed to the host.
    pub passed: u64,
    /// Dropped by the program, all reasons.
    pub dropped: u64,
    /// The same by reason; every reason is there.
    pub dropped_by_reason: BTreeMap<&'static str, u64>,
    /// Redirected in the kernel.
    pub redirected: u64,
    /// Written to the ring.
    pub queued: u64,
    /// Records whose frames the kernel took from the injector.
    pub sent: u64,
    /// Frames that it took for them: several for a record that was fragmented, one for all the
    /// records of a datagram that was reassembled.
    pub frames_sent: u64,
    /// Records that it refused for good, or that the injector gave up.
    pub send_failed: u64,
    /// The same by reason; every reason is there.
    pub send_failed_by_reason: BTreeMap<&'static str, u64>,
    /// Records that the injector holds outside the ring.
    pub held: u64,
    /// Records that an injector held outside the ring when it died.
    pub lost: u64,
    /// Records in the ring, not sent yet.
    pub in_ring: u64,
    /// Records sent again because an injector died before releasing them: they may have left twice.
    pub resent: u64,
    /// Of these, the ones that it was sending when it died: neither sent nor failed, as far as is
    /// known.
    pub in_doubt: u64,
    /// Packets that no term accounts for: 0 whenever traffic is at rest.
    pub unaccounted: u64,
    /// Packets at each stage of the program.
    pub stages: BTreeMap<&'static str, u64>,
    /// Facts about forwarded frames.
    pub notes: BTreeMap<&'static str, u64>,
    /// Every verdict with its count.
    pub verdicts: BTreeMap<&'static str, u64>,
    /// The ring.
    pub ring: Fill,
    /// Process ID of the injector that runs or ran last; 0: none did.
    pub injector_pid: u32,
    /// Workers that ever sent something.
    pub workers: Vec<Worker>,
}

impl Ledger {
    /// Opens the pinned maps.
    ///
    /// # Errors
    /// See [`Pins::open`].
    pub fn open(pins: &Pins) -> Result<Self> {
        Ok(Self {
            stats: pins.open(MapName::STATS)?,
            injector: pins.open(MapName::INJECTOR)?,
            workers: pins.open(MapName::WORKERS)?,
            ring: Ring::observe(&pins.open(MapName::RING)?)?,
        })
    }

    /// Reads all counters. When the ring moved meanwhile they are read again, a few times: so they
    /// belong together as soon as traffic is at rest. Under traffic they are of slightly different
    /// moments.
    ///
    /// # Errors
    /// A map can't be read.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let mut before = self.positions();
        for _ in 1..ATTEMPTS {
            let snapshot = self.read()?;
            let after = self.positions();
            if after == before {
                return Ok(snapshot);
            }
            before = after;
        }
        self.read()
    }

    /// Where the ring begins and ends.
    fn positions(&self) -> [u64; 2] {
        [self.ring.consumer_position(), self.ring.producer_position()]
    }

    fn read(&self) -> Result<Snapshot> {
        // In this order: what was queued when the first was read is in the ring then or in the last.
        let counters = Counters::read(&self.stats)?;
        let state: injector_state = read_entry(&self.injector, 0)?;
        let released = released_before(&state, self.ring.consumer_position());
        let fill = self.ring.fill();
        let entries = self.entries()?;
        Ok(Snapshot::new(&counters, &entries, &state, released, fill))
    }

    fn entries(&self) -> Result<Vec<worker_stats>> {
        (0..WORKER_ENTRIES_MAX).map(|index| read_entry(&self.workers, index)).collect()
    }
}

/// The workers that ever sent something, each from its two entries of `worker_map`: records that
/// stood in the ring until they were sent, and records that were held outside.
fn workers(entries: &[worker_stats]) -> Vec<Worker> {
    let (ring, held) = entries.split_at(HELD_ENTRIES as usize);
    let mut workers: Vec<_> = ring
        .iter()
        .zip(held)
        .take(MAX_WORKERS as usize)
        .map(|(ring, held)| Worker {
            sent: ring.sent + held.sent,
            frames: ring.frames + held.frames,
            sent_bytes: ring.sent_bytes + held.sent_bytes,
            calls: ring.calls + held.calls,
            retries: ring.retries + held.retries,
        })
        .collect();
    let used = workers.iter().rposition(|w| *w != Worker::default()).map_or(0, |last| last + 1);
    workers.truncate(used);
    workers
}

/// Records that were sent or refused for good.
fn finished(entries: &[worker_stats]) -> u64 {
    entries.iter().map(|entry| entry.sent + entry.failed.iter().sum::<u64>()).sum()
}

/// Records released up to the ring's consumer position: the injector notes them for two positions,
/// of which one is the ring's; under traffic it may move on while we look.
fn released_before(state: &injector_state, position: u64) -> u64 {
    let slot = usize::from(state.position[0] != position);
    state.released[slot]
}

fn read_entry<T: plain::Plain>(map: &MapHandle, index: u32) -> Result<T> {
    map.lookup(&index.to_ne_bytes(), MapFlags::ANY)
        .with_context(|| format!("reading {}", map.name().to_string_lossy()))?
        .and_then(|value| plain::from_bytes(&value))
        .with_context(|| format!("{} is of another layout", map.name().to_string_lossy()))
}

impl Snapshot {
    fn new(
        counters: &Counters,
        entries: &[worker_stats],
        state: &injector_state,
        released: u64,
        ring: Fill,
    ) -> Self {
        let of_class = |wanted: fn(VerdictClass) -> bool| -> u64 {
            let verdicts = Verdict::ALL.into_iter().filter(|v| wanted(v.class()));
            verdicts.map(|v| counters.verdict(v)).sum()
        };
        let dropped_by_reason = Verdict::ALL
            .into_iter()
            .filter(|v| v.class().is_drop())
            .map(|v| (v.name(), counters.verdict(v)))
            .collect();
        let send_failed_by_reason: BTreeMap<_, u64> = SendFailure::ALL
            .into_iter()
            .map(|f| (f.name(), entries.iter().map(|e| e.failed[f as usize]).sum()))
            .collect();
        let (ring_entries, held_entries) = entries.split_at(HELD_ENTRIES as usize);
        let left_the_ring =
            (finished(ring_entries) + state.taken + state.in_doubt).saturating_sub(state.resent);
        let mut snapshot = Self {
            total: counters.stage(Stage::Total),
            passed: of_class(|class| class == VerdictClass::Pass),
            dropped: of_class(VerdictClass::is_drop),
            dropped_by_reason,
            redirected: counters.stage(Stage::Redirected),
            queued: counters.verdict(Verdict::Queued),
            sent: entries.iter().map(|e| e.sent).sum(),
            frames_sent: entries.iter().map(|e| e.frames).sum(),
            send_failed: send_failed_by_reason.values().sum(),
            send_failed_by_reason,
            held: state.taken.saturating_sub(finished(held_entries) + state.lost),
            lost: state.lost,
            // What is finished stays in the ring until it is released.
            in_ring: ring.records.saturating_sub(left_the_ring.saturating_sub(released)),
            resent: state.resent,
            in_doubt: state.in_doubt,
            unaccounted: 0,
            stages: Stage::ALL.into_iter().map(|s| (s.name(), counters.stage(s))).collect(),
            notes: Note::ALL.into_iter().map(|n| (n.name(), counters.note(n))).collect(),
            verdicts: Verdict::ALL.into_iter().map(|v| (v.name(), counters.verdict(v))).collect(),
            ring,
            injector_pid: state.pid,
            workers: workers(entries),
        };
        snapshot.unaccounted =
            snapshot.kernel_side().unsigned_abs() + snapshot.injector_side().unsigned_abs();
        snapshot
    }

    /// `total - (passed + dropped + redirected + queued)`.
    fn kernel_side(&self) -> i64 {
        let accounted = self.passed + self.dropped + self.redirected + self.queued;
        self.total.wrapping_sub(accounted) as i64
    }

    /// `queued + resent - (sent + send_failed + in_doubt + held + lost + in_ring)`.
    fn injector_side(&self) -> i64 {
        let outside = self.in_doubt + self.held + self.lost + self.in_ring;
        (self.queued + self.resent).wrapping_sub(self.sent + self.send_failed + outside) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::READER_ENTRY;

    /// 100 packets queued, of which 10 wait in the ring. Worker 2 sent 70 from the ring and 12 that
    /// were held, as 3 datagrams; the reader refused 5 and gave up 2 that were held. 1 of 16 that
    /// were taken was lost with an injector that died. 4 were sent again, 3 of them in doubt; 2
    /// that were sent are not released yet.
    fn snapshot() -> Snapshot {
        let mut counters = Counters { values: vec![0; 256] };
        counters.values[Stage::Total.key() as usize] = 110;
        counters.values[Verdict::Queued.key() as usize] = 100;
        counters.values[Verdict::Passed.key() as usize] = 4;
        counters.values[Verdict::RingFull.key() as usize] = 6;
        let mut entries = vec![worker_stats::default(); WORKER_ENTRIES_MAX as usize];
        let ring = worker_stats { sent: 70, frames: 90, calls: 9, ..Default::default() };
        let held = worker_stats { sent: 12, frames: 3, calls: 3, ..Default::default() };
        entries[2] = ring;
        entries[HELD_ENTRIES as usize + 2] = held;
        let reader = READER_ENTRY as usize;
        entries[reader].failed[SendFailure::FragmentInvalid as usize] = 5;
        entries[HELD_ENTRIES as usize + reader].failed[SendFailure::FragmentTimeout as usize] = 2;
        let state =
            injector_state { taken: 16, lost: 1, resent: 4, in_doubt: 3, ..Default::default() };
        Snapshot::new(&counters, &entries, &state, 88, Fill { records: 12, bytes: 0, size: 0 })
    }

    #[test]
    fn the_sums_close_with_held_and_lost_records() {
        let snapshot = snapshot();
        assert_eq!((snapshot.sent, snapshot.send_failed), (82, 7));
        assert_eq!((snapshot.held, snapshot.lost, snapshot.in_ring), (1, 1, 10));
        assert_eq!(snapshot.unaccounted, 0);
        assert_eq!(snapshot.frames_sent, 93);
        assert_eq!(snapshot.send_failed_by_reason["fragment_timeout"], 2);
    }

    #[test]
    fn a_worker_is_both_of_its_entries() {
        let snapshot = snapshot();
        assert_eq!(snapshot.workers.len(), 3, "the reader is none");
        assert_eq!(snapshot.workers[0], Worker::default());
        let worker = &snapshot.workers[2];
        assert_eq!((worker.sent, worker.frames, worker.calls), (82, 93, 12));
    }
}
