//! Which entries of `target_map` the targets of a new set of rules get.

use std::collections::HashMap;
use std::net::IpAddr;

use anyhow::{Context, Result};
use config::{NatMatch, NatTarget};

use super::targets::{Entry, Index, Targets};
use super::{Found, Mac};
use crate::abi::MAX_NAT_TARGETS;
use crate::control::Control;

/// The entries that there are for a new set.
pub(super) struct Places<'a> {
    targets: &'a Targets,
    control: &'a Control,
    /// Those of the rules that count, which the same target of the same rule keeps.
    kept: HashMap<(NatMatch, NatTarget), Index>,
    known: HashMap<IpAddr, Mac>,
    free: Box<dyn Iterator<Item = Index> + 'a>,
}

impl<'a> Places<'a> {
    /// For a set that comes after `active`. No entry is in use but theirs.
    pub(super) fn new(targets: &'a Targets, control: &'a Control, active: &[Found]) -> Self {
        let mut kept = HashMap::new();
        let mut known = HashMap::new();
        for rule in active {
            for target in &rule.targets {
                let Entry { target: address, next_hop, .. } = target.entry;
                kept.insert((rule.matched, address), target.index);
                known.extend(next_hop.map(|mac| (address.address, mac)));
            }
        }
        Self { targets, control, kept, known, free: Box::new(targets.free()) }
    }

    /// The entry for a target of a rule: the one that it has, or a free one, which is written.
    ///
    /// # Errors
    /// No entry is free.
    pub(super) fn take(&mut self, matched: NatMatch, target: NatTarget) -> Result<Index> {
        if let Some(index) = self.kept.get(&(matched, target)) {
            return Ok(*index);
        }
        let index = self.free.next().with_context(|| {
            format!("the table of NAT targets is full: {MAX_NAT_TARGETS} are in use")
        })?;
        let serial = self.control.next_target_serial();
        let next_hop = self.known.get(&target.address).copied();
        self.targets.write(index, &Entry { serial, target, next_hop });
        Ok(index)
    }
}
