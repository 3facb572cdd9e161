//! NAT rules in the kernel, replaced as a whole, and the next hops of their targets.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, bail, ensure};
use config::{NatProtocol, NatRule, NatTarget};
use ipnet::IpNet;
use libbpf_rs::{MapCore, MapFlags, MapHandle};

use crate::abi::{
    MAX_NAT_RULES, NAT_ANY_VNI, NAT_FLAG_RESOLVED, NAT_KEY_FIXED_BITS, NAT_SHAPE_MAX,
    NAT_SHAPE_PLAIN, NAT_SHAPE_PROTOCOL, NAT_SHAPE_VNI, NAT_SHAPE_VNI_PROTOCOL, nat_key, nat_value,
};
use crate::control::{Control, NatActive};
use crate::grace::wait_for_programs;
use crate::{MapName, Pins, plain};

const _: () = assert!(MAX_NAT_RULES as usize == config::MAX_NAT_RULES);

/// An Ethernet address.
pub type Mac = [u8; 6];

/// The pinned NAT rules. Changes need [`crate::lock::Role::Change`] held by the caller.
pub struct NatTable {
    map: MapHandle,
    control: Control,
}

/// A rule as it stands in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstalledRule {
    /// The rule.
    pub rule: NatRule,
    /// MAC address of the next hop towards its target, when it is known.
    pub next_hop: Option<Mac>,
}

/// Rules written to the kernel that no packet meets yet: first their next hops are resolved.
#[derive(Debug)]
pub struct Staged {
    active: NatActive,
}

impl NatTable {
    /// Opens the pinned map.
    ///
    /// # Errors
    /// See [`Pins::open`].
    pub fn open(pins: &Pins) -> Result<Self> {
        Ok(Self { map: pins.open(MapName::NAT)?, control: Control::open(pins)? })
    }

    /// The control map that goes with the rules.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Writes `rules` beside those that count. Next hops that are known already are kept.
    ///
    /// # Errors
    /// Too many rules, or the map can't be written; the rules that count stay.
    pub fn stage(&self, rules: &[NatRule]) -> Result<Staged> {
        ensure!(
            rules.len() <= MAX_NAT_RULES as usize,
            "the NAT rule table is full: {} rules, at most {MAX_NAT_RULES} fit",
            rules.len()
        );
        let active = self.control.nat_active();
        self.remove_except(active.generation)?;
        let generation = active.generation.wrapping_add(1);
        let written = self.write(rules, generation);
        if written.is_err() {
            self.remove_except(active.generation)?;
        }
        Ok(Staged { active: NatActive { generation, shapes: written? } })
    }

    /// Writes the rules under a generation and returns the bitmap of their shapes.
    fn write(&self, rules: &[NatRule], generation: u8) -> Result<u32> {
        let known = self.next_hops()?;
        let mut shapes = 0;
        for rule in rules {
            shapes |= 1 << shape(rule);
            let mac = known.iter().find(|(address, _)| *address == rule.target.address);
            let value = encode_target(&rule.target, mac.and_then(|(_, mac)| *mac));
            self.map
                .update(
                    plain::bytes(&encode_key(rule, generation)),
                    plain::bytes(&value),
                    MapFlags::ANY,
                )
                .with_context(|| format!("writing rule {rule}"))?;
        }
        Ok(shapes)
    }

    /// Makes the staged rules count, at once and as a whole, and removes the others.
    ///
    /// # Errors
    /// Old rules can't be removed; the new ones count nevertheless.
    pub fn activate(&self, staged: Staged) -> Result<()> {
        self.control.set_nat_active(staged.active);
        wait_for_programs()?;
        self.remove_except(staged.active.generation)
    }

    /// Removes the staged rules again.
    ///
    /// # Errors
    /// The map can't be written.
    pub fn abandon(&self, staged: Staged) -> Result<()> {
        debug_assert_ne!(staged.active.generation, self.control.nat_active().generation);
        self.remove_except(self.control.nat_active().generation)
    }

    /// The rules that count, in the order in which they are tried for a packet.
    ///
    /// # Errors
    /// The map can't be read.
    pub fn rules(&self) -> Result<Vec<InstalledRule>> {
        let active = self.control.nat_active();
        let mut rules: Vec<_> = self
            .entries()?
            .into_iter()
            .filter(|(key, _)| key.generation == active.generation)
            .map(|(key, value)| decode(&key, &value))
            .collect::<Result<_>>()?;
        rules.sort_by_key(|installed| {
            let rule = &installed.rule;
            let length = rule.destination.map_or(0, |net| net.prefix_len());
            (rule.port, shape(rule), rule.vni, std::cmp::Reverse(length), rule.to_string())
        });
        Ok(rules)
    }

    /// Every target of a rule, staged ones included, with its next hop if that is known.
    ///
    /// # Errors
    /// The map can't be read.
    pub fn next_hops(&self) -> Result<Vec<(IpAddr, Option<Mac>)>> {
        let mut targets: Vec<_> = self
            .entries()?
            .iter()
            .map(|(key, value)| (decode_address(key.family, &value.address), mac_of(value)))
            .collect();
        targets.sort();
        targets.dedup_by_key(|(address, _)| *address);
        Ok(targets)
    }

    /// Sets the next hop of every rule with this target; `None`: it is not resolved any more.
    ///
    /// # Errors
    /// The map can't be written.
    pub fn set_next_hop(&self, target: IpAddr, mac: Option<Mac>) -> Result<()> {
        self.set_next_hops(&BTreeMap::from([(target, mac)]))
    }

    /// Sets the next hops of many targets in one pass over the rules; others stay as they are.
    ///
    /// # Errors
    /// The map can't be written.
    pub fn set_next_hops(&self, next_hops: &BTreeMap<IpAddr, Option<Mac>>) -> Result<()> {
        for (key, value) in self.entries()? {
            let target = decode_address(key.family, &value.address);
            let Some(&mac) = next_hops.get(&target) else { continue };
            if mac_of(&value) == mac {
                continue;
            }
            let target = NatTarget { address: target, port: u16::from_be(value.port) };
            let value = encode_target(&target, mac);
            match self.map.update(plain::bytes(&key), plain::bytes(&value), MapFlags::EXIST) {
                // Somebody removed the rule meanwhile.
                Err(error) if error.kind() == libbpf_rs::ErrorKind::NotFound => {}
                result => result.context("writing nat_map")?,
            }
        }
        Ok(())
    }

    fn entries(&self) -> Result<Vec<(nat_key, nat_value)>> {
        let mut entries = Vec::new();
        for bytes in self.map.keys() {
            let Some(value) = self.map.lookup(&bytes, MapFlags::ANY).context("reading nat_map")?
            else {
                continue;
            };
            let key = plain::from_bytes::<nat_key>(&bytes).context("nat_map key")?;
            entries.push((key, plain::from_bytes(&value).context("nat_map value")?));
        }
        Ok(entries)
    }

    fn remove_except(&self, generation: u8) -> Result<()> {
        for (key, _) in self.entries()? {
            if key.generation != generation {
                self.map.delete(plain::bytes(&key)).context("removing an old NAT rule")?;
            }
        }
        Ok(())
    }
}

/// Which look-up finds the rule: `NAT_SHAPE_*`, behind those of IPv4 for an IPv6 rule.
fn shape(rule: &NatRule) -> u32 {
    let family = if rule.is_ipv6() { NAT_SHAPE_MAX } else { 0 };
    family
        + match (rule.vni.is_some(), rule.protocol != NatProtocol::Any) {
            (true, true) => NAT_SHAPE_VNI_PROTOCOL,
            (true, false) => NAT_SHAPE_VNI,
            (false, true) => NAT_SHAPE_PROTOCOL,
            (false, false) => NAT_SHAPE_PLAIN,
        }
}

fn encode_key(rule: &NatRule, generation: u8) -> nat_key {
    let destination = rule.destination.map(|net| (net.network(), net.prefix_len()));
    let (address, length) = destination.unwrap_or(match rule.target.address {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), 0),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED.into(), 0),
    });
    nat_key {
        prefixlen: NAT_KEY_FIXED_BITS + u32::from(length),
        generation,
        family: if address.is_ipv4() { 4 } else { 6 },
        protocol: match rule.protocol {
            NatProtocol::Any => 0,
            NatProtocol::Tcp => libc::IPPROTO_TCP as u8,
            NatProtocol::Udp => libc::IPPROTO_UDP as u8,
        },
        vni: rule.vni.map_or(NAT_ANY_VNI, u32::to_be),
        port: rule.port.to_be(),
        address: encode_address(address),
        ..Default::default()
    }
}

fn encode_target(target: &NatTarget, mac: Option<Mac>) -> nat_value {
    nat_value {
        address: encode_address(target.address),
        port: target.port.to_be(),
        flags: if mac.is_some() { NAT_FLAG_RESOLVED as u16 } else { 0 },
        mac: mac.unwrap_or_default(),
        ..Default::default()
    }
}

fn encode_address(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&v4.octets());
            bytes
        }
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn decode_address(family: u8, bytes: &[u8; 16]) -> IpAddr {
    match family {
        4 => Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into(),
        _ => Ipv6Addr::from(*bytes).into(),
    }
}

fn mac_of(value: &nat_value) -> Option<Mac> {
    (u32::from(value.flags) & NAT_FLAG_RESOLVED != 0).then_some(value.mac)
}

fn decode(key: &nat_key, value: &nat_value) -> Result<InstalledRule> {
    let length = (key.prefixlen - NAT_KEY_FIXED_BITS) as u8;
    let destination = match length {
        0 => None,
        _ => Some(IpNet::new(decode_address(key.family, &key.address), length)?),
    };
    let protocol = match i32::from(key.protocol) {
        0 => NatProtocol::Any,
        libc::IPPROTO_TCP => NatProtocol::Tcp,
        libc::IPPROTO_UDP => NatProtocol::Udp,
        other => bail!("nat_map holds a rule for protocol {other}"),
    };
    Ok(InstalledRule {
        rule: NatRule {
            protocol,
            port: u16::from_be(key.port),
            destination,
            vni: (key.vni != NAT_ANY_VNI).then(|| u32::from_be(key.vni)),
            target: NatTarget {
                address: decode_address(key.family, &value.address),
                port: u16::from_be(value.port),
            },
        },
        next_hop: mac_of(value),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(vni: Option<u32>, protocol: NatProtocol, destination: Option<&str>) -> NatRule {
        NatRule {
            protocol,
            port: 31765,
            destination: destination.map(|net| net.parse().unwrap()),
            vni,
            target: NatTarget { address: "192.0.2.9".parse().unwrap(), port: 8081 },
        }
    }

    #[test]
    fn a_key_holds_port_and_vni_in_network_order() {
        let key = encode_key(&rule(Some(7), NatProtocol::Udp, Some("198.51.100.0/24")), 3);
        assert_eq!(
            plain::bytes(&key)[4..],
            *b"\x03\x04\x11\x00\x00\x00\x00\x07\x7c\x15\xc6\x33\x64\x00\
               \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
        );
        assert_eq!(key.prefixlen, 80 + 24);
    }

    #[test]
    fn a_rule_survives_the_way_into_the_kernel_and_back() {
        for rule in [
            rule(None, NatProtocol::Any, None),
            rule(Some(0xffffff), NatProtocol::Tcp, Some("198.51.100.7/32")),
            rule(Some(0), NatProtocol::Udp, None),
        ] {
            let value = encode_target(&rule.target, Some([2, 0, 0, 0, 0, 1]));
            let installed = decode(&encode_key(&rule, 1), &value).unwrap();
            assert_eq!(installed, InstalledRule { rule, next_hop: Some([2, 0, 0, 0, 0, 1]) });
        }
    }
}
