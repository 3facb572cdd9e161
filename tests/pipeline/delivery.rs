//! Generated traffic of every kind through the two processes.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use anyhow::{Result, ensure};
use lab::packet::{Extension, Inner, Mirror, Tag, arp_request, is_noise};
use lab::{Capture, CaptureOptions, INGRESS, Lab, MIRROR, Pipeline, TAP, send_frames};

use crate::captures::{TRANSPARENT, compare};

const A: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const B: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
const A6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
const B6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 2);

/// One inner frame of each kind that a mirror may carry.
fn every_kind() -> Vec<Vec<u8>> {
    let hop = Extension::hop_by_hop;
    let mut frames = vec![
        Inner::new(A, B).udp(40000, 514).payload(b"<34>syslog").build(),
        Inner::new(A, B).udp_without_checksum(40000, 514).payload_length(100).build(),
        Inner::new(A, B).tcp(40001, 443, 7).payload_length(1000).build(),
        Inner::new(A, B).echo(1, 2).payload_length(56).build(),
        Inner::new(A, B).options(&[148, 4, 0, 0]).udp(1, 2).build(),
        Inner::new(A, B).tag(Tag::customer(5)).udp(1, 2).payload_length(64).build(),
        Inner::new(A, B).tag(Tag::service(9)).tag(Tag::customer(5)).tcp(1, 2, 3).build(),
        Inner::new(A6, B6).udp(40000, 514).payload_length(33).build(),
        Inner::new(A6, B6).tcp(40001, 443, 9).payload_length(1200).build(),
        Inner::new(A6, B6).echo(3, 4).payload_length(56).build(),
        Inner::new(A6, B6).extension(hop()).extension(Extension::routing()).udp(1, 2).build(),
        Inner::new(A6, B6).extension(Extension::destination(3)).tcp(1, 2, 3).build(),
        arp_request([2, 0, 0, 0, 0, 1], [198, 51, 100, 1], [198, 51, 100, 2]),
        Inner::new(A, B).udp(40000, 514).payload_length(9000).build(),
        Inner::new(A6, B6).tcp(40000, 514, 1).payload_length(9000).build(),
    ];
    frames.extend(Inner::new(A, B).dont_fragment(false).payload_length(3000).fragments(1000));
    frames.extend(Inner::new(A6, B6).payload_length(3000).fragments(1200));
    frames
}

/// The same frames behind every kind of outer header.
fn every_outer() -> Vec<Mirror> {
    let tag = Tag::customer(7);
    vec![
        Mirror::default(),
        Mirror { udp_checksum: true, ..Mirror::default() },
        Mirror { tags: vec![tag], ..Mirror::default() },
        Mirror { tags: vec![Tag::service(3), tag], ..Mirror::default() },
        Mirror { options: vec![1; 8], ..Mirror::default() },
        Mirror { vni: 0xff_ffff, reserved: [1, 2, 3], reserved_last: 4, ..Mirror::default() },
        Mirror { trailer: vec![0xaa; 17], tos: 3, ..Mirror::default() },
        Mirror::over_ipv6(),
        Mirror { udp_checksum: true, vni: 0, ..Mirror::over_ipv6() },
    ]
}

#[test]
fn every_kind_of_frame_leaves_byte_for_byte() -> Result<()> {
    let lab = Lab::new()?;
    let pipeline = Pipeline::start(&lab, &TRANSPARENT, &[])?;
    let mut expected = Vec::new();
    let mut packets = Vec::new();
    for outer in every_outer() {
        for inner in every_kind() {
            packets.push(outer.wrap(&inner));
            expected.push(inner);
        }
    }
    let tap = Capture::start(&lab, TAP.namespace, TAP.name)?;
    let outgoing = CaptureOptions { skip_noise: true, ..CaptureOptions::default() };
    let back = Capture::start_with(&lab, MIRROR.namespace, MIRROR.name, outgoing)?;
    send_frames(&lab, MIRROR.namespace, MIRROR.name, &packets)?;
    let stats = pipeline.settle(packets.len() as u64)?;
    tap.wait_for(expected.len(), Duration::from_secs(5))?;
    compare(&expected, &tap.stop()?)?;
    ensure!(back.stop()?.is_empty(), "something left through the ingress interface");
    ensure!(stats["sent"] == expected.len() && stats["unaccounted"] == 0, "{stats:#}");
    let (loader, injector) = pipeline.stop()?;
    ensure!(injector.contains("FINAL STATISTICS"), "{injector}");
    ensure!(injector.contains("success rate  100.000 %"), "{injector}");
    ensure!(!loader.contains("never sent"), "{loader}");
    Ok(())
}

#[test]
fn several_workers_keep_the_order_of_every_flow() -> Result<()> {
    let lab = Lab::new()?;
    let pipeline =
        Pipeline::start(&lab, &TRANSPARENT, &["--worker-threads", "3", "--batch-size", "16"])?;
    let tap = Capture::start(&lab, TAP.namespace, TAP.name)?;
    let mut expected: BTreeMap<u16, Vec<Vec<u8>>> = BTreeMap::new();
    let mut packets = Vec::new();
    for number in 0..20_000u32 {
        let port = 1000 + (number % 37) as u16;
        let length = 16 + (number as usize * 7) % 1400;
        let frame = Inner::new(A, B)
            .identification(number & 0xffff)
            .udp(port, 9000)
            .payload([&number.to_be_bytes()[..], &vec![0; length]].concat())
            .dont_fragment(false)
            .build();
        packets.push(Mirror::default().wrap(&frame));
        expected.entry(port).or_default().push(frame);
    }
    send_frames(&lab, MIRROR.namespace, MIRROR.name, &packets)?;
    let stats = pipeline.settle(packets.len() as u64)?;
    let arrived = tap.wait_for(packets.len(), Duration::from_secs(10))?;
    ensure!(stats["unaccounted"] == 0 && stats["sent"] == packets.len(), "{stats:#}");
    let workers = stats["workers"].as_array().map_or(0, Vec::len);
    ensure!(workers == 3, "{workers} workers have sent something: {stats:#}");
    for (port, frames) in &expected {
        let of_flow = |frame: &&lab::Frame| frame[34..36] == port.to_be_bytes();
        let got: Vec<_> = arrived.iter().filter(of_flow).cloned().collect();
        compare(frames, &got)?;
    }
    pipeline.stop()?;
    Ok(())
}

#[test]
fn other_traffic_reaches_the_host_and_only_the_host() -> Result<()> {
    let lab = Lab::new()?;
    let pipeline = Pipeline::start(&lab, &TRANSPARENT, &[])?;
    let tap = Capture::start(&lab, TAP.namespace, TAP.name)?;
    for (host, client) in [
        (IpAddr::from(INGRESS.ipv4), IpAddr::from(MIRROR.ipv4)),
        (INGRESS.ipv6.into(), MIRROR.ipv6.into()),
    ] {
        let host = lab.enter(INGRESS.namespace, || UdpSocket::bind((host, 7777)))??;
        let client = lab.enter(MIRROR.namespace, || UdpSocket::bind((client, 7777)))??;
        host.set_read_timeout(Some(Duration::from_secs(5)))?;
        client.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut buffer = [0; 16];
        for _ in 0..3 {
            client.send_to(b"question", host.local_addr()?)?;
            let (_, sender) = host.recv_from(&mut buffer)?;
            host.send_to(b"answer", sender)?;
            client.recv_from(&mut buffer)?;
        }
    }
    let stats = pipeline.stats()?;
    ensure!(stats["passed"] == stats["total"] && stats["unaccounted"] == 0, "{stats:#}");
    ensure!(stats["passed"].as_u64() >= Some(6), "{stats:#}");
    let arrived = tap.stop()?;
    ensure!(arrived.iter().all(|frame| is_noise(frame)), "{} frames at the target", arrived.len());
    pipeline.stop()?;
    Ok(())
}
