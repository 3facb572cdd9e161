//! IPv4 headers (RFC 791), as far as fragments need them. All numbers in host byte order.

use std::ops::Range;

/// Fragment offset field: may not be fragmented.
pub const DF: u16 = 0x4000;
/// Fragment offset field: more fragments follow.
pub const MF: u16 = 0x2000;
/// Fragment offset field: the offset itself, in units of 8 bytes.
pub const OFFSET: u16 = 0x1fff;

/// Bytes of a header without options.
pub const FIXED_LEN: usize = 20;

/// Where the header checksum stands in the header.
const CHECKSUM: Range<usize> = 10..12;

/// The header at the beginning of `packet`, options included, if it is whole.
pub fn header(packet: &[u8]) -> Option<&[u8]> {
    let first = *packet.first()?;
    let len = usize::from(first & 0x0f) * 4;
    if first >> 4 != 4 || len < FIXED_LEN { None } else { packet.get(..len) }
}

/// Bytes of the packet that `header` begins.
pub fn total_len(header: &[u8]) -> usize {
    usize::from(word(header, 2))
}

/// Flags and offset.
pub fn fragment_field(header: &[u8]) -> u16 {
    word(header, 6)
}

/// Changes the total length.
pub fn set_total_len(header: &mut [u8], len: u16) {
    header[2..4].copy_from_slice(&len.to_be_bytes());
}

/// Changes flags and offset.
pub fn set_fragment_field(header: &mut [u8], field: u16) {
    header[6..8].copy_from_slice(&field.to_be_bytes());
}

/// Makes the checksum of `new`, which was made of the header `old`, as right or wrong as that one's
/// is: RFC 1624 equation 3, HC' = ~(~HC + ~m + m'). Words that did not change are skipped (erratum
/// 4782); words that only one of them has count as changed from or to 0.
pub fn update_checksum(old: &[u8], new: &mut [u8]) {
    let mut sum = u32::from(!word(old, CHECKSUM.start));
    for at in (0..old.len().max(new.len())).step_by(2).filter(|at| *at != CHECKSUM.start) {
        let (from, to) = (word(old, at), word(new, at));
        if from != to {
            sum += u32::from(!from) + u32::from(to);
        }
    }
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    new[CHECKSUM].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

/// The word at `at`; 0 behind the end.
fn word(header: &[u8], at: usize) -> u16 {
    header.get(at..at + 2).map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
}
