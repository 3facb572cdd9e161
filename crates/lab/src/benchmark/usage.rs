//! What a process uses, as /proc tells.

use std::fs;

use anyhow::{Context, Result};

/// CPU time so far, user and system, in seconds; in steps of 10 ms.
pub(super) fn cpu_seconds(pid: u32) -> Result<f64> {
    /// USER_HZ, which is the same everywhere.
    const TICKS: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    Ok(ticks(&stat).context("/proc/PID/stat")? as f64 / TICKS)
}

/// Resident memory in bytes.
pub(super) fn resident_bytes(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(kilobytes(&status, "VmRSS").context("/proc/PID/status")? * 1024)
}

fn ticks(stat: &str) -> Option<u64> {
    // The name in parentheses may have spaces; behind it the third field comes first.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(14 - 3);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn kilobytes(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 1 2 3 4 120 30 5 6 20 0 1 0 99";
        assert_eq!(ticks(stat), Some(150));
        assert_eq!(kilobytes("Name:\tx\nVmRSS:\t    1234 kB\n", "VmRSS"), Some(1234));
        assert!(cpu_seconds(std::process::id()).is_ok());
        assert!(resident_bytes(std::process::id()).is_ok_and(|bytes| bytes > 0));
    }
}
