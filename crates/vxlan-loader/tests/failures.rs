//! A start that fails says what, on what, and what to do, and leaves nothing behind. Needs root.

mod common;

use std::mem::offset_of;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::{Bench, assert_says, stop};
use dataplane::abi::control;
use dataplane::shared::Shared;
use dataplane::{MapHandle, MapName};
use lab::{EGRESS, INGRESS, Lab, Namespace, TAP};
use nix::sys::signal::Signal;

const NAT: [&str; 4] = ["--nat-ip", "198.18.1.2", "--source-port", "31765"];

#[test]
fn an_interface_that_is_not_there() {
    let bench = Bench::new();
    let text = bench.fails(1, &["-i", "nope0"]);
    assert_says(&text, &["vxlan-loader: INTERFACE nope0", "no such interface", "ens5", "ens6"]);
    let text = bench.fails(1, &["-t", "nope0"]);
    assert_says(&text, &["TARGET_INTERFACE nope0", "no such interface"]);
    bench.assert_nothing_left();
}

#[test]
fn an_interface_that_is_down() {
    let bench = Bench::new();
    for (name, key) in [(EGRESS.name, "TARGET_INTERFACE"), (INGRESS.name, "INTERFACE")] {
        bench.lab.set_link_down(Namespace::Pipeline, name).unwrap();
        let text = bench.fails(1, &[]);
        assert_says(&text, &[key, "is down", &format!("ip link set {name} up")]);
    }
    bench.assert_nothing_left();
}

#[test]
fn an_egress_that_is_no_ethernet() {
    let bench = Bench::new();
    assert_says(&bench.fails(1, &["-t", "lo"]), &["TARGET_INTERFACE lo", "not an Ethernet"]);
    bench.assert_nothing_left();
}

#[test]
fn bad_settings() {
    let bench = Bench::new();
    let text = bench.fails(2, &["--vxlan-port", "0"]);
    assert_says(&text, &["\"0\"", "VXLAN_PORT", "flag --vxlan-port", "1 to 65535"]);
    let file = std::env::temp_dir().join(format!("loader-{}.env", std::process::id()));
    std::fs::write(&file, "# ours\nXDP_MODE=fast\n").unwrap();
    let text = bench.fails(2, &["--env-file", file.to_str().unwrap()]);
    assert_says(&text, &["\"fast\"", "XDP_MODE", "line 2", "auto, native or generic"]);
    std::fs::remove_file(file).unwrap();
    let text = bench.fails(2, &["--allowlist-file", "/no/such.json"]);
    assert_says(&text, &["/no/such.json"]);
    bench.assert_nothing_left();
}

#[test]
fn no_privileges() {
    let bench = Bench::new();
    assert_says(&bench.fails_as(65534, 1, &[]), &["root", "CAP_BPF", "CAP_NET_ADMIN"]);
    bench.assert_nothing_left();
}

#[test]
fn a_directory_that_can_hold_no_pins() {
    let bench = Bench::new();
    let directory = std::env::temp_dir().join(format!("loader-pins-{}", std::process::id()));
    let text = bench.fails(1, &["--pin-dir", directory.join("deep").to_str().unwrap()]);
    assert_says(&text, &["PIN_DIR", "BPF file system", "mount -t bpf"]);
    assert!(!directory.exists());
    bench.assert_nothing_left();
}

#[test]
fn a_neighbour_that_does_not_answer() {
    let bench = Bench::new();
    let text = bench.fails(1, &["--nat-ip", "198.18.1.77", "--source-port", "31765"]);
    let check = "ip route get 198.18.1.77 oif ens6";
    assert_says(&text, &["198.18.1.77 does not answer on ens6", check, "arping"]);
    bench.assert_nothing_left();
}

#[test]
fn a_target_without_new_flows_need_not_answer() {
    let bench = Bench::new();
    let path = std::env::temp_dir().join(format!("loader-rules-{}.json", std::process::id()));
    let rules = |weight| {
        format!(
            r#"{{"rules": [{{"port": 7, "targets": [{{"address": "198.18.1.2"}},
                {{"address": "198.18.1.77", "weight": {weight}}}]}}]}}"#
        )
    };
    let arguments = ["--nat-rules-file", path.to_str().unwrap()];
    std::fs::write(&path, rules(1)).unwrap();
    assert_says(&bench.fails(1, &arguments), &["198.18.1.77 does not answer on ens6"]);
    bench.assert_nothing_left();
    std::fs::write(&path, rules(0)).unwrap();
    let process = bench.start(&arguments);
    let next_hops: Vec<_> = bench.rules()[0].targets.iter().map(|t| t.next_hop).collect();
    assert_eq!(next_hops, [Some(TAP.mac), None]);
    stop(process);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_target_that_can_not_be_reached() {
    let bench = Bench::new();
    for (target, reason) in [
        ("203.0.113.7", "no route to 203.0.113.7 out of ens6"),
        ("2001:db8:77::7", "no route to 2001:db8:77::7 out of ens6"),
        ("198.18.0.2", "an address of this host itself"),
        ("198.18.1.255", "of type Broadcast"),
    ] {
        let text = bench.fails(1, &["--nat-ip", target, "--source-port", "31765"]);
        assert_says(&text, &[target, reason]);
    }
    bench.assert_nothing_left();
}

#[test]
fn a_signal_during_the_start() {
    let bench = Bench::new();
    let mut process = bench.spawn(&["--nat-ip", "198.18.1.77", "--source-port", "31765"]);
    common::wait_until("no pins", || !bench.pins().existing().is_empty());
    std::thread::sleep(Duration::from_millis(300));
    process.signal(Signal::SIGINT).unwrap();
    assert_eq!(process.wait(Duration::from_secs(2)).unwrap().code(), Some(0));
    bench.assert_nothing_left();
}

#[test]
fn a_foreign_program() {
    let bench = Bench::new();
    // Another instance's program is as foreign as anybody's.
    let other = bench.lab.pin_dir().join("other");
    let owner = bench.start(&["--pin-dir", other.to_str().unwrap()]);
    let id = bench.attached().unwrap().program_id;
    for mode in ["auto", "native", "generic"] {
        let text = bench.fails(1, &["--xdp-mode", mode]);
        assert_says(&text, &["vxlan_pipeline", &format!("ID {id}"), "xdp off"]);
    }
    assert_eq!(bench.attached().unwrap().program_id, id);
    stop(owner);
    bench.assert_nothing_left();
}

#[test]
fn a_second_loader() {
    let bench = Bench::new();
    let owner = bench.start(&NAT);
    let before = bench.attached();
    let text = bench.fails(1, &[]);
    assert_says(&text, &["another vxlan-loader", &owner.id().to_string(), "PIN_DIR"]);
    assert_eq!(bench.attached(), before);
    assert_eq!(bench.rules().len(), 1);
    stop(owner);
    bench.assert_nothing_left();
}

/// Leaves a pipeline without a loader.
fn orphan(bench: &Bench, arguments: &[&str]) {
    let mut process = bench.start(arguments);
    process.signal(Signal::SIGKILL).unwrap();
    process.wait(Duration::from_secs(5)).unwrap();
}

#[test]
fn pins_of_another_layout() {
    let bench = Bench::new();
    orphan(&bench, &[]);
    let before = bench.attached();
    let map = MapHandle::from_pinned_path(bench.pins().map(MapName::CONTROL)).unwrap();
    let control = Shared::<control>::map(&map).unwrap();
    control.u32_at(0, offset_of!(control, version)).store(99, Ordering::Relaxed);
    let text = bench.fails(1, &[]);
    assert_says(&text, &["layout version 99", "this program knows version", "rm "]);
    control.u32_at(0, offset_of!(control, magic)).store(0, Ordering::Relaxed);
    assert_says(&bench.fails(1, &[]), &["unknown layout"]);
    assert_eq!(bench.attached(), before);
}

#[test]
fn pins_that_are_incomplete() {
    let bench = Bench::new();
    orphan(&bench, &[]);
    std::fs::remove_file(bench.pins().map(MapName::VNI)).unwrap();
    assert_says(&bench.fails(1, &[]), &["incomplete", "vxlan_vni_map", "rm "]);
}

#[test]
fn a_takeover_that_fails_leaves_the_running_pipeline_as_it_was() {
    let bench = Bench::new();
    orphan(&bench, &NAT);
    let (program, rules) = (bench.attached(), bench.rules());
    let text = bench.fails(1, &["-i", "ens6", "-t", "ens5"]);
    assert_says(&text, &["a pipeline for ens5 is pinned", "PIN_DIR"]);
    let text = bench.fails(1, &["--xdp-mode", "generic"]);
    assert_says(&text, &["native mode", "XDP_MODE"]);
    let text = bench.fails(1, &["--ring-buffer-size", "64K"]);
    assert_says(&text, &["RING_BUFFER_SIZE", "16777216"]);
    bench.fails(1, &["--audit-log", "/no/such/log", "--target-vni", "5"]);
    bench.fails(1, &["--rewrite-l2", "all", "--target-vni", "5"]);
    bench.fails(1, &["--nat-ip", "198.18.1.77", "--source-port", "1", "--target-vni", "5"]);
    assert_eq!(bench.attached(), program);
    assert_eq!(bench.rules(), rules);
    bench.send(10, 31765);
    common::wait_until("the pipeline stopped working", || bench.queued() == 10);
}

#[test]
fn the_size_of_the_table_of_flows_stays() {
    let bench = Bench::new();
    orphan(&bench, &["--conntrack-size", "2048"]);
    let text = bench.fails(1, &[]);
    assert_says(&text, &["CONNTRACK_SIZE=65536", "keep CONNTRACK_SIZE=2048"]);
    stop(bench.start(&["--conntrack-size", "2048"]));
}

#[test]
fn a_pipeline_of_another_namespace() {
    let bench = Bench::new();
    orphan(&bench, &[]);
    // Where the interface of the same index is another one.
    let lab: &Lab = &bench.lab;
    lab.run(Namespace::Target, &["ip", "link", "add", "ens5", "index", "12", "type", "veth"])
        .unwrap();
    lab.run(Namespace::Target, &["ip", "link", "set", "ens5", "up"]).unwrap();
    let mut command: Command = common::loader(&bench.pin_dir, &["-t", "tap0"]);
    command.arg("-v");
    let mut process = lab.spawn(Namespace::Target, command).unwrap();
    assert_eq!(process.wait(common::PATIENCE).unwrap().code(), Some(1));
    assert_says(&process.stderr(), &["another network namespace"]);
    assert!(bench.attached().is_some());
}
