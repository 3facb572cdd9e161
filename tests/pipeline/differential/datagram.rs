//! Puts fragments together, and normalises what both sides may do differently. RFC 791 section 3.2,
//! RFC 8200 section 4.5.

use super::ip::{self, Ip, checksum};

/// The packets of a list, with fragments put together where the last one stands, and without IPv6
/// fragment headers. Fragments of datagrams that are not whole stay as they are, at the end.
pub fn reassemble(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let (mut whole, mut waiting) = (Vec::new(), Vec::<Vec<u8>>::new());
    for packet in packets {
        let is_fragment = ip::parse(packet).is_some_and(|packet| packet.fragment.is_some());
        if !is_fragment {
            whole.push(without_atomic_header(packet).unwrap_or_else(|| packet.clone()));
            continue;
        }
        waiting.push(packet.clone());
        if let Some(datagram) = join(&waiting) {
            whole.push(datagram);
            waiting.clear();
        }
    }
    whole.extend(waiting);
    whole
}

/// A whole IPv6 packet without the fragment header that it has all the same (RFC 6946).
fn without_atomic_header(packet: &[u8]) -> Option<Vec<u8>> {
    let packet = ip::parse(packet).filter(|packet| !packet.is_ipv4())?;
    let mut bytes = unfragmented_header(&packet)?;
    bytes.extend(payload_of(&packet)?);
    set_length(&mut bytes);
    Some(bytes)
}

/// The datagram of these fragments, in any order, if they are all there and do not overlap.
fn join(fragments: &[Vec<u8>]) -> Option<Vec<u8>> {
    let mut parts: Vec<Ip<'_>> = fragments.iter().filter_map(|bytes| ip::parse(bytes)).collect();
    let place = |packet: &Ip<'_>| packet.fragment.map_or((0, true), |f| (f.offset, f.more));
    parts.sort_by_key(place);
    let mut payload: Vec<u8> = Vec::new();
    for (number, part) in parts.iter().enumerate() {
        let (offset, more) = place(part);
        let is_last = number + 1 == parts.len();
        if offset != payload.len() || more == is_last {
            return None;
        }
        payload.extend(payload_of(part)?);
    }
    let first = parts.first()?;
    let mut datagram = unfragmented_header(first)?;
    datagram.extend(payload);
    // The length fields have 16 bits; IPv6 does not count its header.
    let longest = if first.is_ipv4() { 65_535 } else { 65_535 + 40 };
    (datagram.len() <= longest).then(|| set_length(&mut datagram))?;
    Some(datagram)
}

/// What a fragment carries: in IPv6 all behind the fragment header.
fn payload_of<'a>(part: &Ip<'a>) -> Option<&'a [u8]> {
    let start = if part.is_ipv4() { part.transport } else { fragment_header(part.bytes)?.1 + 8 };
    part.packet().get(start..)
}

/// The headers in front of the payload, without a trace of fragmentation.
fn unfragmented_header(first: &Ip<'_>) -> Option<Vec<u8>> {
    if first.is_ipv4() {
        let mut header = first.bytes[..first.transport].to_vec();
        header[6..8].fill(0);
        return Some(header);
    }
    let (pointer, at) = fragment_header(first.bytes)?;
    let mut header = first.bytes[..at].to_vec();
    header[pointer] = first.bytes[at];
    Some(header)
}

/// Where the fragment header of an IPv6 packet is pointed to, and where it is.
fn fragment_header(packet: &[u8]) -> Option<(usize, usize)> {
    let (mut pointer, mut at) = (6, 40);
    loop {
        match packet.get(pointer)? {
            44 => return Some((pointer, at)),
            0 | 43 | 60 => {
                pointer = at;
                at += 8 + usize::from(*packet.get(at + 1)?) * 8;
            }
            _ => return None,
        }
    }
}

fn set_length(packet: &mut [u8]) {
    let length = packet.len();
    if packet[0] >> 4 == 4 {
        packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        set_header_checksum(packet);
    } else {
        packet[4..6].copy_from_slice(&((length - 40) as u16).to_be_bytes());
    }
}

/// Computes the checksum of an IPv4 header anew.
pub fn set_header_checksum(packet: &mut [u8]) {
    let header = usize::from(packet[0] & 15) * 4;
    packet[10..12].fill(0);
    let sum = checksum(&packet[..header]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// Whether an IPv4 header's checksum is right; IPv6 has none.
pub fn header_is_valid(packet: &Ip<'_>) -> bool {
    !packet.is_ipv4() || checksum(&packet.bytes[..packet.transport]) == 0
}

/// Gives a packet its TTL back after so many hops.
pub fn undo_hops(packet: &mut [u8], hops: u8) {
    let at = if packet[0] >> 4 == 4 { 8 } else { 7 };
    packet[at] = packet[at].wrapping_add(hops);
    if packet[0] >> 4 == 4 {
        set_header_checksum(packet);
    }
}
