//! REWRITE_L2=all: every frame is addressed to a device behind the egress interface.

use std::time::Duration;

use anyhow::{Result, ensure};
use lab::packet::{Inner, Mirror, Tag, arp_request};
use lab::{Capture, EGRESS, Lab, MIRROR, Pipeline, TAP, send_frames};

use crate::captures::{TRANSPARENT, compare};
use crate::ledger::closes;

/// Frames that no rule translates.
fn frames() -> Vec<Vec<u8>> {
    let (a, b) = ([198, 51, 100, 1], [203, 0, 113, 9]);
    vec![
        Inner::new(a, b).udp(1, 2).payload_length(30).build(),
        Inner::new(a, b).tag(Tag::service(3)).tag(Tag::customer(5)).tcp(1, 2, 3).build(),
        Inner::new(MIRROR.ipv6, TAP.ipv6).echo(1, 2).payload_length(30).build(),
        arp_request([2, 0, 0, 0, 0, 1], a, b),
    ]
}

#[test]
fn untranslated_frames_get_the_next_hops_address() -> Result<()> {
    let lab = Lab::new()?;
    let next_hop = format!("{},{}", TAP.ipv4, TAP.ipv6);
    let more = ["--rewrite-l2", "all", "--next-hop", &next_hop];
    let pipeline = Pipeline::start(&lab, &[&TRANSPARENT[..], &more].concat(), &[])?;
    let tap = Capture::start(&lab, TAP.namespace, TAP.name)?;
    let frames = frames();
    let packets: Vec<_> = frames.iter().map(|frame| Mirror::default().wrap(frame)).collect();
    send_frames(&lab, MIRROR.namespace, MIRROR.name, &packets)?;
    closes(&pipeline.settle(packets.len() as u64)?)?;
    let rewritten = |frame: &Vec<u8>| [&TAP.mac[..], &EGRESS.mac, &frame[12..]].concat();
    let expected: Vec<_> = frames.iter().map(rewritten).collect();
    tap.wait_for(expected.len(), Duration::from_secs(5))?;
    compare(&expected, &tap.stop()?)?;
    pipeline.stop()?;
    Ok(())
}

#[test]
fn untranslated_frames_keep_their_addresses_by_default() -> Result<()> {
    let lab = Lab::new()?;
    let pipeline = Pipeline::start(&lab, &TRANSPARENT, &[])?;
    let tap = Capture::start(&lab, TAP.namespace, TAP.name)?;
    let frames = frames();
    let packets: Vec<_> = frames.iter().map(|frame| Mirror::default().wrap(frame)).collect();
    send_frames(&lab, MIRROR.namespace, MIRROR.name, &packets)?;
    let stats = pipeline.settle(packets.len() as u64)?;
    tap.wait_for(frames.len(), Duration::from_secs(5))?;
    compare(&frames, &tap.stop()?)?;
    ensure!(stats["sent"] == frames.len(), "{stats:#}");
    pipeline.stop()?;
    Ok(())
}
