//! The next hops of frames that no NAT rule gives one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::nat::parse_target_address;

/// The devices behind the egress interface that untranslated frames are addressed to, by the IP
/// version of the frame. At least one is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NextHopAddresses {
    /// For IPv4 packets.
    pub ipv4: Option<Ipv4Addr>,
    /// For IPv6 packets.
    pub ipv6: Option<Ipv6Addr>,
}

impl NextHopAddresses {
    pub(crate) const ALLOWED: &str = "a unicast IPv4 address, an IPv6 address, or both with a \
                                      comma between them";

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut addresses = Self { ipv4: None, ipv6: None };
        for part in text.split(',').map(str::trim) {
            let address =
                parse_target_address(part).map_err(|problem| format!("{part:?}: {problem}"))?;
            let given_twice = match address {
                IpAddr::V4(address) => addresses.ipv4.replace(address).is_some(),
                IpAddr::V6(address) => addresses.ipv6.replace(address).is_some(),
            };
            if given_twice {
                return Err(format!("{part} is the second address of its IP version"));
            }
        }
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_or_one_of_each_version() {
        let ipv4 = Some(Ipv4Addr::new(192, 0, 2, 9));
        let ipv6 = Some("fe80::9".parse().unwrap());
        for (text, ipv4, ipv6) in [
            ("192.0.2.9", ipv4, None),
            ("fe80::9", None, ipv6),
            ("192.0.2.9,fe80::9", ipv4, ipv6),
            (" fe80::9 , 192.0.2.9 ", ipv4, ipv6),
        ] {
            assert_eq!(NextHopAddresses::parse(text), Ok(NextHopAddresses { ipv4, ipv6 }));
        }
    }

    #[test]
    fn refusals_name_the_address() {
        for (text, words) in [
            ("", "\"\": it is not"),
            ("192.0.2.9,", "\"\": it is not"),
            ("192.0.2.9/24", "\"192.0.2.9/24\": it is not"),
            ("192.0.2.9,192.0.2.10", "192.0.2.10 is the second"),
            ("2001:db8::1,fe80::1", "fe80::1 is the second"),
            ("224.0.0.1", "a multicast address"),
            ("0.0.0.0", "the unspecified address"),
            ("fe80::1%eth0", "\"fe80::1%eth0\": it is not"),
        ] {
            let problem = NextHopAddresses::parse(text).unwrap_err();
            assert!(problem.contains(words), "{text:?}: {problem}");
        }
    }
}
