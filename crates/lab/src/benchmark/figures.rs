//! What a benchmark has measured.

use std::collections::BTreeMap;

use dataplane::verifier::Verification;
use serde::Serialize;

use super::{Flood, Machine, Peak, ProgramCost, Required};
use crate::delays::Delays;
use crate::fast::FastReport;
use crate::sink::SinkReport;

/// Everything.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Where it was measured.
    pub machine: Machine,
    /// The XDP program on its own.
    pub program: Vec<ProgramCost>,
    /// The verifier's work for it: with the default settings, with everything on.
    pub verifier: [Verification; 2],
    /// The run that has to lose nothing.
    pub required: Required,
    /// What the pipeline carries, by payload: small, large.
    pub peaks: Vec<Peak>,
    /// What the kernel's own path carries; `None`: there is no nft here.
    pub kernel: Option<Peak>,
    /// The same with its second half moved to the other CPU (RPS).
    pub kernel_two_cpus: Option<Peak>,
    /// A loop of `sendmmsg` and nothing else.
    pub bare: Run,
    /// The same while the first CPU is as busy as under the pipeline.
    pub bare_busy: Run,
    /// Allowed packets beside a flood of blocked ones.
    pub flood: Flood,
    /// One against another.
    pub ratios: Ratios,
}

/// What became of the frames of one run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Run {
    /// Inner UDP payload, bytes; several sizes are used in turn.
    pub payload: Vec<usize>,
    /// Frames that were made.
    pub sent: u64,
    /// Frames that arrived at the sink.
    pub received: u64,
    /// Frames that were lost, by who says so.
    pub lost: BTreeMap<String, u64>,
    /// Frames that were neither received nor lost by name.
    pub unaccounted: i64,
    /// Frames that came after a later one of their flow, or twice.
    pub out_of_order: u64,
    /// From the first frame to the last, as the generator saw it.
    pub seconds: f64,
    /// From the first frame to the last, as they arrived.
    pub arrival_seconds: f64,
}

/// How long frames took from the generator to the sink, microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    /// Half of them took no longer.
    pub p50: f64,
    /// 99% took no longer.
    pub p99: f64,
    /// 99.9% took no longer.
    pub p999: f64,
}

/// The pipeline against what it is compared with, all with the small payload.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ratios {
    /// Highest loss-free rate: pipeline to the kernel's own path on one CPU.
    pub to_kernel: Option<f64>,
    /// Highest loss-free rate: pipeline to the kernel's own path on two CPUs.
    pub to_kernel_two_cpus: Option<f64>,
    /// Highest loss-free rate to the rate of the bare loop.
    pub to_bare: f64,
    /// Highest loss-free rate to the rate of the bare loop beside a busy first CPU.
    pub to_bare_busy: f64,
    /// What arrives under overload to the same.
    pub overload_to_bare_busy: f64,
}

impl Run {
    /// Of a generator and a sink; what is lost in between is for the caller to name.
    pub(super) fn new(
        payload: &[usize],
        generator: &FastReport,
        sink: &SinkReport,
        arrival_seconds: f64,
    ) -> Self {
        let total = sink.total();
        let mut run = Self {
            payload: payload.to_vec(),
            sent: generator.attempted,
            received: sink.stamped,
            out_of_order: total.late + total.duplicates + total.stale,
            seconds: generator.seconds,
            arrival_seconds: arrival_seconds.max(generator.seconds),
            ..Self::default()
        };
        run.lose("ingress_cable_full", generator.refused);
        run
    }

    /// Gives a loss its name.
    pub(super) fn lose(&mut self, name: impl Into<String>, frames: u64) {
        if frames > 0 {
            *self.lost.entry(name.into()).or_default() += frames;
        }
        let lost: u64 = self.lost.values().sum();
        self.unaccounted = self.sent.wrapping_sub(self.received + lost).cast_signed();
    }

    /// Whether every frame came, once and in the order of its flow.
    pub fn is_clean(&self) -> bool {
        self.received == self.sent && self.out_of_order == 0
    }

    /// Frames sent a second.
    pub fn sent_pps(&self) -> f64 {
        if self.seconds > 0.0 { self.sent as f64 / self.seconds } else { 0.0 }
    }

    /// Frames received a second, until the last buffer on the way was empty.
    pub fn received_pps(&self) -> f64 {
        if self.arrival_seconds > 0.0 { self.received as f64 / self.arrival_seconds } else { 0.0 }
    }

    /// In words, what was lost.
    pub fn losses(&self) -> String {
        let mut words: Vec<String> =
            self.lost.iter().map(|(name, frames)| format!("{name} {frames}")).collect();
        if self.unaccounted != 0 {
            words.push(format!("unaccounted {}", self.unaccounted));
        }
        if self.out_of_order != 0 {
            words.push(format!("out of order {}", self.out_of_order));
        }
        if words.is_empty() { "nothing".into() } else { words.join(", ") }
    }
}

impl Latency {
    pub(super) fn new(delays: &Delays) -> Option<Self> {
        let percentile = |share| Some(delays.percentile(share)?.as_nanos() as f64 / 1000.0);
        Some(Self { p50: percentile(0.5)?, p99: percentile(0.99)?, p999: percentile(0.999)? })
    }
}

impl Ratios {
    pub(super) fn new(
        pipeline: &Peak,
        kernel: Option<&Peak>,
        kernel_two_cpus: Option<&Peak>,
        [bare, busy]: [&Run; 2],
    ) -> Self {
        let to = |other: f64, ours: f64| if other > 0.0 { ours / other } else { 0.0 };
        let loss_free = pipeline.loss_free_pps;
        // A path that held no rate at all gives no ratio.
        let held = |peak: &&Peak| peak.loss_free_pps > 0.0;
        Self {
            to_kernel: kernel.filter(held).map(|kernel| to(kernel.loss_free_pps, loss_free)),
            to_kernel_two_cpus: kernel_two_cpus
                .filter(held)
                .map(|kernel| to(kernel.loss_free_pps, loss_free)),
            to_bare: to(bare.received_pps(), loss_free),
            to_bare_busy: to(busy.received_pps(), loss_free),
            overload_to_bare_busy: to(busy.received_pps(), pipeline.overload.received_pps()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_name_is_unaccounted() {
        let mut run = Run { sent: 100, received: 90, seconds: 2.0, ..Run::default() };
        run.arrival_seconds = 2.5;
        run.lose("ring_full", 7);
        run.lose("too_big", 0);
        assert_eq!((run.unaccounted, run.lost.len()), (3, 1));
        assert_eq!(run.losses(), "ring_full 7, unaccounted 3");
        assert!(!run.is_clean());
        assert_eq!((run.sent_pps(), run.received_pps()), (50.0, 36.0));
    }

    #[test]
    fn a_clean_run_lost_nothing() {
        let mut run = Run { sent: 5, received: 5, ..Run::default() };
        run.lose("ring_full", 0);
        assert!(run.is_clean() && run.unaccounted == 0);
        assert_eq!(run.losses(), "nothing");
        run.out_of_order = 1;
        assert!(!run.is_clean());
    }
}
