//! Inner IP fragments through the two processes. What must arrive is built from scratch, with the
//! target's address, and cut the same way.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lab::packet::{Inner, Mirror};
use lab::{Capture, CaptureOptions, EGRESS, Lab, MIRROR, Pipeline, Random, TAP, send_frames};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::captures::compare;
use crate::ledger::closes;
use crate::oracle::Scratch;

const PATIENCE: Duration = Duration::from_secs(10);

const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 7);
const SERVER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 9);

/// A datagram as it was mirrored, and as it must be delivered.
struct Datagram {
    mirrored: Inner,
    delivered: Inner,
}

impl Datagram {
    fn ipv4(id: u32) -> Self {
        Self::new((CLIENT.into(), SERVER.into(), TAP.ipv4.into()), id)
    }

    fn ipv6(id: u32) -> Self {
        Self::new((CLIENT6.into(), SERVER6.into(), TAP.ipv6.into()), id)
    }

    fn new((client, server, target): (IpAddr, IpAddr, IpAddr), id: u32) -> Self {
        let inner = |destination: IpAddr, port| {
            let inner = Inner::new(client, destination).udp(40000, port).identification(id);
            inner.dont_fragment(false).payload_length(2000)
        };
        Self {
            mirrored: inner(server, 2055),
            delivered: inner(target, 9995).macs(TAP.mac, EGRESS.mac),
        }
    }

    /// Its fragments of 400 bytes, six of them: mirrored, and delivered.
    fn fragments(&self) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        (self.mirrored.fragments(400), self.delivered.fragments(400))
    }
}

fn start<'lab>(lab: &'lab Lab, options: &[&str], injector: &[&str]) -> Result<Pipeline<'lab>> {
    let targets = [IpAddr::from(TAP.ipv4), TAP.ipv6.into()];
    let rules = targets.map(|address| {
        let target = json!({ "address": address, "port": 9995 });
        json!({ "protocol": "any", "port": 2055, "targets": [target] })
    });
    let scratch = Scratch::new("fragments")?;
    let file = scratch.path().join("rules.json");
    std::fs::write(&file, json!({ "version": "1.0", "rules": rules }).to_string())?;
    let file = file.display().to_string();
    let options = [&["--df-clear-threshold", "65535", "--nat-rules-file", &file], options].concat();
    Pipeline::start(lab, &options, injector)
}

/// A capture where delivered frames arrive.
fn listen(lab: &Lab) -> Result<Capture> {
    let options = CaptureOptions { skip_noise: true, ..CaptureOptions::default() };
    Capture::start_with(lab, TAP.namespace, TAP.name, options)
}

fn send(lab: &Lab, frames: &[Vec<u8>]) -> Result<u64> {
    let packets: Vec<_> = frames.iter().map(|frame| Mirror::default().wrap(frame)).collect();
    Ok(send_frames(lab, MIRROR.namespace, MIRROR.name, &packets)?.sent)
}

/// Waits until a term of the ledger has a value, and returns the ledger, whose sums must close.
fn wait_for(pipeline: &Pipeline<'_>, pointer: &str, value: u64) -> Result<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let stats = pipeline.stats()?;
        if stats.pointer(pointer) == Some(&json!(value)) {
            closes(&stats)?;
            return Ok(stats);
        }
        ensure!(Instant::now() < deadline, "{pointer} is not {value}: {stats:#}");
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn later_fragments_wait_for_their_first_and_follow_it() -> Result<()> {
    let lab = Lab::new()?;
    for workers in ["1", "2"] {
        let pipeline = start(&lab, &[], &["--worker-threads", workers])?;
        for datagram in [Datagram::ipv4(1), Datagram::ipv6(2)] {
            let tap = listen(&lab)?;
            let (mut mirrored, mut delivered) = datagram.fragments();
            mirrored.reverse();
            delivered[1..].reverse();
            send(&lab, &mirrored[..5])?;
            wait_for(&pipeline, "/held", 5)?;
            ensure!(tap.frames().is_empty(), "{} came before their first", tap.frames().len());
            send(&lab, &mirrored[5..])?;
            wait_for(&pipeline, "/held", 0)?;
            tap.wait_for(6, PATIENCE)?;
            compare(&delivered, &tap.stop()?)?;
        }
        let stats = wait_for(&pipeline, "/sent", 12)?;
        ensure!(stats["stages"]["nat_applied"].as_u64() >= Some(2), "{stats:#}");
        pipeline.stop()?;
    }
    Ok(())
}

#[test]
fn fragments_that_no_rule_matches_arrive_unchanged_whatever_their_order() -> Result<()> {
    let lab = Lab::new()?;
    let pipeline = start(&lab, &[], &[])?;
    for datagram in [Datagram::ipv4(1), Datagram::ipv6(2)] {
        let tap = listen(&lab)?;
        let mut mirrored = datagram.mirrored.udp(40000, 2056).fragments(400);
        mirrored.rotate_left(1); // the first comes last
        send(&lab, &mirrored)?;
        let mut arrived = tap.wait_for(6, PATIENCE)?;
        arrived.sort_by(|a, b| a.bytes.cmp(&b.bytes));
        mirrored.sort();
        compare(&mirrored, &arrived)?;
        tap.stop()?;
    }
    wait_for(&pipeline, "/sent", 12)?;
    pipeline.stop()?;
    Ok(())
}

#[test]
fn fragments_without_their_first_are_given_up_in_time_and_by_name() -> Result<()> {
    let lab = Lab::new()?;
    let pipeline = start(&lab, &["--fragment-timeout", "0.5"], &[])?;
    let tap = listen(&lab)?;
    let (mirrored, delivered) = Datagram::ipv4(3).fragments();
    send(&lab, &mirrored[1..])?;
    let began = Instant::now();
    let stats = wait_for(&pipeline, "/send_failed_by_reason/fragment_timeout", 5)?;
    ensure!(began.elapsed() >= Duration::from_millis(400), "after {:?}", began.elapsed());
    ensure!(stats["held"] == 0 && tap.frames().is_empty(), "{stats:#}");
    // A whole datagram of the same name is another one.
    send(&lab, &mirrored)?;
    tap.wait_for(6, PATIENCE)?;
    compare(&delivered, &tap.stop()?)?;
    pipeline.stop()?;
    Ok(())
}

#[test]
fn no_more_fragments_are_held_than_there_are_buffers() -> Result<()> {
    let lab = Lab::new()?;
    let pipeline = start(&lab, &[], &["--fragment-buffers", "2"])?;
    let tap = listen(&lab)?;
    let (mirrored, delivered) = Datagram::ipv4(4).fragments();
    send(&lab, &mirrored[1..])?;
    let stats = wait_for(&pipeline, "/send_failed_by_reason/fragment_no_room", 3)?;
    ensure!(stats["held"] == 2, "{stats:#}");
    send(&lab, &mirrored[..1])?;
    tap.wait_for(3, PATIENCE)?;
    compare(&delivered[..3], &tap.stop()?)?;
    pipeline.stop()?;
    Ok(())
}

#[test]
fn datagrams_are_delivered_whole_under_reassemble() -> Result<()> {
    let lab = Lab::new()?;
    let pipeline = start(&lab, &["--reassemble", "1"], &[])?;
    let tap = listen(&lab)?;
    let mut random = Random::from_environment()?;
    let (mut expected, mut packets) = (Vec::new(), 0);
    for id in 0..20 {
        for datagram in [Datagram::ipv4(100 + id), Datagram::ipv6(100 + id)] {
            let is_translated = id % 4 != 0;
            let mirrored =
                if is_translated { datagram.mirrored } else { datagram.mirrored.udp(1, 2) };
            let whole = if is_translated { datagram.delivered } else { mirrored.clone() };
            expected.push(whole.build());
            let mut fragments = mirrored.fragments(8 * (8 + random.below(100)));
            random.shuffle(&mut fragments);
            packets += send(&lab, &fragments)?;
        }
    }
    tap.wait_for(expected.len(), PATIENCE)?;
    let stats = wait_for(&pipeline, "/sent", packets)?;
    compare(&expected, &tap.stop()?)?;
    ensure!(stats["frames_sent"] == expected.len(), "{stats:#}");
    pipeline.stop()?;
    Ok(())
}

#[test]
fn a_second_copy_of_a_fragment_is_no_overlap() -> Result<()> {
    let lab = Lab::new()?;
    let pipeline = start(&lab, &["--reassemble", "1"], &[])?;
    let tap = listen(&lab)?;
    let datagram = Datagram::ipv4(5);
    let (mut mirrored, _) = datagram.fragments();
    mirrored.insert(2, mirrored[1].clone());
    send(&lab, &mirrored)?;
    tap.wait_for(1, PATIENCE)?;
    wait_for(&pipeline, "/send_failed_by_reason/fragment_duplicate", 1)?;
    compare(&[datagram.delivered.build()], &tap.stop()?)?;
    pipeline.stop()?;
    Ok(())
}

#[test]
fn overlapping_fragments_end_their_datagram() -> Result<()> {
    let lab = Lab::new()?;
    for options in [&[][..], &["--reassemble", "1"]] {
        let pipeline = start(&lab, options, &[])?;
        let tap = listen(&lab)?;
        let mut count = 0;
        for datagram in [Datagram::ipv4(6), Datagram::ipv6(7)] {
            // Bytes 400 to 1200, then 800 to 1600, then what had been between and the beginning.
            let (by_400, by_800) =
                (datagram.mirrored.fragments(400), datagram.mirrored.fragments(800));
            let frames =
                [&by_400[1], &by_400[2], &by_800[1], &by_400[3], &by_400[0]].map(Clone::clone);
            count += send(&lab, &frames)?;
        }
        let stats = wait_for(&pipeline, "/send_failed_by_reason/fragment_overlap", count)?;
        ensure!(stats["held"] == 0 && stats["sent"] == 0, "{stats:#}");
        ensure!(tap.stop()?.is_empty(), "a fragment arrived");
        pipeline.stop()?;
    }
    Ok(())
}

#[test]
fn tiny_first_fragments_are_refused() -> Result<()> {
    let lab = Lab::new()?;
    let pipeline = start(&lab, &[], &[])?;
    let tap = listen(&lab)?;
    for (client, server) in
        [(IpAddr::from(CLIENT), IpAddr::from(SERVER)), (CLIENT6.into(), SERVER6.into())]
    {
        // Eight bytes of TCP: ports and the sequence number, no flags (RFC 1858 section 2).
        let tiny = Inner::new(client, server).tcp(40000, 2055, 1).payload_length(100).fragments(8);
        send(&lab, &tiny[..1])?;
    }
    // TCP flags in a fragment of their own (RFC 3128).
    let flags = Inner::new(CLIENT, SERVER).tcp(40000, 2055, 1).payload_length(100).fragments(8);
    send(&lab, &flags[1..2])?;
    wait_for(&pipeline, "/dropped_by_reason/fragment_tiny", 3)?;
    ensure!(tap.stop()?.is_empty(), "a fragment arrived");
    pipeline.stop()?;
    Ok(())
}

#[test]
fn what_a_killed_injector_held_is_lost_by_name() -> Result<()> {
    let lab = Lab::new()?;
    let mut pipeline = start(&lab, &[], &[])?;
    let tap = listen(&lab)?;
    let (mirrored, delivered) = Datagram::ipv4(8).fragments();
    send(&lab, &mirrored[1..4])?;
    wait_for(&pipeline, "/held", 3)?;
    pipeline.injector.signal(Signal::SIGKILL)?;
    pipeline.injector.wait(PATIENCE)?;
    closes(&pipeline.stats()?)?;
    pipeline.restart_injector(&[])?;
    let stats = wait_for(&pipeline, "/lost", 3)?;
    ensure!(stats["held"] == 0, "{stats:#}");
    send(&lab, &mirrored[..1])?;
    send(&lab, &mirrored[4..])?;
    tap.wait_for(3, PATIENCE)?;
    compare(&[&delivered[..1], &delivered[4..]].concat(), &tap.stop()?)?;
    closes(&pipeline.settle(6)?)?;
    pipeline.stop()?;
    Ok(())
}
