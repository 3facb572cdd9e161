//! The run that has to lose nothing and to keep the order of every flow.

use anyhow::Result;
use serde::Serialize;

use super::pipeline::Rig;
use super::{Benchmark, Latency, Run, progress, usage};
use crate::fast::FastGenerator;
use crate::lab::Lab;

/// What the required run gave.
#[derive(Clone, Debug, Serialize)]
pub struct Required {
    /// Frames a second asked for.
    pub target_pps: u64,
    /// Flows, sent in turn.
    pub flows: u32,
    /// What became of the frames.
    pub run: Run,
    /// CPU time of the injector, seconds for a million frames.
    pub injector_cpu_seconds_per_million: f64,
    /// CPU time of the injector as a share of one CPU.
    pub injector_cpu_share: f64,
    /// Resident memory of the loader after the run.
    pub loader_resident_bytes: u64,
    /// Resident memory of the injector after the run.
    pub injector_resident_bytes: u64,
    /// From the generator to the sink; `None`: nothing came.
    pub latency_microseconds: Option<Latency>,
}

pub(super) fn measure(benchmark: &Benchmark) -> Result<Required> {
    let Benchmark { duration, target_pps, flows, .. } = *benchmark;
    progress(&format!("required run: {target_pps} pps for {} s", duration.as_secs()));
    let generator = FastGenerator {
        pps: Some(target_pps),
        duration,
        payload: benchmark.payload.clone(),
        flows,
        note_time: true,
        ..FastGenerator::default()
    };
    let lab = Lab::new()?;
    let rig = Rig::start(&lab)?;
    let (loader, injector) = (rig.pipeline.loader.id(), rig.pipeline.injector.id());
    let before = usage::cpu_seconds(injector)?;
    let (run, sink) = rig.run(&generator)?;
    let cpu = usage::cpu_seconds(injector)? - before;
    let required = Required {
        target_pps,
        flows,
        injector_cpu_seconds_per_million: cpu * 1e6 / run.received.max(1) as f64,
        injector_cpu_share: cpu / run.seconds.max(1e-9),
        loader_resident_bytes: usage::resident_bytes(loader)?,
        injector_resident_bytes: usage::resident_bytes(injector)?,
        latency_microseconds: Latency::new(&sink.delays),
        run,
    };
    progress(&format!("  {:.0} pps: lost {}", required.run.sent_pps(), required.run.losses()));
    rig.stop()?;
    Ok(required)
}
