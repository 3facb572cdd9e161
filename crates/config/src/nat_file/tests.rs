use super::*;
use crate::nat::MAX_NAT_RULES;

/// A file with these rules.
fn parse(rules: &str) -> Result<Vec<NatRule>, String> {
    parse_nat_rules(&format!("{{\"rules\": [{rules}]}}"))
}

fn lines(rules: &str) -> Vec<String> {
    parse(rules).unwrap().iter().map(NatRule::to_string).collect()
}

const TO: &str = r#""target": {"address": "192.0.2.9", "port": 5}"#;

#[test]
fn the_example_is_good() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/nat-rules.json");
    let lines: Vec<_> = load_nat_rules(&path).unwrap().iter().map(NatRule::to_string).collect();
    assert_eq!(
        lines,
        [
            "udp/31765 -> 192.0.2.9:8081",
            "udp/31765 to 198.51.100.0/24 vni 7 -> 192.0.2.10:8081",
            "udp/31765 -> [2001:db8:9::9]:8081",
            "tcp/514 to 203.0.113.7/32 -> 192.0.2.11:514",
            "any/2055 to 2001:db8:5::/48 -> [2001:db8:9::10]:9995",
            "any/8125 vni 4242 -> 192.0.2.12:8125",
            "udp/6343 -> 192.0.2.21:6343 weight 3, 192.0.2.22:6343, 192.0.2.23:6343 weight 0",
            "icmp to 198.51.100.0/24 -> 192.0.2.9",
        ]
    );
}

#[test]
fn what_may_be_missing() {
    let text = r#"{"port": 7, "target": {"address": "192.0.2.9"}},
                  {"port": 8, "targets": [{"address": "2001:db8::9", "port": 1}]}"#;
    assert_eq!(lines(text), ["any/7 -> 192.0.2.9:7", "any/8 -> [2001:db8::9]:1"]);
    let text = r#"{"port": 7, "targets": [{"address": "192.0.2.9"}, {"address": "192.0.2.9",
                    "port": 8, "weight": 0}]},
                  {"protocol": "icmp", "target": {"address": "192.0.2.9"}}"#;
    let expected = ["any/7 -> 192.0.2.9:7, 192.0.2.9:8 weight 0", "icmp -> 192.0.2.9"];
    assert_eq!(lines(text), expected);
    assert_eq!(parse(""), Ok(vec![]));
}

#[test]
fn bad_rules_are_named_with_their_place() {
    for (rule, words) in [
        ("7", "rules[1]: expected an object, not 7"),
        (
            r#"{"port": 1, "target": {"address": "192.0.2.9"}, "prot": "udp"}"#,
            r#"rules[1]: unknown key "prot", known are protocol, port"#,
        ),
        (r#"{"target": {"address": "192.0.2.9"}}"#, r#"rules[1]: key "port" is missing"#),
        (r#"{"port": 0, T}"#, "rules[1].port: 0 is not a port"),
        (r#"{"port": 65536, T}"#, "rules[1].port: 65536 is not a port"),
        (r#"{"port": -1, T}"#, "rules[1].port: -1 is not a port"),
        (r#"{"port": 1.5, T}"#, "rules[1].port: 1.5 is not a port"),
        (r#"{"port": "1", T}"#, "rules[1].port: \"1\" is not a port, a number"),
        (r#"{"port": 1, "protocol": "sctp", T}"#, "rules[1].protocol: \"sctp\" is not a protocol"),
        (
            r#"{"port": 1, "protocol": "icmp", T}"#,
            "rules[1].port: 1 is given, but icmp has no ports",
        ),
        (r#"{"protocol": "icmp", T}"#, "rules[1].target.port: 5 is given, but icmp has no ports"),
        (r#"{"port": 1, "protocol": 17, T}"#, "rules[1].protocol: expected a text, not 17"),
        (r#"{"port": 1, "vni": 16777216, T}"#, "rules[1].vni: 16777216 is not a VNI"),
        (r#"{"port": 1, "vni": 4294967296, T}"#, "rules[1].vni: 4294967296 is not a VNI"),
        (r#"{"port": 1, "vni": "7", T}"#, "rules[1].vni: \"7\" is not a VNI"),
        (r#"{"port": 1, "vni": null, T}"#, "rules[1].vni: null is not a VNI"),
        (
            r#"{"port": 1, "destination": "x", T}"#,
            "rules[1].destination: \"x\" is not an IPv4/IPv6",
        ),
        (
            r#"{"port": 1, "destination": "198.51.100.7/24", T}"#,
            "rules[1].destination: \"198.51.100.7/24\" has host bits set",
        ),
        (
            r#"{"port": 1, "destination": "2001:db8::/32", T}"#,
            "rules[1].destination: 2001:db8::/32 is IPv6, but the target 192.0.2.9 is IPv4",
        ),
        (r#"{"port": 1}"#, r#"rules[1]: key "target" is missing"#),
        (r#"{"port": 1, "targets": [], T}"#, r#"rules[1]: has both "target" and "targets""#),
        (r#"{"port": 1, "targets": []}"#, "rules[1].targets: there is none"),
        (
            r#"{"port": 1, "targets": [{"address": "192.0.2.9", "weigth": 1}]}"#,
            r#"rules[1].targets[0]: unknown key "weigth", known are address, port, weight"#,
        ),
        (
            r#"{"port": 1, "targets": [{"address": "192.0.2.9", "weight": 65536}]}"#,
            "rules[1].targets[0].weight: 65536 is not a weight, a number from 0 to 65535",
        ),
        (
            r#"{"port": 1, "targets": [{"address": "192.0.2.9", "weight": 0}]}"#,
            "rules[1].targets: all have weight 0",
        ),
        (
            r#"{"port": 1, "targets": [{"address": "192.0.2.9"}, {"address": "192.0.2.9"}]}"#,
            "rules[1].targets[1]: 192.0.2.9:1 is given twice",
        ),
        (
            r#"{"port": 1, "targets": [{"address": "192.0.2.9"}, {"address": "2001:db8::9"}]}"#,
            "rules[1].targets[1].address: 2001:db8::9 is IPv6, but the first",
        ),
        (
            r#"{"port": 1, "target": {"address": "192.0.2.9", "weight": 2}}"#,
            r#"rules[1].target: unknown key "weight", known are address, port"#,
        ),
        (r#"{"port": 1, "target": {"port": 1}}"#, r#"rules[1].target: key "address" is missing"#),
        (
            r#"{"port": 1, "target": {"address": "192.0.2.9", "port": 0}}"#,
            "rules[1].target.port: 0 is not a port",
        ),
        (
            r#"{"port": 1, "target": {"address": "host"}}"#,
            "rules[1].target.address: \"host\": it is not an IPv4 or IPv6 address",
        ),
        (
            r#"{"port": 1, "target": {"address": "224.0.0.1"}}"#,
            "rules[1].target.address: \"224.0.0.1\": 224.0.0.1 is a multicast address",
        ),
    ] {
        let rules =
            format!("{{\"port\": 60000, {TO}}}, {rule}").replace(" T}", &format!(" {TO}}}"));
        let problem = parse(&rules).unwrap_err();
        assert!(problem.starts_with(words), "{rule}: {problem}");
    }
}

#[test]
fn bad_files() {
    for (text, words) in [
        ("{\"rules\": [}", "line 1 column 12"),
        ("[]", "top level: expected an object, not a list"),
        ("{}", "key \"rules\" is missing"),
        ("{\"rules\": {}}", "rules: expected a list, not an object"),
        ("{\"rules\": [], \"rulez\": []}", "top level: unknown key \"rulez\""),
        ("{\"version\": 1, \"rules\": []}", "version: expected a text, not 1"),
        ("{\"rules\": [], \"rules\": []}", "key \"rules\" is given twice"),
    ] {
        let problem = parse_nat_rules(text).unwrap_err();
        assert!(problem.contains(words), "{text}: {problem}");
    }
}

#[test]
fn two_rules_for_the_same_packets_are_refused() {
    let twice = r#"{"port": 1, "protocol": "udp", "target": {"address": "192.0.2.9"}},
        {"port": 1, "protocol": "udp", "target": {"address": "2001:db8::9"}},
        {"port": 1, "protocol": "tcp", "target": {"address": "192.0.2.9"}},
        {"port": 1, "protocol": "udp", "vni": 0, "target": {"address": "192.0.2.9"}},
        {"port": 1, "protocol": "udp", "target": {"address": "192.0.2.10"}}"#;
    let problem = parse(twice).unwrap_err();
    let expected = "rules[4] matches the same packets as rules[0] (udp/1 -> 192.0.2.10:1)";
    assert_eq!(problem, expected);

    let networks = r#"{"port": 1, "destination": "198.51.100.7", "target": {"address": "192.0.2.9"}},
        {"port": 1, "destination": "198.51.100.7/32", "target": {"address": "192.0.2.9"}}"#;
    assert!(parse(networks).unwrap_err().contains("rules[1] matches the same packets as rules[0]"));
}

#[test]
fn at_most_4096_rules() {
    let rules = |count: usize| {
        let rules: Vec<_> = (1..=count).map(|port| format!("{{\"port\": {port}, {TO}}}")).collect();
        parse(&rules.join(","))
    };
    assert_eq!(rules(4096).unwrap().len(), MAX_NAT_RULES);
    assert!(rules(4097).unwrap_err().contains("rules: 4097 rules, at most 4096"));
}
