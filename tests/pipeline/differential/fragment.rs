//! IPv6 fragments of a whole packet, with the fragment header as far in front as it may stand.

/// Cuts the IPv6 packet that begins at `ip` in a frame: hop-by-hop and routing headers come with
/// each fragment, everything behind them is cut into pieces of `size` bytes (a multiple of 8).
/// RFC 8200 section 4.5.
pub fn fragment_ipv6(frame: &[u8], ip: usize, size: usize, id: u32) -> Vec<Vec<u8>> {
    let (mut pointer, mut at) = (ip + 6, ip + 40);
    while is_before_fragment_header(frame, pointer, at) {
        pointer = at;
        at += 8 + usize::from(frame[at + 1]) * 8;
    }
    let next = frame[pointer];
    let mut headers = frame[..at].to_vec();
    headers[pointer] = 44;
    let count = frame[at..].len().div_ceil(size);
    let pieces = frame[at..].chunks(size).enumerate();
    pieces
        .map(|(number, piece)| {
            let place = (number * size) as u16 | u16::from(number + 1 < count);
            let mut fragment = headers.clone();
            fragment.extend([next, 0]);
            fragment.extend(place.to_be_bytes());
            fragment.extend(id.to_be_bytes());
            fragment.extend(piece);
            let length = (fragment.len() - ip - 40) as u16;
            fragment[ip + 4..ip + 6].copy_from_slice(&length.to_be_bytes());
            fragment
        })
        .collect()
}

/// Hop-by-hop options, a routing header, and destination options in front of one.
fn is_before_fragment_header(frame: &[u8], pointer: usize, at: usize) -> bool {
    match frame[pointer] {
        0 | 43 => true,
        60 => frame.get(at) == Some(&43),
        _ => false,
    }
}
