//! How a user's own machine reaches a VXLAN endpoint: interface, addresses, next hop.

use std::net::{IpAddr, UdpSocket};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::packet::parse_mac;

/// The way to a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The interface to send on.
    pub interface: String,
    /// Its MAC address.
    pub source_mac: [u8; 6],
    /// The address to send from.
    pub source: IpAddr,
    /// The MAC address of the next hop.
    pub next_hop_mac: [u8; 6],
}

impl Route {
    /// Asks the kernel, in the namespace of the calling thread, for the way to a destination, and
    /// has it resolve the next hop.
    pub fn to(destination: IpAddr) -> Result<Self> {
        Self::find(destination).with_context(|| format!("no way to {destination}"))
    }

    fn find(destination: IpAddr) -> Result<Self> {
        let route = &ip(&["route", "get", &destination.to_string()])?[0];
        ensure!(route["type"] != "local", "it is an address of this machine");
        let interface = text(route, "dev")?.to_owned();
        let source = text(route, "prefsrc")?.parse()?;
        let next_hop = match route["gateway"].as_str() {
            Some(gateway) => gateway.parse()?,
            None => destination,
        };
        let link = &ip(&["link", "show", "dev", &interface])?[0];
        let source_mac = parse_mac(text(link, "address")?)?;
        let next_hop_mac = resolve(source, next_hop, &interface)?;
        Ok(Self { interface, source_mac, source, next_hop_mac })
    }
}

/// A datagram to the discard port makes the kernel ask for the neighbour.
fn resolve(source: IpAddr, next_hop: IpAddr, interface: &str) -> Result<[u8; 6]> {
    const DISCARD: u16 = 9;
    let socket = UdpSocket::bind((source, 0)).context("cannot open a UDP socket")?;
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        let neighbours = ip(&["neigh", "show", "to", &next_hop.to_string(), "dev", interface])?;
        if let Some(address) = neighbours[0]["lladdr"].as_str() {
            return parse_mac(address);
        }
        if Instant::now() > deadline {
            bail!("{next_hop} on {interface} does not answer: give its MAC address (--dst-mac)");
        }
        // A refusal by an earlier datagram is no reason to stop asking.
        let _ = socket.send_to(&[], (next_hop, DISCARD));
        sleep(Duration::from_millis(20));
    }
}

fn ip(arguments: &[&str]) -> Result<Value> {
    let output = Command::new("ip").arg("-j").args(arguments).output().context("ip")?;
    let message = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {}", arguments.join(" "), message.trim());
    let answer = String::from_utf8_lossy(&output.stdout);
    // `ip -j neigh` prints nothing at all when there is nothing to show.
    let answer = if answer.trim().is_empty() { "[]" } else { answer.trim() };
    Ok(serde_json::from_str(answer)?)
}

fn text<'a>(object: &'a Value, key: &str) -> Result<&'a str> {
    object[key].as_str().with_context(|| format!("ip's answer has no {key}: {object}"))
}
