//! Destination NAT rules.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::json;

use crate::vni::MAX_VNI;

mod rule_match;
mod target;

pub use rule_match::NatMatch;
pub(crate) use target::parse_target_address;
pub use target::{NatTarget, WeightedTarget, parse_target, parse_weighted_target};

/// How many rules a set can have.
pub const MAX_NAT_RULES: usize = 4096;

/// How many targets a rule can have.
pub const MAX_RULE_TARGETS: usize = 64;

/// How many targets the rules of a set can have together.
pub const MAX_NAT_TARGETS: usize = 8192;

/// The version that rule files are written with.
const FILE_VERSION: &str = "1.0";

/// The packets that a rule matches, by what is above IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NatProtocol {
    /// TCP and UDP.
    Any,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// Echo requests: ICMP for IPv4 (RFC 792), ICMPv6 for IPv6 (RFC 4443). They have no port.
    Icmp,
}

impl NatProtocol {
    /// The word that stands for it in files and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
        }
    }

    /// Whether its packets have ports.
    pub fn has_ports(self) -> bool {
        self != Self::Icmp
    }
}

impl fmt::Display for NatProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for NatProtocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Any, Self::Tcp, Self::Udp, Self::Icmp];
        let known = all.into_iter().find(|p| p.as_str().eq_ignore_ascii_case(text));
        known.ok_or_else(|| format!("{text:?} is not a protocol: udp, tcp, any or icmp"))
    }
}

/// A rule: packets that match get one of the targets as their destination. A rule matches packets
/// of its targets' family only.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NatRule {
    /// The protocol that is matched.
    pub protocol: NatProtocol,
    /// The inner destination port that is matched, in host byte order; 0 for ICMP only.
    pub port: u16,
    /// The inner destination addresses that are matched; without it all of the targets' family.
    pub destination: Option<IpNet>,
    /// The VNI that is matched, 24 bits; without it every accepted one.
    pub vni: Option<u32>,
    /// Where matching packets go: 1 to [`MAX_RULE_TARGETS`], all different and of one family, at
    /// least one with a weight. All packets of a flow go to the same.
    pub targets: Vec<WeightedTarget>,
}

impl NatRule {
    /// A rule from its parts, checked.
    ///
    /// # Errors
    /// In words that begin with the name of the bad part (`port: 0 is ...`, `targets[1].port: ...`):
    /// a port is 0, or isn't with ICMP, the VNI has more than 24 bits, a target's address can't be
    /// one, the destination is of another family or has bits set behind its prefix, or the targets
    /// are not as [`NatRule::targets`] says.
    pub fn new(
        protocol: NatProtocol,
        port: u16,
        destination: Option<IpNet>,
        vni: Option<u32>,
        targets: Vec<WeightedTarget>,
    ) -> Result<Self, String> {
        check_port(protocol, port).map_err(|problem| format!("port: {problem}"))?;
        if let Some(vni) = vni.filter(|vni| *vni > MAX_VNI) {
            return Err(format!("vni: {vni} is not a VNI, 0 to {MAX_VNI} is allowed"));
        }
        let family = check_targets(protocol, &targets)?;
        if let Some(net) = destination {
            check_destination(net, family).map_err(|problem| format!("destination: {problem}"))?;
        }
        // All addresses is what no destination means; there must be one way to say it.
        let destination = destination.filter(|net| net.prefix_len() > 0);
        Ok(Self { protocol, port, destination, vni, targets })
    }

    /// Whether the rule is about IPv6 packets (else IPv4).
    pub fn is_ipv6(&self) -> bool {
        self.targets.first().is_some_and(|weighted| weighted.target.address.is_ipv6())
    }
}

fn check_port(protocol: NatProtocol, port: u16) -> Result<(), String> {
    match (protocol.has_ports(), port) {
        (true, 0) => Err("0 is not a port, 1 to 65535 is allowed".to_owned()),
        (false, 1..) => Err(format!("{port} is given, but {protocol} has no ports")),
        _ => Ok(()),
    }
}

/// Checks what a rule's targets must be together, and returns the first one's address.
fn check_targets(protocol: NatProtocol, targets: &[WeightedTarget]) -> Result<IpAddr, String> {
    let Some(WeightedTarget { target: first, .. }) = targets.first() else {
        return Err("targets: there is none".to_owned());
    };
    if targets.len() > MAX_RULE_TARGETS {
        let count = targets.len();
        return Err(format!("targets: {count} targets, at most {MAX_RULE_TARGETS} are allowed"));
    }
    let mut seen = HashSet::new();
    for (index, WeightedTarget { target, .. }) in targets.iter().enumerate() {
        let at = format!("targets[{index}]");
        check_port(protocol, target.port).map_err(|problem| format!("{at}.port: {problem}"))?;
        target::check_address(target.address)
            .map_err(|problem| format!("{at}.address: {problem}"))?;
        if target.address.is_ipv6() != first.address.is_ipv6() {
            return Err(format!(
                "{at}.address: {} is {}, but the first target {} is {}",
                target.address,
                family(target.address),
                first.address,
                family(first.address)
            ));
        }
        if !seen.insert(target) {
            return Err(format!("{at}: {target} is given twice"));
        }
    }
    if targets.iter().all(|weighted| weighted.weight == 0) {
        return Err("targets: all have weight 0, so that new flows have none to go to".to_owned());
    }
    Ok(first.address)
}

fn check_destination(net: IpNet, target: IpAddr) -> Result<(), String> {
    if net.addr() != net.network() {
        return Err(format!("{net} has host bits set, {} has not", net.trunc()));
    }
    if net.addr().is_ipv6() != target.is_ipv6() {
        return Err(format!(
            "{net} is {}, but the target {target} is {}",
            family(net.addr()),
            family(target)
        ));
    }
    Ok(())
}

impl fmt::Display for NatRule {
    /// `udp/31765 to 198.51.100.0/24 vni 7 -> 192.0.2.9:8081`; several targets are separated by
    /// commas, weights that are not 1 follow their target: `192.0.2.9:8081 weight 3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ->", NatMatch::of(self))?;
        for (index, target) in self.targets.iter().enumerate() {
            write!(f, "{} {target}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl Serialize for NatRule {
    /// As an element of `rules` in a rule file.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_map(None)?;
        out.serialize_entry("protocol", self.protocol.as_str())?;
        if self.protocol.has_ports() {
            out.serialize_entry("port", &self.port)?;
        }
        if let Some(net) = self.destination {
            out.serialize_entry("destination", &net.to_string())?;
        }
        if let Some(vni) = self.vni {
            out.serialize_entry("vni", &vni)?;
        }
        match self.targets[..] {
            [WeightedTarget { target, weight: 1 }] => out.serialize_entry("target", &target)?,
            _ => out.serialize_entry("targets", &self.targets)?,
        }
        out.end()
    }
}

/// Rules as the content of a rule file, which [`parse_nat_rules`](crate::parse_nat_rules) reads.
pub fn nat_rules_json(rules: &[NatRule]) -> serde_json::Value {
    json!({ "version": FILE_VERSION, "rules": rules })
}

/// Refuses a set of rules that is too large.
///
/// # Errors
/// In words: more than [`MAX_NAT_RULES`] rules, or more than [`MAX_NAT_TARGETS`] targets.
pub fn check_nat_limits(rules: &[NatRule]) -> Result<(), String> {
    if rules.len() > MAX_NAT_RULES {
        return Err(format!("{} rules, at most {MAX_NAT_RULES} are allowed", rules.len()));
    }
    let targets: usize = rules.iter().map(|rule| rule.targets.len()).sum();
    if targets > MAX_NAT_TARGETS {
        return Err(format!(
            "the rules have {targets} targets together, at most {MAX_NAT_TARGETS} are allowed"
        ));
    }
    Ok(())
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv6() { "IPv6" } else { "IPv4" }
}

#[cfg(test)]
mod tests;
