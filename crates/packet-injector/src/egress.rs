//! The egress interface, as this process and the running pipeline see it.

use anyhow::{Context, Result, bail, ensure};
use dataplane::interfaces::{self, InterfaceRole};
use dataplane::{MapName, Pins};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};

/// Index of the interface, which must be up and be the one that the loader prepared frames for.
pub fn check(name: &str, pins: &Pins) -> Result<u32> {
    let Ok(ifindex) = if_nametoindex(name) else {
        bail!("no such interface: {name}; this network namespace has: {}", names()?);
    };
    let up = getifaddrs()
        .context("listing interfaces")?
        .any(|i| i.interface_name == name && i.flags.contains(InterfaceFlags::IFF_UP));
    ensure!(up, "interface {name} is down: ip link set dev {name} up");
    let prepared = interfaces::get(&pins.open(MapName::INTERFACES)?, InterfaceRole::Egress)?;
    ensure!(
        prepared.ifindex == ifindex,
        "the pipeline under {} prepares frames for the interface with index {}, but {name} has \
         index {ifindex}: give the interface that vxlan-loader has as TARGET_INTERFACE",
        pins.directory().display(),
        prepared.ifindex
    );
    Ok(ifindex)
}

fn names() -> Result<String> {
    let mut names: Vec<_> = getifaddrs()?.map(|interface| interface.interface_name).collect();
    names.sort();
    names.dedup();
    Ok(names.join(", "))
}
