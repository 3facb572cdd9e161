//! The NAT rules of the test, said in two languages: our rule file, and nftables.

use lab::TAP;
use serde_json::{Value, json};

use super::flows::Tuple;

/// What a rule matches by protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Udp,
    Tcp,
    Any,
    Echo,
}

/// A rule for both address families. Its target is the lab's tap, at a port of its own.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub protocol: Protocol,
    /// 0 for `Echo`.
    pub port: u16,
    pub target_port: u16,
}

impl Rule {
    pub const fn new(protocol: Protocol, port: u16, target_port: u16) -> Self {
        Self { protocol, port, target_port }
    }

    fn matches(&self, tuple: &Tuple) -> bool {
        match self.protocol {
            Protocol::Echo => tuple.is_echo_request,
            _ if tuple.is_echo() => false,
            Protocol::Udp => tuple.protocol == 17 && tuple.destination.port == self.port,
            Protocol::Tcp => tuple.protocol == 6 && tuple.destination.port == self.port,
            Protocol::Any => tuple.destination.port == self.port,
        }
    }

    /// What nftables matches it by.
    fn nft_match(&self, echo: &str) -> String {
        let port = self.port;
        match self.protocol {
            Protocol::Udp => format!("udp dport {port}"),
            Protocol::Tcp => format!("tcp dport {port}"),
            Protocol::Any => format!("meta l4proto {{ tcp, udp }} th dport {port}"),
            Protocol::Echo => format!("{echo} type echo-request"),
        }
    }
}

/// The content of NAT_RULES_FILE.
pub fn file(rules: &[Rule]) -> Value {
    let entries = rules.iter().flat_map(|rule| {
        [TAP.ipv4.to_string(), TAP.ipv6.to_string()].map(|address| match rule.protocol {
            Protocol::Echo => json!({ "protocol": "icmp", "targets": [{ "address": address }] }),
            protocol => json!({
                "protocol": match protocol {
                    Protocol::Udp => "udp",
                    Protocol::Tcp => "tcp",
                    _ => "any",
                },
                "port": rule.port,
                "targets": [{ "address": address, "port": rule.target_port }],
            }),
        })
    });
    json!({ "version": "1.0", "rules": entries.collect::<Vec<_>>() })
}

/// The rule that matches a packet.
pub fn matching<'a>(rules: &'a [Rule], tuple: &Tuple) -> Option<&'a Rule> {
    rules.iter().find(|rule| rule.matches(tuple))
}

/// A rule of one family in nftables' language.
pub struct NftRule {
    /// What it matches.
    pub matched: String,
    /// Puts the server into the set of those whose replies are not to be translated by rules; echo
    /// replies never are.
    pub remember: String,
    /// Translates.
    pub dnat: String,
}

/// The rules for nftables.
pub fn nft(rules: &[Rule]) -> Vec<NftRule> {
    let families = [
        ("ip", "ipv4", "icmp", "servers4", TAP.ipv4.to_string()),
        ("ip6", "ipv6", "icmpv6", "servers6", format!("[{}]", TAP.ipv6)),
    ];
    let mut lines = Vec::new();
    for rule in rules {
        for (family, version, echo, servers, address) in &families {
            let matched = format!("meta nfproto {version} {}", rule.nft_match(echo));
            let (remember, port) = match rule.protocol {
                Protocol::Echo => (String::new(), String::new()),
                _ => (
                    format!("add @{servers} {{ meta mark . {family} daddr . th dport }}"),
                    format!(":{}", rule.target_port),
                ),
            };
            let dnat = format!("dnat {family} to {address}{port}");
            lines.push(NftRule { matched, remember, dnat });
        }
    }
    lines
}
