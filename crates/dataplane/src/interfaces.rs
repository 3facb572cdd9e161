//! `interface_map`: ingress and egress, as the program must know them.

use anyhow::{Context, Result};
use libbpf_rs::{MapCore, MapFlags, MapHandle};

use crate::abi::{INTERFACE_EGRESS, INTERFACE_INGRESS, interface};
use crate::plain;

/// Key in `interface_map`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum InterfaceRole {
    /// Receives the mirrored traffic.
    Ingress = INTERFACE_INGRESS,
    /// Sends the inner frames.
    Egress = INTERFACE_EGRESS,
}

/// Reads the entry of `role`.
///
/// # Errors
/// The map can't be read.
pub fn get(map: &MapHandle, role: InterfaceRole) -> Result<interface> {
    map.lookup(&(role as u32).to_ne_bytes(), MapFlags::ANY)
        .context("reading interface_map")?
        .and_then(|value| plain::from_bytes(&value))
        .context("interface_map has no such entry")
}

/// Writes the entry of `role`.
///
/// # Errors
/// The map can't be written.
pub fn set(map: &MapHandle, role: InterfaceRole, value: &interface) -> Result<()> {
    map.update(&(role as u32).to_ne_bytes(), plain::bytes(value), MapFlags::ANY)
        .context("writing interface_map")
}
