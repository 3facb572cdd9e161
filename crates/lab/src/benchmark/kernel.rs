//! The kernel's own way to do the same job: a `vxlan` device, nftables' DNAT, and forwarding.

use std::fs;
use std::mem::MaybeUninit;
use std::process::Command;

use anyhow::{Context, Result};
use libbpf_rs::Link;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};

use super::pipeline::{TARGET_PORT, generator};
use super::{Benchmark, Peak, Run, arrivals, peak, progress};
use crate::bpf::pass::PassSkelBuilder;
use crate::fast::FastGenerator;
use crate::lab::{EGRESS, INGRESS, Lab, TAP};
use crate::packet::{Inner, format_mac};
use crate::sink::Sink;

const DEVICE: &str = "vxlan0";

/// Where the kernel does its part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Steering {
    /// Where the frames come in, that is on the generator's CPU.
    OneCpu,
    /// What comes after XDP, on another CPU (receive packet steering).
    TwoCpus,
}

/// The highest loss-free rate of the kernel's path; `None`: there is no nft here.
pub(super) fn peak(
    benchmark: &Benchmark,
    payload: usize,
    steering: Steering,
) -> Result<Option<Peak>> {
    progress(&format!("the kernel's own path, {payload} bytes, {steering:?}"));
    if Command::new("nft").arg("--version").output().is_err() {
        progress("  skipped: nft is not installed");
        return Ok(None);
    }
    let lab = Lab::new()?;
    let _pass = pass_everything(&lab)?;
    configure(&lab, &FastGenerator::default())?;
    if steering == Steering::TwoCpus {
        steer(&lab)?;
    }
    let sink = Sink::attach(&lab, TAP.namespace, TAP.name)?;
    let path = Path { lab: &lab, sink };
    let found = peak::search(payload, benchmark.trials, |pps| {
        path.run(&generator(benchmark, payload, pps))
    })?;
    Ok(Some(found))
}

struct Path<'lab> {
    lab: &'lab Lab,
    sink: Sink,
}

impl Path<'_> {
    fn run(&self, generator: &FastGenerator) -> Result<Run> {
        let (report, seconds) = arrivals::watch(&self.sink, || generator.run(self.lab))?;
        let sink = self.sink.report()?;
        let mut run = Run::new(&generator.payload, &report, &sink, seconds);
        run.lose("in_the_kernel", report.sent.saturating_sub(sink.stamped));
        Ok(run)
    }
}

/// The generator needs an XDP program at the other end of its cable: this one does nothing.
fn pass_everything(lab: &Lab) -> Result<Link> {
    lab.enter(INGRESS.namespace, || {
        let mut object = MaybeUninit::uninit();
        let skeleton = PassSkelBuilder::default().open(&mut object)?.load()?;
        Ok(skeleton.progs.pass.attach_xdp(INGRESS.index.cast_signed())?)
    })?
}

fn configure(lab: &Lab, generator: &FastGenerator) -> Result<()> {
    let run = |line: String| {
        lab.run(INGRESS.namespace, &line.split_whitespace().collect::<Vec<_>>()).map(drop)
    };
    let FastGenerator { vni, source, destination, .. } = *generator;
    let inner = Inner::new(source, *destination.ip()).build();
    let mac = format_mac(inner[..6].try_into().context("an Ethernet header")?);
    let (outer, target, device) = (INGRESS.ipv4, TAP.ipv4, EGRESS.name);
    run(format!(
        "ip link add {DEVICE} address {mac} type vxlan id {vni} dstport 4789 local {outer} \
         nolearning"
    ))?;
    run(format!("ip link set dev {DEVICE} up"))?;
    run(format!(
        "ip neigh replace {target} lladdr {} dev {device} nud permanent",
        format_mac(TAP.mac)
    ))?;
    run("nft add table ip benchmark".into())?;
    run("nft add chain ip benchmark before { type nat hook prerouting priority dstnat ; }".into())?;
    run(format!(
        "nft add rule ip benchmark before udp dport {} dnat to {target}:{TARGET_PORT}",
        destination.port()
    ))?;
    lab.enter(INGRESS.namespace, || fs::write("/proc/sys/net/ipv4/ip_forward", "1"))?
        .context("cannot set sysctl net/ipv4/ip_forward")
}

/// Has the second CPU take what the first has received. /sys shows a namespace's interfaces only
/// where it was mounted inside.
fn steer(lab: &Lab) -> Result<()> {
    let file = format!("/sys/class/net/{}/queues/rx-0/rps_cpus", INGRESS.name);
    let script = format!("mount -t sysfs sysfs /sys && echo 2 >{file}");
    lab.run(INGRESS.namespace, &["unshare", "--mount", "sh", "-c", &script]).map(drop)
}
