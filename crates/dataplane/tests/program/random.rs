//! Random packets: the verdict is the reference's, and the frame that leaves is the inner frame
//! but for what translation, DF and link layer change; no checksum is better or worse than it was.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use config::{NatProtocol, VniSet};
use dataplane::abi::Verdict::{Passed, PassedVni, Queued};
use dataplane::abi::{Stage, Verdict};
use etherparse::checksum::Sum16BitWords;

use crate::case::{counted, difference, ledger};
use crate::frame::{TCP, UDP, pseudo_header};
use crate::random_packet::{Random, packet};
use crate::reference::{Ip, Judgement, Reference, Side, World};
use crate::rig::{EGRESS, Rig, next_hop, rule, with_rig};

const PACKETS: u32 = 20_000;
const TARGETS: [&str; 2] = ["192.0.2.9", "2001:db8::99"];
const PORT: u16 = 8081;

pub fn seed() -> u64 {
    match std::env::var("TEST_SEED") {
        Ok(seed) => seed.parse().expect("TEST_SEED is a number"),
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64,
    }
}

#[test]
fn random_packets() {
    let plain = World { df_threshold: 120, egress_mtu: 1500, ..World::default() };
    let worlds = [
        plain,
        World { allowlist: true, ..plain },
        World { non_ip_forward: true, unmatched_drop: true, ..plain },
        World { truncated_drop: true, non_ip_forward: true, allowlist: true, ..plain },
    ];
    let seed = seed();
    println!("TEST_SEED={seed}");
    let mut random = Random(seed);
    for world in worlds {
        with_rig(
            |config| {
                config.non_ip_forward = world.non_ip_forward.into();
                config.truncated_drop = world.truncated_drop.into();
                config.unmatched_drop = world.unmatched_drop.into();
                config.allowlist_enabled = world.allowlist.into();
                config.df_clear_threshold = world.df_threshold as u16;
            },
            |rig| {
                rig.accept(&VniSet::list([7, 8]).unwrap());
                rig.allow(&["10.0.0.0/15", "fd01::/16"]);
                rig.rules(&[
                    rule(NatProtocol::Any, 31765, "192.0.2.9:8081"),
                    rule(NatProtocol::Any, 31765, "[2001:db8::99]:8081"),
                ]);
                many(rig, world, &mut random, PACKETS / 4, seed);
            },
        );
    }
}

fn many(rig: &Rig, world: World, random: &mut Random, packets: u32, seed: u64) {
    let mut reference = Reference::new(world);
    let mut before = rig.counters();
    let mut forwarded = 0;
    for n in 0..packets {
        let packet = packet(random);
        let expected = reference.judge(&packet);
        let run = rig.run(&packet);
        let frames = rig.drain();
        let after = rig.counters();
        let mut wrong = ledger(&before, &after);
        let found = counted(&before, &after);
        if found != Some(expected.verdict) {
            wrong.push(format!("verdict {found:?}"));
        }
        let passes = matches!(expected.verdict, Passed | PassedVni);
        if run.action != if passes { libbpf_sys::XDP_PASS } else { libbpf_sys::XDP_DROP } {
            wrong.push(format!("XDP action {}", run.action));
        }
        if run.action == libbpf_sys::XDP_PASS {
            wrong.extend(difference("packet for the host", &run.packet, &packet));
        }
        match &frames[..] {
            [frame] if expected.verdict == Queued => {
                forwarded += 1;
                wrong.extend(compare(&packet[expected.inner.clone()], frame, &expected));
            }
            [] if expected.verdict != Queued => {}
            _ => wrong.push(format!("{} frames in the ring", frames.len())),
        }
        before = after;
        if !wrong.is_empty() {
            let hex: String = packet.iter().map(|b| format!("{b:02x}")).collect();
            let wrong = wrong.join("\n");
            panic!("TEST_SEED={seed}, packet {n}\n{world:?}\n{expected:?}\n{wrong}\n{hex}");
        }
    }
    let verdicts = Verdict::ALL.iter().filter(|v| before.verdict(**v) > 0);
    let verdicts: Vec<_> =
        verdicts.map(|v| format!("{} {}", before.verdict(*v), v.name())).collect();
    let translated = before.stage(Stage::NatApplied);
    println!("{packets} packets, {translated} translated: {}", verdicts.join(", "));
    assert!(forwarded > packets / 5, "only {forwarded} of {packets} are forwarded: a weak test");
}

fn compare(inner: &[u8], frame: &[u8], judgement: &Judgement) -> Vec<String> {
    let mut expected = inner.to_vec();
    let mut wrong = Vec::new();
    let start = judgement.inner.start;
    if frame.len() != inner.len() {
        return vec![format!("{} bytes, should be {}", frame.len(), inner.len())];
    }
    if let Some(ip) = &judgement.ip {
        change(&mut expected, judgement, ip);
        // Checksums are not computed here but compared for what they are good for.
        for at in checksum_places(judgement, ip) {
            let (old, new) = (&inner[at..at + 2], &frame[at..at + 2]);
            expected[at..at + 2].copy_from_slice(new);
            if ip.protocol == UDP && at + start != ip.at + 10 {
                wrong.extend(
                    ((old == [0, 0]) != (new == [0, 0]))
                        .then(|| "a UDP checksum of 0 stays 0, and no other becomes 0".to_owned()),
                );
            }
        }
        if error(inner, start, ip, false) != error(frame, start, ip, false) {
            wrong.push("the error of the IP checksum changed".into());
        }
        let transport =
            ip.transport.map(|at| at - start).filter(|_| judgement.translated.is_some());
        let zero = |at: usize| ip.protocol == UDP && inner[at + 6..at + 8] == [0, 0];
        if let Some(at) = transport
            && !zero(at)
            && error(inner, start, ip, true) != error(frame, start, ip, true)
        {
            wrong.push("the error of the transport checksum changed".into());
        }
    }
    wrong.extend(difference("frame", frame, &expected));
    wrong
}

/// Everything but the checksums.
fn change(frame: &mut [u8], judgement: &Judgement, ip: &Ip) {
    let start = judgement.inner.start;
    let at = ip.at - start;
    if ip.df_cleared {
        frame[at + 6] &= !0x40;
    }
    let Some(side) = judgement.translated else { return };
    let target: IpAddr = TARGETS[usize::from(ip.v4_header == 0)].parse().unwrap();
    frame[..6].copy_from_slice(&next_hop(target));
    frame[6..12].copy_from_slice(&EGRESS);
    let of = |source: usize, destination: usize| match side {
        Side::Source => source,
        Side::Destination => destination,
    };
    match target {
        IpAddr::V4(v4) => frame[at + of(12, 16)..][..4].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => frame[at + of(8, 24)..][..16].copy_from_slice(&v6.octets()),
    }
    if let Some(transport) = ip.transport {
        let port = transport - start + of(0, 2);
        frame[port..port + 2].copy_from_slice(&PORT.to_be_bytes());
    }
}

/// Where checksums may have changed.
fn checksum_places(judgement: &Judgement, ip: &Ip) -> Vec<usize> {
    let mut places = Vec::new();
    if ip.v4_header > 0 && (judgement.translated.is_some() || ip.df_cleared) {
        places.push(ip.at + 10);
    }
    if judgement.translated.is_some() {
        places.extend(ip.transport.map(|at| at + if ip.protocol == TCP { 16 } else { 6 }));
    }
    places.iter().map(|at| at - judgement.inner.start).collect()
}

/// The sum over everything that a checksum covers, as far as it is there: 0 for a right one. Of
/// the two zeros of ones' complement one is taken.
fn error(frame: &[u8], start: usize, ip: &Ip, transport: bool) -> u16 {
    let at = ip.at - start;
    let end = (ip.end - start).min(frame.len());
    let sum = if transport {
        let segment = &frame[ip.transport.unwrap() - start..end];
        let address = |at: usize| -> IpAddr {
            match ip.v4_header {
                0 => <[u8; 16]>::try_from(&frame[at..at + 16]).unwrap().into(),
                _ => <[u8; 4]>::try_from(&frame[at..at + 4]).unwrap().into(),
            }
        };
        let (from, to) = if ip.v4_header > 0 { (at + 12, at + 16) } else { (at + 8, at + 24) };
        pseudo_header(address(from), address(to), ip.protocol, segment).add_slice(segment)
    } else {
        Sum16BitWords::new().add_slice(&frame[at..end.min(at + ip.v4_header)])
    };
    match sum.ones_complement() {
        0xffff => 0,
        other => other,
    }
}
