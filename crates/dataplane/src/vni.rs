//! VNIs: the accepted set, and those that packets carried.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use anyhow::{Context, Result};
use config::VniSet;
use libbpf_rs::{MapCore, MapFlags, MapHandle};

use crate::abi::{CONTROL_VNI_ANY, VNI_SLOTS, vni_count, vni_key, vni_slot};
use crate::control::Control;
use crate::grace::wait_for_programs;
use crate::plain::{self, Plain};
use crate::{MapName, Pins};

/// A VNI that valid VXLAN packets carried, accepted or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SeenVni {
    /// VXLAN network identifier, 24 bits.
    pub vni: u32,
    /// Packets.
    pub packets: u64,
    /// Bytes of their inner frames.
    pub bytes: u64,
    /// Whether the pipeline accepts it now.
    pub accepted: bool,
}

/// The accepted VNIs and the ones seen.
pub struct Vnis {
    accepted: MapHandle,
    slots: MapHandle,
    seen: MapHandle,
    control: Control,
}

impl Vnis {
    /// Opens the pinned maps.
    ///
    /// # Errors
    /// See [`Pins::open`].
    pub fn open(pins: &Pins) -> Result<Self> {
        Ok(Self {
            accepted: pins.open(MapName::VNI)?,
            slots: pins.open(MapName::VNI_SLOTS)?,
            seen: pins.open(MapName::VNI_SEEN)?,
            control: Control::open(pins)?,
        })
    }

    /// Replaces the accepted set; no packet meets half of the new one.
    ///
    /// The caller holds [`crate::lock::Role::Change`].
    ///
    /// # Errors
    /// The map can't be written; what was accepted stays.
    pub fn replace(&self, set: &VniSet) -> Result<()> {
        let active = self.control.vni_active();
        self.remove_except(active)?;
        let next = match set.as_list() {
            None => CONTROL_VNI_ANY,
            Some(vnis) => {
                let generation = active.wrapping_add(1) & 0xff;
                for &vni in vnis {
                    self.accepted
                        .update(plain::bytes(&vni_key { generation, vni }), &[0; 4], MapFlags::ANY)
                        .context("writing vni_map")?;
                }
                generation
            }
        };
        self.control.set_vni_active(next);
        wait_for_programs()?;
        self.remove_except(next)
    }

    /// The accepted VNIs, sorted, or `None` when every VNI is.
    ///
    /// # Errors
    /// The map's layout is another one.
    pub fn accepted(&self) -> Result<Option<Vec<u32>>> {
        let generation = self.control.vni_active();
        if generation == CONTROL_VNI_ANY {
            return Ok(None);
        }
        let mut vnis = Vec::new();
        for key in self.accepted.keys() {
            let key: vni_key = plain::from_bytes(&key).context("vni_map is of another layout")?;
            if key.generation == generation {
                vnis.push(key.vni);
            }
        }
        vnis.sort_unstable();
        Ok(Some(vnis))
    }

    /// Whether packets of `vni` are accepted.
    ///
    /// # Errors
    /// The map can't be read.
    pub fn is_accepted(&self, vni: u32) -> Result<bool> {
        let generation = self.control.vni_active();
        if generation == CONTROL_VNI_ANY {
            return Ok(true);
        }
        let found = self.accepted.lookup(plain::bytes(&vni_key { generation, vni }), MapFlags::ANY);
        Ok(found.context("reading vni_map")?.is_some())
    }

    /// Every VNI seen, by packets, most first. Of very many VNIs the least recent are forgotten.
    ///
    /// # Errors
    /// A map can't be read.
    pub fn seen(&self) -> Result<Vec<SeenVni>> {
        let mut counts = BTreeMap::new();
        for index in 0..VNI_SLOTS {
            for slot in per_cpu::<vni_slot>(&self.slots, &index.to_ne_bytes())? {
                if slot.taken != 0 {
                    add(&mut counts, slot.vni, slot.count);
                }
            }
        }
        for key in self.seen.keys() {
            let vni = plain::from_bytes::<u32>(&key).context("vni_seen is of another layout")?;
            for count in per_cpu::<vni_count>(&self.seen, &key)? {
                add(&mut counts, vni, count);
            }
        }
        let mut list = Vec::new();
        for (vni, count) in counts {
            let vni_count { packets, bytes } = count;
            list.push(SeenVni { vni, packets, bytes, accepted: self.is_accepted(vni)? });
        }
        list.sort_by_key(|seen| (Reverse(seen.packets), seen.vni));
        Ok(list)
    }

    fn remove_except(&self, generation: u32) -> Result<()> {
        for key in self.accepted.keys().collect::<Vec<_>>() {
            if plain::from_bytes::<vni_key>(&key).is_some_and(|k| k.generation != generation) {
                self.accepted.delete(&key).context("clearing vni_map")?;
            }
        }
        Ok(())
    }
}

/// The values of one key, of each CPU; none, if the key has gone meanwhile.
fn per_cpu<T: Plain>(map: &MapHandle, key: &[u8]) -> Result<Vec<T>> {
    let name = || format!("reading {}", map.name().to_string_lossy());
    let values = map.lookup_percpu(key, MapFlags::ANY).with_context(name)?.unwrap_or_default();
    Ok(values.iter().filter_map(|value| plain::from_bytes(value)).collect())
}

fn add(counts: &mut BTreeMap<u32, vni_count>, vni: u32, more: vni_count) {
    let count = counts.entry(vni).or_default();
    count.packets += more.packets;
    count.bytes += more.bytes;
}
