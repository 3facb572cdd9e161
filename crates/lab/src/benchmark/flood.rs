//! What a flood of blocked packets, and the security events about it, cost the allowed ones.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::json;

use super::pipeline::{Rig, generator};
use super::{Benchmark, Peak, Run, progress};
use crate::fast::FastGenerator;
use crate::lab::Lab;

/// Flows of the generator; the first of them are allowed. With more, the generator itself could not keep
/// its pace on the CPU that it shares with the XDP program.
const FLOWS: u32 = 32;
const ALLOWED: u32 = 8;
/// How often each is measured, in turn.
const TURNS: usize = 5;
/// The rate of the allowed packets: this share of the highest loss-free rate.
const SHARE: f64 = 0.4;

/// Allowed packets alone, beside blocked ones, and beside blocked ones with events written: medians
/// of several turns.
#[derive(Clone, Debug, Serialize)]
pub struct Flood {
    /// No packet is blocked.
    pub alone: FloodRun,
    /// Three blocked packets for each allowed one, no AUDIT_LOG.
    pub flood: FloodRun,
    /// The same with AUDIT_LOG and the default EVENT_RATE.
    pub events: FloodRun,
    /// Allowed packets that arrived beside the flood with events, to those that arrived alone.
    pub ratio: f64,
}

/// One of the three.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct FloodRun {
    /// Packets sent a second, all together.
    pub sent_pps: f64,
    /// Allowed packets sent a second.
    pub allowed_pps: f64,
    /// Allowed packets received a second.
    pub received_pps: f64,
}

pub(super) fn measure(benchmark: &Benchmark, peak: &Peak) -> Result<Flood> {
    progress("allowed packets beside a flood of blocked ones");
    let rate = (peak.loss_free_pps * SHARE).max(10_000.0) as u64;
    let files = Files::new()?;
    let (list, log) = (files.path("allowlist.json"), files.path("events.jsonl"));
    let lab = Lab::new()?;
    let allowlist =
        ["--enable-allowlist", "1", "--allowlist-match", "src", "--allowlist-file", &list];
    let with_log = [&allowlist[..], &["--audit-log", &log]].concat();
    let mut runs = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..TURNS {
        let silent = Rig::start_with(&lab, &allowlist)?;
        runs[0].push(run(&silent, &FastGenerator { flows: ALLOWED, ..paced(benchmark, rate) })?);
        let flood =
            FastGenerator { flows: FLOWS, ..paced(benchmark, rate * u64::from(FLOWS / ALLOWED)) };
        runs[1].push(run(&silent, &flood)?);
        silent.stop()?;
        let telling = Rig::start_with(&lab, &with_log)?;
        runs[2].push(run(&telling, &flood)?);
        telling.stop()?;
    }
    let [alone, flood, events] = runs.map(median);
    let ratio = events.received_pps / alone.received_pps.max(1.0);
    progress(&format!("  {ratio:.2} of the allowed packets beside a flood with events"));
    Ok(Flood { alone, flood, events, ratio })
}

fn paced(benchmark: &Benchmark, pps: u64) -> FastGenerator {
    generator(benchmark, 64, Some(pps))
}

fn run(rig: &Rig<'_>, generator: &FastGenerator) -> Result<FloodRun> {
    let (run, _) = rig.run(generator)?;
    let share = f64::from(ALLOWED) / f64::from(generator.flows);
    progress(&format!("  {:.0} pps sent, {:.0} received", run.sent_pps(), run.received_pps()));
    Ok(FloodRun::new(&run, share))
}

impl FloodRun {
    fn new(run: &Run, allowed: f64) -> Self {
        let sent_pps = run.sent_pps();
        Self { sent_pps, allowed_pps: sent_pps * allowed, received_pps: run.received_pps() }
    }
}

fn median(mut runs: Vec<FloodRun>) -> FloodRun {
    runs.sort_by(|a, b| a.received_pps.total_cmp(&b.received_pps));
    runs[runs.len() / 2]
}

/// The allowlist and the log, in a folder of their own that is removed at the end.
struct Files {
    folder: PathBuf,
}

impl Files {
    fn new() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("vxlan-benchmark-{}", std::process::id()));
        fs::create_dir(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let files = Self { folder };
        let [a, b, c, d] = FastGenerator::default().source.octets();
        let prefix = 32 - ALLOWED.ilog2();
        let list = json!({ "flat_ip_list": [format!("{a}.{b}.{c}.{d}/{prefix}")] });
        fs::write(files.path("allowlist.json"), list.to_string()).context("the allowlist")?;
        Ok(files)
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_a_run() {
        let run = |received_pps| FloodRun { received_pps, ..FloodRun::default() };
        assert_eq!(median(vec![run(3.0), run(1.0), run(2.0)]).received_pps, 2.0);
    }

    #[test]
    fn the_first_flows_are_allowed_as_a_network() {
        assert!(ALLOWED.is_power_of_two() && FLOWS.is_multiple_of(ALLOWED));
    }
}
