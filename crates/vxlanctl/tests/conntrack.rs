//! `vxlanctl conntrack` on a real pipeline. Entries of the table are written as bytes. Needs root.

mod common;

use std::collections::BTreeMap;

use common::{Lab, between, settings};
use dataplane::MapName;
use dataplane::nat::NatTable;
use libbpf_rs::{MapCore, MapFlags};
use serde_json::{Value, json};

/// Writes a flow of VNI 7 from 10.0.0.`last`:40000 to 198.51.100.7:31765, UDP, last seen at boot
/// and a few nanoseconds, whose target is none that there is.
fn insert(lab: &Lab, last: u8) {
    let key = [
        &[10, 0, 0, last][..],
        &[0; 12],
        &[198, 51, 100, 7],
        &[0; 12],
        &40_000u16.to_be_bytes(),
        &31_765u16.to_be_bytes(),
        &7u32.to_be_bytes(),
        &[4, 17, 0, 0],
    ]
    .concat();
    let times = [1u64.to_ne_bytes(), u64::from(last).to_ne_bytes()].concat();
    let value = [&times[..], &[0; 4], &99u32.to_ne_bytes(), &[1], &[0; 7]].concat();
    let map = lab.pipeline.map(MapName::CONNTRACK).unwrap();
    map.update(&key, &value, MapFlags::NO_EXIST).unwrap();
}

#[test]
fn flows_are_shown_and_flushed() {
    let lab = Lab::new(settings(false));
    let empty = "0 flows of at most 65,536; created 0, hit 0, evicted 0, flushed 0\n";
    assert_eq!(lab.ok("conntrack show"), empty);
    (1..=5).for_each(|last| insert(&lab, last));

    let shown = lab.ok("conntrack show --vni 7 --limit 2");
    let lines: Vec<Vec<&str>> = shown.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(lines[1], ["VNI", "PROTOCOL", "CLIENT", "SERVER", "TARGET", "AGE", "IDLE"]);
    let expected = ["7", "udp", "10.0.0.5:40000", "198.51.100.7:31765", "removed"];
    assert_eq!(lines[2][..5], expected, "the one with the latest packet first");
    assert_eq!(shown.lines().last(), Some("and 3 more"));

    let flows = lab.json("conntrack show --json --address 10.0.0.3");
    assert_eq!((&flows["entries"], flows["flows"].as_array().unwrap().len()), (&json!(5), 1));
    let client = json!({ "address": "10.0.0.3", "port": 40_000 });
    assert_eq!(
        (&flows["flows"][0]["client"], &flows["flows"][0]["target"]),
        (&client, &json!(null))
    );

    assert_eq!(lab.ok("conntrack flush --address 10.0.0.3 --port 40000"), "1 flow removed\n");
    assert_eq!(lab.ok("conntrack flush --vni 8"), "0 flows removed\n");
    let expected = json!({
        "entries": 4, "size": 65_536, "created": 0, "hit": 0, "flushed": 1, "evicted": 0
    });
    assert_eq!(lab.json("stats --json")["conntrack"], expected);
    assert!(lab.ok("stats").contains("Connection tracking"));
    assert_eq!(lab.ok("conntrack flush"), "4 flows removed\n");
    assert_eq!(lab.ok("conntrack show"), empty.replace("flushed 0", "flushed 5"));
    assert_eq!(
        lab.json("stats --json")["events"],
        json!({ "written": 0, "suppressed": 0, "lost": 0 })
    );
}

/// Sends a packet of each of 40 flows, and returns which target each client was given.
fn targets(lab: &Lab) -> BTreeMap<String, Value> {
    for client in 1..=40 {
        lab.pipeline.test_run(&between(&format!("10.0.0.{client}"), "198.51.100.7"), 1).unwrap();
    }
    let json = lab.json("conntrack show --json");
    let flow = |flow: &Value| {
        let client = flow["client"]["address"].as_str().unwrap().to_owned();
        (client, flow["target"]["address"].clone())
    };
    json["flows"].as_array().unwrap().iter().map(flow).collect()
}

#[test]
fn flows_keep_their_target_until_it_is_removed_or_they_are() {
    let lab = Lab::new(settings(false));
    let (one, two) = (json!("192.0.2.21"), json!("192.0.2.22"));
    let set = |targets: &str| {
        let file = format!(r#"{{"rules": [{{"port": 31765, "targets": {targets}}}]}}"#);
        let rules = config::parse_nat_rules(&file).unwrap();
        let table = NatTable::open(&lab.pins).unwrap();
        let staged = table.stage(&rules).unwrap();
        for last in [21, 22] {
            table.set_next_hop([192, 0, 2, last].into(), Some([2, 0, 0, 0, 0, last]));
        }
        table.activate(staged).unwrap();
    };
    set(r#"[{"address": "192.0.2.21", "weight": 3}, {"address": "192.0.2.22"}]"#);
    let first = targets(&lab);
    let of = |flows: &BTreeMap<_, Value>, target| flows.values().filter(|t| *t == target).count();
    let (ones, twos) = (of(&first, &one), of(&first, &two));
    assert!(ones > twos && twos > 0 && ones + twos == 40, "{first:?}");

    set(r#"[{"address": "192.0.2.21", "weight": 0}, {"address": "192.0.2.22"}]"#);
    assert_eq!(targets(&lab), first, "drained, but known flows go on");
    let flushed = lab.ok("conntrack flush --address 192.0.2.21");
    assert_eq!(flushed, format!("{ones} flows removed\n"));
    assert_eq!(of(&targets(&lab), &two), 40);

    set(r#"[{"address": "192.0.2.21"}]"#);
    let removed = lab.json("conntrack show --json");
    assert!(removed["flows"].as_array().unwrap().iter().all(|flow| flow["target"].is_null()));
    assert_eq!(of(&targets(&lab), &one), 40);
    let expected = json!({
        "entries": 40, "size": 65_536, "created": 40 + ones, "hit": 40 + twos, "flushed": ones,
        "evicted": 0
    });
    assert_eq!(lab.json("stats --json")["conntrack"], expected);
}

#[test]
fn bad_flags_are_refused() {
    let lab = Lab::new(settings(false));
    for arguments in
        ["conntrack", "conntrack show --vni 16777216", "conntrack flush --address host"]
    {
        assert_eq!(lab.fails(arguments).0, 2, "{arguments}");
    }
}
