//! Joining the fragments of a datagram (RFC 791 section 3.2, RFC 8200 section 4.5).

use dataplane::abi::SendFailure;

use crate::fragment::datagram::Held;
use crate::fragment::header::{Fragment, Ipv6Chain};
use crate::ipv4;
use crate::split::Split;

/// Bytes of an IPv6 fragment header.
const IPV6_FRAGMENT_LEN: usize = 8;

/// A whole datagram.
#[derive(Debug)]
pub struct Joined {
    pub frame: Box<[u8]>,
    /// It has to be fragmented to leave.
    pub split: Option<Split>,
}

/// Joins `parts` behind the link layer and IP headers of the first. Its transport checksum covers
/// the whole datagram, so that it is right as it stands. What the program does with DF to a long
/// IPv4 packet is done to the whole one here.
///
/// # Errors
/// `FragmentInvalid`: the parts do not have every byte once (some passed before REASSEMBLE was
/// switched on), or the datagram exceeds 65,535 bytes with the first one's headers.
/// `ReassembledTooBig`: it exceeds what the egress takes, and may not be fragmented.
pub fn join(parts: &mut [Held]) -> Result<Joined, SendFailure> {
    let invalid = SendFailure::FragmentInvalid;
    parts.sort_by_key(|part| part.start);
    let (first, last) = (parts.first().ok_or(invalid)?, parts.last().ok_or(invalid)?);
    let Held { l3_off, max_ip_len, df_clear_threshold, .. } = *first;
    let fragment = Fragment::parse(&first.frame, l3_off).ok_or(invalid)?;
    let end = Fragment::parse(&last.frame, last.l3_off).ok_or(invalid)?.end;
    let len = u16::try_from(fragment.overhead + end).map_err(|_| invalid)?;
    let mut frame = Vec::with_capacity(fragment.data_off + end as usize);
    frame.extend_from_slice(&first.frame[..fragment.data_off]);
    match fragment.ipv6 {
        Some(chain) => finish_ipv6(&mut frame, l3_off, chain, len),
        None => finish_ipv4(&mut frame[l3_off..], len, df_clear_threshold),
    }
    let headers_end = frame.len();
    for part in &*parts {
        if frame.len() - headers_end != part.start as usize {
            return Err(invalid);
        }
        let fragment = Fragment::parse(&part.frame, part.l3_off).ok_or(invalid)?;
        frame.extend_from_slice(fragment.data(&part.frame).ok_or(invalid)?);
    }
    let too_long = frame.len() - l3_off > max_ip_len;
    if too_long
        && (fragment.ipv6.is_some() || ipv4::fragment_field(&frame[l3_off..]) & ipv4::DF != 0)
    {
        return Err(SendFailure::ReassembledTooBig);
    }
    let split = too_long.then_some(Split { l3_off, max_ip_len });
    Ok(Joined { frame: frame.into_boxed_slice(), split })
}

fn finish_ipv4(header: &mut [u8], len: u16, df_clear_threshold: u16) {
    let old = header.to_vec();
    let df = if len > df_clear_threshold { ipv4::DF } else { 0 };
    let cleared = ipv4::MF | ipv4::OFFSET | df;
    ipv4::set_total_len(header, len);
    ipv4::set_fragment_field(header, ipv4::fragment_field(&old) & !cleared);
    ipv4::update_checksum(&old, header);
}

/// Takes the fragment header out of the chain.
fn finish_ipv6(frame: &mut Vec<u8>, l3_off: usize, chain: Ipv6Chain, len: u16) {
    frame[chain.announced_at] = frame[chain.header_off];
    frame.drain(chain.header_off..chain.header_off + IPV6_FRAGMENT_LEN);
    frame[l3_off + 4..l3_off + 6].copy_from_slice(&len.to_be_bytes());
}
