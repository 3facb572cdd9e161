//! `stats_map`: the XDP program's counters.

use anyhow::{Context, Result};
use libbpf_rs::{MapCore, MapFlags, MapHandle};

use crate::abi::{Note, Side, Stage, Verdict};
use crate::plain;

/// All counters of the XDP program, summed over the CPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub(crate) values: Vec<u64>,
}

impl Counters {
    /// Reads the map.
    ///
    /// # Errors
    /// The map can't be read.
    pub fn read(map: &MapHandle) -> Result<Self> {
        let keys = Stage::ALL.len() + Verdict::ALL.len() + Note::ALL.len() + Side::ALL.len();
        let values = (0..keys as u32).map(|key| sum(map, key)).collect::<Result<_>>()?;
        Ok(Self { values })
    }

    /// Packets, or bytes, that reached a stage.
    pub fn stage(&self, stage: Stage) -> u64 {
        self.values[stage.key() as usize]
    }

    /// Packets that got a verdict.
    pub fn verdict(&self, verdict: Verdict) -> u64 {
        self.values[verdict.key() as usize]
    }

    /// Forwarded frames that a note is true of.
    pub fn note(&self, note: Note) -> u64 {
        self.values[note.key() as usize]
    }

    /// What happened beside the packets' way.
    pub fn side(&self, side: Side) -> u64 {
        self.values[side.key() as usize]
    }
}

fn sum(map: &MapHandle, key: u32) -> Result<u64> {
    let per_cpu = map
        .lookup_percpu(&key.to_ne_bytes(), MapFlags::ANY)
        .context("reading stats_map")?
        .context("stats_map is of another layout")?;
    Ok(per_cpu.iter().filter_map(|value| plain::from_bytes::<u64>(value)).sum())
}
