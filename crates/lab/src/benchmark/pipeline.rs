//! Runs through the pipeline: loader and injector as real processes, with their default settings
//! and one NAT rule.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Benchmark, Peak, Run, arrivals, peak, progress};
use crate::fast::FastGenerator;
use crate::lab::{Lab, TAP};
use crate::pipeline::Pipeline;
use crate::sink::{Sink, SinkReport};

/// How long the last frames of a run may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the NAT rule sends what the generator makes.
pub(super) const TARGET_PORT: u16 = 8081;

/// A running pipeline and the sink behind it.
pub(super) struct Rig<'lab> {
    lab: &'lab Lab,
    pub(super) pipeline: Pipeline<'lab>,
    sink: Sink,
}

impl<'lab> Rig<'lab> {
    pub(super) fn start(lab: &'lab Lab) -> Result<Self> {
        Self::start_with(lab, &[])
    }

    /// With further arguments for the loader.
    pub(super) fn start_with(lab: &'lab Lab, more: &[&str]) -> Result<Self> {
        let from = FastGenerator::default().destination.port().to_string();
        let (address, port) = (TAP.ipv4.to_string(), TARGET_PORT.to_string());
        let rule = ["--nat-ip", &address, "--nat-port", &port, "--source-port", &from];
        let sink = Sink::attach(lab, TAP.namespace, TAP.name)?;
        let pipeline = Pipeline::start(lab, &[&rule, more].concat(), &[])?;
        Ok(Self { lab, pipeline, sink })
    }

    /// Stops the pipeline and takes the sink away.
    pub(super) fn stop(self) -> Result<()> {
        self.pipeline.stop()?;
        Ok(())
    }

    /// Sends, and says what became of every frame.
    ///
    /// # Errors
    /// The ledger does not close.
    pub(super) fn run(&self, generator: &FastGenerator) -> Result<(Run, SinkReport)> {
        let before = self.pipeline.stats()?;
        let (report, seconds) = arrivals::watch(&self.sink, || generator.run(self.lab))?;
        let after = self.settle(&before, report.sent)?;
        let sink = self.sink.report()?;
        let mut run = Run::new(&generator.payload, &report, &sink, seconds);
        for (terms, prefix) in [("dropped_by_reason", ""), ("send_failed_by_reason", "send_")] {
            let names = after[terms].as_object().context("no terms in the ledger")?;
            for name in names.keys() {
                let lost = count(&after[terms], name) - count(&before[terms], name);
                run.lose(format!("{prefix}{name}"), lost);
            }
        }
        ensure!(after["unaccounted"] == 0, "the ledger does not close: {after:#}");
        Ok((run, sink))
    }

    /// Waits until the program has seen `frames` more frames and the ring is empty.
    fn settle(&self, before: &Value, frames: u64) -> Result<Value> {
        let ours = |stats: &Value| count(stats, "total") - count(stats, "passed");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let stats = self.pipeline.stats()?;
            let seen = ours(&stats) - ours(before);
            if seen == frames && stats["in_ring"] == 0 {
                return Ok(stats);
            }
            let late = Instant::now() >= deadline;
            ensure!(!late, "{frames} frames sent, {seen} seen by the program: {stats:#}");
            sleep(Duration::from_millis(20));
        }
    }
}

/// The highest loss-free rate of the pipeline.
pub(super) fn peak(benchmark: &Benchmark, payload: usize) -> Result<Peak> {
    progress(&format!("highest loss-free rate of the pipeline, {payload} bytes"));
    let lab = Lab::new()?;
    let rig = Rig::start(&lab)?;
    let peak = peak::search(payload, benchmark.trials, |pps| {
        Ok(rig.run(&generator(benchmark, payload, pps))?.0)
    })?;
    rig.stop()?;
    Ok(peak)
}

/// The generator of one run of a search.
pub(super) fn generator(benchmark: &Benchmark, payload: usize, pps: Option<u64>) -> FastGenerator {
    FastGenerator {
        pps,
        duration: benchmark.trial,
        payload: vec![payload],
        flows: benchmark.flows,
        ..FastGenerator::default()
    }
}

fn count(stats: &Value, name: &str) -> u64 {
    stats[name].as_u64().unwrap_or_default()
}
