//! Filling the maps: interfaces, VNIs, allowlist, NAT rules with their next hops.

use anyhow::{Context, Result};
use dataplane::allowlist::AllowlistMaps;
use dataplane::interfaces::{self, InterfaceRole};
use dataplane::lock::{self, Lock, Role};
use dataplane::nat::NatTable;
use dataplane::vni::Vnis;
use dataplane::{MapHandle, Pins};

use crate::netlink::interface::Interface;
use crate::next_hop::NextHops;
use crate::report::Report;
use crate::signals::Signals;
use crate::start::Input;

/// Fills the maps. Next hops, which may fail for reasons outside, come before anything that the
/// packets of a running pipeline meet.
///
/// # Errors
/// A target that can't be reached, a signal, or a map that can't be written.
pub fn fill(
    input: &Input,
    pins: &Pins,
    next_hops: &mut NextHops,
    signals: &Signals,
    report: Report,
) -> Result<NatTable> {
    let _change = lock_lists(pins, signals)?;
    let nat = NatTable::open(pins)?;
    let staged = nat.stage(&input.rules).context("loading NAT rules")?;
    match resolve(&nat, input, next_hops, signals, report).and_then(|()| set_lists(input, pins)) {
        Ok(()) => nat.activate(staged).context("activating NAT rules")?,
        Err(error) => return Err(nat.abandon(staged, error)),
    }
    Ok(nat)
}

/// Waits until nobody else changes a list, or a signal comes.
fn lock_lists(pins: &Pins, signals: &Signals) -> Result<Lock> {
    loop {
        signals.check()?;
        if let Some(lock) = lock::try_lock(pins, Role::Change)? {
            return Ok(lock);
        }
    }
}

/// Tells the program its interfaces.
///
/// # Errors
/// The map can't be written.
pub fn set_interfaces(map: &MapHandle, ingress: &Interface, egress: &Interface) -> Result<()> {
    interfaces::set(map, InterfaceRole::Ingress, &ingress.as_entry())?;
    interfaces::set(map, InterfaceRole::Egress, &egress.as_entry())
}

fn resolve(
    nat: &NatTable,
    input: &Input,
    next_hops: &mut NextHops,
    signals: &Signals,
    report: Report,
) -> Result<()> {
    let targets = || input.rules.iter().flat_map(|rule| &rule.targets);
    // A target that gets no new flows is often about to go: that it does not answer is no reason
    // not to start.
    let needed = targets().filter(|target| target.weight > 0);
    next_hops.set_targets(needed.map(|target| target.target.address));
    next_hops.resolve(signals, report)?;
    signals.check()?;
    next_hops.set_targets(targets().map(|target| target.target.address));
    next_hops.refresh(report)?;
    nat.set_next_hops(&next_hops.macs());
    Ok(())
}

fn set_lists(input: &Input, pins: &Pins) -> Result<()> {
    Vnis::open(pins)?.replace(&input.settings.target_vni).context("setting TARGET_VNI")?;
    if let Some(allowlist) = &input.allowlist {
        AllowlistMaps::open(pins)?.replace(&allowlist.entries).context("loading the allowlist")?;
    }
    Ok(())
}
