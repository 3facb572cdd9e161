//! The next hops of untranslated frames (REWRITE_L2=all). Needs root.

mod common;

use common::{Bench, assert_says, stop, wait_until};
use dataplane::nat::Mac;
use dataplane::next_hops::{Family, NextHopMap};
use lab::{Namespace, TAP};

const ALL: [&str; 2] = ["--rewrite-l2", "all"];
const NEW_MAC: Mac = [2, 0, 0, 0, 0, 0x99];
const NEW_MAC_TEXT: &str = "02:00:00:00:00:99";

fn ip(bench: &Bench, arguments: &str) {
    let argv: Vec<&str> = std::iter::once("ip").chain(arguments.split(' ')).collect();
    bench.lab.run(Namespace::Pipeline, &argv).unwrap();
}

fn next_hop(bench: &Bench, family: Family) -> Option<Mac> {
    NextHopMap::open(&bench.pins()).unwrap().get(family)
}

fn both(bench: &Bench) -> [Option<Mac>; 2] {
    Family::ALL.map(|family| next_hop(bench, family))
}

#[test]
fn without_a_default_route_a_next_hop_must_be_given() {
    let bench = Bench::new();
    let text = bench.fails(1, &ALL);
    assert_says(&text, &["no default IPv4 route out of ens6", "no default IPv6 route", "NEXT_HOP"]);
    ip(&bench, "route add default dev ens6");
    assert_says(&bench.fails(1, &ALL), &["the default IPv4 route out of ens6 has no gateway"]);
    // A route to half of everything is no default route.
    ip(&bench, "route replace 128.0.0.0/1 via 198.18.1.2");
    assert_says(&bench.fails(1, &ALL), &["no default IPv4 route out of ens6"]);
    let text = bench.fails(2, &["--next-hop", "198.18.1.2"]);
    assert_says(&text, &["NEXT_HOP=198.18.1.2 (flag --next-hop)", "REWRITE_L2=all"]);
    bench.assert_nothing_left();
}

#[test]
fn a_next_hop_that_can_not_be_reached() {
    let bench = Bench::new();
    for (next_hop, reason) in [
        ("198.18.1.2,2001:db8:77::7", "no route to 2001:db8:77::7 out of ens6"),
        ("203.0.113.7", "no route to 203.0.113.7 out of ens6"),
        ("198.18.1.1", "an address of this host itself"),
        ("198.18.1.77", "198.18.1.77 does not answer on ens6"),
    ] {
        let text = bench.fails(1, &["--rewrite-l2", "all", "--next-hop", next_hop]);
        assert_says(&text, &["NEXT_HOP can't be reached", reason]);
    }
    bench.assert_nothing_left();
}

#[test]
fn the_next_hops_that_are_given() {
    let bench = Bench::new();
    let process = bench.start(&["--rewrite-l2", "all", "--next-hop", "198.18.1.2"]);
    assert_eq!(both(&bench), [Some(TAP.mac), None]);
    let said = stop(process);
    assert_says(&said, &["warning: untranslated IPv6 frames have no next hop", "are dropped"]);

    let both_given = ["-v", "--rewrite-l2", "all", "--next-hop", "198.18.1.2,2001:db8:19::2"];
    let process = bench.start(&both_given);
    assert_eq!(both(&bench), [Some(TAP.mac); 2]);
    let said = stop(process);
    assert_says(&said, &["next hop of untranslated IPv6 frames is 2001:db8:19::2"]);
    assert!(!said.contains("warning: untranslated"), "{said}");
    bench.assert_nothing_left();
}

#[test]
fn the_gateway_of_the_default_route_is_followed() {
    let bench = Bench::new();
    ip(&bench, "route add default via 198.18.1.2");
    ip(&bench, "-6 route add default via 2001:db8:19::2 dev ens6");
    let process = bench.start(&ALL);
    assert_eq!(both(&bench), [Some(TAP.mac); 2]);
    let permanent = |address: &str| {
        let entry = format!("neigh replace {address} lladdr {NEW_MAC_TEXT} dev ens6 nud permanent");
        ip(&bench, &entry);
    };
    permanent("2001:db8:19::2");
    wait_until("the new MAC address", || next_hop(&bench, Family::Ipv6) == Some(NEW_MAC));
    permanent("198.18.1.50");
    ip(&bench, "route replace default via 198.18.1.50");
    wait_until("the new gateway", || next_hop(&bench, Family::Ipv4) == Some(NEW_MAC));
    ip(&bench, "route del default");
    wait_until("no gateway", || next_hop(&bench, Family::Ipv4).is_none());
    assert_eq!(next_hop(&bench, Family::Ipv6), Some(NEW_MAC));
    let said = stop(process);
    let warning = "warning: untranslated IPv4 frames have no next hop and are dropped";
    assert_says(&said, &[NEW_MAC_TEXT, "198.18.1.50", warning]);
}

#[test]
fn one_ip_version_with_a_gateway_is_enough() {
    let bench = Bench::new();
    ip(&bench, "-6 route add default via 2001:db8:19::2 dev ens6");
    let process = bench.start(&ALL);
    assert_eq!(both(&bench), [None, Some(TAP.mac)]);
    assert_says(&stop(process), &["no default IPv4 route out of ens6", "next_hop_unresolved"]);
}
