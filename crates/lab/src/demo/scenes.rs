//! What the demo sends, and what has to come out: expected frames are built from scratch, with
//! the target's address in them, and not translated from what is sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::lab::{EGRESS, INGRESS, Lab, MIRROR, TAP};
use crate::packet::{Inner, Mirror, Tag, arp_request};

/// Port of the telemetry stream (NetFlow), and of the application that gets the copies.
const STREAM_PORT: u16 = 2055;
/// Port of the application in the target namespace.
pub const APPLICATION_PORT: u16 = 9995;

const EXPORTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const COLLECTOR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
const STRANGER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 66);
const EXPORTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 7);
const COLLECTOR6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 9);

/// The VNIs of the demo's two mirror sessions; the second is one that AWS chose for a customer.
const VNIS: [u32; 2] = [100, 5_569_041];

/// Packets of one kind.
pub struct Scene {
    pub title: String,
    /// What goes into the ingress interface.
    pub packets: Vec<Vec<u8>>,
    /// The frames that have to leave, in this order.
    pub expected: Vec<Vec<u8>>,
}

impl Scene {
    fn new(title: &str) -> Self {
        Self { title: title.into(), packets: Vec::new(), expected: Vec::new() }
    }

    /// One packet that leaves as `expected`.
    fn delivered(&mut self, outer: &Mirror, inner: &[u8], expected: Vec<u8>) {
        self.packets.push(outer.wrap(inner));
        self.expected.push(expected);
    }

    /// One packet that leaves unchanged.
    fn unchanged(&mut self, outer: &Mirror, inner: Vec<u8>) {
        self.packets.push(outer.wrap(&inner));
        self.expected.push(inner);
    }

    /// The scene in parts of `size` packets, each of which is delivered.
    pub fn parts(self, size: usize) -> Vec<Self> {
        let packets = self.packets.chunks(size);
        packets
            .zip(self.expected.chunks(size))
            .map(|(packets, expected)| Self {
                title: self.title.clone(),
                packets: packets.to_vec(),
                expected: expected.to_vec(),
            })
            .collect()
    }
}

/// The allowlist: the exporters.
pub fn allowlist() -> Value {
    json!({
        "version": "1.0",
        "description": "Sources of the demo",
        "organizations": [
            { "name": "Example exporters", "ips": ["198.51.100.0/24", "2001:db8:51::/48"] }
        ]
    })
}

/// The NAT rules: copies of the stream go to the application.
pub fn rules() -> Value {
    let rule = |address: IpAddr| {
        json!({
            "protocol": "udp",
            "port": STREAM_PORT,
            "target": { "address": address.to_string(), "port": APPLICATION_PORT }
        })
    };
    json!({ "version": "1.0", "rules": [rule(TAP.ipv4.into()), rule(TAP.ipv6.into())] })
}

/// The text of one datagram of the stream.
pub fn record(number: usize) -> String {
    format!("flow record {number}")
}

/// The telemetry stream: an exporter's datagrams to the live collector, mirrored.
pub fn telemetry(count: usize) -> Scene {
    let mut scene = Scene::new("telemetry");
    for number in 0..count {
        let datagram = |destination: Ipv4Addr, port| {
            Inner::new(EXPORTER, destination)
                .identification(number as u32 & 0xffff)
                .udp(50_000, port)
                .payload(record(number))
        };
        let outer = Mirror::vni(VNIS[number % 2]);
        let inner = datagram(COLLECTOR, STREAM_PORT).build();
        let expected = datagram(TAP.ipv4, APPLICATION_PORT).macs(TAP.mac, EGRESS.mac).build();
        scene.delivered(&outer, &inner, expected);
    }
    scene
}

/// Everything else, scene by scene.
pub fn others() -> Vec<Scene> {
    vec![
        over_ipv6(),
        unmatched(),
        jumbo(),
        dropped("from sources that are not in the allowlist", |number| {
            Mirror::default().wrap(&Inner::new(STRANGER, COLLECTOR).udp(number, 514).build())
        }),
        dropped("of a mirror session that is not ours (VNI 4242)", |number| {
            Mirror::vni(4242).wrap(&Inner::new(EXPORTER, COLLECTOR).udp(number, 514).build())
        }),
        dropped("ARP inside VXLAN: not IP", |_| {
            Mirror::default().wrap(&arp_request([2, 0, 0, 0, 0, 1], [198, 51, 100, 1], [0; 4]))
        }),
        dropped("VXLAN headers without a VNI", |number| {
            let outer = Mirror { flags: 0, ..Mirror::default() };
            outer.wrap(&Inner::new(EXPORTER, COLLECTOR).udp(number, 514).build())
        }),
    ]
}

/// An IPv6 stream, mirrored over IPv6.
fn over_ipv6() -> Scene {
    let mut scene = Scene::new("UDP over IPv6 behind outer IPv6, translated");
    for number in 0..500 {
        let datagram = |destination: Ipv6Addr, port| {
            Inner::new(EXPORTER6, destination).udp(50_001, port).payload(record(number))
        };
        let inner = datagram(COLLECTOR6, STREAM_PORT).build();
        let expected = datagram(TAP.ipv6, APPLICATION_PORT).macs(TAP.mac, EGRESS.mac).build();
        scene.delivered(&Mirror::over_ipv6(), &inner, expected);
    }
    scene
}

/// Flows that no rule matches leave as they came.
fn unmatched() -> Scene {
    let mut scene = Scene::new("TCP, ICMP, ICMPv6, VLAN-tagged UDP: no rule matches, unchanged");
    let outer = Mirror { tags: vec![Tag::customer(7)], ..Mirror::default() };
    for number in 0..250u16 {
        let v4 = || Inner::new(EXPORTER, COLLECTOR);
        scene.unchanged(&outer, v4().tcp(40_000, 443, number.into()).payload_length(600).build());
        scene.unchanged(&outer, v4().echo(7, number).payload_length(56).build());
        scene.unchanged(&outer, Inner::new(EXPORTER6, COLLECTOR6).echo(7, number).build());
        scene.unchanged(&outer, v4().tag(Tag::customer(9)).udp(number, 514).build());
    }
    scene
}

/// Long frames leave whole, but for their DF bit (DF_CLEAR_THRESHOLD).
fn jumbo() -> Scene {
    let mut scene = Scene::new("jumbo frames of 9,000 bytes: whole, DF bit cleared");
    for number in 0..50 {
        let frame = |dont_fragment| {
            Inner::new(EXPORTER, COLLECTOR)
                .dont_fragment(dont_fragment)
                .identification(number)
                .tcp(40_001, 443, number)
                .payload_length(8960)
                .build()
        };
        scene.delivered(&Mirror::default(), &frame(true), frame(false));
    }
    scene
}

fn dropped(title: &str, packet: impl Fn(u16) -> Vec<u8>) -> Scene {
    let packets = (1..=200).map(packet).collect();
    Scene { title: title.into(), packets, expected: Vec::new() }
}

/// A question and an answer between the source and the host behind the ingress interface: what
/// is not VXLAN is none of the pipeline's business. Returns how many questions were answered.
pub fn talk_to_the_host(lab: &Lab) -> Result<u32> {
    let host = lab.enter(INGRESS.namespace, || UdpSocket::bind((INGRESS.ipv4, 7777)))??;
    let client = lab.enter(MIRROR.namespace, || UdpSocket::bind((MIRROR.ipv4, 7777)))??;
    let mut buffer = [0; 16];
    for socket in [&host, &client] {
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    }
    for _ in 0..10 {
        client.send_to(b"question", (INGRESS.ipv4, 7777))?;
        let (_, sender) = host.recv_from(&mut buffer).context("the host gets no question")?;
        host.send_to(b"answer", sender)?;
        client.recv_from(&mut buffer).context("the client gets no answer")?;
    }
    Ok(10)
}
