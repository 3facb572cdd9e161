//! Properties that hold for every packet: the checksums of a translated packet are those that a
//! computation from scratch gives, and translating there and back changes nothing.

use config::NatProtocol::Any;

use crate::case::difference;
use crate::frame::{Frame, ICMP, ICMPV6, echo4, echo6, mirror, tcp4, tcp6, udp4, udp6};
use crate::random::seed;
use crate::random_packet::Random;
use crate::rig::{Rig, echo_rule, rule, rule_for, with_rig};

const SETS_OF_RULES: usize = 40;
const PACKETS: usize = 100;

/// The frame that leaves.
fn leaves(rig: &Rig, frame: &[u8]) -> Vec<u8> {
    rig.run(&mirror(frame));
    rig.drain().pop().expect("a frame leaves")
}

/// A packet of a random flow to this server.
fn packet(random: &mut Random, server: &str, is_ipv4: bool) -> Frame {
    let frame = match is_ipv4 {
        true => random.pick(&[udp4, tcp4, || echo4(9)])(),
        false => random.pick(&[udp6, tcp6, || echo6(9)])(),
    };
    let client = match is_ipv4 {
        true => format!("10.{}.{}.1", random.below(256), random.below(256)),
        false => format!("[fd00:{:x}::{:x}]", random.word(), random.word()),
    };
    let length = 2 + random.below(90);
    let payload: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
    frame
        .from(&format!("{client}:{}", 1 + random.below(65535)))
        .to(server)
        .traffic_class(random.next() as u8)
        .id(random.word())
        .payload(&payload)
}

/// Changes two bytes of the payload so that the checksum becomes `wanted` modulo 0xffff.
fn aim(frame: Frame, payload: &[u8], wanted: u16) -> (Frame, Vec<u8>) {
    let mut payload = payload.to_vec();
    payload[..2].fill(0);
    let bytes = frame.clone().payload(&payload).layer4();
    let at = frame.checksum_offset();
    let sum = u32::from(!u16::from_be_bytes([bytes[at], bytes[at + 1]]));
    // sum + word must be !wanted in ones' complement.
    let word = (u32::from(!wanted) + 0xffff - sum) % 0xffff;
    payload[..2].copy_from_slice(&(word as u16).to_be_bytes());
    (frame.payload(&payload), payload)
}

#[test]
fn d1_updated_checksums_are_those_computed_from_scratch() {
    let mut random = Random(seed());
    println!("TEST_SEED={}", random.0);
    with_rig(
        |_| {},
        |rig| {
            for set in 0..SETS_OF_RULES {
                let is_ipv4 = set % 2 == 0;
                let (server, target) = match is_ipv4 {
                    true => {
                        let target = format!("192.0.2.{}", 1 + random.below(254));
                        (format!("198.51.100.{}:31765", random.below(256)), target)
                    }
                    false => {
                        let target = format!("2001:db8:9::{:x}", 1 + random.below(0xfffe));
                        (format!("[2001:db8::{:x}]:31765", random.word()), target)
                    }
                };
                let port = 1 + random.below(65535);
                let with_port = match is_ipv4 {
                    true => format!("{target}:{port}"),
                    false => format!("[{target}]:{port}"),
                };
                rig.rules(&[rule(Any, 31765, &with_port), echo_rule(&[&target])]);
                for n in 0..PACKETS {
                    let mut frame = packet(&mut random, &server, is_ipv4);
                    // Now and then the result, or what comes in, is one of the two zeros.
                    let payload = frame.clone().payload_bytes();
                    if n % 4 == 1 {
                        let translated = frame.clone().translated(&with_port);
                        frame = frame.payload(&aim(translated, &payload, 0).1);
                    } else if n % 4 == 3 {
                        frame = aim(frame, &payload, 0).0;
                    }
                    let expected = frame.clone().translated(&with_port).bytes();
                    let at = frame.layer4_offset() + frame.checksum_offset();
                    let is_zero = |bytes: &[u8]| matches!(bytes[at..at + 2], [0, 0] | [255, 255]);
                    assert!(n % 4 != 1 || is_zero(&expected), "{frame:?}");
                    assert!(n % 4 != 3 || is_zero(&frame.bytes()), "{frame:?}");
                    let found = leaves(rig, &frame.bytes());
                    let wrong = difference("frame", &found, &expected);
                    assert!(wrong.is_none(), "{}\n{frame:?}\n{with_port}", wrong.unwrap());
                }
            }
        },
    );
}

/// A checksum of TCP, ICMP or an IP header that is 0xffff becomes 0x0000, which verifies alike:
/// nobody computes a 0xffff.
#[test]
fn translating_there_and_back_is_the_identity() {
    let mut random = Random(seed());
    println!("TEST_SEED={}", random.0);
    let pairs = [
        ("198.51.100.7:31765", "192.0.2.9:8081"),
        ("[2001:db8::7]:31765", "[2001:db8:9::99]:8081"),
    ];
    with_rig(
        |_| {},
        |rig| {
            let mut rules = Vec::new();
            for (server, target) in pairs {
                let net = |socket: &str| {
                    let address = socket.parse::<std::net::SocketAddr>().unwrap().ip();
                    format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
                };
                rules.push(rule_for(Any, 31765, Some(&net(server)), None, target));
                rules.push(rule_for(Any, 8081, Some(&net(target)), None, server));
            }
            rig.rules(&rules);
            for n in 0..4000 {
                let (server, _) = pairs[n % 2];
                let mut frame = packet(&mut random, server, n % 2 == 0);
                if frame.is_echo() {
                    continue;
                }
                if random.percent(30) {
                    // Wrong ones come back as wrong as they were.
                    frame = frame.checksum(random.pick(&[0, 1, 0x1bad, 0xfffe]));
                }
                if random.percent(10) {
                    frame = frame.ip_checksum(random.pick(&[0, 1, 0x1bad, 0xfffe]));
                }
                let there = leaves(rig, &frame.bytes());
                let back = leaves(rig, &there);
                assert_ne!(there[14..], frame.bytes()[14..]);
                let wrong = difference("packet", &back[14..], &frame.bytes()[14..]);
                assert!(wrong.is_none(), "{}\n{frame:?}", wrong.unwrap());
            }
        },
    );
}

impl Frame {
    fn is_echo(&self) -> bool {
        matches!(self.layer3()[if self.is_ipv4() { 9 } else { 6 }], ICMP | ICMPV6)
    }

    fn payload_bytes(self) -> Vec<u8> {
        let header = if self.is_tcp() { 20 } else { 8 };
        self.layer4()[header..].to_vec()
    }
}
