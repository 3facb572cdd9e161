//! Waiting until no program works any more with what a store has just replaced.

use std::os::fd::{AsFd, AsRawFd};

use anyhow::{Context, Result};
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};

/// Returns once every program that ran at the time of the call has ended: one that read a list's
/// old generation a moment ago may still look its entries up, so they must not go before.
///
/// The kernel promises this for an update of a map of maps (`maybe_wait_bpf_programs` in
/// kernel/bpf/syscall.c), so one is made and updated.
///
/// # Errors
/// The maps can't be made.
pub fn wait_for_programs() -> Result<()> {
    let mut options = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
        ..Default::default()
    };
    let inner = MapHandle::create(MapType::Array, Some("grace_inner"), 4, 4, 1, &options)
        .context("making a map to wait for running programs")?;
    options.inner_map_fd = inner.as_fd().as_raw_fd() as u32;
    let outer = MapHandle::create(MapType::ArrayOfMaps, Some("grace"), 4, 4, 1, &options)
        .context("making a map of maps to wait for running programs")?;
    outer
        .update(&[0; 4], &inner.as_fd().as_raw_fd().to_ne_bytes(), MapFlags::ANY)
        .context("waiting for running programs")
}
