//! The generated skeletons of the lab's BPF programs, and reading their maps.

use std::mem::size_of;

use anyhow::{Context, Result};
use libbpf_rs::{MapCore, MapFlags, MapHandle};

#[allow(clippy::all, clippy::undocumented_unsafe_blocks, missing_docs, dead_code)]
pub(crate) mod generator {
    include!(concat!(env!("OUT_DIR"), "/generator.skel.rs"));
}

#[allow(clippy::all, clippy::undocumented_unsafe_blocks, missing_docs, dead_code)]
pub(crate) mod pass {
    include!(concat!(env!("OUT_DIR"), "/pass.skel.rs"));
}

#[allow(clippy::all, clippy::undocumented_unsafe_blocks, missing_docs, dead_code)]
pub(crate) mod sink {
    include!(concat!(env!("OUT_DIR"), "/sink.skel.rs"));
}

/// A `u64` of a C structure, by the place that its generated type gives.
pub(crate) fn word(value: &[u8], offset: usize) -> u64 {
    let bytes = value.get(offset..offset + size_of::<u64>());
    u64::from_ne_bytes(bytes.and_then(|b| b.try_into().ok()).unwrap_or_default())
}

/// The value of an array map's element.
pub(crate) fn element(map: &MapHandle, index: u32) -> Result<Vec<u8>> {
    let value = map.lookup(&index.to_ne_bytes(), MapFlags::ANY)?;
    value.with_context(|| format!("no element {index} in {:?}", map.name()))
}

/// The values of a per-CPU array map's element, one a CPU.
pub(crate) fn elements_per_cpu(map: &MapHandle, index: u32) -> Result<Vec<Vec<u8>>> {
    let values = map.lookup_percpu(&index.to_ne_bytes(), MapFlags::ANY)?;
    values.with_context(|| format!("no element {index} in {:?}", map.name()))
}
