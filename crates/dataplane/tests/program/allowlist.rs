//! C11: the allowlist.

use dataplane::abi::Verdict::NotAllowed;
use dataplane::abi::{
    ALLOWLIST_MATCH_BOTH, ALLOWLIST_MATCH_DST, ALLOWLIST_MATCH_EITHER, ALLOWLIST_MATCH_SRC,
};

use crate::case::{Case, check, unchanged, verdict};
use crate::frame::{Frame, ethernet, mirror, pattern, tcp4, udp4, udp6};
use crate::rig::{Rig, with_rig};

fn with_list(match_: u32, entries: &[&str], test: impl FnOnce(&mut Rig)) {
    with_rig(
        |config| {
            config.allowlist_enabled = 1;
            config.allowlist_match = match_ as u8;
        },
        |rig| {
            rig.allow(entries);
            test(rig);
        },
    );
}

/// A packet between these two addresses.
fn between(source: &str, destination: &str) -> Frame {
    match source.contains(':') {
        false => udp4().from(&format!("{source}:40000")).to(&format!("{destination}:53")),
        true => udp6().from(&format!("[{source}]:40000")).to(&format!("[{destination}]:53")),
    }
}

fn listed(name: &str, frame: Frame) -> Case {
    unchanged(format!("C11 {name}"), frame.bytes())
}

fn refused(name: &str, frame: Frame) -> Case {
    crate::case::case(format!("C11 {name}"), mirror(&frame.bytes()), verdict(NotAllowed))
}

const ENTRIES: [&str; 2] = ["198.51.100.7", "2001:db8::7"];

/// Source listed, destination listed, both, neither: which of them go through.
fn four_ways(match_: u32, allowed: [bool; 4]) {
    let pairs = [(true, false), (false, true), (true, true), (false, false)];
    let mut cases = Vec::new();
    for (good, bad) in [("198.51.100.7", "203.0.113.1"), ("2001:db8::7", "2001:db8::8")] {
        for ((source, destination), allowed) in pairs.into_iter().zip(allowed) {
            let address = |listed| if listed { good } else { bad };
            let frame = between(address(source), address(destination));
            let name = format!("{match_}: source {source}, destination {destination}");
            cases.push(if allowed { listed(&name, frame) } else { refused(&name, frame) });
        }
    }
    with_list(match_, &ENTRIES, |rig| check(rig, cases));
}

#[test]
fn c11_either() {
    four_ways(ALLOWLIST_MATCH_EITHER, [true, true, true, false]);
}

#[test]
fn c11_source() {
    four_ways(ALLOWLIST_MATCH_SRC, [true, false, true, false]);
}

#[test]
fn c11_destination() {
    four_ways(ALLOWLIST_MATCH_DST, [false, true, true, false]);
}

#[test]
fn c11_both() {
    four_ways(ALLOWLIST_MATCH_BOTH, [false, false, true, false]);
}

/// First and last address of a prefix, and those one beyond.
#[test]
fn c11_boundaries() {
    let lists: [(&str, &[&str], &[&str]); 13] = [
        ("10.1.2.3/32", &["10.1.2.3"], &["10.1.2.2", "10.1.2.4"]),
        ("10.1.2.4/31", &["10.1.2.4", "10.1.2.5"], &["10.1.2.3", "10.1.2.6"]),
        ("10.1.2.0/24", &["10.1.2.0", "10.1.2.255"], &["10.1.1.255", "10.1.3.0"]),
        ("10.1.16.0/20", &["10.1.16.0", "10.1.31.255"], &["10.1.15.255", "10.1.32.0"]),
        ("10.0.0.0/8", &["10.0.0.0", "10.255.255.255"], &["9.255.255.255", "11.0.0.0"]),
        ("128.0.0.0/1", &["128.0.0.0", "255.255.255.255"], &["127.255.255.255", "0.0.0.0"]),
        ("0.0.0.0/0", &["0.0.0.0", "255.255.255.255", "10.1.2.3"], &["2001:db8::7", "::"]),
        ("2001:db8::7/128", &["2001:db8::7"], &["2001:db8::6", "2001:db8::8"]),
        (
            "fd00:0:0:4::/63",
            &["fd00:0:0:4::", "fd00:0:0:5:ffff:ffff:ffff:ffff"],
            &["fd00:0:0:3:ffff:ffff:ffff:ffff", "fd00:0:0:6::"],
        ),
        (
            "fd00:1::/64",
            &["fd00:1::", "fd00:1::ffff:ffff:ffff:ffff"],
            &["fd00:0:ffff:ffff:ffff:ffff:ffff:ffff", "fd00:1:0:1::"],
        ),
        ("2001:db8::10/125", &["2001:db8::10", "2001:db8::17"], &["2001:db8::f", "2001:db8::18"]),
        ("::/0", &["::", "ffff::1", "::ffff:10.1.2.3"], &["10.1.2.3", "0.0.0.0"]),
        // IPv4 written as IPv6 is IPv6: it is not in an IPv4 list.
        ("10.1.2.3", &["10.1.2.3"], &["::ffff:10.1.2.3", "::10.1.2.3"]),
    ];
    for (entry, inside, outside) in lists {
        let frame = |address: &str| match address.contains(':') {
            false => between(address, "203.0.113.1"),
            true => between(address, "2001:db8:f::1"),
        };
        let mut cases = Vec::new();
        cases.extend(inside.iter().map(|a| listed(&format!("{a} in {entry}"), frame(a))));
        cases.extend(outside.iter().map(|a| refused(&format!("{a} not in {entry}"), frame(a))));
        with_list(ALLOWLIST_MATCH_SRC, &[entry], |rig| check(rig, cases));
    }
}

#[test]
fn c11_overlapping_entries_and_replacement() {
    let from = |address: &str| between(address, "203.0.113.1");
    with_list(
        ALLOWLIST_MATCH_EITHER,
        &["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "10.1.2.3/32"],
        |rig| {
            check(
                rig,
                vec![
                    listed("in all three", from("10.1.2.3")),
                    listed("in two", from("10.1.9.9")),
                    listed("in the widest", from("10.9.9.9")),
                    refused("in none", from("11.1.2.3")),
                ],
            );
            rig.allow(&["10.1.2.3"]);
            check(
                rig,
                vec![
                    listed("what stayed", from("10.1.2.3")),
                    refused("what went", from("10.1.9.9")),
                ],
            );
            rig.allow(&[]);
            check(
                rig,
                vec![
                    refused("empty list", from("10.1.2.3")),
                    refused("empty list, IPv6", between("2001:db8::7", "2001:db8::7")),
                ],
            );
        },
    );
}

/// The addresses are found wherever they stand, and looked at whatever the protocol.
#[test]
fn c11_all_kinds_of_packet() {
    let good = || between("198.51.100.7", "203.0.113.1");
    let bad = || between("203.0.113.2", "203.0.113.1");
    let good6 = || between("2001:db8::7", "2001:db8:f::1");
    let bad6 = || between("2001:db8::8", "2001:db8:f::1");
    let cases = vec![
        listed("tagged", good().tag(0x8100, 5)),
        refused("tagged", bad().tag(0x8100, 5)),
        listed("QinQ", good6().tag(0x88a8, 5).tag(0x8100, 6)),
        refused("QinQ", bad6().tag(0x88a8, 5).tag(0x8100, 6)),
        listed("options", good().options(&[1; 40])),
        refused("options that look like a listed address", bad().options(&[198, 51, 100, 7])),
        listed("ICMP", good().raw(1).payload(&pattern(16))),
        refused("ICMP", bad().raw(1).payload(&pattern(16))),
        refused("payload with a listed address", bad().payload(&[198, 51, 100, 7])),
        refused("TCP", tcp4().from("203.0.113.2:1").to("203.0.113.1:2")),
        refused("extension headers", bad6().options_header(0, 1).fragment_header(0)),
        listed("extension headers", good6().options_header(0, 1).fragment_header(0)),
        refused("later fragment", bad().raw(17).flags(10)),
        refused("first fragment", bad().flags(crate::frame::MF)),
        unchanged("C2 not IP with NON_IP=forward", ethernet(0x0806, &pattern(28))),
    ];
    with_rig(
        |config| {
            config.allowlist_enabled = 1;
            config.non_ip_forward = 1;
        },
        |rig| {
            rig.allow(&ENTRIES);
            check(rig, cases);
        },
    );
}

#[test]
fn c11_a_list_that_is_not_enabled_counts_for_nothing() {
    with_rig(
        |_| {},
        |rig| {
            rig.allow(&ENTRIES);
            check(rig, vec![listed("disabled", between("203.0.113.2", "203.0.113.1"))]);
        },
    );
}
