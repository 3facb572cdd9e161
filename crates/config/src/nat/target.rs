//! Where a rule sends packets.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

/// Where a rule sends packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct NatTarget {
    /// The new inner destination address.
    pub address: IpAddr,
    /// The new inner destination port, in host byte order; 0: there is none (ICMP).
    #[serde(skip_serializing_if = "is_no_port")]
    pub port: u16,
}

fn is_no_port(port: &u16) -> bool {
    *port == 0
}

impl fmt::Display for NatTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            0 => self.address.fmt(f),
            port => SocketAddr::new(self.address, port).fmt(f),
        }
    }
}

/// A target of a rule, and its share of the new flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct WeightedTarget {
    /// The target.
    #[serde(flatten)]
    pub target: NatTarget,
    /// Its share is this part of the sum of the weights of all targets of the rule. 0: no new
    /// flows; those that it has stay.
    pub weight: u16,
}

impl WeightedTarget {
    /// The weight of a target for which none is given.
    pub const DEFAULT_WEIGHT: u16 = 1;
}

impl From<NatTarget> for WeightedTarget {
    fn from(target: NatTarget) -> Self {
        Self { target, weight: Self::DEFAULT_WEIGHT }
    }
}

impl fmt::Display for WeightedTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.weight {
            Self::DEFAULT_WEIGHT => self.target.fmt(f),
            weight => write!(f, "{} weight {weight}", self.target),
        }
    }
}

/// A target as it is written on a command line: `192.0.2.9:8081`, `192.0.2.9`,
/// `[2001:db8::9]:8081`, `[2001:db8::9]` or `2001:db8::9`. An IPv6 address needs the brackets if a
/// port follows. Without a port the target has `default_port`.
///
/// # Errors
/// In words, if the text is none of these, a port of 0 is given, or the address can't be a target.
pub fn parse_target(text: &str, default_port: u16) -> Result<NatTarget, String> {
    let bracketed = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let bracketed = bracketed.and_then(|t| t.parse().ok()).map(IpAddr::V6);
    let target = if let Ok(address) = bracketed.map_or_else(|| text.parse(), Ok) {
        NatTarget { address, port: default_port }
    } else if let Ok(socket) = text.parse::<SocketAddr>() {
        if socket.port() == 0 {
            return Err(format!("{text:?}: 0 is not a port, 1 to 65535 is allowed"));
        }
        NatTarget { address: socket.ip(), port: socket.port() }
    } else {
        return Err(format!(
            "{text:?} is not a target such as 192.0.2.9:8081, 192.0.2.9, [2001:db8::9]:8081 or \
             2001:db8::9"
        ));
    };
    check_address(target.address)?;
    Ok(target)
}

/// A target and its weight as they are written on a command line: what [`parse_target`] takes, or
/// that with `,weight=3` behind it.
///
/// # Errors
/// As [`parse_target`], or what follows the comma is not a weight.
pub fn parse_weighted_target(text: &str, default_port: u16) -> Result<WeightedTarget, String> {
    let Some((target, option)) = text.split_once(',') else {
        return Ok(parse_target(text, default_port)?.into());
    };
    let weight = option.strip_prefix("weight=").ok_or_else(|| {
        format!("{text:?}: {option:?} is not known, \"weight=N\" can follow the target")
    })?;
    let weight = crate::value::number(weight, 0, u16::MAX.into())
        .map_err(|_| format!("{text:?}: {weight:?} is not a weight, 0 to 65535 is allowed"))?;
    Ok(WeightedTarget { target: parse_target(target, default_port)?, weight })
}

pub(crate) fn parse_target_address(text: &str) -> Result<IpAddr, String> {
    let address = text.parse().map_err(|_| "it is not an IPv4 or IPv6 address".to_owned())?;
    check_address(address)?;
    Ok(address)
}

/// Refuses addresses that packets can't be sent to.
pub(super) fn check_address(address: IpAddr) -> Result<(), String> {
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
