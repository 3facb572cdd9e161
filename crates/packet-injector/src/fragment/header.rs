//! What the headers of an inner fragment say (RFC 791 section 3.1, RFC 8200 section 4.5).

use crate::ipv4;

/// Bytes of the fixed IPv6 header, and of its fragment header.
const IPV6_FIXED_LEN: usize = 40;
const IPV6_FRAGMENT_LEN: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// A fragment in a frame. Offsets count from the beginning of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Bytes of the datagram that it claims to hold, counted from the first fragmented one.
    pub start: u32,
    pub end: u32,
    /// More fragments follow.
    pub more: bool,
    /// Where its data begin.
    pub data_off: usize,
    /// What the length field of the whole datagram counts beside the fragmented bytes.
    pub overhead: u32,
    /// What an IPv6 fragment has in addition.
    pub ipv6: Option<Ipv6Chain>,
}

/// Where the fragment header stands in a chain of extension headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6Chain {
    /// The field that announces the fragment header.
    pub announced_at: usize,
    pub header_off: usize,
}

impl Fragment {
    /// Reads the fragment whose IP header stands at `l3_off`. `None`: its headers can't be
    /// followed up to its data.
    pub fn parse(frame: &[u8], l3_off: usize) -> Option<Self> {
        match frame.get(l3_off)? >> 4 {
            4 => Self::parse_ipv4(frame, l3_off),
            6 => Self::parse_ipv6(frame, l3_off),
            _ => None,
        }
    }

    fn parse_ipv4(frame: &[u8], l3_off: usize) -> Option<Self> {
        let header = ipv4::header(frame.get(l3_off..)?)?;
        let len = ipv4::total_len(header).checked_sub(header.len())?;
        let field = ipv4::fragment_field(header);
        let start = u32::from(field & ipv4::OFFSET) * 8;
        Some(Self {
            start,
            end: start + len as u32,
            more: field & ipv4::MF != 0,
            data_off: l3_off + header.len(),
            overhead: header.len() as u32,
            ipv6: None,
        })
    }

    fn parse_ipv6(frame: &[u8], l3_off: usize) -> Option<Self> {
        let payload_off = l3_off + IPV6_FIXED_LEN;
        let payload_len = usize::from(word(frame, l3_off + 4)?);
        let mut announced_at = l3_off + 6;
        let mut header_off = payload_off;
        loop {
            match *frame.get(announced_at)? {
                FRAGMENT => break,
                HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {
                    announced_at = header_off;
                    header_off += (usize::from(*frame.get(header_off + 1)?) + 1) * 8;
                }
                _ => return None,
            }
        }
        if *frame.get(header_off)? == FRAGMENT {
            return None; // which of them would count?
        }
        let field = word(frame, header_off + 2)?;
        let data_off = header_off + IPV6_FRAGMENT_LEN;
        let len = (payload_off + payload_len).checked_sub(data_off)?;
        let start = u32::from(field & !7);
        Some(Self {
            start,
            end: start + len as u32,
            more: field & 1 != 0,
            data_off,
            overhead: (header_off - payload_off) as u32,
            ipv6: Some(Ipv6Chain { announced_at, header_off }),
        })
    }

    /// Bytes that it claims to hold.
    pub fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether such a fragment can be part of a datagram: it has data, whole units of 8 bytes
    /// unless it is the last one, and no length field overflows.
    pub fn is_possible(&self) -> bool {
        let units = self.len().is_multiple_of(8) || !self.more;
        self.start < self.end && units && self.overhead + self.end <= u32::from(u16::MAX)
    }

    /// Its data, if the mirror did not cut them.
    pub fn data<'a>(&self, frame: &'a [u8]) -> Option<&'a [u8]> {
        frame.get(self.data_off..self.data_off + self.len())
    }
}

fn word(frame: &[u8], at: usize) -> Option<u16> {
    frame.get(at..at + 2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
}
