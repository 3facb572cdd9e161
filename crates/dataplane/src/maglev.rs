//! Maglev hashing: which target a slot of a rule's look-up table stands for.
//!
//! Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016,
//! section 3.4. Each target has its own order of preference over all slots; the targets take turns
//! in claiming their most preferred slot that is free. So the table depends on nothing but the
//! targets and their weights, and changes little when one of them goes. For weights a target is
//! left out of a turn unless it has saved up enough of them, so that the heaviest has each turn.
//!
//! Every instance of the pipeline must make the same table: the hash functions are part of what
//! may never change.

use std::net::IpAddr;

use config::{NatTarget, WeightedTarget};

use crate::abi::MAGLEV_SLOTS;

/// How many slots a table has; a prime, so that every step size visits all slots.
pub const SLOTS: usize = MAGLEV_SLOTS as usize;

/// The table: for every slot the index of its target in `targets`, whose order does not matter.
/// `None`: no target has a weight.
///
/// A target with a weight has its share of the slots, rounded to whole ones: one whose share is
/// smaller than a slot may have none.
pub fn table(targets: &[WeightedTarget]) -> Option<[u16; SLOTS]> {
    let heaviest = u32::from(targets.iter().map(|target| target.weight).max()?);
    if heaviest == 0 {
        return None;
    }
    let mut turns: Vec<Turn> = (0u16..).zip(targets).map(|(i, t)| Turn::new(i, t)).collect();
    turns.sort_unstable_by_key(|turn| turn.identity);
    let mut slots = [None; SLOTS];
    let mut free = SLOTS;
    loop {
        for turn in &mut turns {
            turn.saved += turn.weight;
            if turn.saved < heaviest {
                continue;
            }
            turn.saved -= heaviest;
            while slots[turn.position].is_some() {
                turn.advance();
            }
            slots[turn.position] = Some(turn.index);
            free -= 1;
            if free == 0 {
                return Some(slots.map(Option::unwrap_or_default));
            }
        }
    }
}

/// A target in the game.
struct Turn {
    identity: Identity,
    /// In the list that the caller gave.
    index: u16,
    weight: u32,
    /// Weights of the turns since the last slot.
    saved: u32,
    /// The next slot that it prefers.
    position: usize,
    /// From each preferred slot to the next.
    step: usize,
}

impl Turn {
    fn new(index: u16, weighted: &WeightedTarget) -> Self {
        let identity = identity(&weighted.target);
        Self {
            identity,
            index,
            weight: weighted.weight.into(),
            saved: 0,
            position: (hash(0, &identity) % SLOTS as u64) as usize,
            step: (hash(1, &identity) % (SLOTS as u64 - 1)) as usize + 1,
        }
    }

    fn advance(&mut self) {
        self.position = (self.position + self.step) % SLOTS;
    }
}

/// A target's address (IPv4 in the first four bytes) and port, in network byte order.
type Identity = [u8; 18];

fn identity(target: &NatTarget) -> Identity {
    let mut bytes = [0; 18];
    match target.address {
        IpAddr::V4(v4) => bytes[..4].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => bytes[..16].copy_from_slice(&v6.octets()),
    }
    bytes[16..].copy_from_slice(&target.port.to_be_bytes());
    bytes
}

/// FNV-1a of 64 bits over `seed` and `bytes`, then the finalizer of MurmurHash3: alone FNV gives
/// targets whose ports follow each other much the same order.
fn hash(seed: u8, bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for &byte in std::iter::once(&seed).chain(bytes) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 33
}

#[cfg(test)]
mod tests;
