//! The allowlist in the kernel: two longest-prefix-match maps, replaced as a whole.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, ensure};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use libbpf_rs::{MapCore, MapFlags, MapHandle};

use crate::abi::{MAX_ALLOWLIST_ENTRIES, allowlist_key, allowlist_key_v6};
use crate::control::Control;
use crate::grace::wait_for_programs;
use crate::{MapName, Pins, plain};

/// Entries written or removed by one system call.
const BATCH: usize = 4096;

/// The pinned allowlist. Changes need [`crate::lock::Role::Change`] held by the caller.
pub struct AllowlistMaps {
    v4: MapHandle,
    v6: MapHandle,
    control: Control,
}

impl AllowlistMaps {
    /// Opens the pinned maps.
    ///
    /// # Errors
    /// See [`Pins::open`].
    pub fn open(pins: &Pins) -> Result<Self> {
        Ok(Self {
            v4: pins.open(MapName::ALLOWLIST)?,
            v6: pins.open(MapName::ALLOWLIST_V6)?,
            control: Control::open(pins)?,
        })
    }

    /// Replaces the list. No packet meets half of the new one, and on an error the old one stays.
    ///
    /// # Errors
    /// Too many entries, or the maps can't be written.
    pub fn replace(&self, entries: &[IpNet]) -> Result<()> {
        check_size(entries.len())?;
        let active = self.control.allowlist_generation();
        let next = active.wrapping_add(1);
        self.remove_except(active)?;
        for (map, keys) in self.split(entries, next) {
            if let Err(error) = insert(map, &keys) {
                self.remove_except(active)?;
                return Err(error);
            }
        }
        self.control.set_allowlist_generation(next);
        wait_for_programs()?;
        self.remove_except(next)
    }

    /// Adds an entry. Returns `false` when it was listed already.
    ///
    /// # Errors
    /// The list is full, or the map can't be written.
    pub fn add(&self, entry: IpNet) -> Result<bool> {
        let entries = self.entries()?;
        if entries.binary_search(&entry).is_ok() {
            return Ok(false);
        }
        check_size(entries.len() + 1)?;
        let (map, key) = self.key(entry, self.control.allowlist_generation());
        match map.update(&key, &1u32.to_ne_bytes(), MapFlags::NO_EXIST) {
            Err(error) if error.kind() == libbpf_rs::ErrorKind::AlreadyExists => Ok(false),
            result => result.map(|()| true).with_context(|| format!("adding {entry}")),
        }
    }

    /// Removes an entry. Returns `false` when it was not listed.
    ///
    /// # Errors
    /// The map can't be written.
    pub fn remove(&self, entry: IpNet) -> Result<bool> {
        let (map, key) = self.key(entry, self.control.allowlist_generation());
        match map.delete(&key) {
            Err(error) if error.kind() == libbpf_rs::ErrorKind::NotFound => Ok(false),
            result => result.map(|()| true).with_context(|| format!("removing {entry}")),
        }
    }

    /// The list, sorted.
    ///
    /// # Errors
    /// The maps can't be read.
    pub fn entries(&self) -> Result<Vec<IpNet>> {
        let active = self.control.allowlist_generation();
        let mut entries = Vec::new();
        for key in self.v4.keys() {
            let key: allowlist_key = plain::from_bytes(&key).context("ip_allowlist")?;
            if key.generation == active {
                let address = Ipv4Addr::from(key.address.to_ne_bytes());
                entries.push(Ipv4Net::new(address, (key.prefixlen - 32) as u8)?.into());
            }
        }
        for key in self.v6.keys() {
            let key: allowlist_key_v6 = plain::from_bytes(&key).context("ip_allowlist_v6")?;
            if key.generation == active {
                let address = Ipv6Addr::from(key.address);
                entries.push(Ipv6Net::new(address, (key.prefixlen - 32) as u8)?.into());
            }
        }
        entries.sort();
        Ok(entries)
    }

    fn key(&self, entry: IpNet, generation: u32) -> (&MapHandle, Vec<u8>) {
        let prefixlen = 32 + u32::from(entry.prefix_len());
        match entry.network() {
            IpAddr::V4(address) => {
                let address = u32::from_ne_bytes(address.octets());
                let key = allowlist_key { prefixlen, generation, address };
                (&self.v4, plain::bytes(&key).to_vec())
            }
            IpAddr::V6(address) => {
                let key = allowlist_key_v6 { prefixlen, generation, address: address.octets() };
                (&self.v6, plain::bytes(&key).to_vec())
            }
        }
    }

    fn split(&self, entries: &[IpNet], generation: u32) -> [(&MapHandle, Vec<Vec<u8>>); 2] {
        let keys = |v4: bool| {
            let family = entries.iter().filter(|entry| entry.addr().is_ipv4() == v4);
            family.map(|entry| self.key(*entry, generation).1).collect()
        };
        [(&self.v4, keys(true)), (&self.v6, keys(false))]
    }

    fn remove_except(&self, generation: u32) -> Result<()> {
        for map in [&self.v4, &self.v6] {
            let stale: Vec<Vec<u8>> =
                map.keys().filter(|key| key.get(4..8) != Some(&generation.to_ne_bytes())).collect();
            for batch in stale.chunks(BATCH) {
                map.delete_batch(&batch.concat(), batch.len() as u32, MapFlags::ANY, MapFlags::ANY)
                    .context("removing old entries of the allowlist")?;
            }
        }
        Ok(())
    }
}

fn check_size(entries: usize) -> Result<()> {
    ensure!(
        entries <= MAX_ALLOWLIST_ENTRIES as usize,
        "the allowlist is full: {entries} entries, at most {MAX_ALLOWLIST_ENTRIES} fit"
    );
    Ok(())
}

fn insert(map: &MapHandle, keys: &[Vec<u8>]) -> Result<()> {
    for batch in keys.chunks(BATCH) {
        let values = 1u32.to_ne_bytes().repeat(batch.len());
        let count = batch.len() as u32;
        map.update_batch(&batch.concat(), &values, count, MapFlags::ANY, MapFlags::ANY)
            .context("writing the allowlist")?;
    }
    Ok(())
}
