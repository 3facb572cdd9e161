//! Fragmenting an IPv4 packet to the egress MTU (RFC 791 section 3.2).

use dataplane::abi::SendFailure;

use crate::ipv4;

/// A packet to be fragmented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// Where the IPv4 header stands in the frame.
    pub l3_off: usize,
    /// Bytes of the largest IP packet that the egress takes.
    pub max_ip_len: usize,
}

/// Fragments the packet in `frame`. Each piece has the frame's link layer; the first one all IP
/// options, the others those that are to be copied. Data, identification and all other fields stay,
/// the last piece says of further fragments what the packet said, and a wrong header checksum stays
/// as wrong. What stands in the frame behind the packet is left out.
///
/// # Errors
/// The frame does not hold a whole IPv4 packet, or its data reach beyond what an offset can say
/// (`FragmentInvalid`); or a header with 8 bytes of data is too long (`Emsgsize`).
pub fn split(frame: &[u8], at: Split) -> Result<Vec<Box<[u8]>>, SendFailure> {
    let (link, packet) = frame.split_at_checked(at.l3_off).ok_or(SendFailure::FragmentInvalid)?;
    let header = ipv4::header(packet).ok_or(SendFailure::FragmentInvalid)?;
    let mut data = packet
        .get(header.len()..ipv4::total_len(header))
        .filter(|data| !data.is_empty())
        .ok_or(SendFailure::FragmentInvalid)?;
    let later_header = later_header(header);
    let field = ipv4::fragment_field(header);
    let mut offset = field & ipv4::OFFSET;
    let mut pieces = Vec::new();
    while !data.is_empty() {
        let template = if pieces.is_empty() { header } else { &later_header };
        let room = at.max_ip_len.saturating_sub(template.len());
        let len = if data.len() <= room { data.len() } else { room & !7 };
        if len == 0 {
            return Err(SendFailure::Emsgsize);
        }
        let (now, rest) = data.split_at(len);
        let more = if rest.is_empty() { field & ipv4::MF } else { ipv4::MF };
        let flags = field & !(ipv4::OFFSET | ipv4::MF);
        let mut piece = Vec::with_capacity(link.len() + template.len() + len);
        piece.extend_from_slice(link);
        piece.extend_from_slice(template);
        let piece_header = &mut piece[link.len()..];
        ipv4::set_total_len(piece_header, (template.len() + len) as u16);
        ipv4::set_fragment_field(piece_header, flags | more | offset);
        ipv4::update_checksum(header, piece_header);
        piece.extend_from_slice(now);
        pieces.push(piece.into_boxed_slice());
        data = rest;
        if !data.is_empty() {
            offset = next_offset(offset, len).ok_or(SendFailure::FragmentInvalid)?;
        }
    }
    Ok(pieces)
}

/// The offset, in units of 8 bytes, behind `len` bytes of data at `offset`.
fn next_offset(offset: u16, len: usize) -> Option<u16> {
    let next = usize::from(offset) + len / 8;
    (next <= usize::from(ipv4::OFFSET)).then_some(next as u16)
}

/// The header of all pieces but the first: it has only the options with the copied flag, padded
/// with "end of option list". Behind an option that can't be read none is copied.
fn later_header(header: &[u8]) -> Vec<u8> {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const COPIED: u8 = 0x80;
    let (fixed, mut options) = header.split_at(ipv4::FIXED_LEN);
    let mut later = fixed.to_vec();
    while let Some(&kind) = options.first() {
        let len = match kind {
            END => break,
            NO_OPERATION => 1,
            _ => usize::from(options.get(1).copied().unwrap_or_default()),
        };
        if len == 0 || (kind != NO_OPERATION && len < 2) || len > options.len() {
            break;
        }
        let (option, rest) = options.split_at(len);
        if kind & COPIED != 0 {
            later.extend_from_slice(option);
        }
        options = rest;
    }
    later.resize(later.len().next_multiple_of(4), END);
    later[0] = 0x40 | (later.len() / 4) as u8;
    later
}

#[cfg(test)]
mod tests;
