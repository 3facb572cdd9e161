use super::*;
use crate::parse_nat_rules;

fn target(text: &str) -> NatTarget {
    parse_target(text, 99).unwrap()
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
    assert!(parse_target("192.0.2.9", 0).unwrap_err().contains("0 is not a port"));
}

#[test]
fn rules_are_checked_when_made() {
    let v4 = target("192.0.2.9:1");
    let make = |port, destination, vni, target| {
        NatRule::new(NatProtocol::Udp, port, destination, vni, target)
    };
    assert!(make(1, net("198.51.100.0/24"), Some(MAX_VNI), v4).is_ok());
    for (rule, words) in [
        (make(0, None, None, v4), "port: 0 is not a port"),
        (make(1, None, None, NatTarget { port: 0, ..v4 }), "target.port: 0 is not a port"),
        (make(1, None, Some(MAX_VNI + 1), v4), "vni: 16777216 is not a VNI"),
        (make(1, net("198.51.100.7/24"), None, v4), "198.51.100.7/24 has host bits set"),
        (make(1, net("2001:db8::/32"), None, v4), "is IPv6, but the target 192.0.2.9 is IPv4"),
        (
            make(1, net("198.51.100.0/24"), None, target("2001:db8::9")),
            "is IPv4, but the target 2001:db8::9 is IPv6",
        ),
        (
            make(1, None, None, NatTarget { address: "127.0.0.2".parse().unwrap(), port: 1 }),
            "target.address: 127.0.0.2 is a loopback address",
        ),
    ] {
        let problem = rule.unwrap_err();
        assert!(problem.contains(words), "{problem}");
    }
}

#[test]
fn one_line_for_people() {
    let (to, port) = (target("192.0.2.9:8081"), 31765);
    let full = NatRule::new(NatProtocol::Udp, port, net("198.51.100.0/24"), Some(7), to).unwrap();
    assert_eq!(full.to_string(), "udp/31765 to 198.51.100.0/24 vni 7 -> 192.0.2.9:8081");
    let short = NatRule::new(NatProtocol::Any, port, None, None, target("2001:db8::9")).unwrap();
    assert_eq!(short.to_string(), "any/31765 -> [2001:db8::9]:99");
}

#[test]
fn what_is_written_can_be_read_again() {
    let rules = [
        NatRule::new(NatProtocol::Udp, 1, net("198.51.100.0/24"), Some(0), target("192.0.2.9:2")),
        NatRule::new(NatProtocol::Any, 1, None, None, target("2001:db8::9")),
    ]
    .map(Result::unwrap);
    let written = nat_rules_json(&rules).to_string();
    assert_eq!(parse_nat_rules(&written).unwrap(), rules);
    assert_eq!(
        serde_json::to_string(&rules[1]).unwrap(),
        r#"{"protocol":"any","port":1,"target":{"address":"2001:db8::9","port":99}}"#
    );
    assert_eq!(nat_rules_json(&[])["version"], "1.0");
    assert_eq!(parse_nat_rules(&nat_rules_json(&[]).to_string()), Ok(vec![]));
}

#[test]
fn what_is_matched_does_not_depend_on_the_target() {
    let rule = |to| NatRule::new(NatProtocol::Udp, 1, None, None, target(to)).unwrap();
    assert_eq!(NatMatch::of(&rule("192.0.2.1")), NatMatch::of(&rule("192.0.2.2:5")));
    assert_ne!(NatMatch::of(&rule("192.0.2.1")), NatMatch::of(&rule("2001:db8::1")));
    let any = NatRule { protocol: NatProtocol::Any, ..rule("192.0.2.1") };
    assert_ne!(NatMatch::of(&rule("192.0.2.1")), NatMatch::of(&any));
}

#[test]
fn protocols() {
    assert_eq!("UDP".parse(), Ok(NatProtocol::Udp));
    let problem = "icmp".parse::<NatProtocol>().unwrap_err();
    assert!(problem.contains("\"icmp\"") && problem.contains("udp, tcp or any"), "{problem}");
    assert_eq!(format!("{:<5}|", NatProtocol::Tcp), "tcp  |");
}
