//! Compares what both sides made of each packet.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use lab::TAP;
use lab::packet::diff;

use super::Case;
use super::datagram::{header_is_valid, reassemble, set_header_checksum, undo_hops};
use super::exchange::Outcome;
use super::flows::{self, Flows};
use super::ip::{self, Ip, checksum, pseudo_header};
use super::linux::Answer;
use super::reasons::{self, CHANGED, NOT_DELIVERED, REFUSED, Unit};
use crate::corpus::to_hex;

/// How many differences are shown.
const SHOWN: usize = 5;

/// The result of a comparison, in packets.
#[derive(Debug, Default)]
pub struct Report {
    pub equal: usize,
    /// Of these, how many Linux translated.
    pub translated: usize,
    pub not_comparable: BTreeMap<&'static str, usize>,
    pub different: Vec<String>,
}

impl Report {
    /// The share of packets that were compared and found equal.
    pub fn share(&self) -> f64 {
        let others: usize = self.not_comparable.values().sum();
        self.equal as f64 / (self.equal + others + self.different.len()).max(1) as f64
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = self.share() * 100.0;
        write!(f, "{} packets equal ({share:.1} %), ", self.equal)?;
        write!(f, "{} of them translated; not comparable:", self.translated)?;
        for (name, count) in &self.not_comparable {
            let reason = NOT_DELIVERED
                .iter()
                .chain(CHANGED)
                .chain(REFUSED)
                .find(|reason| reason.name == *name);
            let why = reason.map_or(String::new(), |reason| format!(": {}", reason.why));
            write!(f, "\n{count:>7}  {name}{why}")?;
        }
        for text in self.different.iter().take(SHOWN) {
            write!(f, "\n{text}")?;
        }
        Ok(())
    }
}

/// The cases, each alone or with the other fragments of its datagram.
pub fn units<'a>(cases: &'a [Case], flows: &'a Flows) -> Vec<Unit<'a>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut of_datagram = HashMap::new();
    for (index, case) in cases.iter().enumerate() {
        let group = match flows::datagram(case) {
            Some(key) => *of_datagram.entry(key).or_insert(groups.len()),
            None => groups.len(),
        };
        groups.resize(groups.len().max(group + 1), Vec::new());
        groups[group].push(index);
    }
    let unit = |group: Vec<usize>| {
        let packets: Vec<Ip<'_>> = group.iter().filter_map(|index| cases[*index].ip()).collect();
        let whole = reassemble(&packets.iter().map(|p| p.packet().to_vec()).collect::<Vec<_>>());
        let is_fragment = |bytes: &Vec<u8>| ip::parse(bytes).is_none_or(|p| p.fragment.is_some());
        Unit {
            flow: flows.of(group[0]),
            frames: group.iter().map(|index| &cases[*index].frame[..]).collect(),
            cases: group,
            packets,
            is_whole: !whole.iter().any(is_fragment),
            flow_is_known: false,
        }
    };
    let mut units: Vec<_> = groups.into_iter().map(unit).collect();
    let mut known = HashSet::new();
    for unit in &mut units {
        let Some(flow) = unit.flow else { continue };
        let to_server = |packet| flows::tuple(packet).is_some_and(|t| t.source == flow.client);
        if unit.packets.iter().any(to_server) && unit.not_delivered().is_none() {
            known.insert(flow.number);
        }
        unit.flow_is_known = known.contains(&flow.number);
    }
    units
}

/// Compares everything.
pub fn judge(cases: &[Case], units: &[Unit<'_>], ours: &[Outcome], linux: &[Answer]) -> Report {
    let mut report = Report::default();
    for unit in units {
        let count = unit.cases.len();
        match compare(unit, ours, linux) {
            Verdict::Equal { translated } => {
                report.equal += count;
                report.translated += if translated { count } else { 0 };
            }
            Verdict::NotComparable(name) => {
                *report.not_comparable.entry(name).or_default() += count
            }
            Verdict::Different(text) => {
                let case = &cases[unit.cases[0]];
                let at = format!("{} VNI {} (packets {:?})", case.name, case.vni, unit.cases);
                report.different.push(format!("{at}: {text}{}", hex("in", &unit.frames)));
            }
        }
    }
    report
}

enum Verdict {
    Equal { translated: bool },
    NotComparable(&'static str),
    Different(String),
}

fn compare(unit: &Unit<'_>, ours: &[Outcome], linux: &[Answer]) -> Verdict {
    if unit.packets.is_empty() {
        return Verdict::NotComparable("not an IP packet that a router could read");
    }
    let all = |outcome: &dyn Fn(usize) -> Outcome| -> Vec<Vec<u8>> {
        unit.cases.iter().flat_map(|index| outcome(*index)).collect()
    };
    let input: Vec<Vec<u8>> = unit.frames.iter().map(|frame| frame.to_vec()).collect();
    let ours = all(&|index| ours[index].clone());
    let came = ours.len();
    let first = all(&|index| linux[index].first.clone());
    let second = all(&|index| linux[index].second.clone());
    let [input, ours] = [input, ours].map(|frames| reassemble(&packets(&frames, 0)));
    let [first, second] = match (router(unit, &first, 1), router(unit, &second, 2)) {
        (Ok(first), Ok(second)) => [reassemble(&first), reassemble(&second)],
        (Err(text), _) | (_, Err(text)) => return Verdict::Different(text),
    };
    // The first pass translates what goes to the server; the second undoes that.
    let expected = if first == input { second } else { first };
    if expected == ours && !expected.is_empty() {
        return Verdict::Equal { translated: expected != input };
    }
    let refused = if came < unit.cases.len() { reasons::find(REFUSED, unit) } else { None };
    let reason = refused.or_else(|| match expected[..] {
        [] => unit.not_delivered(),
        _ => reasons::find(CHANGED, unit),
    });
    if let Some(reason) = reason {
        return Verdict::NotComparable(reason.name);
    }
    Verdict::Different(describe(&expected, &ours))
}

/// From the IP header to the end that it says, with the TTL of `hops` hops before.
fn packets(frames: &[Vec<u8>], hops: u8) -> Vec<Vec<u8>> {
    frames
        .iter()
        .map(|frame| {
            let Some(packet) = ip::of_frame(frame) else { return frame.clone() };
            let mut bytes = packet.packet().to_vec();
            if hops > 0 {
                undo_hops(&mut bytes, hops);
            }
            bytes
        })
        .collect()
}

/// The same for what Linux sent, whose header checksums must be right. In a translated ICMP error
/// from a router Linux puts the target's address in the router's place; we keep the router's, so
/// it is put back.
fn router(unit: &Unit<'_>, frames: &[Vec<u8>], hops: u8) -> Result<Vec<Vec<u8>>, String> {
    for frame in frames {
        match ip::of_frame(frame) {
            Some(packet) if header_is_valid(&packet) => {}
            _ => return Err(format!("Linux sent a wrong header: {}", to_hex(frame))),
        }
    }
    let mut packets = packets(frames, hops);
    let (Some(flow), [sent], [packet]) = (unit.flow, &unit.packets[..], &mut packets[..]) else {
        return Ok(packets);
    };
    let Some(got) = ip::parse(packet) else { return Ok(packets) };
    let is_target = [TAP.ipv4.into(), TAP.ipv6.into()].contains(&got.source);
    if flows::is_error(sent) && sent.source != flow.server.address && is_target {
        let transport = got.transport;
        let place = if got.is_ipv4() { 12..16 } else { 8..24 };
        packet[place.clone()].copy_from_slice(&sent.bytes[place]);
        if sent.is_ipv4() {
            set_header_checksum(packet);
        } else {
            set_icmpv6_checksum(packet, transport);
        }
    }
    Ok(packets)
}

fn set_icmpv6_checksum(packet: &mut [u8], transport: usize) {
    packet[transport + 2..transport + 4].fill(0);
    let Some(view) = ip::parse(packet) else { return };
    let segment = view.segment();
    let pseudo = pseudo_header(view.source, view.destination, 58, segment.len());
    let sum = checksum(&[&pseudo, segment].concat());
    packet[transport + 2..transport + 4].copy_from_slice(&sum.to_be_bytes());
}

fn describe(expected: &[Vec<u8>], ours: &[Vec<u8>]) -> String {
    let first = expected.iter().zip(ours).find_map(|(linux, ours)| diff(linux, ours));
    let counts = format!("{} packets from Linux, {} from us", expected.len(), ours.len());
    let first = first.unwrap_or_default();
    format!("{counts}\n{first}{}{}", hex("Linux", expected), hex("ours", ours))
}

/// The first few packets of a list in hexadecimal.
fn hex(name: &str, packets: &[impl AsRef<[u8]>]) -> String {
    let few = packets.iter().take(SHOWN);
    few.map(|packet| format!("\n  {name:<6}{}", to_hex(packet.as_ref()))).collect()
}
