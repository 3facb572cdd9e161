use super::*;
use crate::parse_nat_rules;

fn target(text: &str) -> NatTarget {
    parse_target(text, 99).unwrap()
}

/// A rule whose targets are separated by spaces.
fn to(
    protocol: NatProtocol,
    port: u16,
    destination: Option<IpNet>,
    vni: Option<u32>,
    targets: &str,
) -> Result<NatRule, String> {
    let targets = targets.split_whitespace().map(|text| parse_weighted_target(text, port));
    NatRule::new(protocol, port, destination, vni, targets.map(Result::unwrap).collect())
}

fn net(text: &str) -> Option<IpNet> {
    Some(text.parse().unwrap())
}

#[test]
fn targets_on_the_command_line() {
    for (text, address, port) in [
        ("192.0.2.9:8081", "192.0.2.9", 8081),
        ("192.0.2.9", "192.0.2.9", 99),
        ("[2001:db8::9]:8081", "2001:db8::9", 8081),
        ("[2001:db8::9]", "2001:db8::9", 99),
        ("2001:db8::9", "2001:db8::9", 99),
    ] {
        let expected = NatTarget { address: address.parse().unwrap(), port };
        assert_eq!(parse_target(text, 99), Ok(expected), "{text}");
    }
    for (text, words) in [
        ("", "is not a target"),
        ("host:80", "is not a target such as 192.0.2.9:8081"),
        ("192.0.2.9:", "is not a target"),
        ("192.0.2.9:65536", "is not a target"),
        ("[192.0.2.9]:80", "is not a target"),
        ("[192.0.2.9]", "is not a target"),
        ("192.0.2.9:0", "0 is not a port"),
        ("127.0.0.1:80", "loopback"),
        ("[::1]:80", "loopback"),
        ("[ff02::1]:80", "multicast"),
        ("224.0.0.1", "multicast"),
        ("255.255.255.255", "broadcast"),
        ("[::]:80", "unspecified"),
        ("::ffff:192.0.2.9", "write 192.0.2.9"),
    ] {
        let problem = parse_target(text, 99).unwrap_err();
        assert!(problem.contains(words), "{text:?}: {problem}");
    }
    assert_eq!(parse_target("192.0.2.9", 0).unwrap().to_string(), "192.0.2.9");
}

#[test]
fn weights_on_the_command_line() {
    for (text, shown, weight) in [
        ("192.0.2.9:8081,weight=3", "192.0.2.9:8081 weight 3", 3),
        ("192.0.2.9,weight=0", "192.0.2.9:99 weight 0", 0),
        ("[2001:db8::9]:1,weight=65535", "[2001:db8::9]:1 weight 65535", 65535),
        ("2001:db8::9", "[2001:db8::9]:99", 1),
    ] {
        let target = parse_weighted_target(text, 99).unwrap();
        assert_eq!((target.to_string().as_str(), target.weight), (shown, weight), "{text}");
    }
    for (text, words) in [
        ("192.0.2.9,", "\"\" is not known, \"weight=N\" can follow"),
        ("192.0.2.9,3", "\"3\" is not known"),
        ("192.0.2.9,weight=65536", "\"65536\" is not a weight, 0 to 65535"),
        ("192.0.2.9,weight=-1", "\"-1\" is not a weight"),
        ("192.0.2.9,weight=1,weight=2", "\"1,weight=2\" is not a weight"),
        ("host,weight=1", "\"host\" is not a target"),
    ] {
        let problem = parse_weighted_target(text, 99).unwrap_err();
        assert!(problem.contains(words), "{text:?}: {problem}");
    }
}

#[test]
fn rules_are_checked_when_made() {
    let v4 = target("192.0.2.9:1");
    let make = |port, destination, vni, target: NatTarget| {
        NatRule::new(NatProtocol::Udp, port, destination, vni, vec![target.into()])
    };
    assert!(make(1, net("198.51.100.0/24"), Some(MAX_VNI), v4).is_ok());
    for (rule, words) in [
        (make(0, None, None, v4), "port: 0 is not a port"),
        (make(1, None, None, NatTarget { port: 0, ..v4 }), "targets[0].port: 0 is not a port"),
        (make(1, None, Some(MAX_VNI + 1), v4), "vni: 16777216 is not a VNI"),
        (make(1, net("198.51.100.7/24"), None, v4), "198.51.100.7/24 has host bits set"),
        (make(1, net("2001:db8::/32"), None, v4), "is IPv6, but the target 192.0.2.9 is IPv4"),
        (
            make(1, net("198.51.100.0/24"), None, target("2001:db8::9")),
            "is IPv4, but the target 2001:db8::9 is IPv6",
        ),
        (
            make(1, None, None, NatTarget { address: "127.0.0.2".parse().unwrap(), port: 1 }),
            "targets[0].address: 127.0.0.2 is a loopback address",
        ),
    ] {
        let problem = rule.unwrap_err();
        assert!(problem.contains(words), "{problem}");
    }
}

#[test]
fn targets_are_checked_together() {
    let make = |targets: &str| to(NatProtocol::Udp, 99, None, None, targets);
    assert!(make("192.0.2.9 192.0.2.9:1 192.0.2.10,weight=0").is_ok());
    let many = |count| (1..=count).map(|port| format!("192.0.2.9:{port} ")).collect::<String>();
    assert_eq!(make(&many(64)).unwrap().targets.len(), MAX_RULE_TARGETS);
    for (rule, words) in [
        (make(""), "targets: there is none"),
        (make(&many(65)), "targets: 65 targets, at most 64 are allowed"),
        (make("192.0.2.9 192.0.2.9:99"), "targets[1]: 192.0.2.9:99 is given twice"),
        (
            make("192.0.2.9 2001:db8::9"),
            "targets[1].address: 2001:db8::9 is IPv6, but the first target 192.0.2.9 is IPv4",
        ),
        (make("192.0.2.9,weight=0"), "targets: all have weight 0"),
        (make("192.0.2.9,weight=0 192.0.2.8,weight=0"), "targets: all have weight 0"),
    ] {
        let problem = rule.unwrap_err();
        assert!(problem.starts_with(words), "{problem}");
    }
}

#[test]
fn icmp_has_no_ports() {
    let target = |port| NatTarget { address: "192.0.2.9".parse().unwrap(), port };
    let make = |port, target: NatTarget| {
        NatRule::new(NatProtocol::Icmp, port, None, None, vec![target.into()])
    };
    assert_eq!(make(0, target(0)).unwrap().to_string(), "icmp -> 192.0.2.9");
    assert_eq!(make(7, target(0)).unwrap_err(), "port: 7 is given, but icmp has no ports");
    assert_eq!(
        make(0, target(7)).unwrap_err(),
        "targets[0].port: 7 is given, but icmp has no ports"
    );
}

#[test]
fn a_set_has_its_limits() {
    let targets: String = (1..=64).map(|port| format!("192.0.2.9:{port} ")).collect();
    let rule = |port| to(NatProtocol::Udp, port, None, None, &targets).unwrap();
    let mut rules: Vec<_> = (1..=128).map(rule).collect();
    assert_eq!(check_nat_limits(&rules), Ok(()));
    rules.push(to(NatProtocol::Udp, 129, None, None, "192.0.2.9").unwrap());
    let problem = check_nat_limits(&rules).unwrap_err();
    assert_eq!(problem, "the rules have 8193 targets together, at most 8192 are allowed");
}

#[test]
fn one_line_for_people() {
    use NatProtocol::{Any, Icmp, Udp};
    for (rule, line) in [
        (
            to(Udp, 31765, net("198.51.100.0/24"), Some(7), "192.0.2.9:8081"),
            "udp/31765 to 198.51.100.0/24 vni 7 -> 192.0.2.9:8081",
        ),
        (to(Any, 99, None, None, "2001:db8::9"), "any/99 -> [2001:db8::9]:99"),
        (
            to(Udp, 99, None, None, "192.0.2.9:1,weight=3 192.0.2.10:2"),
            "udp/99 -> 192.0.2.9:1 weight 3, 192.0.2.10:2",
        ),
        (
            to(Icmp, 0, net("2001:db8::/32"), None, "2001:db8::9"),
            "icmp to 2001:db8::/32 -> 2001:db8::9",
        ),
    ] {
        assert_eq!(rule.unwrap().to_string(), line);
    }
}

#[test]
fn what_is_written_can_be_read_again() {
    let rules = [
        to(NatProtocol::Udp, 1, net("198.51.100.0/24"), Some(0), "192.0.2.9:2"),
        to(NatProtocol::Any, 99, None, None, "2001:db8::9"),
        to(NatProtocol::Udp, 3, None, None, "192.0.2.9:1,weight=0 192.0.2.9:2,weight=7"),
        to(NatProtocol::Tcp, 3, None, None, "192.0.2.9,weight=2"),
        to(NatProtocol::Icmp, 0, None, None, "192.0.2.9 192.0.2.10"),
        to(NatProtocol::Icmp, 0, None, None, "2001:db8::9"),
    ]
    .map(Result::unwrap);
    let written = nat_rules_json(&rules).to_string();
    assert_eq!(parse_nat_rules(&written).unwrap(), rules);
    for (index, json) in [
        (1, r#"{"protocol":"any","port":99,"target":{"address":"2001:db8::9","port":99}}"#),
        (
            3,
            r#"{"protocol":"tcp","port":3,"targets":[{"address":"192.0.2.9","port":3,"weight":2}]}"#,
        ),
        (5, r#"{"protocol":"icmp","target":{"address":"2001:db8::9"}}"#),
    ] {
        assert_eq!(serde_json::to_string(&rules[index]).unwrap(), json);
    }
    assert_eq!(nat_rules_json(&[])["version"], "1.0");
    assert_eq!(parse_nat_rules(&nat_rules_json(&[]).to_string()), Ok(vec![]));
}

#[test]
fn what_is_matched_does_not_depend_on_the_targets() {
    let rule = |targets| to(NatProtocol::Udp, 1, None, None, targets).unwrap();
    assert_eq!(NatMatch::of(&rule("192.0.2.1")), NatMatch::of(&rule("192.0.2.2:5 192.0.2.3")));
    assert_ne!(NatMatch::of(&rule("192.0.2.1")), NatMatch::of(&rule("2001:db8::1")));
    let any = NatRule { protocol: NatProtocol::Any, ..rule("192.0.2.1") };
    assert_ne!(NatMatch::of(&rule("192.0.2.1")), NatMatch::of(&any));
}

#[test]
fn protocols() {
    assert_eq!("UDP".parse(), Ok(NatProtocol::Udp));
    assert_eq!("icmp".parse(), Ok(NatProtocol::Icmp));
    let problem = "icmpv6".parse::<NatProtocol>().unwrap_err();
    assert!(
        problem.contains("\"icmpv6\"") && problem.contains("udp, tcp, any or icmp"),
        "{problem}"
    );
    assert_eq!(format!("{:<5}|", NatProtocol::Tcp), "tcp  |");
}
