//! NAT rules in the kernel, replaced as a whole, and the next hops of their targets.
//!
//! An entry of `target_map` belongs to one target of one rule. It stays the same one, serial
//! included, as long as sets of rules follow each other that have this target under the same match:
//! so flows that are tracked keep their target when weights change or other targets come and go.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use anyhow::{Context, Error, Result, anyhow};
use config::{NatMatch, NatRule, NatTarget, WeightedTarget, check_nat_limits};
use libbpf_rs::{MapCore, MapFlags, MapHandle};

use crate::abi::{
    MAX_NAT_RULES, MAX_NAT_TARGETS, MAX_RULE_TARGETS, NAT_FLAG_SEVERAL, maglev, nat_key, nat_value,
    weighted_target,
};
use crate::control::{Control, NatActive};
use crate::grace::wait_for_programs;
use crate::maglev::{SLOTS, table};
use crate::plain::{self, Plain};
use crate::{MapName, Pins};

mod encode;
mod place;
mod targets;

pub(crate) use encode::decode_address;
use encode::{decode_key, encode_address, key, shape};
use place::Places;
pub(crate) use targets::Targets;
use targets::{Entry, Index};

const _: () = assert!(MAX_NAT_RULES as usize == config::MAX_NAT_RULES);
const _: () = assert!(MAX_RULE_TARGETS as usize == config::MAX_RULE_TARGETS);
// A set and the one that takes its place always fit, though they have no target in common.
const _: () = assert!(MAX_NAT_TARGETS as usize == 2 * config::MAX_NAT_TARGETS);

/// An Ethernet address.
pub type Mac = [u8; 6];

/// The pinned NAT rules. Changes need [`crate::lock::Role::Change`] held by the caller.
pub struct NatTable {
    rules: MapHandle,
    maglev: MapHandle,
    targets: Targets,
    control: Control,
}

/// A rule as it stands in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstalledRule {
    /// The rule.
    pub rule: NatRule,
    /// What the kernel adds to each of its targets, in their order.
    pub targets: Vec<InstalledTarget>,
}

/// What the kernel adds to a target of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstalledTarget {
    /// MAC address of the next hop towards it, when it is known.
    pub next_hop: Option<Mac>,
    /// Its share of the new flows: this many of [`SLOTS`].
    pub slots: usize,
}

/// Rules written to the kernel that no packet meets yet: first their next hops are resolved.
#[derive(Debug)]
pub struct Staged {
    active: NatActive,
}

/// A rule of a generation, and where its targets are.
struct Found {
    matched: NatMatch,
    targets: Vec<FoundTarget>,
}

struct FoundTarget {
    index: Index,
    entry: Entry,
    weight: u16,
    slots: usize,
}

impl NatTable {
    /// Opens the pinned maps.
    ///
    /// # Errors
    /// See [`Pins::open`].
    pub fn open(pins: &Pins) -> Result<Self> {
        Ok(Self {
            rules: pins.open(MapName::NAT)?,
            maglev: pins.open(MapName::MAGLEV)?,
            targets: Targets::open(pins)?,
            control: Control::open(pins)?,
        })
    }

    /// The control map that goes with the rules.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Writes `rules` beside those that count. Next hops that are known already are kept.
    ///
    /// # Errors
    /// Too many rules or targets, or a map can't be written; the rules that count stay.
    pub fn stage(&self, rules: &[NatRule]) -> Result<Staged> {
        check_nat_limits(rules).map_err(|text| anyhow!("the NAT rule table is full: {text}"))?;
        self.remove_unused()?;
        let generation = self.control.nat_active().generation.wrapping_add(1);
        let shapes = self.write(rules, generation).map_err(|error| self.clean_up_after(error))?;
        Ok(Staged { active: NatActive { generation, shapes } })
    }

    /// Writes the rules under a generation and returns the bitmap of their shapes.
    fn write(&self, rules: &[NatRule], generation: u8) -> Result<u32> {
        let active = self.find(self.control.nat_active().generation)?;
        let mut places = Places::new(&self.targets, &self.control, &active);
        let mut shapes = 0;
        for (number, rule) in rules.iter().enumerate() {
            let matched = NatMatch::of(rule);
            shapes |= 1 << shape(&matched);
            let place = |weighted: &WeightedTarget| places.take(matched, weighted.target);
            let indexes: Vec<Index> = rule.targets.iter().map(place).collect::<Result<_>>()?;
            let value = match (&rule.targets[..], &indexes[..]) {
                ([WeightedTarget { target, weight: 1 }], [index]) => one(target, *index),
                _ => self.write_several(&rule.targets, &indexes, maglev_key(generation, number))?,
            };
            let key = key(&matched, generation);
            self.rules
                .update(plain::bytes(&key), plain::bytes(&value), MapFlags::ANY)
                .with_context(|| format!("writing rule {rule}"))?;
        }
        Ok(shapes)
    }

    fn write_several(
        &self,
        targets: &[WeightedTarget],
        indexes: &[Index],
        key: u32,
    ) -> Result<nat_value> {
        let slots = table(targets).context("a rule has no target with a weight")?;
        let mut value = maglev {
            count: targets.len() as u32,
            slots: slots.map(|slot| indexes[usize::from(slot)] as u16),
            ..Default::default()
        };
        for ((into, target), index) in value.targets.iter_mut().zip(targets).zip(indexes) {
            *into = weighted_target { target: *index as u16, weight: target.weight };
        }
        self.maglev
            .update(plain::bytes(&key), plain::bytes(&value), MapFlags::ANY)
            .context("writing maglev_map")?;
        Ok(nat_value { flags: NAT_FLAG_SEVERAL as u16, target: key, ..Default::default() })
    }

    /// Makes the staged rules count, at once and as a whole, and removes the others.
    ///
    /// # Errors
    /// Old rules can't be removed; the new ones count nevertheless.
    pub fn activate(&self, staged: Staged) -> Result<()> {
        self.control.set_nat_active(staged.active);
        wait_for_programs()?;
        self.remove_unused()
    }

    /// Removes the staged rules again because of `error`, which is returned. If they can't be
    /// removed, it says that, too.
    #[must_use]
    pub fn abandon(&self, staged: Staged, error: Error) -> Error {
        debug_assert_ne!(staged.active.generation, self.control.nat_active().generation);
        self.clean_up_after(error)
    }

    fn clean_up_after(&self, error: Error) -> Error {
        match self.remove_unused() {
            Ok(()) => error,
            Err(second) => {
                error.context(format!("staged NAT rules can't be removed either ({second:#})"))
            }
        }
    }

    /// The rules that count, in the order in which they are tried for a packet.
    ///
    /// # Errors
    /// A map can't be read.
    pub fn rules(&self) -> Result<Vec<InstalledRule>> {
        loop {
            let active = self.control.nat_active();
            let found = self.find(active.generation)?;
            // Else they were replaced, and what was found may be in part.
            if self.control.nat_active() == active {
                let mut rules: Vec<_> = found.into_iter().map(InstalledRule::from).collect();
                rules.sort_by_cached_key(|installed| order(&installed.rule));
                return Ok(rules);
            }
        }
    }

    /// Every address that is a target of a rule, staged ones included, with its next hop if that is
    /// known.
    pub fn next_hops(&self) -> Vec<(IpAddr, Option<Mac>)> {
        let entries = self.targets.iter().map(|(_, entry)| entry);
        let mut list: Vec<_> = entries.map(|e| (e.target.address, e.next_hop)).collect();
        list.sort_unstable();
        list.dedup_by_key(|(address, _)| *address);
        list
    }

    /// Sets the next hop of every target with this address; `None`: it is not resolved any more.
    pub fn set_next_hop(&self, target: IpAddr, mac: Option<Mac>) {
        self.set_next_hops(&BTreeMap::from([(target, mac)]));
    }

    /// Sets the next hops of many addresses in one pass over the targets; others stay as they are.
    pub fn set_next_hops(&self, next_hops: &BTreeMap<IpAddr, Option<Mac>>) {
        self.targets.set_next_hops(next_hops);
    }

    /// The rules of a generation. Where somebody removes them meanwhile, some are left out.
    fn find(&self, generation: u8) -> Result<Vec<Found>> {
        let mut rules = Vec::new();
        for key in keys::<nat_key>(&self.rules)?.iter().filter(|key| key.generation == generation) {
            let Some(value) = look_up::<nat_value>(&self.rules, key)? else { continue };
            let targets = self.find_targets(&value)?;
            if !targets.is_empty() {
                rules.push(Found { matched: decode_key(key)?, targets });
            }
        }
        Ok(rules)
    }

    fn find_targets(&self, value: &nat_value) -> Result<Vec<FoundTarget>> {
        let found = |index, weight, slots| {
            self.targets.get(index).map(|entry| FoundTarget { index, entry, weight, slots })
        };
        if u32::from(value.flags) & NAT_FLAG_SEVERAL == 0 {
            let weight = WeightedTarget::DEFAULT_WEIGHT;
            return Ok(found(value.target, weight, SLOTS).into_iter().collect());
        }
        let Some(maglev) = look_up::<maglev>(&self.maglev, &value.target)? else {
            return Ok(Vec::new());
        };
        let listed = maglev.targets.iter().take(maglev.count as usize);
        Ok(listed
            .filter_map(|listed| {
                let slots = maglev.slots.iter().filter(|slot| **slot == listed.target).count();
                found(listed.target.into(), listed.weight, slots)
            })
            .collect())
    }

    /// Removes what the rules that count do not use: rules that were replaced or abandoned, or that
    /// a process staged which died.
    fn remove_unused(&self) -> Result<()> {
        let generation = self.control.nat_active().generation;
        for key in keys::<nat_key>(&self.rules)?.iter().filter(|key| key.generation != generation) {
            self.rules.delete(plain::bytes(key)).context("removing an old NAT rule")?;
        }
        for key in keys::<u32>(&self.maglev)?.iter().filter(|key| !is_of(**key, generation)) {
            self.maglev.delete(plain::bytes(key)).context("clearing maglev_map")?;
        }
        let rules = self.find(generation)?;
        let used: HashSet<Index> = rules.iter().flat_map(|r| &r.targets).map(|t| t.index).collect();
        if self.targets.free_except(&used) {
            // A program may have found a flow's target a moment ago: before that has ended, the
            // entry must not be given to another target.
            wait_for_programs()?;
        }
        Ok(())
    }
}

impl From<Found> for InstalledRule {
    fn from(found: Found) -> Self {
        let NatMatch { protocol, port, destination, vni, .. } = found.matched;
        let weighted =
            |t: &FoundTarget| WeightedTarget { target: t.entry.target, weight: t.weight };
        let installed =
            |t: &FoundTarget| InstalledTarget { next_hop: t.entry.next_hop, slots: t.slots };
        Self {
            rule: NatRule {
                protocol,
                port,
                destination,
                vni,
                targets: found.targets.iter().map(weighted).collect(),
            },
            targets: found.targets.iter().map(installed).collect(),
        }
    }
}

/// What rules are sorted by for people: those for the same packets in the order of look-up.
fn order(rule: &NatRule) -> impl Ord + use<> {
    let matched = NatMatch::of(rule);
    let length = matched.destination.map_or(0, |net| net.prefix_len());
    (matched.port, shape(&matched), matched.vni, Reverse(length), matched.to_string())
}

fn one(target: &NatTarget, index: Index) -> nat_value {
    nat_value {
        address: encode_address(target.address),
        port: target.port.to_be(),
        target: index,
        ..Default::default()
    }
}

/// The key in `maglev_map` of the rule with this number in its set.
fn maglev_key(generation: u8, number: usize) -> u32 {
    u32::from(generation) << 16 | number as u32
}

fn is_of(maglev_key: u32, generation: u8) -> bool {
    maglev_key >> 16 == u32::from(generation)
}

fn keys<T: Plain>(map: &MapHandle) -> Result<Vec<T>> {
    let name = || format!("{} is of another layout", map.name().to_string_lossy());
    map.keys().map(|key| plain::from_bytes(&key).with_context(name)).collect()
}

/// The value, or `None` if the key has gone.
fn look_up<T: Plain>(map: &MapHandle, key: &impl Plain) -> Result<Option<T>> {
    let name = || format!("reading {}", map.name().to_string_lossy());
    let value = map.lookup(plain::bytes(key), MapFlags::ANY).with_context(name)?;
    Ok(value.and_then(|value| plain::from_bytes(&value)))
}
