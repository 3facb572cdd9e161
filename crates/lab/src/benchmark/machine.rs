//! What figures depend on besides the program.

use std::fs;

use anyhow::{Context, Result};
use serde::Serialize;

/// The machine, and how busy others kept it before the start.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Model of the processor, as it says.
    pub processor: String,
    /// CPUs that this process may use.
    pub cpus: usize,
    /// Version of the kernel.
    pub kernel: String,
    /// Load average of the last minute.
    pub load: f64,
}

impl Machine {
    pub(super) fn look() -> Result<Self> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").context("/proc/cpuinfo")?;
        let model = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        let model = model.into_iter().find(|(key, _)| key.trim() == "model name");
        let load = fs::read_to_string("/proc/loadavg").context("/proc/loadavg")?;
        Ok(Self {
            processor: model.map_or("unknown", |(_, name)| name.trim()).to_owned(),
            cpus: std::thread::available_parallelism()?.get(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            load: load.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or_default(),
        })
    }
}
