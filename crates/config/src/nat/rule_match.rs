//! What a rule matches.

use std::fmt;

use ipnet::IpNet;

use super::{NatProtocol, NatRule};

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

impl fmt::Display for NatMatch {
    /// `udp/31765 to 198.51.100.0/24 vni 7`. The family is that of the targets, and not said.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.protocol)?;
        if self.protocol.has_ports() {
            write!(f, "/{}", self.port)?;
        }
        if let Some(destination) = self.destination {
            write!(f, " to {destination}")?;
        }
        self.vni.map_or(Ok(()), |vni| write!(f, " vni {vni}"))
    }
}
