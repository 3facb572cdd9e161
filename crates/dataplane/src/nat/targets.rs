//! `target_map`: an entry for every target of every rule, with the next hop towards it.

use std::collections::{BTreeMap, HashSet};
use std::mem::offset_of;
use std::net::IpAddr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use anyhow::Result;
use config::NatTarget;

use super::Mac;
use super::encode::{decode_address, encode_address};
use crate::abi::{MAX_NAT_TARGETS, nat_target, next_hop};
use crate::shared::Shared;
use crate::{MapName, Pins, next_hops, plain};

/// Key of an entry.
pub(crate) type Index = u32;

/// `target_map`, mapped.
pub(crate) struct Targets {
    map: Shared<nat_target>,
}

/// An entry that is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Another one each time that the entry is given to a target; not 0.
    pub(crate) serial: u32,
    pub(crate) target: NatTarget,
    /// `None`: not resolved.
    pub(crate) next_hop: Option<Mac>,
}

// Words in which an entry is read and written; the next hop must change at once.
const WORDS: [usize; 3] = [0, 8, offset_of!(nat_target, next_hop)];
const PORT: usize = offset_of!(nat_target, port);
const SERIAL: usize = offset_of!(nat_target, serial);
const _: () = assert!(WORDS[2] == 16 && size_of::<next_hop>() == 8 && PORT == 24 && SERIAL == 28);

impl Targets {
    pub(crate) fn open(pins: &Pins) -> Result<Self> {
        Ok(Self { map: Shared::map(&pins.open(MapName::TARGETS)?)? })
    }

    /// The entry, or `None` if it is free, or was given to another target while it was read.
    pub(crate) fn get(&self, index: Index) -> Option<Entry> {
        let serial = self.serial(index);
        if serial == 0 {
            return None;
        }
        let mut bytes = [0; size_of::<nat_target>()];
        for offset in WORDS {
            let word = self.map.u64_at(index as usize, offset).load(Acquire);
            bytes[offset..offset + 8].copy_from_slice(&word.to_ne_bytes());
        }
        let word = self.map.u32_at(index as usize, PORT).load(Acquire);
        bytes[PORT..PORT + 4].copy_from_slice(&word.to_ne_bytes());
        if self.serial(index) != serial {
            return None;
        }
        let value: nat_target = plain::from_bytes(&bytes)?;
        Some(Entry {
            serial,
            target: NatTarget {
                address: decode_address(value.family, &value.address),
                port: u16::from_be(value.port),
            },
            next_hop: next_hops::decode(value.next_hop),
        })
    }

    /// Every entry that is in use.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Index, Entry)> {
        (0..MAX_NAT_TARGETS).filter_map(|index| Some((index, self.get(index)?)))
    }

    /// Keys of the free entries.
    pub(super) fn free(&self) -> impl Iterator<Item = Index> {
        (0..MAX_NAT_TARGETS).filter(|index| self.serial(*index) == 0)
    }

    /// Writes a free entry. Nobody looks at it before its serial is there, which comes last.
    pub(super) fn write(&self, index: Index, entry: &Entry) {
        debug_assert_eq!(self.serial(index), 0);
        let value = nat_target {
            address: encode_address(entry.target.address),
            next_hop: next_hops::encode(entry.next_hop),
            port: entry.target.port.to_be(),
            family: if entry.target.address.is_ipv4() { 4 } else { 6 },
            ..Default::default()
        };
        let bytes = plain::bytes(&value);
        for offset in WORDS {
            let word = plain::from_bytes(&bytes[offset..]).unwrap_or_default();
            self.map.u64_at(index as usize, offset).store(word, Relaxed);
        }
        let word = plain::from_bytes(&bytes[PORT..]).unwrap_or_default();
        self.map.u32_at(index as usize, PORT).store(word, Relaxed);
        self.map.u32_at(index as usize, SERIAL).store(entry.serial, Release);
    }

    /// Frees every entry but those of `used`; returns whether there was one.
    pub(super) fn free_except(&self, used: &HashSet<Index>) -> bool {
        let mut freed = false;
        for index in (0..MAX_NAT_TARGETS).filter(|index| !used.contains(index)) {
            freed |= self.map.u32_at(index as usize, SERIAL).swap(0, Release) != 0;
        }
        freed
    }

    /// Sets the next hops of the targets with these addresses; others stay as they are.
    pub(super) fn set_next_hops(&self, next_hops: &BTreeMap<IpAddr, Option<Mac>>) {
        for (index, entry) in self.iter() {
            let Some(&mac) = next_hops.get(&entry.target.address) else { continue };
            // The loader comes here without the lock on changes. Should the entry be given to
            // another target between this look and the store, that one has a wrong next hop until
            // the loader's next pass, which every change of the rules asks for.
            if mac != entry.next_hop && self.serial(index) == entry.serial {
                let word = plain::from_bytes(plain::bytes(&next_hops::encode(mac)));
                let next_hop = self.map.u64_at(index as usize, offset_of!(nat_target, next_hop));
                next_hop.store(word.unwrap_or_default(), Relaxed);
            }
        }
    }

    fn serial(&self, index: Index) -> u32 {
        self.map.u32_at(index as usize, SERIAL).load(Acquire)
    }
}
