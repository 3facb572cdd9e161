//! The XDP program on its own: `BPF_PROG_TEST_RUN` with the real maps behind it.

use std::fs;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use config::{NatProtocol, NatRule, NatTarget, VniSet};
use dataplane::abi::{Verdict, interface, program_config};
use dataplane::allowlist::AllowlistMaps;
use dataplane::control::Control;
use dataplane::interfaces::{self, InterfaceRole};
use dataplane::nat::NatTable;
use dataplane::pipeline::{Pipeline, Sizes};
use dataplane::ring::Ring;
use dataplane::stats::Counters;
use dataplane::verifier::{self, Verification};
use dataplane::vni::Vnis;
use dataplane::{MapName, Pins};
use libbpf_rs::ProgramInput;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use serde::Serialize;

use super::{Benchmark, progress};
use crate::bpf::pass::PassSkelBuilder;
use crate::lab::{EGRESS, Lab, TAP};
use crate::packet::{Inner, Mirror};

/// What the program takes for one kind of packet.
#[derive(Clone, Debug, Serialize)]
pub struct ProgramCost {
    /// The kind of packet.
    pub packet: &'static str,
    /// Nanoseconds a packet, the median of all rounds.
    pub nanoseconds: u64,
    /// The same of the fastest round: what is left without other work on the machine.
    pub fastest: u64,
}

/// `RING_BUFFER_SIZE` by default.
const RING: u32 = 16 << 20;
/// Part of the ring that a round may fill: a full ring would make runs cheap.
const ROUND: f64 = 0.9;
/// `EVENT_RATE` by default.
const EVENT_RATE: u32 = 100;
/// Entries of the list that users had.
const LISTED: u16 = 324;

const SOURCE: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 1);
const DESTINATION: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 95);
const SOURCE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
const DESTINATION_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 2);
const PORT: u16 = 31765;
const TARGET_PORT: u16 = 8081;

/// A packet, and what the program knows when it comes.
struct Case {
    packet: &'static str,
    bytes: Vec<u8>,
    rules: bool,
    allowlist: bool,
    events: bool,
    window: Duration,
    verdict: Verdict,
}

/// What the verifier does for the program: with the default settings, and with everything on.
pub(super) fn verify() -> Result<[Verification; 2]> {
    let defaults = program_config {
        vxlan_port: 4789_u16.to_be(),
        df_clear_threshold: 1400,
        ..Default::default()
    };
    Ok([verifier::verify(defaults)?, verifier::verify(verifier::everything_on())?])
}

pub(super) fn measure(benchmark: &Benchmark) -> Result<Vec<ProgramCost>> {
    progress("the XDP program by itself");
    let lab = Lab::new()?;
    let mut costs = vec![empty_program(benchmark.program_runs)?];
    for case in cases() {
        costs.push(run(&lab, case, benchmark.program_runs)?);
    }
    Ok(costs)
}

/// What the kernel's loop around each run takes: part of all other figures.
fn empty_program(runs: u32) -> Result<ProgramCost> {
    const ROUNDS: u32 = 10;
    let mut object = MaybeUninit::uninit();
    let skeleton = PassSkelBuilder::default().open(&mut object)?.load()?;
    let packet = Mirror::default().wrap(&Inner::new(SOURCE, DESTINATION).build());
    let rounds = (0..ROUNDS).map(|_| {
        let input = ProgramInput {
            data_in: Some(&packet),
            repeat: runs / ROUNDS,
            ..ProgramInput::default()
        };
        Ok(skeleton.progs.pass.test_run(input)?.duration.as_nanos() as u64)
    });
    Ok(ProgramCost::new("an empty program", rounds.collect::<Result<_>>()?))
}

fn cases() -> Vec<Case> {
    let udp4 = |payload| Inner::new(SOURCE, DESTINATION).udp(40000, PORT).payload_length(payload);
    let udp6 = Inner::new(SOURCE_V6, DESTINATION_V6).udp(40000, PORT).payload_length(64);
    let mirrored = |inner: &Inner| Mirror::default().wrap(&inner.build());
    let other = Mirror { destination_port: 53, ..Mirror::default() };
    let case = |packet, bytes| Case {
        packet,
        bytes,
        rules: false,
        allowlist: false,
        events: false,
        window: Duration::ZERO,
        verdict: Verdict::Queued,
    };
    let small = mirrored(&udp4(64));
    let no_rule = Inner::new(SOURCE, DESTINATION).udp(40000, 53).payload_length(64);
    let stranger = mirrored(&Inner::new(SOURCE, SOURCE).udp(40000, PORT).payload_length(64));
    let listed = |packet| Case { allowlist: true, ..case(packet, stranger.clone()) };
    vec![
        case("UDP, 64 bytes", small.clone()),
        Case { rules: true, ..case("UDP, 64 bytes, translated", small.clone()) },
        Case { rules: true, ..case("UDP, 1400 bytes, translated", mirrored(&udp4(1400))) },
        Case { rules: true, ..case("UDP, 64 bytes, no rule matches", mirrored(&no_rule)) },
        case("UDP, 1400 bytes", mirrored(&udp4(1400))),
        case("UDP over IPv6, 64 bytes", mirrored(&udp6)),
        Case { allowlist: true, ..case("UDP, 64 bytes, allowlist of 324", small.clone()) },
        Case { verdict: Verdict::NotAllowed, ..listed("UDP, 64 bytes, not allowed") },
        Case {
            events: true,
            verdict: Verdict::NotAllowed,
            ..listed("UDP, 64 bytes, not allowed, with events")
        },
        Case {
            window: Duration::from_nanos(1),
            ..case("UDP, 64 bytes, with a look for copies", small)
        },
        Case { verdict: Verdict::Passed, ..case("not VXLAN", other.wrap(&udp4(64).build())) },
    ]
}

/// Runs one case on a program of its own.
fn run(lab: &Lab, case: Case, runs: u32) -> Result<ProgramCost> {
    let pins = Pins::new(lab.pin_dir().join("program"));
    fs::create_dir(pins.directory()).context("a directory for pins")?;
    let config = program_config {
        vxlan_port: 4789_u16.to_be(),
        df_clear_threshold: 1400,
        allowlist_enabled: case.allowlist.into(),
        event_rate: if case.events { EVENT_RATE } else { 0 },
        dedup_window_ns: case.window.as_nanos() as u64,
        fragment_timeout_ns: 30_000_000_000,
        ..Default::default()
    };
    let sizes = Sizes { ring_bytes: RING, conntrack_entries: 65536 };
    let pipeline = Pipeline::load(config, sizes, &pins)?;
    prepare(&pins, &case)?;
    let ring = Ring::consume(&pins.open(MapName::RING)?)?;
    let record = (case.bytes.len() + 16).next_multiple_of(8);
    let round = (f64::from(RING) * ROUND) as u32 / record as u32;
    let mut rounds = Vec::new();
    let mut done = 0;
    while done < runs.max(round) {
        rounds.push(pipeline.test_run(&case.bytes, round)?.nanoseconds);
        ring.release(ring.producer_position());
        done += round;
    }
    let counted = Counters::read(&pins.open(MapName::STATS)?)?.verdict(case.verdict);
    ensure!(counted == u64::from(done), "{}: {counted} of {done} as expected", case.packet);
    fs::remove_dir_all(pins.directory()).context("removing the pins")?;
    Ok(ProgramCost::new(case.packet, rounds))
}

impl ProgramCost {
    fn new(packet: &'static str, mut rounds: Vec<u64>) -> Self {
        rounds.sort_unstable();
        let (nanoseconds, fastest) = (rounds[rounds.len() / 2], rounds[0]);
        progress(&format!("  {packet}: {nanoseconds} ns"));
        Self { packet, nanoseconds, fastest }
    }
}

fn prepare(pins: &Pins, case: &Case) -> Result<()> {
    Control::new(&dataplane::MapHandle::from_pinned_path(pins.map(MapName::CONTROL))?)?.stamp();
    let egress =
        interface { ifindex: EGRESS.index, mtu: 9500, mac: EGRESS.mac, ..interface::default() };
    interfaces::set(&pins.open(MapName::INTERFACES)?, InterfaceRole::Egress, &egress)?;
    Vnis::open(pins)?.replace(&VniSet::any())?;
    if case.rules {
        let table = NatTable::open(pins)?;
        let staged = table.stage(&rules()?)?;
        table.set_next_hop(TAP.ipv4.into(), Some(TAP.mac));
        table.set_next_hop(DESTINATION.into(), Some(TAP.mac));
        table.activate(staged)?;
    }
    if case.allowlist {
        AllowlistMaps::open(pins)?.replace(&listed())?;
    }
    Ok(())
}

/// One there and one back: the packet of a run is what the run before has left, and so each run
/// translates.
fn rules() -> Result<[NatRule; 2]> {
    let rule = |port, address: Ipv4Addr, to| {
        let target = NatTarget { address: IpAddr::V4(address), port: to };
        NatRule::new(NatProtocol::Udp, port, None, None, vec![target.into()])
            .map_err(|text| anyhow!(text))
    };
    Ok([rule(PORT, TAP.ipv4, TARGET_PORT)?, rule(TARGET_PORT, DESTINATION, PORT)?])
}

/// Single addresses, and the destination: both addresses of the packet are looked up.
fn listed() -> Vec<ipnet::IpNet> {
    let others = (1..LISTED).map(|n| Ipv4Addr::new(198, 18, 128 + (n >> 8) as u8, n as u8));
    others.chain([DESTINATION]).map(|address| IpAddr::V4(address).into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_as_many_entries_as_it_says() {
        let mut list = listed();
        list.sort_unstable();
        list.dedup();
        assert_eq!(list.len(), usize::from(LISTED));
    }
}
