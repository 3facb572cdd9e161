//! An XDP program that counts what arrives: cheap enough for any rate the generators reach.

use std::mem::{MaybeUninit, offset_of};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{Link, MapCore, MapFlags, MapHandle};

use crate::bpf::sink::{SinkSkelBuilder, types};
use crate::bpf::{element, elements_per_cpu, word};
use crate::delays::Delays;
use crate::lab::Lab;
use crate::namespace::Namespace;

/// Counts the stamped frames that an interface receives, and drops them. It looks behind VLAN tags
/// and one layer of VXLAN (to port 4789), so it can stand on `ens5` as well as on `tap0`. Frames
/// without a stamp go on to the kernel. It is detached on drop.
///
/// With an XDP program on it, a veth takes frames through a ring of 256: a sender that is faster
/// than the sink gets `ENOBUFS`, as from a NIC.
pub struct Sink {
    _link: Link,
    totals: MapHandle,
    flows: MapHandle,
    delays: MapHandle,
}

/// What one flow has brought. Sequence numbers start at 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowReport {
    /// Number of the flow.
    pub flow: u32,
    /// All frames of the flow.
    pub received: u64,
    /// One more than the highest sequence number seen.
    pub next: u64,
    /// How many times a sequence number was skipped (any number of them at once).
    pub gaps: u64,
    /// Frames that came after one with a higher number, and not for the second time.
    pub late: u64,
    /// Frames that came for the second time.
    pub duplicates: u64,
    /// Frames more than 1,024 behind the highest: late or duplicate, that is no longer known.
    pub stale: u64,
}

impl FlowReport {
    /// Sequence numbers below the highest that never came (or came too late to tell).
    pub fn missing(&self) -> u64 {
        self.next.saturating_sub(self.received - self.duplicates - self.stale)
    }

    /// Whether all that came, came once and in order.
    pub fn is_in_order(&self) -> bool {
        self.late == 0 && self.duplicates == 0 && self.stale == 0
    }
}

/// What a sink has counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SinkReport {
    /// All frames, those without a stamp included.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Frames with a stamp.
    pub stamped: u64,
    /// Stamped frames of a flow with too high a number: their order was not checked.
    pub unknown_flow: u64,
    /// Flows of which at least one frame came.
    pub flows: Vec<FlowReport>,
    /// From the time in the stamp to arrival, of the frames that carry a time.
    pub delays: Delays,
}

impl SinkReport {
    /// The sum of all flows.
    pub fn total(&self) -> FlowReport {
        self.flows.iter().fold(FlowReport::default(), |sum, flow| FlowReport {
            flow: 0,
            received: sum.received + flow.received,
            next: sum.next + flow.next,
            gaps: sum.gaps + flow.gaps,
            late: sum.late + flow.late,
            duplicates: sum.duplicates + flow.duplicates,
            stale: sum.stale + flow.stale,
        })
    }

    /// An error unless exactly `count` stamped frames came, each once and each flow in order.
    pub fn ensure_clean(&self, count: u64) -> Result<()> {
        let sum = self.total();
        ensure!(self.unknown_flow == 0, "{} frames of unknown flows", self.unknown_flow);
        ensure!(self.stamped == count, "{} of {count} frames came: {sum:?}", self.stamped);
        ensure!(sum.is_in_order(), "not in order: {sum:?}");
        Ok(())
    }
}

impl Sink {
    /// Attaches a sink for 1,024 flows to an interface of the lab.
    pub fn attach(lab: &Lab, namespace: Namespace, interface: &str) -> Result<Self> {
        Self::attach_for(lab, namespace, interface, 1024)
    }

    /// Attaches a sink that only counts: all frames go on to the kernel, and to captures.
    pub fn attach_passing(lab: &Lab, namespace: Namespace, interface: &str) -> Result<Self> {
        Self::enter(lab, namespace, interface, 1024, true)
    }

    /// Attaches a sink for the flows 0 to `flows` - 1; each takes 4 KiB.
    pub fn attach_for(
        lab: &Lab,
        namespace: Namespace,
        interface: &str,
        flows: u32,
    ) -> Result<Self> {
        Self::enter(lab, namespace, interface, flows, false)
    }

    fn enter(
        lab: &Lab,
        namespace: Namespace,
        interface: &str,
        flows: u32,
        pass: bool,
    ) -> Result<Self> {
        let index = lab.index(namespace, interface)?;
        lab.enter(namespace, || Self::load(index, flows, pass))?
            .with_context(|| format!("cannot attach a sink to {interface}"))
    }

    fn load(index: u32, flows: u32, pass: bool) -> Result<Self> {
        let mut object = MaybeUninit::uninit();
        let mut open = SinkSkelBuilder::default().open(&mut object)?;
        open.maps.flows.set_max_entries(flows)?;
        open.maps.rodata_data.as_deref_mut().context("no .rodata")?.pass = pass.into();
        let skeleton = open.load()?;
        Ok(Self {
            _link: skeleton.progs.sink.attach_xdp(index.cast_signed())?,
            totals: MapHandle::try_from(&skeleton.maps.totals)?,
            flows: MapHandle::try_from(&skeleton.maps.flows)?,
            delays: MapHandle::try_from(&skeleton.maps.delays)?,
        })
    }

    /// All stamped frames so far.
    pub fn stamped(&self) -> Result<u64> {
        self.total(offset_of!(types::totals, stamped))
    }

    /// Everything counted so far.
    pub fn report(&self) -> Result<SinkReport> {
        let flows: Result<Vec<_>> = (0..self.flows.max_entries())
            .map(|number| Ok(flow_report(number, &element(&self.flows, number)?)))
            .filter(|flow| !matches!(flow, Ok(flow) if flow.received == 0))
            .collect();
        Ok(SinkReport {
            frames: self.total(offset_of!(types::totals, frames))?,
            bytes: self.total(offset_of!(types::totals, bytes))?,
            stamped: self.stamped()?,
            unknown_flow: self.total(offset_of!(types::totals, unknown_flow))?,
            flows: flows?,
            delays: self.delays()?,
        })
    }

    /// Waits until `count` stamped frames have come, and returns everything counted by then.
    pub fn wait_for(&self, count: u64, timeout: Duration) -> Result<SinkReport> {
        let deadline = Instant::now() + timeout;
        loop {
            let stamped = self.stamped()?;
            if stamped >= count {
                return self.report();
            }
            if Instant::now() >= deadline {
                bail!("{stamped} of {count} frames came in {timeout:?}");
            }
            sleep(Duration::from_millis(1));
        }
    }

    /// Waits until no stamped frame has come for `quiet`, and returns everything counted by then.
    pub fn settle(&self, quiet: Duration) -> Result<SinkReport> {
        let mut last = (self.stamped()?, Instant::now());
        while last.1.elapsed() < quiet {
            sleep(Duration::from_millis(1));
            let stamped = self.stamped()?;
            if stamped != last.0 {
                last = (stamped, Instant::now());
            }
        }
        self.report()
    }

    /// Forgets everything, so that sequences may start anew. Not for while frames arrive.
    pub fn reset(&self) -> Result<()> {
        let zero = vec![0; self.flows.value_size() as usize];
        for number in 0..self.flows.max_entries() {
            self.flows.update(&number.to_ne_bytes(), &zero, MapFlags::ANY)?;
        }
        for map in [&self.totals, &self.delays] {
            let zero = vec![vec![0; map.value_size() as usize]; libbpf_rs::num_possible_cpus()?];
            for number in 0..map.max_entries() {
                map.update_percpu(&number.to_ne_bytes(), &zero, MapFlags::ANY)?;
            }
        }
        Ok(())
    }

    fn total(&self, offset: usize) -> Result<u64> {
        let values = elements_per_cpu(&self.totals, 0)?;
        Ok(values.iter().map(|value| word(value, offset)).sum())
    }

    fn delays(&self) -> Result<Delays> {
        let counts: Result<Vec<u64>> = (0..self.delays.max_entries())
            .map(|bucket| {
                let values = elements_per_cpu(&self.delays, bucket)?;
                Ok(values.iter().map(|value| word(value, 0)).sum())
            })
            .collect();
        Ok(Delays::new(counts?))
    }
}

fn flow_report(flow: u32, value: &[u8]) -> FlowReport {
    FlowReport {
        flow,
        received: word(value, offset_of!(types::flow, received)),
        next: word(value, offset_of!(types::flow, next)),
        gaps: word(value, offset_of!(types::flow, gaps)),
        late: word(value, offset_of!(types::flow, late)),
        duplicates: word(value, offset_of!(types::flow, duplicates)),
        stale: word(value, offset_of!(types::flow, stale)),
    }
}
