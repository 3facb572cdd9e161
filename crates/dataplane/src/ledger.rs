//! The ledger: every packet that came in, by what became of it. All views are made from one
//! [`Snapshot`].

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use serde::Serialize;

use crate::abi::{
    MAX_WORKERS, Note, SendFailure, Stage, Verdict, VerdictClass, injector_state, worker_stats,
};
use crate::ring::{Fill, Ring};
use crate::stats::Counters;
use crate::{MapName, Pins, plain};

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
    /// Frames that the kernel took.
    pub sent: u64,
    /// Bytes of these.
    pub sent_bytes: u64,
    /// `sendmmsg` calls.
    pub calls: u64,
    /// Calls repeated after ENOBUFS or EAGAIN.
    pub retries: u64,
    /// Frames that the kernel refused for good, by reason.
    #[serde(skip)]
    pub failed: [u64; SendFailure::ALL.len()],
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
    /// Frames that the kernel took from the injector.
    pub sent: u64,
    /// Frames that it refused for good.
    pub send_failed: u64,
    /// The same by reason; every reason is there.
    pub send_failed_by_reason: BTreeMap<&'static str, u64>,
    /// Frames held by the injector outside the ring.
    pub held: u64,
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

    /// Reads all counters. Under traffic they are of slightly different moments.
    ///
    /// # Errors
    /// A map can't be read.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let counters = Counters::read(&self.stats)?;
        let workers = self.workers()?;
        let state: injector_state = read_entry(&self.injector, 0)?;
        let released = released_before(&state, self.ring.consumer_position());
        Ok(Snapshot::new(&counters, workers, &state, released, self.ring.fill()))
    }

    fn workers(&self) -> Result<Vec<Worker>> {
        let mut workers = Vec::new();
        for index in 0..MAX_WORKERS {
            let stats: worker_stats = read_entry(&self.workers, index)?;
            workers.push(Worker {
                sent: stats.sent,
                sent_bytes: stats.sent_bytes,
                calls: stats.calls,
                retries: stats.retries,
                failed: stats.failed,
            });
        }
        let used = workers.iter().rposition(|w| *w != Worker::default()).map_or(0, |last| last + 1);
        workers.truncate(used);
        Ok(workers)
    }
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
        workers: Vec<Worker>,
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
            .map(|f| (f.name(), workers.iter().map(|w| w.failed[f as usize]).sum()))
            .collect();
        let mut snapshot = Self {
            total: counters.stage(Stage::Total),
            passed: of_class(|class| class == VerdictClass::Pass),
            dropped: of_class(VerdictClass::is_drop),
            dropped_by_reason,
            redirected: counters.stage(Stage::Redirected),
            queued: counters.verdict(Verdict::Queued),
            sent: workers.iter().map(|w| w.sent).sum(),
            send_failed: send_failed_by_reason.values().sum(),
            send_failed_by_reason,
            held: 0, // a frame leaves the ring only once it has been sent
            in_ring: 0,
            resent: state.resent,
            in_doubt: state.in_doubt,
            unaccounted: 0,
            stages: Stage::ALL.into_iter().map(|s| (s.name(), counters.stage(s))).collect(),
            notes: Note::ALL.into_iter().map(|n| (n.name(), counters.note(n))).collect(),
            verdicts: Verdict::ALL.into_iter().map(|v| (v.name(), counters.verdict(v))).collect(),
            ring,
            injector_pid: state.pid,
            workers,
        };
        snapshot.in_ring =
            ring.records.saturating_sub(snapshot.finished().saturating_sub(released));
        snapshot.unaccounted =
            snapshot.kernel_side().unsigned_abs() + snapshot.injector_side().unsigned_abs();
        snapshot
    }

    /// Records that were sent or refused for good; until they are released they are in the ring.
    fn finished(&self) -> u64 {
        (self.sent + self.send_failed + self.in_doubt).saturating_sub(self.resent)
    }

    /// `total - (passed + dropped + redirected + queued)`.
    fn kernel_side(&self) -> i64 {
        let accounted = self.passed + self.dropped + self.redirected + self.queued;
        self.total.wrapping_sub(accounted) as i64
    }

    /// `queued + resent - (sent + send_failed + in_doubt + held + in_ring)`.
    fn injector_side(&self) -> i64 {
        let accounted = self.sent + self.send_failed + self.in_doubt + self.held + self.in_ring;
        (self.queued + self.resent).wrapping_sub(accounted) as i64
    }
}
