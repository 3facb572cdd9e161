//! Which CPU each thread runs on (`CPU_AFFINITY`), and how many workers there are.

use anyhow::{Context, Result};
use config::{CpuAffinity, WorkerThreads};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// More workers than this gain nothing on one ring: its reader is the limit.
const MOST_WORKERS: usize = 8;

/// CPUs that this process may use.
pub fn allowed_cpus() -> Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0)).context("sched_getaffinity")?;
    Ok((0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false)).collect())
}

/// Number of workers. By default half of the CPUs, for the other half receives; up to three CPUs
/// one worker is fastest, for it needs no lane.
pub fn workers(setting: WorkerThreads, cpus: usize) -> usize {
    match setting {
        WorkerThreads::Count(count) => count,
        WorkerThreads::Auto if cpus < 4 => 1,
        WorkerThreads::Auto => (cpus / 2).min(MOST_WORKERS),
    }
}

/// The CPU of each of `threads` threads; `None`: wherever the kernel puts it.
///
/// `auto` gives every thread one of its own, from the last CPU down, since network interrupts
/// start at the first, and leaves at least one free; with too few CPUs it pins nothing.
pub fn plan(setting: &CpuAffinity, threads: usize, allowed: &[usize]) -> Vec<Option<usize>> {
    match setting {
        CpuAffinity::None => vec![None; threads],
        CpuAffinity::Auto if threads >= allowed.len() => vec![None; threads],
        CpuAffinity::Auto => allowed.iter().rev().take(threads).map(|&cpu| Some(cpu)).collect(),
        CpuAffinity::List(cpus) => (0..threads).map(|i| Some(cpus[i % cpus.len()])).collect(),
    }
}

/// Moves the calling thread.
pub fn pin_this_thread(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu).with_context(|| format!("CPU_AFFINITY: CPU {cpu}"))?;
    sched_setaffinity(Pid::from_raw(0), &set)
        .with_context(|| format!("CPU_AFFINITY: this process may not run on CPU {cpu}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_gives_each_thread_a_cpu_of_its_own_and_leaves_the_first() {
        let plan = |threads, cpus: &[usize]| plan(&CpuAffinity::Auto, threads, cpus);
        assert_eq!(plan(1, &[0, 1]), [Some(1)]);
        assert_eq!(plan(3, &[0, 1, 2, 3]), [Some(3), Some(2), Some(1)]);
        assert_eq!(plan(2, &[0, 1]), [None, None]);
        assert_eq!(plan(1, &[5]), [None]);
    }

    #[test]
    fn a_list_is_used_in_turn() {
        let list = CpuAffinity::List(vec![2, 4]);
        assert_eq!(plan(&list, 3, &[0, 1, 2, 3, 4]), [Some(2), Some(4), Some(2)]);
    }

    #[test]
    fn few_cpus_get_one_worker() {
        assert_eq!(
            [1, 2, 3, 4, 8, 64].map(|cpus| workers(WorkerThreads::Auto, cpus)),
            [1, 1, 1, 2, 4, 8]
        );
        assert_eq!(workers(WorkerThreads::Count(5), 2), 5);
    }
}
