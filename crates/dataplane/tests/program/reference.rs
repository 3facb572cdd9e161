//! What must become of a packet, said a second time: from the specification, in another language
//! and another way (whole slices that are there or not), for packets that nobody thought of.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Range;

use dataplane::abi::Verdict;

use crate::frame::{TCP, UDP};

/// The program reads no header that begins later than here, and so many extension headers.
const HEADERS_END: usize = 1023;
const MAX_EXTENSIONS: usize = 8;

/// How the program is configured.
#[derive(Clone, Copy, Debug, Default)]
pub struct World {
    pub non_ip_forward: bool,
    pub truncated_drop: bool,
    pub unmatched_drop: bool,
    pub allowlist: bool,
    pub df_threshold: usize,
    pub egress_mtu: usize,
}

#[derive(Clone, Debug, Default)]
pub struct Ip {
    pub at: usize,
    /// Offset of the end of what is there of the IP packet.
    pub end: usize,
    pub v4_header: usize,
    pub truncated: bool,
    pub addresses: Vec<IpAddr>,
    pub protocol: u8,
    pub transport: Option<usize>,
    pub fragment: Option<bool>, // is it a later one
    /// In units of 8 bytes.
    pub fragment_offset: u16,
    /// The headers go on where the packet, as its length says, ends.
    pub cut: bool,
    pub df_cleared: bool,
}

/// Which address a translation changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Source,
    Destination,
}

#[derive(Clone, Debug)]
pub struct Judgement {
    pub verdict: Verdict,
    pub inner: Range<usize>,
    pub ip: Option<Ip>,
    pub translated: Option<Side>,
}

/// VNI, addresses, identification.
type FragmentKey = (u32, Vec<IpAddr>, Vec<u8>);

/// Protocol and offset of the transport header.
type Transport = (u8, usize);

/// Its offset in units of 8 bytes, and its identification.
type Fragment = (u16, Vec<u8>);

/// VNI, protocol, and both endpoints in order.
type FlowKey = (u32, u8, [(IpAddr, u16); 2]);

#[derive(Default)]
pub struct Reference {
    pub world: World,
    /// What became of first fragments, and their protocol, by everything that the later ones share.
    first_fragments: HashMap<FragmentKey, (Option<Side>, u8)>,
    /// The server of each translated flow.
    flows: HashMap<FlowKey, (IpAddr, u16)>,
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn header(bytes: &[u8], at: usize, length: usize) -> Option<&[u8]> {
    if at > HEADERS_END { None } else { bytes.get(at..at + length) }
}

/// Ethertype and offset behind up to two tags.
fn ethernet(bytes: &[u8], at: usize) -> Option<(u16, usize)> {
    let mut at = at + 14;
    for _ in 0..2 {
        if !matches!(word(bytes, at - 2)?, 0x8100 | 0x88a8) {
            break;
        }
        at += 4;
    }
    Some((word(bytes, at - 2)?, at))
}

/// Behind the extension headers: protocol, offset, and what the fragment header says. `None`: the
/// chain can't be followed. Last, whether that is for want of bytes.
fn extensions(
    bytes: &[u8],
    mut next: u8,
    mut at: usize,
) -> (Option<Transport>, Option<Fragment>, bool) {
    let (mut fragment, mut fragment_headers) = (None, 0);
    for _ in 0..=MAX_EXTENSIONS {
        if !matches!(next, 0 | 43 | 44 | 60) {
            return (Some((next, at)), fragment, false);
        }
        let Some(option) = header(bytes, at, 8) else {
            return (None, fragment, at + 8 > bytes.len());
        };
        let is_fragment = next == 44;
        if is_fragment && fragment_headers > 0 {
            return (None, fragment, false);
        }
        fragment_headers += usize::from(is_fragment);
        next = option[0];
        if is_fragment {
            at += 8;
            let offset = u16::from_be_bytes([option[2], option[3]]);
            if offset >= 8 {
                return (Some((next, at)), Some((offset >> 3, option[4..8].to_vec())), false);
            }
            if offset & 1 == 1 {
                fragment = Some((0, option[4..8].to_vec()));
            }
        } else {
            at += 8 * (usize::from(option[1]) + 1);
        }
    }
    (None, fragment, false)
}

/// Where UDP begins and the IP packet ends, and whether the packet is a first fragment.
fn outer_ip(packet: &[u8]) -> Option<(usize, usize, bool, bool)> {
    let (ethertype, at) = ethernet(packet, 0)?;
    if ethertype == 0x0800 {
        let ip = header(packet, at, 20)?;
        let flags = word(ip, 6)?;
        let length = usize::from(word(ip, 2)?);
        let readable = ip[0] >> 4 == 4 && ip[0] & 15 >= 5 && ip[9] == UDP && flags & 0x1fff == 0;
        let udp = at + usize::from(ip[0] & 15) * 4;
        return readable.then_some((udp, at + length, flags & 0x2000 != 0, length == 0));
    }
    let ip = header(packet, at, 40).filter(|ip| ethertype == 0x86dd && ip[0] >> 4 == 6)?;
    let length = usize::from(word(ip, 4)?);
    let (transport, fragment, _) = extensions(packet, ip[6], at + 40);
    let (protocol, udp) = transport?;
    let later = fragment.as_ref().is_some_and(|(offset, _)| *offset > 0);
    (protocol == UDP && !later).then_some((udp, at + 40 + length, fragment.is_some(), length == 0))
}

/// VNI and inner frame, or the verdict.
fn vxlan(packet: &[u8]) -> Result<(u32, Range<usize>), Verdict> {
    let (udp, ip_end, fragment, no_length) = outer_ip(packet).ok_or(Verdict::Passed)?;
    let header = header(packet, udp, 8).ok_or(Verdict::Passed)?;
    if header[2..4] != 4789u16.to_be_bytes() {
        return Err(Verdict::Passed);
    }
    let end = udp + usize::from(u16::from_be_bytes([header[4], header[5]]));
    match () {
        () if fragment => Err(Verdict::OuterFragment),
        () if no_length => Err(Verdict::ZeroLength),
        () if ip_end > packet.len() || end > ip_end || end < udp + 8 => Err(Verdict::OuterLength),
        () if end < udp + 16 => Err(Verdict::VxlanShort),
        () if packet[udp + 8] & 8 == 0 => Err(Verdict::VxlanNoVni),
        () => {
            let vni = u32::from_be_bytes(packet[udp + 12..udp + 16].try_into().unwrap()) >> 8;
            Ok((vni, udp + 16..end))
        }
    }
}

impl Reference {
    pub fn new(world: World) -> Self {
        Self { world, ..Self::default() }
    }

    /// VNIs 7 and 8 are accepted; a rule matches port 31765 of both families.
    pub fn judge(&mut self, packet: &[u8]) -> Judgement {
        let mut judgement =
            Judgement { verdict: Verdict::Passed, inner: 0..0, ip: None, translated: None };
        match vxlan(packet) {
            Err(verdict) => judgement.verdict = verdict,
            Ok((vni, _)) if !matches!(vni, 7 | 8) => judgement.verdict = Verdict::VniMismatch,
            Ok((vni, inner)) => {
                judgement.inner = inner.clone();
                judgement.verdict = match self.inner(&packet[..inner.end], &mut judgement, vni) {
                    Ok(()) => Verdict::Queued,
                    Err(verdict) => verdict,
                };
            }
        }
        judgement
    }

    fn inner(&mut self, bytes: &[u8], judgement: &mut Judgement, vni: u32) -> Result<(), Verdict> {
        let start = judgement.inner.start;
        if bytes.len() < start + 14 {
            return Err(Verdict::InnerShort);
        }
        let mut id = Vec::new();
        let ip = match ethernet(bytes, start) {
            Some((0x0800, at)) => ipv4(bytes, at, &mut id),
            Some((0x86dd, at)) => ipv6(bytes, at, &mut id),
            _ => Err(Verdict::NonIp),
        };
        judgement.ip = match ip {
            Ok(ip) => Some(ip),
            Err(Verdict::ZeroLength) => return Err(Verdict::ZeroLength),
            Err(Verdict::InnerMalformed) if self.world.allowlist => {
                return Err(Verdict::InnerMalformed);
            }
            Err(_) if self.world.non_ip_forward => None,
            Err(verdict) => return Err(verdict),
        };
        if let Some(ip) = &mut judgement.ip {
            if ip.truncated && self.world.truncated_drop {
                return Err(Verdict::Truncated);
            }
            if self.world.allowlist && !ip.addresses.iter().any(listed) {
                return Err(Verdict::NotAllowed);
            }
            let (translated, held) = self.translation(bytes, ip, vni, id)?;
            judgement.translated = translated;
            if translated.is_none() && !held && self.world.unmatched_drop {
                return Err(Verdict::Unmatched);
            }
            ip.df_cleared = ip.v4_header > 0
                && usize::from(word(bytes, ip.at + 2).unwrap()) > self.world.df_threshold
                && bytes[ip.at + 6] & 0x40 != 0;
        }
        let tag = if word(bytes, start + 12) == Some(0x8100) { 4 } else { 0 };
        let limit = self.world.egress_mtu + 14 + tag;
        let may_be_fragmented = |ip: &Ip| {
            let length = usize::from(word(bytes, ip.at + 2).unwrap());
            let df = bytes[ip.at + 6] & 0x40 != 0 && !ip.df_cleared;
            ip.v4_header > 0 && !ip.truncated && !df && length > limit - (ip.at - start)
        };
        if bytes.len() - start > limit && !judgement.ip.as_ref().is_some_and(may_be_fragmented) {
            return Err(Verdict::TooBig);
        }
        Ok(())
    }

    /// Which address is translated, and whether that is not known yet.
    fn translation(
        &mut self,
        bytes: &[u8],
        ip: &mut Ip,
        vni: u32,
        id: Vec<u8>,
    ) -> Result<(Option<Side>, bool), Verdict> {
        let v4 = ip.v4_header > 0;
        let length = if ip.protocol == TCP { 20 } else { 8 };
        let may_have = matches!(ip.protocol, TCP | UDP);
        let claimed_end = ip.at + claimed_length(bytes, ip);
        let tiny = match ip.fragment {
            Some(false) => {
                ip.cut && !ip.truncated
                    || may_have && ip.transport.is_some_and(|at| at + length > claimed_end)
            }
            Some(true) => ip.protocol == TCP && ip.fragment_offset == 1,
            None => false,
        };
        if tiny {
            return Err(Verdict::FragmentTiny);
        }
        ip.transport = ip.transport.filter(|at| {
            may_have && ip.fragment != Some(true) && header(&bytes[..ip.end], *at, length).is_some()
        });
        // What other protocols' fragments are does not matter; of IPv6 only the first one tells.
        let echo = v4 && ip.protocol == 1;
        if !(may_have || echo) && v4 {
            return Ok((None, false));
        }
        let id = if v4 { [id, vec![ip.protocol]].concat() } else { id };
        let key = (vni, ip.addresses.clone(), id);
        if ip.fragment == Some(true) {
            let Some((translated, protocol)) = self.first_fragments.get(&key) else {
                return Ok((None, true));
            };
            ip.protocol = *protocol;
            return Ok((*translated, false));
        }
        let translated = ip.transport.and_then(|at| self.flow(bytes, ip, vni, at));
        if ip.fragment == Some(false) {
            self.first_fragments.insert(key, (translated, ip.protocol));
        }
        Ok((translated, false))
    }

    /// A packet with ports: its flow's direction, or the beginning of a flow.
    fn flow(&mut self, bytes: &[u8], ip: &Ip, vni: u32, transport: usize) -> Option<Side> {
        let end = |n: usize| Some((ip.addresses[n], word(bytes, transport + 2 * n)?));
        let (source, destination) = (end(0)?, end(1)?);
        let mut ends = [source, destination];
        ends.sort();
        let key = (vni, ip.protocol, ends);
        match self.flows.get(&key) {
            Some(server) if *server == destination => Some(Side::Destination),
            Some(_) => Some(Side::Source),
            None if destination.1 == 31765 => {
                self.flows.insert(key, destination);
                Some(Side::Destination)
            }
            None => None,
        }
    }
}

/// Of the IP packet, as its header says.
fn claimed_length(bytes: &[u8], ip: &Ip) -> usize {
    let field = |at| usize::from(word(bytes, at).unwrap());
    if ip.v4_header > 0 { field(ip.at + 2) } else { 40 + field(ip.at + 4) }
}

/// 10.0.0.0/15 and fd01::/16.
fn listed(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[0] == 10 && v4.octets()[1] < 2,
        IpAddr::V6(v6) => v6.segments()[0] == 0xfd01,
    }
}

fn ipv4(bytes: &[u8], at: usize, id: &mut Vec<u8>) -> Result<Ip, Verdict> {
    let ip = header(bytes, at, 20).ok_or(Verdict::InnerMalformed)?;
    let header = usize::from(ip[0] & 15) * 4;
    let length = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    if ip[0] >> 4 != 4 || header < 20 {
        return Err(Verdict::InnerMalformed);
    }
    if length == 0 {
        return Err(Verdict::ZeroLength);
    }
    if length < header {
        return Err(Verdict::InnerMalformed);
    }
    let flags = u16::from_be_bytes([ip[6], ip[7]]);
    let address = |at: usize| <[u8; 4]>::try_from(&ip[at..at + 4]).unwrap().into();
    id.extend(&ip[4..6]);
    Ok(Ip {
        at,
        end: bytes.len().min(at + length),
        v4_header: header,
        truncated: at + length > bytes.len(),
        addresses: vec![address(12), address(16)],
        protocol: ip[9],
        transport: Some(at + header),
        fragment: (flags & 0x3fff != 0).then_some(flags & 0x1fff != 0),
        fragment_offset: flags & 0x1fff,
        cut: false,
        df_cleared: false,
    })
}

fn ipv6(bytes: &[u8], at: usize, id: &mut Vec<u8>) -> Result<Ip, Verdict> {
    let ip = header(bytes, at, 40).ok_or(Verdict::InnerMalformed)?;
    let length = usize::from(u16::from_be_bytes([ip[4], ip[5]]));
    if ip[0] >> 4 != 6 {
        return Err(Verdict::InnerMalformed);
    }
    if length == 0 && ip[6] != 59 {
        return Err(Verdict::ZeroLength);
    }
    let address = |at: usize| <[u8; 16]>::try_from(&ip[at..at + 16]).unwrap().into();
    let end = bytes.len().min(at + 40 + length);
    let (transport, fragment, cut) = extensions(&bytes[..end], ip[6], at + 40);
    id.extend(fragment.iter().flat_map(|(_, id)| id));
    Ok(Ip {
        at,
        end,
        v4_header: 0,
        truncated: at + 40 + length > bytes.len(),
        addresses: vec![address(8), address(24)],
        protocol: transport.map_or(59, |(protocol, _)| protocol),
        transport: transport.map(|(_, at)| at),
        fragment_offset: fragment.as_ref().map_or(0, |(offset, _)| *offset),
        fragment: fragment.map(|(offset, _)| offset > 0),
        cut,
        df_cleared: false,
    })
}
