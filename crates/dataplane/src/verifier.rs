//! What the kernel's verifier has to do for the program: how far it is from the limits.

use std::mem::MaybeUninit;
use std::sync::Mutex;

use anyhow::{Context, Result, anyhow};
use libbpf_rs::PrintLevel;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use serde::Serialize;

use crate::abi::{ALLOWLIST_MATCH_BOTH, program_config};
use crate::pipeline::skel;

/// The log level that prints statistics only (`BPF_LOG_STATS`, include/linux/bpf_verifier.h).
const LOG_STATISTICS: u32 = 4;

/// The verifier's work for the program with one configuration: branches that it turns off are not
/// followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Instructions of the program and its functions.
    pub instructions: u64,
    /// Instructions followed, on all paths.
    pub processed: u64,
    /// How many it may follow.
    pub limit: u64,
    /// States kept to cut paths short.
    pub states: u64,
}

/// The configuration that has the most branches: whatever can be turned on is.
pub fn everything_on() -> program_config {
    program_config {
        vxlan_port: 4789_u16.to_be(),
        df_clear_threshold: 1400,
        vni_mismatch_pass: 1,
        allowlist_enabled: 1,
        allowlist_match: ALLOWLIST_MATCH_BOTH as u8,
        unmatched_drop: 1,
        non_ip_forward: 1,
        truncated_drop: 1,
        geneve: 1,
        rewrite_l2_all: 1,
        reassemble: 1,
        event_rate: 100,
        fragment_timeout_ns: 1,
        dedup_window_ns: 1,
        dedup_key: [1; 2],
        reserved: [0; 7],
    }
}

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn keep_line(_: PrintLevel, line: String) {
    if let Ok(mut lines) = LINES.lock() {
        lines.push(line);
    }
}

/// Loads the program, pins nothing, and reads what the verifier says.
///
/// # Errors
/// The kernel refuses the object, or says nothing that can be read.
pub fn verify(config: program_config) -> Result<Verification> {
    let before = libbpf_rs::set_print(Some((PrintLevel::Debug, keep_line)));
    let loaded = load(config);
    libbpf_rs::set_print(before);
    let said = LINES.lock().map(|mut lines| std::mem::take(&mut *lines)).unwrap_or_default();
    parse(loaded?, &said.concat()).context("the verifier's statistics are not readable")
}

/// Returns the number of instructions.
fn load(config: program_config) -> Result<u64> {
    let mut storage = MaybeUninit::uninit();
    let mut open = skel::VxlanPipelineSkelBuilder::default()
        .open(&mut storage)
        .map_err(|error| anyhow!("opening the BPF object: {error}"))?;
    open.maps.rodata_data.as_deref_mut().context("the object has no .rodata")?.config = config;
    open.progs.vxlan_pipeline.set_log_level(LOG_STATISTICS);
    let loaded = open.load().map_err(|error| anyhow!("loading the XDP program: {error}"))?;
    Ok(loaded.progs.vxlan_pipeline.insn_cnt() as u64)
}

/// `processed 40088 insns (limit 1000000) max_states_per_insn 12 total_states 2493 ...`
fn parse(instructions: u64, log: &str) -> Option<Verification> {
    let line = log.lines().find(|line| line.starts_with("processed "))?;
    let after = |word: &str| {
        let rest = line.split_once(word)?.1.trim_start();
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    Some(Verification {
        instructions,
        processed: after("processed")?,
        limit: after("(limit")?,
        states: after("total_states")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_line_is_read() {
        let log = "verification time 887774 usec\nstack depth 224+0+48\nprocessed 40088 insns \
                   (limit 1000000) max_states_per_insn 12 total_states 2493 peak_states 1647 \
                   mark_read 0\n";
        let verification =
            Verification { instructions: 5209, processed: 40088, limit: 1_000_000, states: 2493 };
        assert_eq!(parse(5209, log), Some(verification));
        assert_eq!(parse(5209, "nothing"), None);
    }
}
