//! `vxlanctl stats` and `vxlanctl vni` on a real pipeline, and pins that are missing or foreign.
//! Needs root.

mod common;

use std::path::Path;
use std::process::Command;

use common::{Lab, VNI, between, failure, packet, run_on, settings};
use dataplane::MapName;
use libbpf_rs::{MapCore, MapFlags};

#[test]
fn every_term_is_there_and_the_sums_close() {
    let lab = Lab::new(settings(false));
    let packet = between("198.51.100.1", "203.0.113.200");
    lab.pipeline.test_run(&packet, 20).unwrap();
    lab.pipeline.test_run(&packet[..packet.len() - 100], 3).unwrap();
    let mut foreign = packet;
    foreign[12..14].copy_from_slice(&[0x08, 0x06]);
    lab.pipeline.test_run(&foreign, 5).unwrap();

    let stats = lab.json("stats --json");
    let keys: Vec<&str> = stats.as_object().unwrap().keys().map(String::as_str).collect();
    for key in [
        "total",
        "passed",
        "dropped",
        "dropped_by_reason",
        "redirected",
        "queued",
        "sent",
        "send_failed",
        "send_failed_by_reason",
        "held",
        "in_ring",
        "resent",
        "in_doubt",
        "unaccounted",
        "stages",
        "notes",
        "verdicts",
        "ring",
        "injector_pid",
        "workers",
        "conntrack",
        "events",
    ] {
        assert!(keys.contains(&key), "{key} is missing of {keys:?}");
    }
    assert_eq!(stats["total"], 28, "{stats}");
    assert_eq!(stats["passed"], 5, "{stats}");
    assert_eq!(stats["dropped"], 3, "{stats}");
    assert_eq!(stats["dropped_by_reason"]["outer_length"], 3, "{stats}");
    assert_eq!((&stats["queued"], &stats["in_ring"]), (&20.into(), &20.into()), "{stats}");
    assert_eq!(stats["unaccounted"], 0, "{stats}");
    assert_eq!(lab.json("stats --format json"), stats);

    let table = lab.ok("stats");
    for words in ["Total received", "28", "outer_length", "In ring", "Unaccounted", "Fill"] {
        assert!(table.contains(words), "{words}:\n{table}");
    }
    assert!(!table.contains("vxlan_short"), "{table}");
    eprintln!("{table}");
}

#[test]
fn a_full_ring_is_accounted_for() {
    let lab = Lab::new(settings(false));
    lab.pipeline.test_run(&between("198.51.100.1", "203.0.113.200"), 5_000).unwrap();
    let stats = lab.json("stats --json");
    assert!(stats["dropped_by_reason"]["ring_full"].as_u64() > Some(3_000), "{stats}");
    assert_eq!((&stats["total"], &stats["unaccounted"]), (&5_000.into(), &0.into()), "{stats}");
}

#[test]
fn vnis_are_seen_and_the_accepted_ones_changed() {
    let lab = Lab::new(settings(false));
    assert_eq!(lab.ok("vni"), "accepted VNIs: any\nno VXLAN packet was seen yet\n");
    let of = |vni| packet(vni, [192, 0, 2, 1].into(), [192, 0, 2, 2].into(), 53);
    lab.pipeline.test_run(&of(VNI), 3).unwrap();
    assert_eq!(lab.ok("vni set 4242,9"), "accepted VNIs: 9,4242\n");
    lab.pipeline.test_run(&of(VNI), 2).unwrap();
    lab.pipeline.test_run(&of(4242), 1).unwrap();
    let frame = (14 + 20 + 8 + 64) as u64;
    let expected = serde_json::json!({ "accepted": [9, 4242], "seen": [
        { "vni": VNI, "packets": 5, "bytes": 5 * frame, "accepted": false },
        { "vni": 4242, "packets": 1, "bytes": frame, "accepted": true },
    ]});
    assert_eq!(lab.json("vni --json"), expected);
    assert_eq!(lab.json("stats --json")["dropped_by_reason"]["vni_mismatch"], 2);
    lab.ok("vni set any");
    assert_eq!(lab.json("vni --json")["accepted"], "any");
    lab.ok("vni set 5");
    assert_eq!(lab.json("vni --json")["accepted"], serde_json::json!([5]));
    assert_eq!(lab.fails("vni set 16777216").0, 2);
    assert_eq!(lab.fails("vni set").0, 2);
}

#[test]
fn missing_pins_are_told_with_a_way_out() {
    let nowhere = Path::new("/sys/fs/bpf/vxlanctl-test-nowhere");
    for arguments in [
        "stats",
        "stats --json",
        "allowlist show",
        "allowlist add 192.0.2.1",
        "allowlist clear",
        "nat show",
        "nat add --port 7 --to 192.0.2.9",
        "nat clear",
        "conntrack show",
        "conntrack flush",
        "vni",
        "vni set any",
    ] {
        let (status, error) = failure(&run_on(nowhere, arguments), arguments);
        assert_eq!(status, 1, "{arguments}");
        assert!(error.contains("no pipeline is running under PIN_DIR"), "{arguments}: {error}");
    }
    assert!(!nowhere.exists());
    let (status, error) = failure(&run_on(Path::new("relative"), "stats"), "relative");
    assert_eq!(
        (status, error.contains("bad value \"relative\" for PIN_DIR")),
        (2, true),
        "{error}"
    );
    assert_eq!(failure(&run_on(nowhere, "stats --nonsense"), "bad flag").0, 2);
    assert_eq!(failure(&run_on(nowhere, ""), "no subcommand").0, 2);
}

#[test]
fn pins_of_another_layout_are_refused() {
    let lab = Lab::new(settings(false));
    let control = lab.pipeline.map(MapName::CONTROL).unwrap();
    let mut value = control.lookup(&[0; 4], MapFlags::ANY).unwrap().unwrap();
    value[4..8].copy_from_slice(&77u32.to_ne_bytes());
    control.update(&[0; 4], &value, MapFlags::ANY).unwrap();
    for arguments in ["stats", "allowlist clear", "nat clear", "vni set any"] {
        let (status, error) = lab.fails(arguments);
        assert_eq!(status, 1);
        assert!(error.contains("layout version 77") && error.contains("rm "), "{error}");
    }
}

#[test]
fn the_pins_are_found_by_flag_environment_or_file() {
    let lab = Lab::new(settings(false));
    let directory = lab.pins.directory().to_str().unwrap();
    let file = lab.file("settings.env", &format!("PIN_DIR={directory}\nNAT_IPP=1\n"));
    let vxlanctl = |arguments: &[&str], environment: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vxlanctl"));
        command.args(arguments).current_dir("/").env_remove("PIN_DIR");
        command.envs(environment.map(|directory| ("PIN_DIR", directory))).output().unwrap()
    };
    for (arguments, environment) in [
        (&["--pin-dir", directory, "vni"][..], Some("/nowhere")),
        (&["vni", "--json", "--pin-dir", directory], None),
        (&["vni"], Some(directory)),
        (&["vni", "set", "any", "--env-file", &file], None),
    ] {
        let output = vxlanctl(arguments, environment);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }
    let output = vxlanctl(&["--env-file", &file, "vni"], None);
    let warning = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success());
    assert!(warning.contains("vxlanctl: warning: ") && warning.contains("NAT_IPP"), "{warning}");
    let (status, error) = failure(&vxlanctl(&["vni", "--env-file", "/nowhere"], None), "no file");
    assert_eq!((status, error.contains("/nowhere: ")), (2, true), "{error}");
}
