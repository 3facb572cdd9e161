//! Linux in the pipeline's place: its vxlan device, conntrack and nftables, in a lab of its own.
//!
//! Linux translates replies that come back from the target to the client. Ours go the other way: a
//! mirrored reply comes from the first server and has to look as if the target had sent it. So what
//! Linux sends is given to it a second time, in the same order:
//!
//! ```text
//! first pass     client>server becomes client>target
//! second pass    client>target becomes client>server again
//!                server>client becomes target>client
//! ```
//!
//! The first pass gives the answer for packets to the server, and for errors about its replies. To
//! the second the target is the address that clients know: conntrack's own translation of replies
//! gives the answer for those, and for errors about what the client sent.

use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;

use anyhow::{Context, Result};
use lab::packet::{Inner, Mirror, Transport, format_mac};
use lab::{EGRESS, INGRESS, Lab, TAP};

use super::datagram::undo_hops;
use super::exchange::{Outcome, exchange};
use super::flows::{Endpoint, Flow, Flows};
use super::ip::Ip;
use super::rules::{self, Rule};
use super::{Case, ip};
use crate::oracle::Scratch;

const VXLAN_MAC: [u8; 6] = [2, 0x18, 0, 0, 2, 1];

/// Datagrams are put together before they are translated, and may be as long as IP allows.
const MTU: u32 = 65535;

/// Forward everything, whatever the checksum and the state of its connection, and forget none.
const SETTINGS: [(&str, &str); 20] = [
    ("ipv4/conf/all/forwarding", "1"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv4/conf/all/accept_local", "1"),
    ("ipv4/conf/all/route_localnet", "1"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
    ("netfilter/nf_conntrack_checksum", "0"),
    ("netfilter/nf_conntrack_tcp_be_liberal", "1"),
    ("netfilter/nf_conntrack_tcp_ignore_invalid_rst", "1"),
    ("netfilter/nf_conntrack_tcp_loose", "1"),
    ("netfilter/nf_conntrack_tcp_timeout_syn_sent", "600"),
    ("netfilter/nf_conntrack_tcp_timeout_syn_recv", "600"),
    ("netfilter/nf_conntrack_tcp_timeout_fin_wait", "600"),
    ("netfilter/nf_conntrack_tcp_timeout_close_wait", "600"),
    ("netfilter/nf_conntrack_tcp_timeout_last_ack", "600"),
    ("netfilter/nf_conntrack_tcp_timeout_time_wait", "600"),
    ("netfilter/nf_conntrack_tcp_timeout_close", "600"),
    ("netfilter/nf_conntrack_udp_timeout", "600"),
    ("netfilter/nf_conntrack_icmp_timeout", "600"),
    ("netfilter/nf_conntrack_icmpv6_timeout", "600"),
];

/// SYN and ACK flag of the segments of a handshake.
const SYN: (bool, bool) = (true, false);
const ANSWER: (bool, bool) = (true, true);
const ACK: (bool, bool) = (false, true);

/// What Linux made of a packet.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// After the first pass.
    pub first: Outcome,
    /// After the second.
    pub second: Outcome,
}

/// Sends every case through Linux. Cases that are no IP packets are not sent: there is nothing to
/// route; nor are those of `left_out`.
pub fn answers(
    cases: &[Case],
    flows: &Flows,
    rules: &[Rule],
    left_out: impl Fn(usize) -> bool,
) -> Result<Vec<Answer>> {
    let mut lists = Vec::new();
    let mut places = Vec::with_capacity(cases.len());
    for (index, case) in cases.iter().enumerate() {
        let flow = flows.of(index).filter(|flow| flow.protocol == 6);
        let begins = flow.filter(|flow| flow.first == index);
        lists.extend(begins.into_iter().flat_map(|f| [SYN, ANSWER, ACK].map(|s| handshake(f, s))));
        places.push(lists.len());
        let is_sent = case.ip().is_some() && !left_out(index);
        let frames = if is_sent { vec![case.frame.clone()] } else { Vec::new() };
        lists.push((flows.of(index).map_or(0, |flow| flow.number), frames));
        lists.extend(flow.filter(|_| opens(case)).map(|flow| handshake(flow, ANSWER)));
    }
    let lab = Lab::new()?;
    build(&lab)?;
    let first = pass(&lab, &first_pass(flows, rules), &lists)?;
    let again: Vec<_> =
        lists.iter().zip(&first).map(|((flow, _), frames)| (*flow, frames.clone())).collect();
    let second = pass(&lab, &second_pass(flows), &again)?;
    let answer = |at: usize| Answer { first: first[at].clone(), second: second[at].clone() };
    Ok(places.into_iter().map(answer).collect())
}

/// What Linux makes of each frame when it forwards it by an interface of this MTU, without a look
/// at connections. The frames come back with the link layer that they had, and their TTL.
pub fn forwarded_by_linux(frames: &[Vec<u8>], mtu: u32) -> Result<Vec<Outcome>> {
    let lab = Lab::new()?;
    build(&lab)?;
    lab.set_mtu(EGRESS.namespace, EGRESS.name, mtu)?;
    let lists: Vec<_> = frames.iter().map(|frame| vec![wrap(frame, 0)]).collect();
    let outcomes = exchange(&lab, &lists, |marker| wrap(marker, 0))?;
    let restore = |frame: &Vec<u8>, sent: &Vec<u8>| {
        let (_, from) = ip::ethernet(frame).unwrap_or_default();
        let (_, at) = ip::ethernet(sent).unwrap_or_default();
        let mut packet = sent[at..].to_vec();
        undo_hops(&mut packet, 1);
        [&frame[..from], &packet].concat()
    };
    let pairs = frames.iter().zip(&outcomes);
    Ok(pairs.map(|(frame, sent)| sent.iter().map(|sent| restore(frame, sent)).collect()).collect())
}

/// Frames of one flow, or of none (0), that are sent at once.
type List = (u16, Vec<Vec<u8>>);

fn pass(lab: &Lab, ruleset: &str, lists: &[List]) -> Result<Vec<Outcome>> {
    let scratch = Scratch::new("differential-nft")?;
    let file = scratch.path().join("ruleset.nft");
    fs::write(&file, ruleset)?;
    lab.run(INGRESS.namespace, &["nft", "-f", &file.display().to_string()])?;
    let wrapped: Vec<Vec<Vec<u8>>> = lists
        .iter()
        .map(|(flow, frames)| frames.iter().map(|frame| wrap(frame, *flow)).collect())
        .collect();
    exchange(lab, &wrapped, |marker| wrap(marker, 0))
}

/// The packet behind a plain Ethernet header: what is compared begins with the IP header, and tags
/// and addresses of the link layer would only tell Linux that the frame is not for it. The outer
/// source port tells the flow.
fn wrap(frame: &[u8], flow: u16) -> Vec<u8> {
    let (ether_type, at) = ip::ethernet(frame).unwrap_or((0, frame.len()));
    let source = [2, 0, 0, 0, 0, 0xb];
    let inner = [&VXLAN_MAC[..], &source, &ether_type.to_be_bytes(), &frame[at..]].concat();
    Mirror { source_port: flow, ..Mirror::default() }.wrap(&inner)
}

/// A segment of a handshake: the target's answer to a SYN, or one from the client. Each pass sees
/// one direction of a connection only, and a capture may begin in its middle; after SYN, answer and
/// ACK Linux takes the connection for established in both.
fn handshake(flow: &Flow, (syn, ack): (bool, bool)) -> List {
    let (client, server) = (flow.client, flow.server);
    let target = Endpoint {
        address: if client.address.is_ipv4() { TAP.ipv4.into() } else { TAP.ipv6.into() },
        port: flow.target_port,
    };
    let (from, to) = if syn && ack { (target, client) } else { (client, server) };
    let mut header = etherparse::TcpHeader::new(from.port, to.port, 1, 0x4000);
    (header.syn, header.ack) = (syn, ack);
    let inner = Inner::new(from.address, to.address).transport(Transport::Tcp(Box::new(header)));
    (flow.number, vec![inner.build()])
}

/// Whether the packet is a SYN: it may begin a connection of its flow anew.
fn opens(case: &Case) -> bool {
    let is_syn = |packet: Ip<'_>| {
        let flags = packet.segment().get(13).copied();
        packet.protocol == 6
            && packet.has_transport_header()
            && flags.is_some_and(|f| f & 0x12 == 2)
    };
    case.ip().is_some_and(is_syn)
}

fn build(lab: &Lab) -> Result<()> {
    let run = |namespace, line: String| {
        lab.run(namespace, &line.split_whitespace().collect::<Vec<_>>()).map(drop)
    };
    let here = |line: String| run(INGRESS.namespace, line);
    run(TAP.namespace, format!("ip link set dev {} mtu {MTU}", TAP.name))?;
    here(format!("ip link set dev {} mtu {MTU}", EGRESS.name))?;
    let mac = format_mac(VXLAN_MAC);
    here(format!("ip link add vx0 address {mac} type vxlan external dstport 4789 nolearning"))?;
    here("ethtool -K vx0 tx off gro off".into())?;
    here("ip link set dev vx0 up".into())?;
    lab.enter(INGRESS.namespace, set)??;
    let (egress, mac) = (EGRESS.name, format_mac(TAP.mac));
    for (family, via) in [("-4", IpAddr::from(TAP.ipv4)), ("-6", TAP.ipv6.into())] {
        here(format!("ip {family} route add default via {via} dev {egress}"))?;
        here(format!("ip {family} neigh replace {via} lladdr {mac} dev {egress} nud permanent"))?;
    }
    Ok(())
}

fn set() -> Result<()> {
    for (key, value) in SETTINGS {
        fs::write(format!("/proc/sys/net/{key}"), value).with_context(|| format!("net/{key}"))?;
    }
    Ok(())
}

const ERRORS4: &str = "icmp type { 3, 4, 5, 11, 12 }";
const ERRORS6: &str = "icmpv6 type { 1, 2, 3, 4 }";

/// Tracks what rules match and what goes the same way, and translates it by the rules. Replies are
/// not tracked: conntrack would take them for connections of the server.
fn first_pass(flows: &Flows, rules: &[Rule]) -> String {
    let (mut remember, mut translate) = (String::new(), String::new());
    for rule in rules::nft(rules) {
        let _ = writeln!(remember, "{} {} goto zone", rule.matched, rule.remember);
        let _ = writeln!(translate, "{} {}", rule.matched, rule.dnat);
    }
    let (tap4, tap6) = (TAP.ipv4, TAP.ipv6);
    let declared = "
        set servers4 { typeof meta mark . ip daddr . th dport; flags dynamic; size 65535; }
        set servers6 { typeof meta mark . ip6 daddr . th dport; flags dynamic; size 65535; }";
    let track = format!(
        "ip saddr {tap4} goto zone
        ip6 saddr {tap6} goto zone
        meta l4proto {{ tcp, udp }} meta mark . ip saddr . th sport @servers4 notrack accept
        meta l4proto {{ tcp, udp }} meta mark . ip6 saddr . th sport @servers6 notrack accept
        {remember}
        {ERRORS4} goto zone
        {ERRORS6} goto zone
        notrack"
    );
    ruleset(flows, 0, declared, &track, &translate)
}

/// Gives the first server's address back to what goes to the target, and so the target's address to
/// what comes from the server. Nothing of a flow is tracked before that.
fn second_pass(flows: &Flows) -> String {
    let servers = |is_ipv4: bool, is_echo: bool| {
        elements(flows.list.iter().filter_map(|flow| {
            let echo = matches!(flow.protocol, 1 | 58);
            let fits = flow.server.address.is_ipv4() == is_ipv4 && echo == is_echo;
            let port = if echo { String::new() } else { format!(" . {}", flow.server.port) };
            fits.then(|| format!("{} : {}{port}", flow.number, flow.server.address))
        }))
    };
    let (tap4, tap6) = (TAP.ipv4, TAP.ipv6);
    let declared = format!(
        "set known {{ typeof meta mark; flags dynamic; size 65535; }}
        map servers4 {{ typeof meta mark : ip daddr . th dport; {} }}
        map servers6 {{ typeof meta mark : ip6 daddr . th dport; {} }}
        map hosts4 {{ typeof meta mark : ip daddr; {} }}
        map hosts6 {{ typeof meta mark : ip6 daddr; {} }}",
        servers(true, false),
        servers(false, false),
        servers(true, true),
        servers(false, true),
    );
    let track = format!(
        "ip daddr {tap4} add @known {{ meta mark }}
        ip6 daddr {tap6} add @known {{ meta mark }}
        meta mark @known goto zone
        notrack"
    );
    let translate = format!(
        "ip daddr {tap4} meta l4proto {{ tcp, udp }} dnat ip to meta mark map @servers4
        ip6 daddr {tap6} meta l4proto {{ tcp, udp }} dnat ip6 to meta mark map @servers6
        ip daddr {tap4} icmp type echo-request dnat ip to meta mark map @hosts4
        ip6 daddr {tap6} icmpv6 type echo-request dnat ip6 to meta mark map @hosts6"
    );
    ruleset(flows, 1, &declared, &track, &translate)
}

/// The outer source port becomes the packet's mark, and tells the flow. Each flow has a zone for
/// each pass. Linux itself says nothing.
fn ruleset(flows: &Flows, pass: u32, declared: &str, track: &str, translate: &str) -> String {
    let numbers = || flows.list.iter().map(|flow| u32::from(flow.number));
    let marks = elements(numbers().map(|number| format!("{number} : {number}")));
    let zones = elements(numbers().map(|number| format!("{number} : {}", 2 * number + pass)));
    format!(
        "flush ruleset
        table inet oracle {{
            map marks {{ typeof udp sport : meta mark; {marks} }}
            map zones {{ typeof meta mark : ct zone; {zones} }}
            {declared}
            chain outer {{
                type filter hook prerouting priority -500;
                iifname ens5 udp dport 4789 meta mark set udp sport map @marks
            }}
            chain zone {{
                ct zone set meta mark map @zones;
            }}
            chain track {{
                type filter hook prerouting priority -300;
                iifname != vx0 notrack accept
                meta mark 0 notrack accept
                {track}
            }}
            chain translate {{
                type nat hook prerouting priority -100;
                {translate}
            }}
            chain silence {{
                type filter hook output priority 0; policy drop;
            }}
        }}\n"
    )
}

/// The `elements` of a set or map. At most 32,767 flows fit into the zones.
fn elements(list: impl Iterator<Item = String>) -> String {
    let list: Vec<_> = list.collect();
    if list.is_empty() { String::new() } else { format!("elements = {{ {} }}", list.join(", ")) }
}
