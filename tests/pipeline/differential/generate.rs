//! A corpus of conversations, whose packets a router accepts. They take turns, so that packets mix.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lab::Random;
use lab::packet::{Extension, Inner, Tag, Transport};

use super::Case;
use super::fragment::fragment_ipv6;

/// Conversations under way at a time.
const AT_ONCE: usize = 12;

/// Mirrored at several places: the same addresses may mean other hosts behind another VNI.
const VNIS: [u32; 4] = [0, 7, 5_569_041, 0xff_ffff];

/// Protocols without ports that we know: IGMP, DCCP, GRE, ESP, AH, PIM, SCTP, UDP-Lite, one of an
/// experiment (RFC 3692).
const OTHERS: [u8; 9] = [2, 33, 47, 50, AUTHENTICATION, 103, 132, 136, 254];
const AUTHENTICATION: u8 = 51;

/// A packet that is not longer than a cable's MTU with all headers and tags.
const LONGEST_PAYLOAD: usize = 8900;

/// What two hosts talk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Talk {
    Udp,
    Tcp,
    Echo,
    Other(u8),
}

struct Conversation {
    vni: u32,
    client: (IpAddr, u16),
    server: (IpAddr, u16),
    router: IpAddr,
    talk: Talk,
    tags: Vec<Tag>,
    packets_left: usize,
    sequence: u32,
    /// The last packet of each direction, from the IP header on: to the server, to the client.
    last: [Option<Vec<u8>>; 2],
    /// Frames that are yet to be sent.
    queue: Vec<(&'static str, Vec<u8>)>,
}

/// At least `count` cases.
pub fn corpus(random: &mut Random, count: usize, ports: &[u16]) -> Vec<Case> {
    let mut cases = Vec::with_capacity(count + 100);
    let mut under_way: Vec<Conversation> = Vec::new();
    while cases.len() < count || !under_way.is_empty() {
        if under_way.len() < AT_ONCE && cases.len() < count {
            under_way.push(conversation(random, ports));
        }
        let turn = random.below(under_way.len());
        let now = &mut under_way[turn];
        if now.queue.is_empty() {
            now.go_on(random);
        }
        let (kind, frame) = now.queue.remove(0);
        let name = format!("{kind} ({})", cases.len());
        // The same hosts behind another VNI are others.
        let elsewhere = kind != "fragment" && random.percent(2);
        let vni = if elsewhere { now.vni ^ 0x40 } else { now.vni };
        cases.push(Case { name, vni, frame });
        if now.packets_left == 0 && now.queue.is_empty() {
            under_way.swap_remove(turn);
        }
    }
    cases
}

fn conversation(random: &mut Random, ports: &[u16]) -> Conversation {
    let talk = match random.below(100) {
        0..40 => Talk::Udp,
        40..75 => Talk::Tcp,
        75..88 => Talk::Echo,
        _ => Talk::Other(random.pick(&OTHERS)),
    };
    let is_ipv4 = random.percent(60);
    let mut host = |net: u8| -> IpAddr {
        let [a, b] = (random.number() as u16).to_be_bytes();
        if is_ipv4 {
            Ipv4Addr::new(10, net, a, b.clamp(1, 254)).into()
        } else {
            Ipv6Addr::new(0x2001, 0xdb8, net.into(), 0, 0, 0, a.into(), u16::from(b) + 1).into()
        }
    };
    let (client, server, router) = (host(1), host(2), host(3));
    let known = random.percent(70);
    let server_port = if known { random.pick(ports) } else { 1024 + random.below(60_000) as u16 };
    // Where both ports match a rule, the first packet says which side is the server; of TCP's
    // handshake conntrack has an opinion of its own.
    let same_port = talk == Talk::Udp && random.percent(5);
    let client_port = if same_port { server_port } else { 1024 + random.number() as u16 / 2 };
    let tags = match random.below(10) {
        0 => vec![Tag::customer(random.below(4095) as u16)],
        1 => vec![Tag::service(9), Tag::customer(random.below(4095) as u16)],
        _ => Vec::new(),
    };
    Conversation {
        vni: random.pick(&VNIS),
        client: (client, client_port),
        server: (server, server_port),
        router,
        talk,
        tags,
        packets_left: 1 + random.below(12),
        sequence: random.number() as u32,
        last: [None, None],
        queue: Vec::new(),
    }
}

impl Conversation {
    /// Makes what is sent next.
    fn go_on(&mut self, random: &mut Random) {
        self.packets_left = self.packets_left.saturating_sub(1);
        let reply = random.percent(40);
        if random.percent(10) && self.last[usize::from(reply)].is_some() {
            let error = self.error(random, reply);
            self.queue.push(("ICMP error", error));
            return;
        }
        let in_fragments = random.percent(8);
        let inner = self.packet(random, reply, in_fragments);
        let mut frame = inner.build();
        let ip = &frame[14 + 4 * self.tags.len()..];
        self.last[usize::from(reply)] = Some(ip.to_vec());
        let is_long = ip.len() > 200;
        if is_long && in_fragments {
            self.queue.extend(self.fragments(random, &inner).into_iter().map(|f| ("fragment", f)));
        } else if is_long && random.percent(5) {
            *frame.last_mut().expect("a frame") ^= 0x55;
            self.queue.push(("wrong checksum", frame));
        } else {
            self.queue.push((if reply { "reply" } else { "packet" }, frame));
        }
    }

    fn packet(&mut self, random: &mut Random, reply: bool, in_fragments: bool) -> Inner {
        let (from, to) =
            if reply { (self.server, self.client) } else { (self.client, self.server) };
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        let inner = self.headers(random, Inner::new(from.0, to.0), in_fragments);
        let inner = match self.talk {
            Talk::Udp if from.0.is_ipv4() && random.percent(10) => {
                inner.udp_without_checksum(from.1, to.1)
            }
            Talk::Udp => inner.udp(from.1, to.1),
            Talk::Tcp => inner.transport(tcp(random, from.1, to.1, sequence, reply)),
            Talk::Echo => {
                let kind = match (from.0.is_ipv4(), reply) {
                    (true, false) => 8,
                    (true, true) => 0,
                    (false, false) => 128,
                    (false, true) => 129,
                };
                let [a, b] = self.client.1.to_be_bytes();
                inner.icmp(kind, 0, [a, b, (sequence >> 8) as u8, sequence as u8])
            }
            Talk::Other(protocol) => inner.transport(Transport::Other(protocol)),
        };
        let length = payload_length(random).max(usize::from(matches!(self.talk, Talk::Other(_))));
        let mut payload = random.bytes(length);
        if self.talk == Talk::Other(AUTHENTICATION) {
            // Its own header, before nothing more (RFC 4302 section 2).
            payload.splice(..0, [&[59, 4, 0, 0][..], &[7; 20]].concat());
        }
        inner.payload(payload)
    }

    /// TTL, tags, options: what the transport does not know.
    fn headers(&self, random: &mut Random, mut inner: Inner, in_fragments: bool) -> Inner {
        inner = self.tags.iter().fold(inner, |inner, tag| inner.tag(*tag));
        inner = inner
            .ttl(3 + random.below(253) as u8)
            .tos(random.pick(&[0, 0, 0, 0x10, 0xb8, 1, 2]))
            .identification(random.number() as u32)
            .flow_label(random.number() as u32 & 0xf_ffff)
            .dont_fragment(random.percent(50));
        if self.client.0.is_ipv4() {
            // No-operations, router alert, security, an experiment's.
            let choices: [&[u8]; 4] = [
                &[1, 1, 1, 1],
                &[148, 4, 0, 0],
                &[130, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
                &[222, 6, 1, 2, 3, 4, 1, 0],
            ];
            return if random.percent(12) { inner.options(random.pick(&choices)) } else { inner };
        }
        let atomic = Extension::fragment(random.number() as u32, 0, false);
        for (share, extension) in [
            (5, Extension::hop_by_hop()),
            (5, Extension::destination(1 + random.below(4) as u8)),
            (5, Extension::routing()),
            (if in_fragments { 0 } else { 5 }, atomic), // one fragment header at most
            (3, Extension::destination(2)),
        ] {
            if random.percent(share) {
                inner = inner.extension(extension);
            }
        }
        inner
    }

    /// The packet in fragments, in an order that a network may give them.
    fn fragments(&self, random: &mut Random, inner: &Inner) -> Vec<Vec<u8>> {
        let size = 8 * (8 + random.below(180));
        let mut fragments = if self.client.0.is_ipv4() {
            inner.fragments(size)
        } else {
            let ip = 14 + 4 * self.tags.len();
            fragment_ipv6(&inner.build(), ip, size, random.number() as u32)
        };
        match random.below(4) {
            0 => fragments.reverse(),
            1 => random.shuffle(&mut fragments),
            _ => {}
        }
        fragments
    }

    /// An ICMP error about the last packet of a direction, from its receiver or a router.
    fn error(&self, random: &mut Random, about_reply: bool) -> Vec<u8> {
        let (sender, receiver) =
            if about_reply { (self.server, self.client) } else { (self.client, self.server) };
        let from = if random.percent(50) { receiver.0 } else { self.router };
        let about = self.last[usize::from(about_reply)].as_deref().unwrap_or_default();
        let is_ipv4 = from.is_ipv4();
        let (kind, code, rest) = if is_ipv4 {
            random.pick(&[(3, 3, [0; 4]), (3, 1, [0; 4]), (3, 4, [0, 0, 5, 0x78]), (11, 0, [0; 4])])
        } else {
            random.pick(&[(1, 4, [0; 4]), (1, 0, [0; 4]), (2, 0, [0, 0, 5, 0x78]), (3, 0, [0; 4])])
        };
        // As much as the oldest rule asks for (RFC 792), or as a router may send (RFC 1812, 4443).
        let header = if is_ipv4 { usize::from(about[0] & 15) * 4 } else { about.len().min(1232) };
        let most = if is_ipv4 { 548 } else { 1232 };
        let length = if random.percent(30) && is_ipv4 { header + 8 } else { most };
        Inner::new(from, sender.0)
            .ttl(3 + random.below(253) as u8)
            .icmp(kind, code, rest)
            .payload(&about[..about.len().min(length)])
            .build()
    }
}

fn payload_length(random: &mut Random) -> usize {
    match random.below(20) {
        0 => 0,
        1 => 1 + random.below(8),
        2..12 => random.below(200),
        12..19 => random.below(1400),
        _ => random.below(LONGEST_PAYLOAD),
    }
}

/// Flags that go together, options now and then.
fn tcp(random: &mut Random, from: u16, to: u16, sequence: u32, reply: bool) -> Transport {
    let mut header = etherparse::TcpHeader::new(from, to, sequence, random.number() as u16);
    header.acknowledgment_number = random.number() as u32;
    header.ack = true;
    match random.below(12) {
        0 => (header.syn, header.ack) = (true, reply),
        1 => header.fin = true,
        2 => header.rst = true,
        3 => (header.urg, header.urgent_pointer) = (true, 1),
        _ => header.psh = random.percent(50),
    }
    if random.percent(40) {
        let options = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 2, 4, 5, 0xb4];
        header.set_options_raw(&options[..random.pick(&[12, 16])]).expect("whole words");
    }
    Transport::Tcp(Box::new(header))
}
