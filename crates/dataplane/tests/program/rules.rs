//! What NAT rules become in the maps, and what stays of it when they are replaced.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use config::NatProtocol::{Any, Icmp, Tcp, Udp};
use config::{NatRule, NatTarget};
use dataplane::MapName;
use dataplane::maglev::SLOTS;
use dataplane::nat::NatTable;
use libbpf_rs::{MapCore, MapFlags};

use crate::frame::{mirror, udp4};
use crate::rig::{Rig, echo_rule, next_hop, rule, rule_for, several, with_rig};

/// Entries of `target_map` that are in use: key and bytes.
fn targets(rig: &Rig) -> BTreeMap<u32, Vec<u8>> {
    let map = rig.pipeline.map(MapName::TARGETS).unwrap();
    (0..map.max_entries())
        .map(|key| (key, map.lookup(&key.to_ne_bytes(), MapFlags::ANY).unwrap().unwrap()))
        .filter(|(_, value)| value[28..] != [0; 4])
        .collect()
}

/// Key and serial of the only entry in use for an IPv4 address.
fn place(rig: &Rig, address: [u8; 4]) -> (u32, u32) {
    let found: Vec<_> = targets(rig)
        .into_iter()
        .filter(|(_, value)| value[..4] == address)
        .map(|(key, value)| (key, u32::from_ne_bytes(value[28..].try_into().unwrap())))
        .collect();
    assert_eq!(found.len(), 1, "{address:?}: {found:?}");
    found[0]
}

fn keys(rig: &Rig, name: MapName) -> usize {
    rig.pipeline.map(name).unwrap().keys().count()
}

/// `count` rules of 64 targets each, none of which another `set` has.
fn large_set(set: u8, count: u16) -> Vec<NatRule> {
    let rule = |port| {
        let target = |last| NatTarget { address: [198, 18, set, last].into(), port };
        NatRule::new(Udp, port, None, None, (1..=64).map(|last| target(last).into()).collect())
    };
    (1..=count).map(|port| rule(port).unwrap()).collect()
}

#[test]
fn a_target_is_an_entry() {
    with_rig(
        |_| {},
        |rig| {
            rig.rules(&[rule(Udp, 31765, "192.0.2.9:8081")]);
            let (key, _) = place(rig, [192, 0, 2, 9]);
            let entry = b"\xc0\0\x02\x09\0\0\0\0\0\0\0\0\0\0\0\0\
                \x02\x4e\xc0\0\x02\x09\x01\0\x1f\x91\x04\0\x01\0\0\0";
            assert_eq!(targets(rig), BTreeMap::from([(key, entry.to_vec())]));
            rig.rules_unresolved(&[rule(Any, 7, "[2001:db8::9]:8081")]);
            let entry = b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x09\
                \0\0\0\0\0\0\0\0\x1f\x91\x06\0\x02\0\0\0";
            assert_eq!(targets(rig).into_values().collect::<Vec<_>>(), [entry.to_vec()]);
        },
    );
}

#[test]
fn several_targets_are_a_table_of_slots() {
    with_rig(
        |_| {},
        |rig| {
            rig.rules(&[several(
                Udp,
                7,
                &[("192.0.2.1:7", 3), ("192.0.2.2:7", 1), ("192.0.2.3:7", 0)],
            )]);
            let indexes = [1, 2, 3].map(|last| place(rig, [192, 0, 2, last]).0 as u16);
            let map = rig.pipeline.map(MapName::MAGLEV).unwrap();
            let key = map.keys().next().unwrap();
            let value = map.lookup(&key, MapFlags::ANY).unwrap().unwrap();
            let words: Vec<u16> =
                value.chunks(2).map(|pair| u16::from_ne_bytes([pair[0], pair[1]])).collect();
            assert_eq!(words[..4], [3, 0, 0, 0], "count");
            assert_eq!(words[4..10], [indexes[0], 3, indexes[1], 1, indexes[2], 0]);
            assert!(words[10..132].iter().all(|word| *word == 0));
            let slots = &words[132..132 + SLOTS];
            let count = |index| slots.iter().filter(|slot| **slot == index).count();
            assert_eq!(indexes.map(count), [3075, 1024, 0]);

            let rules = rig.pipeline.map(MapName::NAT).unwrap();
            let rule = rules.lookup(&rules.keys().next().unwrap(), MapFlags::ANY).unwrap().unwrap();
            assert_eq!(rule[..16], [0; 16]);
            assert_eq!(rule[18..20], 1u16.to_ne_bytes(), "NAT_FLAG_SEVERAL");
            assert_eq!(rule[20..], key[..]);
        },
    );
}

#[test]
fn a_target_keeps_its_entry_as_long_as_its_rule_has_it() {
    with_rig(
        |_| {},
        |rig| {
            let [one, two, three] = [1, 2, 3].map(|last| [192, 0, 2, last]);
            rig.rules(&[several(Udp, 7, &[("192.0.2.1:7", 1), ("192.0.2.2:7", 1)])]);
            let before = [one, two].map(|address| place(rig, address));
            // Weights, order and company change.
            for targets in [
                &[("192.0.2.2:7", 5), ("192.0.2.1:7", 0)][..],
                &[("192.0.2.3:7", 1), ("192.0.2.2:7", 5), ("192.0.2.1:7", 0)],
            ] {
                rig.rules_unresolved(&[several(Udp, 7, targets), rule(Udp, 8, "192.0.2.8:8")]);
                assert_eq!([one, two].map(|address| place(rig, address)), before);
            }
            let (_, third) = place(rig, three);
            assert!(!before.iter().any(|(_, serial)| *serial == third));
            // It is the only one left.
            rig.rules_unresolved(&[rule(Udp, 7, "192.0.2.1:7")]);
            assert_eq!(place(rig, one), before[0]);
            assert_eq!(targets(rig).len(), 1);
            // Another match is another rule, another port another target, and what comes back is new.
            rig.rules_unresolved(&[rule(Tcp, 7, "192.0.2.1:7"), rule(Any, 7, "192.0.2.2:7")]);
            assert_ne!(place(rig, one).1, before[0].1);
            assert_ne!(place(rig, two).1, before[1].1);
            rig.rules_unresolved(&[rule(Tcp, 7, "192.0.2.1:9")]);
            let serial = place(rig, one).1;
            rig.rules_unresolved(&[rule(Tcp, 7, "192.0.2.1:7")]);
            assert_ne!(place(rig, one).1, serial);
        },
    );
}

#[test]
fn nothing_leaks() {
    with_rig(
        |_| {},
        |rig| {
            let nat = rig.nat();
            rig.rules(&large_set(1, 128));
            assert_eq!((keys(rig, MapName::MAGLEV), targets(rig).len()), (128, 8192));
            let _interrupted = nat.stage(&large_set(2, 128)).unwrap(); // as if the process had died
            assert_eq!(targets(rig).len(), 16384);
            let staged = nat.stage(&large_set(3, 128)).unwrap();
            assert_eq!(targets(rig).len(), 16384);
            let error = nat.abandon(staged, anyhow::anyhow!("no next hop"));
            assert_eq!(format!("{error:#}"), "no next hop");
            assert_eq!((keys(rig, MapName::MAGLEV), targets(rig).len()), (128, 8192));
            assert_eq!(keys(rig, MapName::NAT), 128);
            rig.rules_unresolved(&large_set(4, 128));
            assert_eq!(nat.rules().unwrap().len(), 128);
            rig.rules_unresolved(&[]);
            let left = [MapName::MAGLEV, MapName::NAT].map(|name| keys(rig, name));
            assert_eq!((left, targets(rig).len()), ([0, 0], 0));

            let error = nat.stage(&large_set(1, 129)).unwrap_err().to_string();
            assert!(error.contains("full") && error.contains("8256 targets"), "{error}");
        },
    );
}

#[test]
fn rules_are_read_back_as_they_were_given() {
    with_rig(
        |_| {},
        |rig| {
            let rules = [
                echo_rule(&["192.0.2.9"]),
                echo_rule(&["2001:db8::9", "2001:db8::a"]),
                rule_for(Udp, 7, Some("198.51.100.0/24"), Some(7), "192.0.2.9:7"),
                several(Udp, 7, &[("192.0.2.3:7", 2), ("192.0.2.1:9", 0)]),
                several(Tcp, 9, &[("[2001:db8::9]:7", 5)]),
            ];
            rig.rules(&rules);
            let installed = rig.nat().rules().unwrap();
            assert_eq!(installed.iter().map(|i| i.rule.clone()).collect::<Vec<_>>(), rules);
            let slots: Vec<Vec<_>> =
                installed.iter().map(|i| i.targets.iter().map(|t| t.slots).collect()).collect();
            assert_eq!(slots[0], [SLOTS]);
            assert_eq!(slots[1].iter().sum::<usize>(), SLOTS);
            assert_eq!((&slots[3][..], &slots[4][..]), (&[SLOTS, 0][..], &[SLOTS][..]));
            for (rule, target) in
                installed.iter().flat_map(|i| i.rule.targets.iter().zip(&i.targets))
            {
                assert_eq!(target.next_hop, Some(next_hop(rule.target.address)));
            }
            assert_eq!(installed[0].rule.protocol, Icmp);
        },
    );
}

#[test]
fn next_hops_are_of_addresses() {
    with_rig(
        |_| {},
        |rig| {
            let nat = rig.nat();
            let both = [rule(Udp, 7, "192.0.2.1:7"), rule(Tcp, 7, "192.0.2.1:9")];
            rig.rules_unresolved(&both);
            let address = [192, 0, 2, 1].into();
            assert_eq!(nat.next_hops(), [(address, None)]);
            rig.resolve("192.0.2.1", Some([2, 0, 0, 0, 0, 1]));
            assert_eq!(nat.next_hops(), [(address, Some([2, 0, 0, 0, 0, 1]))]);
            assert_eq!(targets(rig).len(), 2);
            // What is known of an address is known of its new entries.
            let staged =
                nat.stage(&[rule(Udp, 8, "192.0.2.1:7"), rule(Udp, 9, "192.0.2.2:7")]).unwrap();
            let expected = [(address, Some([2, 0, 0, 0, 0, 1])), ([192, 0, 2, 2].into(), None)];
            assert_eq!(nat.next_hops(), expected);
            nat.activate(staged).unwrap();
            assert_eq!(nat.next_hops(), expected);
            rig.resolve("192.0.2.1", None);
            assert_eq!(nat.next_hops()[0], (address, None));
        },
    );
}

#[test]
fn no_packet_meets_half_a_set() {
    // Each set has other targets and company of another size; one target is in both.
    let set = |odd: bool| {
        let targets: &[_] = match odd {
            true => &[("192.0.2.1:7", 1), ("192.0.2.2:7", 2)],
            false => &[("192.0.2.2:7", 1), ("192.0.2.3:7", 1), ("192.0.2.4:7", 3)],
        };
        let company = (100..if odd { 110 } else { 150 }).map(|port| rule(Udp, port, "192.0.2.9:9"));
        company.chain([several(Udp, 31765, targets)]).collect::<Vec<_>>()
    };
    with_rig(
        |_| {},
        |rig| {
            rig.rules(&set(true));
            let nat = NatTable::open(rig.pins()).unwrap();
            let given = std::thread::scope(|scope| {
                let changes = scope.spawn(|| {
                    let (begin, mut changes) = (Instant::now(), 0);
                    while begin.elapsed() < Duration::from_secs(2) {
                        let rules = set(changes % 2 == 1);
                        let staged = nat.stage(&rules).unwrap();
                        let addresses = (1..10).map(|last| IpAddr::from([192, 0, 2, last]));
                        let next_hops = addresses.map(|address| (address, Some(next_hop(address))));
                        nat.set_next_hops(&next_hops.collect());
                        nat.activate(staged).unwrap();
                        changes += 1;
                    }
                    changes
                });
                let clients = (0u32..65536).take_while(|_| !changes.is_finished());
                let given: Vec<_> = clients.map(|client| target_of(rig, client)).collect();
                assert!(changes.join().unwrap() > 10, "the rules hardly changed");
                given
            });
            for last in 1..=4 {
                let count = given.iter().filter(|address| **address == [192, 0, 2, last]).count();
                assert!(count > given.len() / 50, "192.0.2.{last}: {count} of {}", given.len());
            }
        },
    );
}

/// The target that the first packet of a client's flow is sent to, with its next hop's address.
fn target_of(rig: &Rig, client: u32) -> [u8; 4] {
    let client = format!("10.{}.{}.1:5", client >> 8, client & 0xff);
    let frame = udp4().from(&client);
    rig.run(&mirror(&frame.bytes()));
    let [sent] = &rig.drain()[..] else { panic!("{client}: nothing left") };
    let address: [u8; 4] = sent[30..34].try_into().unwrap();
    let target = format!("{}:7", Ipv4Addr::from(address));
    assert_eq!(sent, &frame.translated(&target).bytes(), "{client} to {target}");
    address
}
