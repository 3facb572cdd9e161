use super::*;

fn flat(entries: &[&str]) -> Result<Allowlist, String> {
    Allowlist::parse(&serde_json::json!({ "flat_ip_list": entries }).to_string())
}

fn texts(list: &Allowlist) -> Vec<String> {
    list.entries.iter().map(IpNet::to_string).collect()
}

#[test]
fn the_example_is_good() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/allowlist.json");
    let list = Allowlist::load(&path).unwrap();
    assert_eq!(list.warnings, Vec::<String>::new());
    assert_eq!((list.entries.len(), list.organizations), (324, 16));
    let documentation = [
        "192.0.2.0/24",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "198.18.0.0/15",
        "2001:db8::/32",
        "3fff::/20",
    ]
    .map(|net| net.parse::<IpNet>().unwrap());
    for entry in &list.entries {
        assert!(documentation.iter().any(|net| net.contains(entry)), "{entry}");
    }
}

#[test]
fn both_lists_are_read_sorted_and_without_duplicates() {
    let text = r#"{
        "version": "1.0", "description": "x", "total_ips": 4,
        "organizations": [
            {"name": "A", "ips": ["2001:db8::1", "192.0.2.2"]},
            {"org_name": "B", "ips": ["192.0.2.0/24"]}
        ],
        "flat_ip_list": [" 10.0.0.1 "]
    }"#;
    let list = Allowlist::parse(text).unwrap();
    assert_eq!(texts(&list), ["10.0.0.1/32", "192.0.2.0/24", "192.0.2.2/32", "2001:db8::1/128"]);
    assert_eq!(list.warnings, Vec::<String>::new());
    assert_eq!(list.organizations, 2);
    assert_eq!(flat(&[]).unwrap().entries, []);
    assert!(Allowlist::parse(r#"{"organizations": []}"#).is_ok());
}

#[test]
fn one_bad_entry_refuses_the_file() {
    let organizations = r#"{"organizations": [
        {"name": "A", "ips": []}, {"name": "B", "ips": ["192.0.2.1"]}, {"ips": []},
        {"name": "Example Telecom", "ips": ["192.0.2.1", "192.0.2.2", "198.51.100.300"]}]}"#;
    assert_eq!(
        Allowlist::parse(organizations).unwrap_err(),
        "organizations[3] (\"Example Telecom\").ips[2]: \"198.51.100.300\" is not an IPv4/IPv6 \
         address or CIDR"
    );
    let problem = flat(&["192.0.2.1", "host"]).unwrap_err();
    assert!(problem.starts_with("flat_ip_list[1]: \"host\" is not"), "{problem}");
    let nameless = r#"{"organizations": [{"ips": [7]}]}"#;
    let problem = Allowlist::parse(nameless).unwrap_err();
    assert_eq!(problem, "organizations[0].ips[0]: 7 is not an IPv4/IPv6 address or CIDR");
}

#[test]
fn entries() {
    for (text, expected) in [
        ("192.0.2.1", "192.0.2.1/32"),
        ("192.0.2.1/32", "192.0.2.1/32"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:DB8:0::1", "2001:db8::1/128"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("::/0", "::/0"),
        ("\t192.0.2.1\n", "192.0.2.1/32"),
    ] {
        assert_eq!(parse_entry(text).unwrap().to_string(), expected, "{text}");
    }
    for (text, words) in [
        ("", "\"\" is not an IPv4/IPv6 address or CIDR"),
        ("192.0.2", "is not an"),
        ("192.0.2.1/33", "is not an"),
        ("192.0.2.1/", "is not an"),
        ("192.0.2.1/255.255.255.0", "is not an"),
        ("192.0.2.01", "is not an"),
        ("192.0.2.1:80", "is not an"),
        ("192.0.2.1-192.0.2.9", "is not an"),
        ("fe80::1%eth0", "is not an"),
        ("2001:db8::/129", "is not an"),
        ("198.51.100.7/24", "write 198.51.100.0/24 for the network or 198.51.100.7 for"),
        ("2001:db8::1/32", "write 2001:db8::/32 for the network or 2001:db8::1 for"),
        ("::ffff:192.0.2.1", "is an IPv4 address written as IPv6: write 192.0.2.1"),
        ("::ffff:192.0.2.0/120", "is an IPv4 network written as IPv6: write 192.0.2.0/24"),
    ] {
        let problem = parse_entry(text).unwrap_err();
        assert!(problem.contains(words), "{text:?}: {problem}");
    }
}

#[test]
fn duplicates_are_warned_of() {
    let text = r#"{
        "organizations": [{"name": "A", "ips": ["192.0.2.1", "192.0.2.1/32"]}],
        "flat_ip_list": ["192.0.2.1"]
    }"#;
    let list = Allowlist::parse(text).unwrap();
    assert_eq!(list.entries.len(), 1);
    assert_eq!(
        list.warnings,
        [
            "organizations[0] (\"A\").ips[1]: \"192.0.2.1/32\" is already at organizations[0] \
             (\"A\").ips[0]",
            "flat_ip_list[0]: \"192.0.2.1\" is already at organizations[0] (\"A\").ips[0]",
        ]
    );
    let list = flat(&["192.0.2.1"; 15]).unwrap();
    assert_eq!(list.warnings.len(), 11);
    assert_eq!(list.warnings[10], "and 4 more duplicates");
    assert_eq!(flat(&["192.0.2.1"; 11]).unwrap().warnings.len(), 10);
}

#[test]
fn total_ips_may_count_with_or_without_duplicates() {
    let list = |total: &str| {
        let text = format!(
            r#"{{"total_ips": {total}, "flat_ip_list": ["192.0.2.1", "192.0.2.2", "192.0.2.2"]}}"#
        );
        Allowlist::parse(&text).unwrap().warnings.split_off(1)
    };
    assert_eq!(list("2"), Vec::<String>::new());
    assert_eq!(list("3"), Vec::<String>::new());
    let counted = "but the file has 2 entries (3 with duplicates)";
    assert_eq!(list("4"), [format!("total_ips is 4, {counted}")]);
    assert_eq!(list("\"2\""), [format!("total_ips is \"2\", {counted}")]);
    let wrong = Allowlist::parse(r#"{"total_ips": 9, "flat_ip_list": []}"#).unwrap();
    assert_eq!(wrong.warnings, ["total_ips is 9, but the file has 0 entries"]);
}

#[test]
fn unknown_keys_are_warned_of_once() {
    let text = r#"{
        "flat_ip_lst": [],
        "organizations": [
            {"name": "A", "asn": 1, "ips": []}, {"name": "B", "asn": 2, "ips": []}
        ]
    }"#;
    assert_eq!(
        Allowlist::parse(text).unwrap().warnings,
        [
            "organizations[0] (\"A\"): unknown key \"asn\", ignored (and in 1 more)",
            "top level: unknown key \"flat_ip_lst\", ignored",
        ]
    );
}

#[test]
fn bad_files() {
    for (text, words) in [
        ("{\n\"flat_ip_list\": [,]}", "line 2 column 18"),
        ("", "EOF while parsing a value at line 1 column 0"),
        ("[]", "top level: expected an object, not a list"),
        ("{\"version\": \"1\"}", "neither \"organizations\" nor \"flat_ip_list\" is there"),
        ("{\"flat_ip_list\": null}", "flat_ip_list: expected a list, not null"),
        ("{\"organizations\": {}}", "organizations: expected a list, not an object"),
        ("{\"organizations\": [1]}", "organizations[0]: expected an object, not 1"),
        (
            "{\"organizations\": [{\"name\": \"A\"}]}",
            "organizations[0] (\"A\"): key \"ips\" is missing",
        ),
        (
            "{\"organizations\": [{\"ips\": \"x\"}]}",
            "organizations[0].ips: expected a list, not \"x\"",
        ),
        (
            "{\"flat_ip_list\": [], \"flat_ip_list\": []}",
            "\"flat_ip_list\" is given twice at line 1",
        ),
    ] {
        let problem = Allowlist::parse(text).unwrap_err();
        assert!(problem.contains(words), "{text}: {problem}");
    }
}

#[test]
fn the_limit_counts_different_entries() {
    let entries = |count: u32| -> Vec<String> {
        (0..count).map(|n| std::net::Ipv4Addr::from(n << 8).to_string()).collect()
    };
    let parse = |entries: &[String]| flat(&entries.iter().map(String::as_str).collect::<Vec<_>>());
    let full = entries(131_072);
    assert_eq!(parse(&full).unwrap().entries.len(), MAX_ALLOWLIST_ENTRIES);
    assert_eq!(parse(&[&full[..], &full[..9]].concat()).unwrap().entries.len(), full.len());
    let problem = parse(&entries(131_073)).unwrap_err();
    assert_eq!(problem, "the list has 131073 entries, at most 131072 are allowed");
}
