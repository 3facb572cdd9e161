//! Mmapable BPF arrays: counters that outlive the process which counts, without system calls.

use std::marker::PhantomData;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, AtomicU64};

use anyhow::{Context, Result, ensure};
use libbpf_rs::{MapCore, MapHandle};
use memmap2::{MmapOptions, MmapRaw};

use crate::plain::Plain;

/// A mapped array of `T`, whose integer fields are reached as atomics.
pub struct Shared<T> {
    map: MmapRaw,
    entries: usize,
    entry: PhantomData<T>,
}

impl<T: Plain> Shared<T> {
    /// Maps the whole array.
    ///
    /// # Errors
    /// The map's value is not a `T`, or the kernel refuses the mapping.
    pub fn map(handle: &MapHandle) -> Result<Self> {
        let name = handle.name().to_string_lossy().into_owned();
        ensure!(
            handle.value_size() as usize == size_of::<T>() && size_of::<T>().is_multiple_of(8),
            "map {name} has values of {} bytes, this program expects {}",
            handle.value_size(),
            size_of::<T>()
        );
        let entries = handle.max_entries() as usize;
        let map = MmapOptions::new()
            .len(entries * size_of::<T>())
            .map_raw(&handle.as_fd())
            .with_context(|| format!("mapping {name} into memory"))?;
        Ok(Self { map, entries, entry: PhantomData })
    }

    /// An array of zeroes that no other process sees, to test what works on a map.
    ///
    /// # Errors
    /// The kernel has no memory.
    #[cfg(feature = "testing")]
    pub fn private(entries: usize) -> Result<Self> {
        let map = MmapOptions::new().len(entries * size_of::<T>()).map_anon()?.into();
        Ok(Self { map, entries, entry: PhantomData })
    }

    /// The 64-bit field at `offset` (by `offset_of!`) of entry `entry`.
    ///
    /// # Panics
    /// The field is outside the array or not aligned.
    pub fn u64_at(&self, entry: usize, offset: usize) -> &AtomicU64 {
        // SAFETY: `field` checked bounds and alignment; the mapping lives as long as `self`,
        // and everybody else, the kernel included, accesses the field atomically.
        unsafe { AtomicU64::from_ptr(self.field(entry, offset, 8).cast()) }
    }

    /// The 32-bit field at `offset` (by `offset_of!`) of entry `entry`.
    ///
    /// # Panics
    /// The field is outside the array or not aligned.
    pub fn u32_at(&self, entry: usize, offset: usize) -> &AtomicU32 {
        // SAFETY: as in `u64_at`.
        unsafe { AtomicU32::from_ptr(self.field(entry, offset, 4).cast()) }
    }

    fn field(&self, entry: usize, offset: usize, size: usize) -> *mut u8 {
        assert!(entry < self.entries, "entry {entry} of {}", self.entries);
        assert!(offset + size <= size_of::<T>() && offset.is_multiple_of(size));
        self.map.as_mut_ptr().wrapping_add(entry * size_of::<T>() + offset)
    }
}
