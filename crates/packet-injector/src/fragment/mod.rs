//! Inner IP fragments.
//!
//! A later fragment carries no ports. If the XDP program has seen the first one of its datagram, it
//! has translated it alike, and the fragment passes. If not, it asks to have it held: [`tracker`]
//! keeps a copy until the first one comes through the ring, does to it what was done to that
//! ([`translation`]), and sends it right behind. Under REASSEMBLE all fragments of a datagram are
//! kept until they can be joined ([`join`]).
//!
//! Every fragment is held against the others of its datagram ([`ranges`]). One that overlaps another
//! without being a copy of it, or that can't be true beside it, ends the datagram: what is held of
//! it and what still comes within the time is refused (RFC 5722, RFC 8200 section 4.5).
//!
//! Nothing here grows without bounds: [`buffers`] limits the held fragments, those that wait in a
//! lane included, and [`table`] the datagrams and fragments that are remembered.

mod buffers;
mod datagram;
mod header;
mod join;
mod ranges;
mod table;
mod tracker;
mod translation;

pub use buffers::Lease;
pub use tracker::{Fate, Tracker};
pub use translation::Translation;

#[cfg(test)]
mod tests;
