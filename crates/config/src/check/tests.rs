use std::ffi::OsString;

use super::*;
use crate::MAX_NAT_RULES;

fn resolve(given: &[(&str, &str)]) -> Result<(Settings, Vec<Warning>), ConfigError> {
    let matches = crate::command("test", "A test.", Key::ALL).get_matches_from(["test"]);
    let environment =
        |name: &str| given.iter().find(|(key, _)| *key == name).map(|(_, v)| OsString::from(v));
    Settings::resolve(&matches, &environment, Path::new("/nonexistent/.env"))
}

fn refusal(given: &[(&str, &str)]) -> String {
    resolve(given).unwrap_err().to_string()
}

#[test]
fn the_interfaces_must_differ() {
    let error = refusal(&[("INTERFACE", "ens5"), ("TARGET_INTERFACE", "ens5")]);
    assert!(error.contains("INTERFACE=ens5 (environment variable INTERFACE)"), "{error}");
    assert!(error.contains("TARGET_INTERFACE=ens5 (environment"), "{error}");
    assert!(resolve(&[("INTERFACE", "ens5"), ("TARGET_INTERFACE", "ens6")]).is_ok());
}

#[test]
fn the_three_nat_settings_belong_together() {
    let ip = ("NAT_IP", "192.0.2.9");
    let port = ("NAT_PORT", "8081");
    let source = ("SOURCE_PORT", "31765");
    for (given, words) in [
        (&[ip][..], "NAT_IP=192.0.2.9 (environment variable NAT_IP) needs SOURCE_PORT"),
        (&[ip, port], "needs SOURCE_PORT, which is not set"),
        (&[source], "SOURCE_PORT=31765 (environment variable SOURCE_PORT) needs NAT_IP"),
        (&[source, port], "needs NAT_IP, which is not set"),
        (&[port], "NAT_PORT=8081 (environment variable NAT_PORT) needs NAT_IP"),
    ] {
        let error = refusal(given);
        assert!(error.contains(words), "{error}");
    }

    let (settings, _) = resolve(&[ip, port, source]).unwrap();
    assert_eq!(settings.nat_rule().unwrap().to_string(), "any/31765 -> 192.0.2.9:8081");
    let (settings, _) = resolve(&[("NAT_IP", "2001:db8::9"), source]).unwrap();
    assert_eq!(settings.nat_rule().unwrap().to_string(), "any/31765 -> [2001:db8::9]:31765");
    assert_eq!(settings.nat_rules().unwrap().len(), 1);
    assert_eq!(resolve(&[]).unwrap().0.nat_rules().unwrap(), []);
}

#[test]
fn a_next_hop_needs_frames_that_use_it() {
    let next_hop = ("NEXT_HOP", "192.0.2.9");
    let error = refusal(&[next_hop]);
    for words in
        ["NEXT_HOP=192.0.2.9 (environment variable NEXT_HOP)", "REWRITE_L2=all", "is nat (default)"]
    {
        assert!(error.contains(words), "{error}");
    }
    assert!(refusal(&[next_hop, ("REWRITE_L2", "nat")]).contains("nat (environment variable"));
    let (settings, _) = resolve(&[next_hop, ("REWRITE_L2", "all")]).unwrap();
    let given = settings.next_hop.unwrap();
    assert_eq!((given.ipv4, given.ipv6), (Some([192, 0, 2, 9].into()), None));
    assert!(resolve(&[("REWRITE_L2", "all")]).unwrap().0.next_hop.is_none());
}

#[test]
fn addresses_that_cannot_be_a_target_are_refused() {
    for (address, words) in [
        ("0.0.0.0", "unspecified"),
        ("127.0.0.1", "loopback"),
        ("ff02::1", "multicast"),
        ("255.255.255.255", "broadcast"),
        ("::ffff:192.0.2.1", "write 192.0.2.1"),
        ("host", "not an IPv4 or IPv6 address"),
    ] {
        let error = refusal(&[("NAT_IP", address), ("SOURCE_PORT", "1")]);
        assert!(error.contains(words) && error.contains("NAT_IP"), "{error}");
    }
}

#[test]
fn an_allowlist_that_does_nothing_is_warned_of() {
    let (_, warnings) = resolve(&[("ENABLE_ALLOWLIST", "1")]).unwrap();
    assert_eq!(warnings, [Warning::AllowlistEmpty]);
    let text = warnings[0].to_string();
    assert!(text.contains("ENABLE_ALLOWLIST") && text.contains("everything is blocked"), "{text}");
    let (_, warnings) = resolve(&[("ALLOWLIST_FILE", "a.json")]).unwrap();
    assert_eq!(warnings, [Warning::AllowlistOff]);
    let text = warnings[0].to_string();
    assert!(text.contains("ALLOWLIST_FILE") && text.contains("nothing is blocked"), "{text}");
    let both = [("ENABLE_ALLOWLIST", "1"), ("ALLOWLIST_FILE", "a.json")];
    assert_eq!(resolve(&both).unwrap().1, []);
}

#[test]
fn the_files_that_are_named_are_read_on_demand() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let list = examples.join("allowlist.json");
    let rules = examples.join("nat-rules.json");
    let given = [
        ("ENABLE_ALLOWLIST", "1"),
        ("ALLOWLIST_FILE", list.to_str().unwrap()),
        ("NAT_RULES_FILE", rules.to_str().unwrap()),
        ("NAT_IP", "192.0.2.9"),
        ("SOURCE_PORT", "9"),
    ];
    let (settings, _) = resolve(&given).unwrap();
    assert_eq!(settings.allowlist().unwrap().unwrap().entries.len(), 324);
    let rules = settings.nat_rules().unwrap();
    assert_eq!((rules.len(), rules[0].port), (9, 9));

    let (settings, _) =
        resolve(&[("ALLOWLIST_FILE", "/nonexistent/a"), ("NAT_RULES_FILE", "/nonexistent/b")])
            .unwrap();
    assert!(settings.allowlist().unwrap_err().to_string().starts_with("/nonexistent/a: "));
    assert!(settings.nat_rules().unwrap_err().to_string().starts_with("/nonexistent/b: "));
    assert!(resolve(&[]).unwrap().0.allowlist().unwrap().is_none());
}

#[test]
fn a_rule_of_the_file_must_not_match_what_nat_ip_matches() {
    let given = [("NAT_IP", "192.0.2.9"), ("SOURCE_PORT", "9")];
    let single = resolve(&given).unwrap().0.nat_rule();
    let path = Path::new("rules.json");
    let rule = |port, address: &str| NatRule {
        port,
        targets: vec![NatTarget { address: address.parse().unwrap(), port: 1 }.into()],
        ..single.clone().unwrap()
    };

    let error =
        merge(single.clone(), vec![rule(8, "192.0.2.1"), rule(9, "192.0.2.1")], path).unwrap_err();
    let error = error.to_string();
    assert!(error.starts_with("rules.json: rules[1] matches the same packets"), "{error}");
    assert!(error.contains("NAT_IP and SOURCE_PORT"), "{error}");
    let other_family = merge(single.clone(), vec![rule(9, "2001:db8::1")], path).unwrap();
    assert_eq!(other_family.len(), 2);

    let full: Vec<_> = (1000..).take(MAX_NAT_RULES).map(|port| rule(port, "192.0.2.1")).collect();
    assert_eq!(merge(None, full.clone(), path).unwrap().len(), MAX_NAT_RULES);
    let error = merge(single.clone(), full, path).unwrap_err().to_string();
    assert!(error.contains("with the rule of NAT_IP: 4097 rules, at most 4096"), "{error}");
}
