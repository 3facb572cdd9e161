//! Second copies of packets that were mirrored at both ends of a flow.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use lab::packet::{Inner, Mirror, Tag};
use lab::{Capture, Lab, MIRROR, Pipeline, TAP, send_frames};

use crate::captures::{TRANSPARENT, compare};
use crate::ledger::closes;

fn segment(id: u32) -> Inner {
    let inner = Inner::new([198, 51, 100, 1], [203, 0, 113, 9]).tcp(40000, 443, 7);
    inner.identification(id).payload_length(700)
}

/// Sends packets and returns how many were dropped as copies.
fn duplicates(lab: &Lab, pipeline: &Pipeline<'_>, packets: &[Vec<u8>]) -> Result<u64> {
    let before = pipeline.stats()?;
    send_frames(lab, MIRROR.namespace, MIRROR.name, packets)?;
    let total = before["total"].as_u64().unwrap_or_default() + packets.len() as u64;
    let after = pipeline.settle(total)?;
    closes(&after)?;
    let count = |stats: &serde_json::Value| {
        stats["dropped_by_reason"]["duplicate"].as_u64().unwrap_or_default()
    };
    Ok(count(&after) - count(&before))
}

#[test]
fn the_second_copy_within_the_window_is_dropped() -> Result<()> {
    let lab = Lab::new()?;
    let options = [&TRANSPARENT[..], &["--dedup-window-ms", "10000"]].concat();
    let pipeline = Pipeline::start(&lab, &options, &[])?;
    let tap = Capture::start(&lab, TAP.namespace, TAP.name)?;
    let (here, there) = (Mirror::vni(1), Mirror::vni(2));
    // The other end sees it some hops later, in another network.
    let later =
        segment(1).ttl(61).macs([2, 0, 0, 0, 0, 7], [2, 0, 0, 0, 0, 8]).tag(Tag::customer(5));
    let inner6 = Inner::new(MIRROR.ipv6, TAP.ipv6).udp(1, 2).payload_length(65);
    let copies = [
        here.wrap(&segment(1).build()),
        there.wrap(&later.build()),
        here.wrap(&inner6.build()),
        there.wrap(&inner6.clone().ttl(60).build()),
    ];
    ensure!(duplicates(&lab, &pipeline, &copies)? == 2);
    let others = [
        segment(2),                       // a retransmission
        segment(1).payload_length(701),   // longer
        segment(1).tcp(40000, 443, 8),    // other transport header
        segment(1).tos(4),                // other service
        segment(1).payload(vec![9; 700]), // other payload
    ];
    let packets: Vec<_> = others.iter().map(|inner| there.wrap(&inner.build())).collect();
    ensure!(duplicates(&lab, &pipeline, &packets)? == 0);
    let delivered: Vec<_> = [segment(1), inner6].iter().chain(&others).map(Inner::build).collect();
    tap.wait_for(delivered.len(), Duration::from_secs(5))?;
    compare(&delivered, &tap.stop()?)?;
    pipeline.stop()?;
    Ok(())
}

#[test]
fn a_copy_after_the_window_passes() -> Result<()> {
    let lab = Lab::new()?;
    let pipeline = Pipeline::start(&lab, &["--dedup-window-ms", "200"], &[])?;
    let packet = [Mirror::default().wrap(&segment(1).build())];
    ensure!(duplicates(&lab, &pipeline, &packet)? == 0);
    sleep(Duration::from_millis(300));
    ensure!(duplicates(&lab, &pipeline, &packet)? == 0);
    pipeline.stop()?;
    Ok(())
}

#[test]
fn copies_pass_unless_they_are_looked_for() -> Result<()> {
    let lab = Lab::new()?;
    let pipeline = Pipeline::start(&lab, &[], &[])?;
    let packet = Mirror::default().wrap(&segment(1).build());
    ensure!(duplicates(&lab, &pipeline, &[packet.clone(), packet])? == 0);
    pipeline.stop()?;
    Ok(())
}
