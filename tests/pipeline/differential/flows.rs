//! Which flow each packet of a corpus belongs to. Linux gets each flow in a conntrack zone of its
//! own: two flows of one client port that go to one target can't be told apart without VNI, and
//! Linux would give one of them another source port.

use std::collections::HashMap;
use std::net::IpAddr;

use super::Case;
use super::ip::{self, Ip, word};
use super::rules::{self, Rule};

/// An address and a port, or the identifier of an echo message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    pub address: IpAddr,
    pub port: u16,
}

/// What identifies a packet's flow, in the packet's direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    pub protocol: u8,
    pub source: Endpoint,
    pub destination: Endpoint,
    pub is_echo_request: bool,
}

impl Tuple {
    pub fn is_echo(&self) -> bool {
        matches!(self.protocol, 1 | 58)
    }

    fn key(&self, vni: u32) -> FlowKey {
        let (a, b) = (self.source, self.destination);
        (vni, self.protocol, a.min(b), a.max(b))
    }
}

type FlowKey = (u32, u8, Endpoint, Endpoint);

/// A flow that a rule matches.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// From 1 on.
    pub number: u16,
    /// Who sent the first packet that a rule matches.
    pub client: Endpoint,
    /// Whom it was for.
    pub server: Endpoint,
    /// The port that takes the place of the server's.
    pub target_port: u16,
    pub protocol: u8,
    /// The case that began it.
    pub first: usize,
}

/// What all fragments of a datagram share.
pub type DatagramKey = (u32, IpAddr, IpAddr, u32, u8);

/// The flows of a corpus.
#[derive(Debug, Default)]
pub struct Flows {
    pub list: Vec<Flow>,
    /// For each case the index of its flow, if it has any.
    pub of_case: Vec<Option<usize>>,
}

impl Flows {
    pub fn find(cases: &[Case], rules: &[Rule]) -> Self {
        let mut flows = Self::default();
        let mut known: HashMap<FlowKey, usize> = HashMap::new();
        for (index, case) in cases.iter().enumerate() {
            let Some(tuple) = case.ip().and_then(|packet| tuple(&packet)) else { continue };
            let Some(rule) = rules::matching(rules, &tuple) else { continue };
            known.entry(tuple.key(case.vni)).or_insert_with(|| {
                flows.list.push(Flow {
                    number: u16::try_from(flows.list.len() + 1).expect("fewer flows"),
                    client: tuple.source,
                    server: tuple.destination,
                    target_port: rule.target_port,
                    protocol: tuple.protocol,
                    first: index,
                });
                flows.list.len() - 1
            });
        }
        let mut of_datagram: HashMap<DatagramKey, usize> = HashMap::new();
        let find = |case: &Case| {
            let packet = case.ip()?;
            let tuple = tuple(&packet).or_else(|| embedded(&packet))?;
            known.get(&tuple.key(case.vni)).copied()
        };
        flows.of_case = cases.iter().map(find).collect();
        for (case, flow) in cases.iter().zip(&flows.of_case) {
            if let (Some(key), Some(flow)) = (datagram(case), flow) {
                of_datagram.insert(key, *flow);
            }
        }
        for (case, flow) in cases.iter().zip(&mut flows.of_case) {
            *flow = flow.or_else(|| of_datagram.get(&datagram(case)?).copied());
        }
        flows
    }

    /// The flow of a case.
    pub fn of(&self, case: usize) -> Option<&Flow> {
        self.of_case[case].map(|index| &self.list[index])
    }
}

/// The datagram of a fragment. The protocol is part of its name for IPv4 only.
pub fn datagram(case: &Case) -> Option<DatagramKey> {
    let packet = case.ip()?;
    let protocol = if packet.is_ipv4() { packet.protocol } else { 0 };
    let id = packet.fragment?.id;
    Some((case.vni, packet.source, packet.destination, id, protocol))
}

/// Endpoints of a TCP, UDP or echo packet.
pub fn tuple(packet: &Ip<'_>) -> Option<Tuple> {
    let segment = packet.segment();
    if !packet.has_transport_header() || segment.len() < 8 {
        return None;
    }
    let (source, destination, is_echo_request) = match (packet.protocol, packet.is_ipv4()) {
        (6 | 17, _) => (word(segment, 0)?, word(segment, 2)?, false),
        (1, true) if matches!(segment[0], 0 | 8) => {
            (word(segment, 4)?, word(segment, 4)?, segment[0] == 8)
        }
        (58, false) if matches!(segment[0], 128 | 129) => {
            (word(segment, 4)?, word(segment, 4)?, segment[0] == 128)
        }
        _ => return None,
    };
    Some(Tuple {
        protocol: packet.protocol,
        source: Endpoint { address: packet.source, port: source },
        destination: Endpoint { address: packet.destination, port: destination },
        is_echo_request,
    })
}

/// Whether a packet is an ICMP or ICMPv6 error.
pub fn is_error(packet: &Ip<'_>) -> bool {
    let kind = packet.segment().first().copied();
    packet.has_transport_header()
        && match (packet.protocol, packet.is_ipv4()) {
            (1, true) => matches!(kind, Some(3 | 4 | 5 | 11 | 12)),
            (58, false) => matches!(kind, Some(1..=4)),
            _ => false,
        }
}

/// Endpoints of the packet inside an ICMP error.
pub fn embedded(packet: &Ip<'_>) -> Option<Tuple> {
    is_error(packet).then_some(())?;
    let inside = ip::parse(packet.segment().get(8..)?)?;
    tuple(&inside)
}
