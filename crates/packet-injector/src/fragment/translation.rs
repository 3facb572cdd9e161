//! What the program did to the first fragment of a datagram, to be done to a held one.

use dataplane::abi::{INFO_DESTINATION, INFO_REWRITTEN, INFO_SOURCE};

use crate::ipv4;

/// Both MAC addresses at the beginning of a frame.
const MACS: std::ops::Range<usize> = 0..12;

/// A first fragment's new link layer and addresses; `None` where they are its old ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Translation {
    macs: Option<[u8; 12]>,
    source: Option<[u8; 16]>,
    destination: Option<[u8; 16]>,
}

impl Translation {
    /// Takes it from a translated frame. `flags` (`INFO_*`) say which parts are new.
    pub fn of(frame: &[u8], l3_off: usize, flags: u32) -> Self {
        let new = |flag: u32| flags & flag != 0;
        let address = |which: usize| {
            let place = address_at(frame, l3_off, which)?;
            let bytes = frame.get(place)?;
            let mut address = [0; 16];
            address[..bytes.len()].copy_from_slice(bytes);
            Some(address)
        };
        Self {
            macs: if new(INFO_REWRITTEN) { frame.first_chunk().copied() } else { None },
            source: if new(INFO_SOURCE) { address(0) } else { None },
            destination: if new(INFO_DESTINATION) { address(1) } else { None },
        }
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Does the same to a later fragment. It has no transport checksum: that one is in the first.
    pub fn apply(&self, frame: &mut [u8], l3_off: usize) {
        let old = frame.get(l3_off..).and_then(ipv4::header).map(<[u8]>::to_vec);
        if let (Some(macs), Some(place)) = (self.macs, frame.get_mut(MACS)) {
            place.copy_from_slice(&macs);
        }
        for (which, address) in [self.source, self.destination].into_iter().enumerate() {
            if let Some(address) = address
                && let Some(place) = address_at(frame, l3_off, which)
                && let Some(place) = frame.get_mut(place)
            {
                place.copy_from_slice(&address[..place.len()]);
            }
        }
        if let Some(old) = old {
            ipv4::update_checksum(&old, &mut frame[l3_off..l3_off + old.len()]);
        }
    }
}

/// Where the source (0) or destination (1) address stands in the frame.
fn address_at(frame: &[u8], l3_off: usize, which: usize) -> Option<std::ops::Range<usize>> {
    let (first, len) = match frame.get(l3_off)? >> 4 {
        4 => (12, 4),
        _ => (8, 16),
    };
    let start = l3_off + first + which * len;
    Some(start..start + len)
}
