//! `vxlanctl nat` on a real pipeline. Needs root.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{Lab, between, example, settings};
use config::{NatProtocol, NatRule, nat_rules_json};
use dataplane::lock::{self, Role};
use dataplane::nat::NatTable;

const MAC: [u8; 6] = [2, 0, 0xab, 0, 0, 1];

/// Runs `test` beside a loader that finds the next hop of every target but `deaf`.
fn with_loader<T>(lab: &Lab, deaf: Option<&str>, test: impl FnOnce() -> T) -> T {
    let _lock = lock::try_lock(&lab.pins, Role::Loader).unwrap().unwrap();
    let deaf = deaf.map(|address| address.parse().unwrap());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let table = NatTable::open(&lab.pins).unwrap();
            let mut requests = 0;
            while !done.load(Ordering::Relaxed) {
                sleep(Duration::from_millis(5));
                if table.control().refresh_requests() == requests {
                    continue;
                }
                requests = table.control().refresh_requests();
                for (target, mac) in table.next_hops() {
                    if mac.is_none() && Some(target) != deaf {
                        table.set_next_hop(target, Some(MAC));
                    }
                }
            }
        });
        struct Done<'a>(&'a AtomicBool);
        impl Drop for Done<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _done = Done(&done); // if the test fails, too
        test()
    })
}

#[test]
fn without_a_loader_nobody_can_resolve() {
    let lab = Lab::new(settings(false));
    let (status, error) = lab.fails("nat add --port 31765 --to 192.0.2.9:8081");
    assert_eq!(status, 1);
    assert!(error.contains("vxlan-loader is not running"), "{error}");
    assert!(error.contains("192.0.2.9") && error.contains("nothing was changed"), "{error}");
    assert_eq!(lab.ok("nat show"), "no NAT rules\n");
    assert!(NatTable::open(&lab.pins).unwrap().next_hops().is_empty(), "abandoned");
    assert_eq!(lab.ok("nat clear"), "0 rules removed\n");
}

#[test]
fn an_unresolved_target_changes_nothing() {
    let lab = Lab::new(settings(false));
    with_loader(&lab, Some("192.0.2.11"), || {
        lab.ok("nat add --port 31765 --protocol udp --to 192.0.2.9:8081");
        let before = lab.ok("nat show");
        let begin = Instant::now();
        let (status, error) = lab.fails(&format!("nat load {}", example("nat-rules.json")));
        assert!((5..8).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
        assert_eq!(status, 1);
        assert!(error.contains("192.0.2.11") && !error.contains("192.0.2.12"), "{error}");
        assert!(error.contains("nothing was changed"), "{error}");
        assert_eq!(lab.ok("nat show"), before);
    });
}

#[test]
fn rules_are_loaded_shown_changed_and_cleared() {
    let lab = Lab::new(settings(false));
    with_loader(&lab, None, || {
        let loaded = lab.ok(&format!("nat load {}", example("nat-rules.json")));
        assert!(loaded.starts_with("8 rules loaded from "), "{loaded}");
        let shown = lab.ok("nat show");
        let lines: Vec<Vec<&str>> = shown
            .lines()
            .map(|line| line.split("  ").filter(|c| !c.is_empty()).collect())
            .collect();
        assert_eq!(
            lines[0].iter().map(|c| c.trim()).collect::<Vec<_>>(),
            ["RULE", "TARGET", "WEIGHT", "NEW FLOWS", "NEXT HOP"]
        );
        assert_eq!(lines.len(), 11, "8 rules, of which one has 3 targets:\n{shown}");
        assert!(shown.lines().skip(1).all(|line| line.ends_with("02:00:ab:00:00:01")), "{shown}");
        let narrow = shown.find("udp/31765 to 198.51.100.0/24 vni 7").unwrap();
        assert!(shown[narrow..].contains("udp/31765 "), "the narrow one is tried first:\n{shown}");

        let saved = lab.file("saved.json", &lab.ok("nat show --json"));
        assert_eq!(lab.ok("nat clear"), "8 rules removed\n");
        assert_eq!(lab.json("nat show --json")["rules"], serde_json::json!([]));
        lab.ok(&format!("nat load {saved}"));
        assert_eq!(lab.ok("nat show"), shown);

        let (status, error) = lab.fails("nat add --port 31765 --protocol udp --to 192.0.2.77");
        assert_eq!(status, 1);
        assert!(error.contains("udp/31765 -> 192.0.2.9:8081"), "{error}");

        let (status, error) = lab.fails("nat remove --port 31765 --protocol udp");
        assert_eq!((status, error.contains("--destination 0.0.0.0/0")), (1, true), "{error}");
        let removed = lab.ok("nat remove --port 31765 --protocol udp --destination ::/0");
        assert_eq!(removed, "removed udp/31765 -> [2001:db8:9::9]:8081\n");
        let (status, error) = lab.fails("nat remove --port 31765 --protocol tcp --vni 3");
        assert_eq!(
            (status, error.contains("no rule matches tcp/31765 vni 3")),
            (1, true),
            "{error}"
        );
        assert_eq!(lab.ok("nat show").lines().count(), 10);
    });
    // What is resolved already needs no loader, and neither does a removal.
    lab.ok("nat add --port 7 --to 192.0.2.9");
    lab.ok("nat remove --port 7");
}

#[test]
fn a_rule_translates_packets() {
    let lab = Lab::new(settings(false));
    with_loader(&lab, None, || lab.ok("nat add --port 31765 --protocol udp --to 192.0.2.9:8081"));
    lab.pipeline.test_run(&between("198.51.100.1", "203.0.113.200"), 3).unwrap();
    // A test run repeats the program on the same bytes: the first run has translated them.
    assert_eq!(lab.json("stats --json")["stages"]["nat_applied"], 1);
    lab.ok("nat clear");
    lab.pipeline.test_run(&between("198.51.100.1", "203.0.113.200"), 1).unwrap();
    assert_eq!(lab.json("stats --json")["stages"]["nat_applied"], 1);
}

#[test]
fn a_full_table_is_an_error_with_the_number() {
    let lab = Lab::new(settings(false));
    let target = config::parse_target("192.0.2.9", 8081).unwrap();
    let rules: Vec<NatRule> = (1..=4096)
        .map(|port| NatRule::new(NatProtocol::Udp, port, None, None, vec![target.into()]).unwrap())
        .collect();
    let file = lab.file("full.json", &nat_rules_json(&rules).to_string());
    with_loader(&lab, None, || {
        let begin = Instant::now();
        lab.ok(&format!("nat load {file}"));
        eprintln!("4096 rules: {:?}", begin.elapsed());
        let (status, error) = lab.fails("nat add --port 5000 --to 192.0.2.9");
        assert_eq!(status, 1);
        assert!(error.contains("full: 4097 rules, at most 4096"), "{error}");
        lab.ok("nat remove --port 17 --protocol udp");
        lab.ok("nat add --port 5000 --to 192.0.2.9");
        assert_eq!(lab.ok("nat show").lines().count(), 4097);
    });
}

#[test]
fn targets_are_weighted_drained_and_replaced() {
    let lab = Lab::new(settings(false));
    with_loader(&lab, Some("192.0.2.23"), || {
        let first = "udp/6343 -> 192.0.2.21:6343 weight 3, 192.0.2.22:6343";
        let rule = "nat add --port 6343 --protocol udp";
        let added = lab.ok(&format!("{rule} --to 192.0.2.21,weight=3 --to 192.0.2.22"));
        assert_eq!(added, format!("added {first}\n"));
        let shown = lab.ok("nat show");
        assert_eq!(
            shown.lines().map(|l| l.split_whitespace().collect()).collect::<Vec<Vec<_>>>()[1..],
            [
                vec!["udp/6343", "192.0.2.21:6343", "3", "75.0%", "02:00:ab:00:00:01"],
                vec!["192.0.2.22:6343", "1", "25.0%", "02:00:ab:00:00:01"],
            ]
        );
        let expected = serde_json::json!([{ "protocol": "udp", "port": 6343, "targets": [
            { "address": "192.0.2.21", "port": 6343, "weight": 3 },
            { "address": "192.0.2.22", "port": 6343, "weight": 1 },
        ]}]);
        assert_eq!(lab.json("nat show --json")["rules"], expected);

        // One that answers no more can be drained nevertheless.
        let second = "--to 192.0.2.22 --to 192.0.2.23,weight=0";
        let (status, error) = lab.fails(&format!("{rule} {second}"));
        assert_eq!((status, error.contains(first)), (1, true), "{error}");
        assert!(error.contains("--replace"), "{error}");
        let replaced = lab.ok(&format!("{rule} {second} --replace"));
        let second = "udp/6343 -> 192.0.2.22:6343, 192.0.2.23:6343 weight 0";
        assert_eq!(replaced, format!("added {second} in the place of {first}\n"));
        let shown = lab.ok("nat show");
        let words: Vec<_> = shown.lines().nth(2).unwrap().split_whitespace().collect();
        assert_eq!(words, ["192.0.2.23:6343", "0", "0.0%", "unresolved"]);
        let (_, error) = lab.fails(&format!("{rule} --to 192.0.2.23 --replace"));
        assert!(error.contains("192.0.2.23") && error.contains("nothing was changed"), "{error}");
        assert_eq!(lab.ok("nat show"), shown);
    });
}

#[test]
fn echo_requests_have_rules_of_their_own() {
    let lab = Lab::new(settings(false));
    with_loader(&lab, None, || {
        lab.ok("nat add --protocol icmp --to 192.0.2.9");
        lab.ok("nat add --protocol icmp --vni 7 --to 2001:db8::9");
        let saved = lab.file("saved.json", &lab.ok("nat show --json"));
        let shown = lab.ok("nat show");
        assert_eq!(lab.ok("nat remove --protocol icmp"), "removed icmp -> 192.0.2.9\n");
        lab.ok("nat clear");
        lab.ok(&format!("nat load {saved}"));
        assert_eq!(lab.ok("nat show"), shown);
    });
    assert_eq!(lab.fails("nat remove --port 7 --protocol icmp").0, 2);
}

#[test]
fn bad_files_and_flags_are_refused() {
    let lab = Lab::new(settings(false));
    let file =
        lab.file("bad.json", r#"{"rules": [{"port": 0, "target": {"address": "192.0.2.9"}}]}"#);
    let (status, error) = lab.fails(&format!("nat load {file}"));
    assert_eq!((status, error.contains("rules[0].port: 0 is not a port")), (2, true), "{error}");
    let (status, error) = lab.fails("nat add --port 9 --to 127.0.0.1");
    assert_eq!((status, error.contains("loopback")), (2, true), "{error}");
    assert_eq!(lab.fails("nat add --to 192.0.2.9").0, 2);
}

#[test]
fn changes_wait_for_each_other_and_readers_do_not() {
    let lab = Lab::new(settings(false));
    let lock = lock::lock(&lab.pins, Role::Change).unwrap();
    assert_eq!(lab.ok("nat show"), "no NAT rules\n");
    std::thread::scope(|scope| {
        let change = scope.spawn(|| lab.ok("nat clear"));
        sleep(Duration::from_millis(300));
        assert!(!change.is_finished());
        drop(lock);
        assert_eq!(change.join().unwrap(), "0 rules removed\n");
    });
}
