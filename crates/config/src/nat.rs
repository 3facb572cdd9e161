//! Destination NAT rules.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::ser::{Serialize, SerializeStruct, Serializer};
use serde_json::json;

use crate::vni::MAX_VNI;

/// How many rules a set can have.
pub const MAX_NAT_RULES: usize = 4096;

/// The version that rule files are written with.
const FILE_VERSION: &str = "1.0";

/// The transport protocols that a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NatProtocol {
    /// TCP and UDP.
    Any,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl NatProtocol {
    /// The word that stands for it in files and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
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
        let all = [Self::Any, Self::Tcp, Self::Udp];
        let known = all.into_iter().find(|p| p.as_str().eq_ignore_ascii_case(text));
        known.ok_or_else(|| format!("{text:?} is not a protocol: udp, tcp or any"))
    }
}

/// Where a rule sends packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NatTarget {
    /// The new inner destination address.
    pub address: IpAddr,
    /// The new inner destination port, in host byte order.
    pub port: u16,
}

impl fmt::Display for NatTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.address, self.port).fmt(f)
    }
}

/// A rule: packets that match get the target as their destination. A rule matches packets of its
/// target's family only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NatRule {
    /// The protocol that is matched.
    pub protocol: NatProtocol,
    /// The inner destination port that is matched, in host byte order; not 0.
    pub port: u16,
    /// The inner destination addresses that are matched; without it all of the target's family.
    pub destination: Option<IpNet>,
    /// The VNI that is matched, 24 bits; without it every accepted one.
    pub vni: Option<u32>,
    /// Where matching packets go.
    pub target: NatTarget,
}

impl NatRule {
    /// A rule from its parts, checked.
    ///
    /// # Errors
    /// In words that begin with the name of the bad part (`port: 0 is ...`): a port is 0, the VNI
    /// has more than 24 bits, the target's address can't be one, or the destination is of another
    /// family or has bits set behind its prefix.
    pub fn new(
        protocol: NatProtocol,
        port: u16,
        destination: Option<IpNet>,
        vni: Option<u32>,
        target: NatTarget,
    ) -> Result<Self, String> {
        if port == 0 {
            return Err("port: 0 is not a port, 1 to 65535 is allowed".to_owned());
        }
        if target.port == 0 {
            return Err("target.port: 0 is not a port, 1 to 65535 is allowed".to_owned());
        }
        if let Some(vni) = vni.filter(|vni| *vni > MAX_VNI) {
            return Err(format!("vni: {vni} is not a VNI, 0 to {MAX_VNI} is allowed"));
        }
        check_target_address(target.address)
            .map_err(|problem| format!("target.address: {problem}"))?;
        if let Some(net) = destination {
            if net.addr() != net.network() {
                return Err(format!(
                    "destination: {net} has host bits set, {} has not",
                    net.trunc()
                ));
            }
            if net.addr().is_ipv6() != target.address.is_ipv6() {
                return Err(format!(
                    "destination: {net} is {}, but the target {} is {}",
                    family(net.addr()),
                    target.address,
                    family(target.address)
                ));
            }
        }
        // All addresses is what no destination means; there must be one way to say it.
        let destination = destination.filter(|net| net.prefix_len() > 0);
        Ok(Self { protocol, port, destination, vni, target })
    }

    /// Whether the rule is about IPv6 packets (else IPv4).
    pub fn is_ipv6(&self) -> bool {
        self.target.address.is_ipv6()
    }
}

impl fmt::Display for NatRule {
    /// `udp/31765 to 198.51.100.0/24 vni 7 -> 192.0.2.9:8081`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.protocol, self.port)?;
        if let Some(destination) = self.destination {
            write!(f, " to {destination}")?;
        }
        if let Some(vni) = self.vni {
            write!(f, " vni {vni}")?;
        }
        write!(f, " -> {}", self.target)
    }
}

impl Serialize for NatTarget {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("NatTarget", 2)?;
        out.serialize_field("address", &self.address)?;
        out.serialize_field("port", &self.port)?;
        out.end()
    }
}

impl Serialize for NatRule {
    /// As an element of `rules` in a rule file.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("NatRule", 5)?;
        out.serialize_field("protocol", self.protocol.as_str())?;
        out.serialize_field("port", &self.port)?;
        match self.destination {
            Some(net) => out.serialize_field("destination", &net.to_string())?,
            None => out.skip_field("destination")?,
        }
        match self.vni {
            Some(vni) => out.serialize_field("vni", &vni)?,
            None => out.skip_field("vni")?,
        }
        out.serialize_field("target", &self.target)?;
        out.end()
    }
}

/// Rules as the content of a rule file, which [`parse_nat_rules`](crate::parse_nat_rules) reads.
pub fn nat_rules_json(rules: &[NatRule]) -> serde_json::Value {
    json!({ "version": FILE_VERSION, "rules": rules })
}

/// What tells packets of one rule from those of another; two rules of a set can't have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NatMatch {
    /// Whether IPv6 packets are matched (else IPv4).
    pub ipv6: bool,
    /// See [`NatRule::protocol`].
    pub protocol: NatProtocol,
    /// See [`NatRule::port`].
    pub port: u16,
    /// See [`NatRule::destination`].
    pub destination: Option<IpNet>,
    /// See [`NatRule::vni`].
    pub vni: Option<u32>,
}

impl NatMatch {
    /// The match of a rule.
    pub fn of(rule: &NatRule) -> Self {
        let NatRule { protocol, port, destination, vni, .. } = *rule;
        Self { ipv6: rule.is_ipv6(), protocol, port, destination, vni }
    }
}

/// A target as it is written on a command line: `192.0.2.9:8081`, `192.0.2.9`,
/// `[2001:db8::9]:8081`, `[2001:db8::9]` or `2001:db8::9`. An IPv6 address needs the brackets if a
/// port follows. Without a port the target has `default_port`.
///
/// # Errors
/// In words, if the text is none of these, the port is 0, or the address can't be a target.
pub fn parse_target(text: &str, default_port: u16) -> Result<NatTarget, String> {
    let bracketed = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let bracketed = bracketed.and_then(|t| t.parse().ok()).map(IpAddr::V6);
    let target = if let Ok(address) = bracketed.map_or_else(|| text.parse(), Ok) {
        NatTarget { address, port: default_port }
    } else if let Ok(socket) = text.parse::<SocketAddr>() {
        NatTarget { address: socket.ip(), port: socket.port() }
    } else {
        return Err(format!(
            "{text:?} is not a target such as 192.0.2.9:8081, 192.0.2.9, [2001:db8::9]:8081 or \
             2001:db8::9"
        ));
    };
    check_target_address(target.address)?;
    match target.port {
        0 => Err(format!("{text:?}: 0 is not a port, 1 to 65535 is allowed")),
        _ => Ok(target),
    }
}

pub(crate) fn parse_target_address(text: &str) -> Result<IpAddr, String> {
    let address = text.parse().map_err(|_| "it is not an IPv4 or IPv6 address".to_owned())?;
    check_target_address(address)?;
    Ok(address)
}

/// Refuses addresses that packets can't be sent to.
fn check_target_address(address: IpAddr) -> Result<(), String> {
    let kind = match address {
        _ if address.is_unspecified() => "the unspecified address",
        _ if address.is_loopback() => "a loopback address",
        _ if address.is_multicast() => "a multicast address",
        IpAddr::V4(v4) if v4.is_broadcast() => "the broadcast address",
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => return Err(format!("{address} is IPv4 written as IPv6: write {v4}")),
            None => return Ok(()),
        },
        IpAddr::V4(_) => return Ok(()),
    };
    Err(format!("{address} is {kind}, which can't be a target"))
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv6() { "IPv6" } else { "IPv4" }
}

#[cfg(test)]
mod tests;
