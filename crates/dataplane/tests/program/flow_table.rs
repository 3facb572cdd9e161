//! The table of translated flows, as userspace reads and empties it. Entries are written as bytes.

use std::time::Duration;

use config::NatProtocol::Udp;
use dataplane::abi::{conntrack_key, conntrack_value};
use dataplane::conntrack::batch::for_each_chunk;
use dataplane::conntrack::{Conntrack, Filter, Flow};
use dataplane::{MapHandle, MapName};
use libbpf_rs::{MapCore, MapFlags};
use nix::time::{ClockId, clock_gettime};

use crate::rig::{Rig, rule, with_rig};

const IPV4: [u8; 2] = [4, 17];

/// A key: both ends as address and port, VNI, family and protocol.
fn key(low: (&[u8], u16), high: (&[u8], u16), vni: u32, kind: [u8; 2]) -> Vec<u8> {
    let address = |bytes: &[u8]| [bytes, &[0; 16][bytes.len()..]].concat();
    let ports = [low.1.to_be_bytes(), high.1.to_be_bytes()].concat();
    [&address(low.0)[..], &address(high.0), &ports, &vni.to_be_bytes(), &kind, &[0; 2]].concat()
}

/// A value: seconds ago of creation and last packet, target, serial, which end is the server.
fn value(created: u64, seen: u64, target: u32, serial: u32, server_is_high: u8) -> Vec<u8> {
    let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap());
    let time = |ago| (now - Duration::from_secs(ago)).as_nanos() as u64;
    let times = [time(created).to_ne_bytes(), time(seen).to_ne_bytes()].concat();
    let target = [target.to_ne_bytes(), serial.to_ne_bytes()].concat();
    [&times[..], &target, &[server_is_high], &[0; 7]].concat()
}

fn insert(map: &MapHandle, key: &[u8], value: &[u8]) {
    map.update(key, value, MapFlags::NO_EXIST).unwrap();
}

/// A rig with a rule, whose target is the entry with key 0 and serial 1.
fn with_table(test: impl FnOnce(&Rig, &Conntrack, &MapHandle)) {
    with_rig(
        |_| {},
        |rig| {
            rig.rules(&[rule(Udp, 31765, "192.0.2.9:8081")]);
            let conntrack = Conntrack::open(rig.pins()).unwrap();
            test(rig, &conntrack, &rig.pipeline.map(MapName::CONNTRACK).unwrap());
        },
    );
}

fn flows(conntrack: &Conntrack, filter: Filter) -> Vec<Flow> {
    let mut flows = Vec::new();
    conntrack.for_each_flow(filter, |flow| flows.push(flow)).unwrap();
    flows
}

fn all_flows(conntrack: &Conntrack) -> Vec<Flow> {
    flows(conntrack, Filter::default())
}

#[test]
fn flows_are_decoded() {
    with_table(|rig, conntrack, map| {
        let v4 = key((&[10, 0, 0, 1], 40000), (&[198, 51, 100, 7], 31765), 7, IPV4);
        insert(map, &v4, &value(100, 3, 0, 1, 1));
        let v6: [u8; 16] = *b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01";
        insert(map, &key((&v6, 9), (&[0xfe; 16], 9), 0xffffff, [6, 58]), &value(0, 0, 0, 77, 0));
        let mut flows = all_flows(conntrack);
        flows.sort_by_key(|flow| flow.vni);
        let [v4, v6] = &flows[..] else { panic!("{flows:?}") };
        assert_eq!(
            (v4.client.to_string(), v4.server.to_string(), v4.vni, v4.protocol),
            ("10.0.0.1:40000".into(), "198.51.100.7:31765".into(), 7, 17)
        );
        assert_eq!(v4.target.map(|target| target.to_string()), Some("192.0.2.9:8081".into()));
        assert_eq!((v4.age.as_secs(), v4.idle.as_secs()), (100, 3));
        assert_eq!(
            (v6.client.to_string(), v6.server.to_string(), v6.vni, v6.protocol),
            (
                "[fefe:fefe:fefe:fefe:fefe:fefe:fefe:fefe]:9".into(),
                "[2001:db8::1]:9".into(),
                0xffffff,
                58
            )
        );
        assert_eq!(v6.target, None, "of another serial");

        rig.rules_unresolved(&[rule(Udp, 31765, "192.0.2.10:8081")]);
        assert!(all_flows(conntrack).iter().all(|flow| flow.target.is_none()));
    });
}

#[test]
fn flows_are_chosen_and_removed() {
    with_table(|_, conntrack, map| {
        for last in 1..=10 {
            let key = key((&[10, 0, 0, last], 40000), (&[198, 51, 100, 7], 31765), 7, IPV4);
            insert(map, &key, &value(9, 9, 0, 1, 1));
        }
        let other = key((&[10, 0, 0, 1], 5), (&[198, 51, 100, 7], 6), 8, IPV4);
        insert(map, &other, &value(9, 9, 0, 0, 0));
        let count = |filter| flows(conntrack, filter).len();
        let vni = |vni| Filter { vni: Some(vni), ..Filter::default() };
        let port = |port| Filter { port: Some(port), ..Filter::default() };
        let address =
            |text: &str| Filter { address: Some(text.parse().unwrap()), ..Filter::default() };
        assert_eq!([7, 8, 9].map(|n| count(vni(n))), [10, 1, 0]);
        assert_eq!([40000, 5, 6, 31765, 8081, 7].map(|n| count(port(n))), [10, 1, 1, 10, 10, 0]);
        let addresses = ["10.0.0.1", "198.51.100.7", "192.0.2.9", "2001:db8::1"];
        assert_eq!(addresses.map(|text| count(address(text))), [2, 11, 10, 0]);
        assert_eq!(count(Filter { vni: Some(8), ..address("10.0.0.1") }), 1);

        assert_eq!(conntrack.flush(address("10.0.0.1")).unwrap(), 2);
        assert_eq!(conntrack.flush(vni(8)).unwrap(), 0);
        let summary = conntrack.summary().unwrap();
        assert_eq!((summary.entries, summary.size, summary.flushed), (9, 65536, 2));
        assert_eq!(conntrack.flush(Filter::default()).unwrap(), 9);
        let summary = conntrack.summary().unwrap();
        assert_eq!((summary.entries, summary.flushed, summary.created), (0, 11, 0));
    });
}

/// The kernel may end a batch before it is full.
#[test]
fn every_flow_of_a_large_table_is_found() {
    with_table(|_, conntrack, map| {
        const FLOWS: u32 = 20_000; // far below the size: no flow makes room for another
        let value = value(1, 1, 0, 1, 0);
        for number in 0..FLOWS {
            let [_, a, b, c] = number.to_be_bytes();
            insert(map, &key((&[10, a, b, c], 1), (&[198, 51, 100, 7], 2), 7, IPV4), &value);
        }
        assert_eq!(conntrack.summary().unwrap().entries, u64::from(FLOWS));
        let mut clients: Vec<_> = all_flows(conntrack).iter().map(|flow| flow.server).collect();
        clients.sort_unstable();
        clients.dedup();
        assert_eq!(clients.len(), FLOWS as usize);

        // Too little room for most buckets with several entries.
        let mut addresses = Vec::new();
        for_each_chunk(map, 1, |keys: &[conntrack_key], values: &[conntrack_value]| {
            assert_eq!(keys.len(), values.len());
            addresses.extend(keys.iter().map(|key| key.low_address));
            Ok(())
        })
        .unwrap();
        assert_eq!(addresses.len(), FLOWS as usize);
        addresses.sort_unstable();
        addresses.dedup();
        assert_eq!(addresses.len(), FLOWS as usize);
        let other = for_each_chunk(map, 1, |_: &[u32], _: &[u32]| Ok(())).unwrap_err();
        assert_eq!(format!("{other:#}"), "reading conntrack_map: it is of another type or layout");
        assert_eq!(conntrack.flush(Filter::default()).unwrap(), u64::from(FLOWS));
    });
}
