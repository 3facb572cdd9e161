//! A pipeline's life: start, changes around it, takeover, stop. Needs root.

mod common;

use std::mem::offset_of;
use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use common::{Bench, assert_says, stop, wait_until};
use config::{NatProtocol, NatRule, NatTarget};
use dataplane::MapName;
use dataplane::abi::control;
use dataplane::control::Control;
use dataplane::interfaces::{self, InterfaceRole};
use dataplane::ledger::Ledger;
use dataplane::lock::{self, Role};
use dataplane::nat::{Mac, NatTable};
use dataplane::ring::Ring;
use dataplane::shared::Shared;
use lab::{EGRESS, INGRESS, Namespace, Options, TAP};
use nix::sys::signal::Signal;

const NAT: [&str; 4] = ["--nat-ip", "198.18.1.2", "--source-port", "31765"];
const NEW_MAC: Mac = [2, 0, 0, 0, 0, 0x99];
const NEW_MAC_TEXT: &str = "02:00:00:00:00:99";

fn ip(bench: &Bench, namespace: Namespace, arguments: &str) {
    let argv: Vec<&str> = std::iter::once("ip").chain(arguments.split(' ')).collect();
    bench.lab.run(namespace, &argv).unwrap();
}

fn next_hop(bench: &Bench) -> Option<Mac> {
    bench.rules()[0].targets[0].next_hop
}

#[test]
fn start_and_stop_leave_nothing() {
    let generic_v6 =
        ["--xdp-mode", "generic", "--nat-ip", "2001:db8:19::2", "--source-port", "31765"];
    for arguments in [&NAT[..], &generic_v6] {
        let bench = Bench::new();
        bench.add_link_local();
        let process = bench.start(arguments);
        assert_eq!(next_hop(&bench), Some(TAP.mac));
        let map = bench.pins().open(MapName::INTERFACES).unwrap();
        let ingress = interfaces::get(&map, InterfaceRole::Ingress).unwrap();
        let egress = interfaces::get(&map, InterfaceRole::Egress).unwrap();
        assert_eq!((ingress.ifindex, ingress.mac), (INGRESS.index, INGRESS.mac));
        assert_eq!((egress.ifindex, egress.mac, egress.mtu), (EGRESS.index, EGRESS.mac, 9500));
        bench.send(10, 31765);
        wait_until("packets", || bench.queued() == 10);
        let said = stop(process);
        assert_says(&said, &["10 accepted frames in the ring were never sent", "0 unaccounted"]);
        bench.assert_nothing_left();
    }
}

#[test]
fn a_killed_loader_is_missed_by_nobody_and_the_next_one_takes_over() {
    let bench = Bench::new();
    let mut first = bench.start(&NAT);
    let program = bench.attached().unwrap();
    first.signal(Signal::SIGKILL).unwrap();
    first.wait(Duration::from_secs(5)).unwrap();
    bench.send(10, 31765);
    wait_until("packets without a loader", || bench.queued() == 10);

    let second =
        bench.start(&["--unmatched", "drop", "--nat-ip", "198.18.1.2", "--source-port", "5"]);
    let replaced = bench.attached().unwrap();
    assert_ne!(replaced.program_id, program.program_id);
    assert_eq!(replaced.mode, program.mode);
    assert_eq!(bench.rules()[0].rule.port, 5);
    bench.send(10, 31765);
    bench.send(10, 5);
    wait_until("packets of the new program", || bench.queued() == 20);
    assert_says(&stop(second), &["10 unmatched", "20 accepted frames", "0 unaccounted"]);
    assert!(bench.pins().existing().is_empty());
    assert_eq!(bench.attached(), None);
}

#[test]
fn a_pipeline_whose_interface_went_away_is_attached_anew() {
    let bench = Bench::new();
    let mut first = bench.start(&NAT);
    first.signal(Signal::SIGKILL).unwrap();
    first.wait(Duration::from_secs(5)).unwrap();
    bench.lab.delete_link(Namespace::Pipeline, INGRESS.name).unwrap();
    bench.lab.restore_ingress(Options::default()).unwrap();
    assert_eq!(bench.attached(), None);
    let second = bench.start(&NAT);
    assert!(bench.attached().is_some());
    stop(second);
}

#[test]
fn the_ring_runs_empty_before_the_end() {
    let bench = Bench::new();
    let process = bench.start(&NAT);
    bench.send(10, 31765);
    wait_until("packets", || bench.queued() == 10);
    let pins = bench.pins();
    let injector = lock::try_lock(&pins, Role::Injector).unwrap();
    assert!(injector.is_some());
    let ring = Ring::consume(&pins.open(MapName::RING).unwrap()).unwrap();
    process.signal(Signal::SIGTERM).unwrap();
    wait_until("the program is detached", || bench.attached().is_none());
    std::thread::sleep(Duration::from_millis(300));
    assert!(!pins.existing().is_empty(), "it waits for the injector");
    ring.release(ring.producer_position());
    let said = stop(process);
    assert!(!said.contains("never sent"), "{said}");
    bench.assert_nothing_left();
}

#[test]
fn a_changed_neighbour_is_followed() {
    let bench = Bench::new();
    let process = bench.start(&NAT);
    assert_eq!(next_hop(&bench), Some(TAP.mac));
    ip(
        &bench,
        Namespace::Pipeline,
        &format!("neigh replace 198.18.1.2 lladdr {NEW_MAC_TEXT} dev ens6 nud reachable"),
    );
    wait_until("the new MAC address", || next_hop(&bench) == Some(NEW_MAC));
    // Nobody has that address any more: the kernel asks, and asks everybody in the end.
    ip(&bench, Namespace::Target, "link set dev tap0 arp off");
    ip(&bench, Namespace::Pipeline, "neigh del 198.18.1.2 dev ens6");
    wait_until("no answer", || next_hop(&bench).is_none());
    ip(&bench, Namespace::Target, "link set dev tap0 arp on");
    wait_until("an answer", || next_hop(&bench) == Some(TAP.mac));
    let said = stop(process);
    assert_says(
        &said,
        &[NEW_MAC_TEXT, "198.18.1.2 does not answer on ens6", "next_hop_unresolved"],
    );
}

#[test]
fn a_permanent_neighbour_stays_permanent() {
    let bench = Bench::new();
    let entry = format!("neigh replace 198.18.1.50 lladdr {NEW_MAC_TEXT} dev ens6 nud permanent");
    ip(&bench, Namespace::Pipeline, &entry);
    let process = bench.start(&["--nat-ip", "198.18.1.50", "--source-port", "1"]);
    assert_eq!(next_hop(&bench), Some(NEW_MAC));
    std::thread::sleep(Duration::from_secs(6)); // one confirmation
    let entries = bench.lab.run(Namespace::Pipeline, &["ip", "neigh", "show", "198.18.1.50"]);
    assert_says(&entries.unwrap(), &["PERMANENT"]);
    stop(process);
}

#[test]
fn a_gateway_is_the_next_hop_and_may_change() {
    let bench = Bench::new();
    ip(&bench, Namespace::Pipeline, "route add 203.0.113.0/24 via 198.18.1.2");
    let process = bench.start(&["-v", "--nat-ip", "203.0.113.7", "--source-port", "1"]);
    assert_eq!(next_hop(&bench), Some(TAP.mac));
    let entry = format!("neigh replace 198.18.1.50 lladdr {NEW_MAC_TEXT} dev ens6 nud permanent");
    ip(&bench, Namespace::Pipeline, &entry);
    ip(&bench, Namespace::Pipeline, "route replace 203.0.113.0/24 via 198.18.1.50");
    wait_until("the new gateway", || next_hop(&bench) == Some(NEW_MAC));
    ip(&bench, Namespace::Pipeline, "route del 203.0.113.0/24");
    wait_until("no route", || next_hop(&bench).is_none());
    assert_says(&stop(process), &["198.18.1.50", "no route to 203.0.113.7 out of ens6"]);
}

#[test]
fn staged_rules_get_their_next_hops_on_request() {
    let bench = Bench::new();
    bench.add_link_local();
    let process = bench.start(&NAT);
    let target: IpAddr = "2001:db8:19::2".parse().unwrap();
    let rule = NatRule {
        protocol: NatProtocol::Udp,
        port: 9,
        destination: None,
        vni: None,
        targets: vec![NatTarget { address: target, port: 9 }.into()],
    };
    let pins = bench.pins();
    let change = lock::lock(&pins, Role::Change).unwrap();
    let nat = NatTable::open(&pins).unwrap();
    let staged = nat.stage(&[rule]).unwrap();
    nat.control().request_refresh();
    wait_until("the next hop of a staged rule", || {
        nat.next_hops().contains(&(target, Some(TAP.mac)))
    });
    nat.activate(staged).unwrap();
    assert_eq!(next_hop(&bench), Some(TAP.mac));
    drop(change);
    stop(process);
}

#[test]
fn interfaces_that_change_go_and_come_are_said() {
    let bench = Bench::new();
    let mut process = bench.start(&NAT);
    let mut says = |part: &str| drop(process.wait_for_line(part, common::PATIENCE).unwrap());
    let map = bench.pins().open(MapName::INTERFACES).unwrap();
    let egress = || interfaces::get(&map, InterfaceRole::Egress).unwrap();

    bench.lab.set_mtu(Namespace::Pipeline, EGRESS.name, 1400).unwrap();
    wait_until("the new MTU", || egress().mtu == 1400);
    says("MTU of egress interface ens6 is 1400, was 9500");
    ip(&bench, Namespace::Pipeline, &format!("link set dev ens6 address {NEW_MAC_TEXT}"));
    wait_until("the new MAC address", || egress().mac == NEW_MAC);
    bench.lab.set_link_down(Namespace::Pipeline, EGRESS.name).unwrap();
    says("egress interface ens6 is down");
    bench.lab.set_link_up(Namespace::Pipeline, EGRESS.name).unwrap();
    says("egress interface ens6 is up again");
    wait_until("the next hop is back", || next_hop(&bench) == Some(TAP.mac));
    bench.lab.delete_link(Namespace::Pipeline, INGRESS.name).unwrap();
    says("ingress interface ens5 is gone");
    assert_eq!(process.output().matches("is gone").count(), 1);
    stop(process);
    assert!(!bench.pin_dir.exists());
}

#[test]
fn statistics_come_every_interval() {
    let bench = Bench::new();
    let mut process = bench.start(&["-s", "--stats-interval", "0.1"]);
    bench.send(10, 1);
    let line = process.wait_for_line("forwarded 10 ", common::PATIENCE).unwrap();
    assert_says(&line, &["[STATS] total", "vxlan 10", "10 waiting"]);
    let snapshot = Ledger::open(&bench.pins()).unwrap().snapshot().unwrap();
    assert_eq!((snapshot.queued, snapshot.unaccounted), (10, 0));
    stop(process);
}

#[test]
fn the_loader_says_who_it_is() {
    let bench = Bench::new();
    let process = bench.start(&[]);
    let control = Control::open(&bench.pins()).unwrap();
    assert_eq!(control.loader_pid(), process.id());
    assert!(lock::is_held(&bench.pins(), Role::Loader).unwrap());
    stop(process);
}

#[test]
fn the_injector_is_told_the_fragment_timeout() {
    let bench = Bench::new();
    let mut first = bench.start(&["--fragment-timeout", "0.5"]);
    let map = Shared::<control>::map(&bench.pins().open(MapName::CONTROL).unwrap()).unwrap();
    let timeout = map.u32_at(0, offset_of!(control, fragment_timeout_ms));
    assert_eq!(timeout.load(Relaxed), 500);
    first.signal(Signal::SIGKILL).unwrap();
    first.wait(Duration::from_secs(5)).unwrap();
    let second = bench.start(&[]);
    assert_eq!(timeout.load(Relaxed), 30_000);
    stop(second);
}
