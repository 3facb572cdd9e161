//! The loaded program with its maps and its ring, for one test.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use config::{NatProtocol, NatRule, NatTarget, VniSet, WeightedTarget};
use dataplane::abi::{frame_info, interface, program_config};
use dataplane::allowlist::AllowlistMaps;
use dataplane::control::Control;
use dataplane::events::{Event, EventReader};
use dataplane::interfaces::{self, InterfaceRole};
use dataplane::nat::NatTable;
use dataplane::next_hops::{Family, NextHopMap};
use dataplane::pipeline::{Pipeline, Sizes, TestRun};
use dataplane::ring::Ring;
use dataplane::stats::Counters;
use dataplane::vni::Vnis;
use dataplane::{MapName, Pins};
use ipnet::IpNet;
use libbpf_rs::{MapCore, MapHandle};

use crate::frame::{Frame, Mac};
use crate::pins::PinDirectory;

/// MAC address of the egress interface.
pub const EGRESS: Mac = [0x02, 0xee, 0, 0, 0, 0x01];

/// MAC address of the next hop towards a target: each has its own.
pub fn next_hop(target: IpAddr) -> Mac {
    let octets = match target {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets()[12..].to_vec(),
    };
    [&[0x02, 0x4e][..], &octets].concat().try_into().unwrap()
}

impl Frame {
    /// As it leaves when a rule with this target matched it.
    pub fn translated(self, target: &str) -> Self {
        let address: SocketAddr = target.parse().unwrap();
        self.to(target).macs(next_hop(address.ip()), EGRESS)
    }

    /// As it leaves when it is a reply of a flow with this target.
    pub fn translated_back(self, target: &str) -> Self {
        let address: SocketAddr = target.parse().unwrap();
        self.from(target).macs(next_hop(address.ip()), EGRESS)
    }
}

/// A rule as tests write it: `rule(Udp, 31765, "192.0.2.9:8081")`.
pub fn rule(protocol: NatProtocol, port: u16, target: &str) -> NatRule {
    rule_for(protocol, port, None, None, target)
}

pub fn rule_for(
    protocol: NatProtocol,
    port: u16,
    destination: Option<&str>,
    vni: Option<u32>,
    target: &str,
) -> NatRule {
    let destination = destination.map(|net| net.parse().unwrap());
    NatRule::new(protocol, port, destination, vni, vec![weighted(target, 1)]).unwrap()
}

/// A rule with several targets: `several(Udp, 31765, &[("192.0.2.9:8081", 3), ...])`.
pub fn several(protocol: NatProtocol, port: u16, targets: &[(&str, u16)]) -> NatRule {
    let targets = targets.iter().map(|(target, weight)| weighted(target, *weight)).collect();
    NatRule::new(protocol, port, None, None, targets).unwrap()
}

/// A rule for echo requests: `echo_rule(&["192.0.2.9", "192.0.2.10"])`.
pub fn echo_rule(targets: &[&str]) -> NatRule {
    let target = |text: &&str| NatTarget { address: text.parse().unwrap(), port: 0 }.into();
    let targets = targets.iter().map(target).collect();
    NatRule::new(NatProtocol::Icmp, 0, None, None, targets).unwrap()
}

fn weighted(target: &str, weight: u16) -> WeightedTarget {
    let target: SocketAddr = target.parse().unwrap();
    let target = NatTarget { address: target.ip(), port: target.port() };
    WeightedTarget { target, weight }
}

pub struct Rig {
    pub pipeline: Pipeline,
    pub ring: Ring,
    stats: MapHandle,
    interfaces: MapHandle,
    allowlist: AllowlistMaps,
    vnis: Vnis,
    nat: NatTable,
    next_hops: NextHopMap,
    events: EventReader,
    pins: Pins,
    _directory: PinDirectory,
}

/// The program's configuration by default: what the specification's defaults give.
fn defaults() -> program_config {
    program_config {
        vxlan_port: 4789u16.to_be(),
        df_clear_threshold: 1400,
        fragment_timeout_ns: 30_000_000_000,
        ..Default::default()
    }
}

/// Runs `test` on a program that is configured by `configure`. Not root: says so, checks nothing.
pub fn with_rig(configure: impl FnOnce(&mut program_config), test: impl FnOnce(&mut Rig)) {
    with_ring(1 << 20, configure, test);
}

/// The same with a ring of another size.
pub fn with_ring(
    ring_bytes: u32,
    configure: impl FnOnce(&mut program_config),
    test: impl FnOnce(&mut Rig),
) {
    if !nix::unistd::geteuid().is_root() {
        skipped("loading BPF programs needs root");
        return;
    }
    let mut config = defaults();
    configure(&mut config);
    let mut rig = Rig::load(config, ring_bytes).expect("loading the program");
    test(&mut rig);
}

/// Says so on the terminal, past the test harness, which hides what tests print.
pub fn skipped(reason: &str) {
    let test = std::thread::current().name().unwrap_or("test").to_owned();
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {reason}");
}

impl Rig {
    fn load(config: program_config, ring_bytes: u32) -> anyhow::Result<Self> {
        let directory = PinDirectory::new();
        let pins = Pins::new(directory.path());
        let sizes = Sizes { ring_bytes, conntrack_entries: 65536 };
        let pipeline = Pipeline::load(config, sizes, &pins)?;
        Control::new(&pipeline.map(MapName::CONTROL)?)?.stamp();
        let rig = Self {
            ring: Ring::consume(&pins.open(MapName::RING)?)?,
            stats: pins.open(MapName::STATS)?,
            interfaces: pins.open(MapName::INTERFACES)?,
            allowlist: AllowlistMaps::open(&pins)?,
            vnis: Vnis::open(&pins)?,
            nat: NatTable::open(&pins)?,
            next_hops: NextHopMap::open(&pins)?,
            events: EventReader::open(&pins)?,
            pipeline,
            pins,
            _directory: directory,
        };
        rig.egress_mtu(1500);
        rig.accept(&VniSet::any());
        Ok(rig)
    }

    pub fn egress_mtu(&self, mtu: u32) {
        let egress = interface { ifindex: 2, mtu, mac: EGRESS, ..Default::default() };
        interfaces::set(&self.interfaces, InterfaceRole::Egress, &egress).unwrap();
    }

    /// What REWRITE_L2=all sends to.
    pub fn next_hop_of(&self, family: Family, mac: Option<Mac>) {
        self.next_hops.set(family, mac);
    }

    /// The security events since the last call.
    pub fn events(&self) -> Vec<Event> {
        self.events.take(Duration::ZERO).unwrap()
    }

    pub fn accept(&self, vnis: &VniSet) {
        self.vnis.replace(vnis).unwrap();
    }

    /// Every VNI seen: VNI, packets, bytes.
    pub fn vnis_seen(&self) -> Vec<(u32, u64, u64)> {
        let mut seen: Vec<_> =
            self.vnis.seen().unwrap().iter().map(|s| (s.vni, s.packets, s.bytes)).collect();
        seen.sort_unstable();
        seen
    }

    pub fn allow(&self, entries: &[&str]) {
        let net = |entry: &&str| match entry.parse::<IpNet>() {
            Ok(net) => net,
            Err(_) => IpNet::from(entry.parse::<IpAddr>().unwrap()),
        };
        self.allowlist.replace(&entries.iter().map(net).collect::<Vec<_>>()).unwrap();
    }

    /// Installs rules whose next hops are known.
    pub fn rules(&self, rules: &[NatRule]) {
        self.rules_unresolved(rules);
        let addresses = rules.iter().flat_map(|rule| &rule.targets).map(|t| t.target.address);
        let next_hops = addresses.map(|address| (address, Some(next_hop(address))));
        self.nat.set_next_hops(&next_hops.collect());
    }

    pub fn rules_unresolved(&self, rules: &[NatRule]) {
        let staged = self.nat.stage(rules).unwrap();
        self.nat.activate(staged).unwrap();
    }

    pub fn resolve(&self, target: &str, mac: Option<Mac>) {
        self.nat.set_next_hop(target.parse().unwrap(), mac);
    }

    pub fn nat(&self) -> &NatTable {
        &self.nat
    }

    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    pub fn counters(&self) -> Counters {
        Counters::read(&self.stats).unwrap()
    }

    /// Id of the ring's map, which no other program has.
    pub fn ring_id(&self) -> u32 {
        self.pipeline.map(MapName::RING).unwrap().info().unwrap().info.id
    }

    pub fn run(&self, packet: &[u8]) -> TestRun {
        self.pipeline.test_run(packet, 1).unwrap_or_else(|error| {
            panic!("the kernel refuses a packet of {} bytes: {error}", packet.len())
        })
    }

    /// Takes every frame out of the ring.
    pub fn drain(&self) -> Vec<Vec<u8>> {
        self.drain_records().into_iter().map(|(frame, _)| frame).collect()
    }

    /// The same, with what the program says of each.
    pub fn drain_records(&self) -> Vec<(Vec<u8>, Option<frame_info>)> {
        let producer = self.ring.producer_position();
        let mut position = self.ring.consumer_position();
        let mut records = Vec::new();
        while let Some(record) = self.ring.record_at(position, producer) {
            if let Some(frame) = record.frame {
                let mut bytes = Vec::new();
                self.ring.copy(frame, &mut bytes);
                records.push((bytes, self.ring.info(frame)));
            }
            position = record.end;
        }
        assert_eq!(position, producer, "a record stays uncommitted");
        self.ring.release(position);
        records
    }
}
