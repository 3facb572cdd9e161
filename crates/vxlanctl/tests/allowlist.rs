//! `vxlanctl allowlist` on a real pipeline. Needs root.

mod common;

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use common::{Lab, addresses, allowlist_json, between, example, settings};
use dataplane::allowlist::AllowlistMaps;

#[test]
fn a_list_is_loaded_shown_changed_and_cleared() {
    let lab = Lab::new(settings(true));
    let loaded = lab.ok(&format!("allowlist load {}", example("allowlist.json")));
    assert!(loaded.starts_with("324 entries loaded from "), "{loaded}");
    let shown = lab.ok("allowlist show");
    assert_eq!(shown.lines().count(), 324);
    assert!(shown.lines().any(|line| line == "198.18.0.0/21"), "{shown}");
    assert!(shown.lines().any(|line| line == "192.0.2.1"), "{shown}");

    let saved = lab.file("saved.json", &lab.ok("allowlist show --json"));
    assert_eq!(lab.ok("allowlist clear"), "324 entries removed\n");
    assert_eq!(lab.ok("allowlist show"), "");
    let output = lab.run(&format!("allowlist load {saved}"));
    assert!(output.status.success() && output.stderr.is_empty(), "no warnings: {output:?}");
    assert_eq!(lab.ok("allowlist show"), shown);

    let added = lab.ok("allowlist add 10.9.8.7 2001:db8:77::/48 192.0.2.1 10.9.8.7");
    let expected = ["10.9.8.7 added", "2001:db8:77::/48 added", "192.0.2.1 is listed already"]
        .map(String::from);
    assert_eq!(added.lines().collect::<Vec<_>>(), expected);
    assert_eq!(lab.ok("allowlist show").lines().count(), 326);
    assert_eq!(lab.ok("allowlist add 10.9.8.7/32"), "10.9.8.7 is listed already\n");

    assert_eq!(lab.ok("allowlist remove 10.9.8.7"), "10.9.8.7 removed\n");
    let (status, error) = lab.fails("allowlist remove 2001:db8:77::/48 10.9.8.7");
    assert_eq!((status, error.contains("10.9.8.7 is not listed; nothing was removed")), (1, true));
    assert!(lab.ok("allowlist show").contains("2001:db8:77::/48"));
    lab.ok("allowlist remove 2001:db8:77::/48 192.0.2.1");
    assert_eq!(lab.ok("allowlist show").lines().count(), 323);
}

#[test]
fn packets_meet_the_list() {
    let lab = Lab::new(settings(true));
    let not_allowed = || lab.json("stats --json")["dropped_by_reason"]["not_allowed"].clone();
    let packet = between("192.0.2.1", "203.0.113.200");
    lab.pipeline.test_run(&packet, 1).unwrap();
    assert_eq!(not_allowed(), 1);
    lab.ok("allowlist add 203.0.113.128/25");
    lab.pipeline.test_run(&packet, 1).unwrap();
    assert_eq!(not_allowed(), 1);
    lab.ok("allowlist clear");
    lab.pipeline.test_run(&packet, 1).unwrap();
    assert_eq!(not_allowed(), 2);
}

#[test]
fn bad_entries_are_named_and_the_old_list_stays() {
    let lab = Lab::new(settings(true));
    lab.ok("allowlist add 192.0.2.1 192.0.2.2");
    let file = lab.file("bad.json", r#"{"flat_ip_list": ["192.0.2.3", "192.0.2.300"]}"#);
    let (status, error) = lab.fails(&format!("allowlist load {file}"));
    assert_eq!(status, 2);
    assert!(error.contains("flat_ip_list[1]: \"192.0.2.300\""), "{error}");
    assert_eq!(lab.ok("allowlist show"), "192.0.2.1\n192.0.2.2\n");

    let (status, error) = lab.fails("allowlist add 192.0.2.3 192.0.2.1/24");
    assert_eq!((status, error.contains("host bits")), (2, true), "{error}");
    assert_eq!(lab.ok("allowlist show"), "192.0.2.1\n192.0.2.2\n");

    let (status, error) = lab.fails("allowlist load /nonexistent.json");
    assert_eq!((status, error.contains("/nonexistent.json: ")), (2, true), "{error}");
    assert_eq!(lab.fails("allowlist add").0, 2);
    assert_eq!(lab.fails("allowlist").0, 2);
}

#[test]
fn warnings_of_a_file_are_printed() {
    let lab = Lab::new(settings(true));
    let list = r#"{"total_ips": 9, "flat_ip_list": ["192.0.2.3", "192.0.2.3/32"]}"#;
    let output = lab.run(&format!("allowlist load {}", lab.file("odd.json", list)));
    let warnings = String::from_utf8(output.stderr).unwrap();
    assert!(
        warnings.contains("is already at") && warnings.contains("total_ips is 9"),
        "{warnings}"
    );
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("1 entry loaded"));
}

#[test]
fn great_lists_are_loaded_and_too_great_ones_refused() {
    let lab = Lab::new(settings(true));
    let load = |name: &str, count: u32| {
        let file = lab.file(name, &allowlist_json(&addresses(count, [10, 0, 0, 0])));
        let begin = Instant::now();
        let printed = lab.ok(&format!("allowlist load {file}"));
        eprintln!("{}: {:?}", printed.trim(), begin.elapsed());
    };
    load("64k.json", 65_536);
    load("64k-again.json", 65_536);
    assert_eq!(lab.ok("allowlist show").lines().count(), 65_536);
    load("full.json", 131_072);
    let begin = Instant::now();
    assert_eq!(lab.ok("allowlist add 10.0.0.1"), "10.0.0.1 is listed already\n");
    let (status, error) = lab.fails("allowlist add 192.0.2.1");
    eprintln!("two changes of the full list: {:?}", begin.elapsed());
    assert_eq!(status, 1);
    assert!(error.contains("full") && error.contains("131,072"), "{error}");
    assert_eq!(lab.ok("allowlist show").lines().count(), 131_072);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let lab = Lab::new(settings(true));
    let file = lab.file("many.json", &allowlist_json(&addresses(20_000, [10, 0, 0, 0])));
    lab.ok(&format!("allowlist load {file}"));
    for arguments in [&["allowlist", "show"][..], &["--help"]] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_vxlanctl"))
            .args(arguments)
            .env("PIN_DIR", lab.pins.directory())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    }
}

/// The address is in every list that is loaded while packets run: none of them may be dropped.
#[test]
fn no_packet_meets_half_a_list() {
    let lab = Lab::new(settings(true));
    let always = [192, 0, 2, 1];
    let files: Vec<String> = [[10, 1, 0, 0], [10, 2, 0, 0]]
        .into_iter()
        .map(|first| {
            let mut entries = addresses(2_000, first);
            entries.insert(1_000, always.into());
            lab.file(&format!("{}.json", first[1]), &allowlist_json(&entries))
        })
        .collect();
    lab.ok(&format!("allowlist load {}", files[0]));
    let packet = between("192.0.2.1", "203.0.113.200");
    let done = AtomicBool::new(false);
    let (packets, loads) = std::thread::scope(|scope| {
        let loads = scope.spawn(|| {
            let mut loads = 0u64;
            while !done.load(Ordering::Relaxed) {
                let output =
                    common::run_on(lab.pins.directory(), &format!("allowlist load {}", files[1]));
                assert!(output.status.success(), "{output:?}");
                let output = common::run_on(lab.pins.directory(), "allowlist add 192.0.2.9");
                assert!(output.status.success(), "{output:?}");
                loads += 1;
            }
            loads
        });
        let begin = Instant::now();
        let mut packets = 0u64;
        while begin.elapsed().as_secs() < 3 {
            lab.pipeline.test_run(&packet, 100_000).unwrap();
            packets += 100_000;
        }
        done.store(true, Ordering::Relaxed);
        (packets, loads.join().unwrap())
    });
    eprintln!("{packets} packets during {loads} loads");
    let stats = lab.json("stats --json");
    assert!(loads > 10 && stats["total"] == packets, "{loads} loads, {stats}");
    assert_eq!(stats["dropped_by_reason"]["not_allowed"], 0, "{stats}");
    assert_eq!(stats["unaccounted"], 0, "{stats}");
}

/// A program that read the old list's generation must still find its entries.
#[test]
fn no_packet_meets_a_list_that_is_being_removed() {
    let lab = Lab::new(settings(true));
    lab.ok("allowlist add 192.0.2.1");
    let packet = between("192.0.2.1", "203.0.113.200");
    let done = AtomicBool::new(false);
    let replaced = std::thread::scope(|scope| {
        let replaced = scope.spawn(|| {
            let maps = AllowlistMaps::open(&lab.pins).unwrap();
            let entries = [config::parse_entry("192.0.2.1").unwrap()];
            let mut replaced = 0u64;
            while !done.load(Ordering::Relaxed) {
                maps.replace(&entries).unwrap();
                replaced += 1;
            }
            replaced
        });
        let begin = Instant::now();
        while begin.elapsed().as_secs() < 3 {
            lab.pipeline.test_run(&packet, 1_000_000).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        replaced.join().unwrap()
    });
    let stats = lab.json("stats --json");
    eprintln!("{} packets while the list was replaced {replaced} times", stats["total"]);
    assert_eq!(stats["dropped_by_reason"]["not_allowed"], 0, "{stats}");
}
