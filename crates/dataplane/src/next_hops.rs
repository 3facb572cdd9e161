//! `next_hop_map`: where untranslated frames go under `REWRITE_L2=all`.

use std::fmt;
use std::sync::atomic::Ordering::{Acquire, Release};

use anyhow::Result;

use crate::abi::{NEXT_HOP_IPV4, NEXT_HOP_IPV6, NEXT_HOP_RESOLVED, next_hop};
use crate::nat::Mac;
use crate::shared::Shared;
use crate::{MapHandle, MapName, Pins, plain};

/// The IP version of a frame; key in `next_hop_map`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Family {
    /// IPv4. Frames that are not IP have this next hop, too.
    Ipv4 = NEXT_HOP_IPV4,
    /// IPv6. Its next hop is also that of frames that are not IP while IPv4 has none.
    Ipv6 = NEXT_HOP_IPV6,
}

impl Family {
    /// Both, in the order of their keys.
    pub const ALL: [Self; 2] = [Self::Ipv4, Self::Ipv6];
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        })
    }
}

/// `next_hop_map`, mapped.
pub struct NextHopMap {
    map: Shared<next_hop>,
}

impl NextHopMap {
    /// Maps the pinned map.
    ///
    /// # Errors
    /// See [`Pins::open`].
    pub fn open(pins: &Pins) -> Result<Self> {
        Self::new(&pins.open(MapName::NEXT_HOPS)?)
    }

    /// Maps a map whose layout is known to fit.
    ///
    /// # Errors
    /// The kernel refuses the mapping.
    pub fn new(map: &MapHandle) -> Result<Self> {
        Ok(Self { map: Shared::map(map)? })
    }

    /// The MAC address that frames of this IP version are sent to; `None`: they are dropped.
    pub fn get(&self, family: Family) -> Option<Mac> {
        let word = self.map.u64_at(family as usize, 0).load(Acquire);
        plain::from_bytes(&word.to_ne_bytes()).and_then(decode)
    }

    /// Sets the MAC address, at once for every packet.
    pub fn set(&self, family: Family, mac: Option<Mac>) {
        let word = plain::from_bytes(plain::bytes(&encode(mac))).unwrap_or_default();
        self.map.u64_at(family as usize, 0).store(word, Release);
    }
}

/// A next hop as the program has it; `None`: it is not resolved.
pub(crate) fn encode(mac: Option<Mac>) -> next_hop {
    next_hop {
        mac: mac.unwrap_or_default(),
        flags: if mac.is_some() { NEXT_HOP_RESOLVED as u16 } else { 0 },
    }
}

/// The MAC address of a next hop, if it is resolved.
pub(crate) fn decode(next_hop: next_hop) -> Option<Mac> {
    (u32::from(next_hop.flags) & NEXT_HOP_RESOLVED != 0).then_some(next_hop.mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_next_hop_has_the_bytes_that_the_program_reads() {
        let next_hop = encode(Some([2, 0, 0, 0, 0, 9]));
        let bytes = plain::bytes(&next_hop);
        assert_eq!(bytes[..6], [2, 0, 0, 0, 0, 9]);
        assert_eq!(bytes[6..], 1u16.to_ne_bytes());
        assert_eq!(plain::bytes(&encode(None)), [0; 8]);
    }

    #[test]
    fn only_a_resolved_next_hop_has_an_address() {
        assert_eq!(decode(encode(Some([0; 6]))), Some([0; 6]));
        assert_eq!(decode(encode(None)), None);
    }
}
