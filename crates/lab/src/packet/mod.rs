//! Frames for tests: built with `etherparse`, so that every checksum is computed by code that is
//! not the pipeline's own.

mod diff;
mod geneve;
mod inner;
mod mirror;
mod network;
mod noise;

use std::fmt::Write as _;

use anyhow::{Context, Result};

pub use diff::{assert_frame_eq, assert_frames_eq, diff};
pub use geneve::Geneve;
pub use inner::{Inner, Transport, arp_request};
pub use mirror::Mirror;
pub use network::Extension;
pub use noise::is_noise;

/// A VLAN tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// 0x8100 (802.1Q) or 0x88a8 (802.1ad).
    pub tpid: u16,
    /// Priority, drop eligible bit and VLAN id.
    pub tci: u16,
}

impl Tag {
    /// An 802.1Q tag.
    pub const fn customer(id: u16) -> Self {
        Self { tpid: 0x8100, tci: id }
    }

    /// An 802.1ad tag.
    pub const fn service(id: u16) -> Self {
        Self { tpid: 0x88a8, tci: id }
    }
}

/// Writes a MAC address as `02:00:00:00:00:01`.
pub fn format_mac(mac: [u8; 6]) -> String {
    mac.iter().fold(String::new(), |mut text, byte| {
        let separator = if text.is_empty() { "" } else { ":" };
        let _ = write!(text, "{separator}{byte:02x}");
        text
    })
}

/// Reads a MAC address such as `02:00:00:00:00:01`.
pub fn parse_mac(text: &str) -> Result<[u8; 6]> {
    let bytes: Option<Vec<u8>> =
        text.split(':').map(|part| u8::from_str_radix(part, 16).ok()).collect();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .with_context(|| format!("{text:?} is not a MAC address such as 02:00:00:00:00:01"))
}

/// The Ethernet header, tags included, in front of a packet of type `ether_type`.
fn ethernet(destination: [u8; 6], source: [u8; 6], tags: &[Tag], ether_type: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(64);
    frame.extend(destination);
    frame.extend(source);
    for tag in tags {
        frame.extend(tag.tpid.to_be_bytes());
        frame.extend(tag.tci.to_be_bytes());
    }
    frame.extend(ether_type.to_be_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_addresses_read_back() {
        let mac = [2, 0x18, 0, 0, 1, 0xfe];
        assert_eq!(format_mac(mac), "02:18:00:00:01:fe");
        assert_eq!(parse_mac(&format_mac(mac)).unwrap(), mac);
        assert!(parse_mac("02:18:00:00:01").is_err());
        assert!(parse_mac("02:18:00:00:01:zz").is_err());
    }
}
