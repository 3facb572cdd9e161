//! Changes of the NAT rules: the whole set is read, changed and put in the place of the old one.

use std::collections::{BTreeSet, HashSet};
use std::io::{IsTerminal, stderr};
use std::net::IpAddr;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use config::{NatMatch, NatProtocol, NatRule, check_nat_limits, load_nat_rules};
use dataplane::Pins;
use dataplane::lock::{self, Lock, Role};
use dataplane::nat::NatTable;
use ipnet::IpNet;

use crate::output;
use crate::table::thousands;

/// How long the loader may take to find the next hops.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
const RESOLVE_POLL: Duration = Duration::from_millis(20);

/// What a rule to be removed matches. Without a destination it may be of either family.
pub struct Match {
    pub protocol: NatProtocol,
    pub port: u16,
    pub destination: Option<IpNet>,
    pub vni: Option<u32>,
}

impl Match {
    fn is_of(&self, rule: &NatRule) -> bool {
        let destination = match self.destination {
            Some(net) if net.prefix_len() == 0 => {
                rule.destination.is_none() && rule.is_ipv6() == net.addr().is_ipv6()
            }
            destination => rule.destination == destination,
        };
        destination && (rule.protocol, rule.port, rule.vni) == (self.protocol, self.port, self.vni)
    }
}

impl std::fmt::Display for Match {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { protocol, port, destination, vni } = *self;
        NatMatch { ipv6: false, protocol, port, destination, vni }.fmt(f)
    }
}

/// The table, held by the one who changes it.
struct Table<'a> {
    pins: &'a Pins,
    table: NatTable,
    _lock: Lock,
}

/// Replaces the rules by those of a file.
pub fn load(pins: &Pins, file: &Path) -> Result<()> {
    let rules = load_nat_rules(file)?;
    Table::open(pins)?.replace(&rules, &rules)?;
    output::line(&format!("{} loaded from {}", counted(rules.len()), file.display()))
}

/// Adds a rule; with `replace` in the place of the one for the same packets.
pub fn add(pins: &Pins, rule: NatRule, replace: bool) -> Result<()> {
    let table = Table::open(pins)?;
    let mut rules = table.rules()?;
    let same = rules.iter().position(|known| NatMatch::of(known) == NatMatch::of(&rule));
    let replaced = match same {
        Some(index) if replace => Some(rules.remove(index)),
        Some(index) => bail!(
            "a rule for these packets exists: {}; --replace puts the new one in its place",
            rules[index]
        ),
        None => None,
    };
    rules.push(rule.clone());
    check_nat_limits(&rules)
        .map_err(|problem| anyhow!("the NAT rule table is full: {problem}; nothing was changed"))?;
    table.replace(&rules, std::slice::from_ref(&rule))?;
    match replaced {
        Some(old) => output::line(&format!("added {rule} in the place of {old}")),
        None => output::line(&format!("added {rule}")),
    }
}

/// Removes a rule.
pub fn remove(pins: &Pins, wanted: &Match) -> Result<()> {
    let table = Table::open(pins)?;
    let (found, left): (Vec<NatRule>, Vec<NatRule>) =
        table.rules()?.into_iter().partition(|rule| wanted.is_of(rule));
    match &found[..] {
        [] => bail!("no rule matches {wanted}; see `vxlanctl nat show`"),
        [rule] => {
            table.replace(&left, &[])?;
            output::line(&format!("removed {rule}"))
        }
        _ => {
            let found: Vec<_> = found.iter().map(ToString::to_string).collect();
            bail!(
                "several rules match {wanted}: {}; say which with --destination 0.0.0.0/0 (IPv4) \
                 or ::/0 (IPv6)",
                found.join(", ")
            )
        }
    }
}

/// Removes every rule.
pub fn clear(pins: &Pins) -> Result<()> {
    let table = Table::open(pins)?;
    let count = table.rules()?.len();
    table.replace(&[], &[])?;
    output::line(&format!("{} removed", counted(count)))
}

impl<'a> Table<'a> {
    fn open(pins: &'a Pins) -> Result<Self> {
        let table = NatTable::open(pins)?;
        Ok(Self { pins, table, _lock: crate::hold_lists(pins)? })
    }

    fn rules(&self) -> Result<Vec<NatRule>> {
        Ok(self.table.rules()?.into_iter().map(|installed| installed.rule).collect())
    }

    /// Makes `rules` count once the next hops of the `new` ones among them are known. A rule that
    /// counts already and lost its next hop does not keep others from being changed, and neither
    /// does a target that gets no new flows: it is often about to go.
    fn replace(&self, rules: &[NatRule], new: &[NatRule]) -> Result<()> {
        let targets = new.iter().flat_map(|rule| &rule.targets).filter(|target| target.weight > 0);
        let targets: BTreeSet<IpAddr> = targets.map(|target| target.target.address).collect();
        let staged = self.table.stage(rules)?;
        self.table.control().request_refresh();
        match self.wait_for_next_hops(&targets) {
            Ok(()) => self.table.activate(staged),
            Err(error) => Err(self.table.abandon(staged, error)),
        }
    }

    fn wait_for_next_hops(&self, targets: &BTreeSet<IpAddr>) -> Result<()> {
        let mut missing = self.unresolved(targets);
        if missing.is_empty() {
            return Ok(());
        }
        if !lock::is_held(self.pins, Role::Loader)? {
            bail!(
                "vxlan-loader is not running under PIN_DIR {}, so nobody can resolve the next hop \
                 of {}; nothing was changed",
                self.pins.directory().display(),
                listed(&missing)
            );
        }
        if stderr().is_terminal() {
            output::error(&format!("waiting for the next hop of {}", listed(&missing)));
        }
        let deadline = Instant::now() + RESOLVE_TIMEOUT;
        while !missing.is_empty() {
            if Instant::now() > deadline {
                bail!(
                    "no next hop found within {} s for {} (is there a route out of the egress \
                     interface, and does its gateway or the target answer?); nothing was changed",
                    RESOLVE_TIMEOUT.as_secs(),
                    listed(&missing)
                );
            }
            sleep(RESOLVE_POLL);
            missing = self.unresolved(targets);
        }
        Ok(())
    }

    fn unresolved(&self, targets: &BTreeSet<IpAddr>) -> Vec<IpAddr> {
        let next_hops = self.table.next_hops().into_iter();
        let known: HashSet<IpAddr> =
            next_hops.filter_map(|(target, mac)| mac.map(|_| target)).collect();
        targets.iter().copied().filter(|target| !known.contains(target)).collect()
    }
}

fn listed(targets: &[IpAddr]) -> String {
    targets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn counted(rules: usize) -> String {
    let noun = if rules == 1 { "rule" } else { "rules" };
    format!("{} {noun}", thousands(rules as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(destination: Option<&str>, target: &str) -> NatRule {
        let target = config::parse_target(target, 9).unwrap();
        let destination = destination.map(|net| config::parse_entry(net).unwrap());
        NatRule::new(NatProtocol::Udp, 7, destination, None, vec![target.into()]).unwrap()
    }

    fn wanted(destination: Option<&str>) -> Match {
        let destination = destination.map(|net| config::parse_entry(net).unwrap());
        Match { protocol: NatProtocol::Udp, port: 7, destination, vni: None }
    }

    #[test]
    fn a_rule_is_found_by_exactly_what_it_matches() {
        let (v4, v6) = (rule(None, "192.0.2.9"), rule(None, "2001:db8::9"));
        assert!(wanted(None).is_of(&v4) && wanted(None).is_of(&v6));
        assert!(wanted(Some("0.0.0.0/0")).is_of(&v4) && !wanted(Some("0.0.0.0/0")).is_of(&v6));
        assert!(wanted(Some("::/0")).is_of(&v6) && !wanted(Some("::/0")).is_of(&v4));
        let narrow = rule(Some("198.51.100.0/24"), "192.0.2.9");
        assert!(wanted(Some("198.51.100.0/24")).is_of(&narrow));
        assert!(!wanted(None).is_of(&narrow) && !wanted(Some("198.51.100.0/25")).is_of(&narrow));
        assert!(!Match { vni: Some(1), ..wanted(None) }.is_of(&v4));
        assert!(!Match { protocol: NatProtocol::Any, ..wanted(None) }.is_of(&v4));
        assert!(!Match { port: 8, ..wanted(None) }.is_of(&v4));
    }

    #[test]
    fn a_match_is_named_like_a_rule() {
        let wanted = Match { vni: Some(3), ..wanted(Some("198.51.100.0/24")) };
        assert_eq!(wanted.to_string(), "udp/7 to 198.51.100.0/24 vni 3");
    }
}
