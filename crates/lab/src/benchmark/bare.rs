//! A loop of `sendmmsg` over 64 prepared frames on an AF_PACKET socket, and nothing else: the most
//! that a sender of this kind can do here.

use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::{Benchmark, Run, arrivals, progress};
use crate::fast::FastGenerator;
use crate::lab::{EGRESS, INGRESS, Lab, TAP};
use crate::packet::Inner;
use crate::send::Sender;
use crate::sink::Sink;
use crate::socket::BATCH;
use crate::stamp::Stamp;

/// What the first CPU does meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FirstCpu {
    Idle,
    /// The generator works as for the pipeline, into an XDP program that drops. Two CPUs of a
    /// virtual machine may be one core of the host, and each then slows the other down.
    Generating,
}

pub(super) fn measure(benchmark: &Benchmark, payload: usize, first: FirstCpu) -> Result<Run> {
    progress(&format!("a bare loop of sendmmsg({BATCH}), {payload} bytes, first CPU: {first:?}"));
    let lab = Lab::new()?;
    let sink = Sink::attach(&lab, TAP.namespace, TAP.name)?;
    let _drain = Sink::attach(&lab, INGRESS.namespace, INGRESS.name)?;
    let generator = FastGenerator {
        duration: benchmark.trial + Duration::from_millis(500),
        payload: vec![payload],
        ..FastGenerator::default()
    };
    let ((sent, seconds), arrival_seconds) = arrivals::watch(&sink, || {
        thread::scope(|scope| {
            let busy = (first == FirstCpu::Generating).then(|| scope.spawn(|| generator.run(&lab)));
            sleep(Duration::from_millis(100)); // it takes a moment to start
            let sent = lab.enter(EGRESS.namespace, || run(payload, benchmark.trial))?;
            if let Some(busy) = busy {
                busy.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            }
            sent
        })
    })?;
    let received = sink.stamped()?;
    let payload = vec![payload];
    let mut run = Run { payload, sent, received, seconds, arrival_seconds, ..Run::default() };
    run.lose("egress_cable", sent.saturating_sub(received));
    progress(&format!("  {:.0} pps", run.received_pps()));
    Ok(run)
}

/// Sends in this thread; returns the frames sent and the time taken.
fn run(payload: usize, duration: Duration) -> Result<(u64, f64)> {
    pin_to_the_injectors_cpu()?;
    let mut sender = Sender::open(EGRESS.name)?.bypass_qdisc()?;
    let frames: Vec<_> = (0..BATCH as u32).map(|flow| frame(flow, payload)).collect();
    let started = Instant::now();
    while started.elapsed() < duration {
        sender.send(&frames)?;
    }
    Ok((sender.report().sent, started.elapsed().as_secs_f64()))
}

fn frame(flow: u32, payload: usize) -> Vec<u8> {
    let stamp = Stamp { flow, ..Stamp::default() };
    Inner::new([198, 19, 0, flow as u8], TAP.ipv4)
        .macs(TAP.mac, EGRESS.mac)
        .payload(stamp.payload(payload))
        .build()
}

/// Where `CPU_AFFINITY=auto` puts the only worker: the last CPU.
fn pin_to_the_injectors_cpu() -> Result<()> {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this)?;
    let last = (0..CpuSet::count()).rev().find(|&cpu| allowed.is_set(cpu).unwrap_or(false));
    let mut cpus = CpuSet::new();
    cpus.set(last.context("no CPU")?)?;
    sched_setaffinity(this, &cpus).context("cannot run on the last CPU")
}
