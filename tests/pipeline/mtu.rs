//! Frames longer than the egress MTU, against fragments that Linux makes.

use anyhow::{Result, ensure};
use lab::packet::{Inner, Mirror, Tag};
use lab::{Capture, EGRESS, Lab, MIRROR, Pipeline, TAP, send_frames};

use crate::captures::{TRANSPARENT, compare};
use crate::differential::forwarded_by_linux;
use crate::ledger::closes;

const MTU: u32 = 1500;
const A: [u8; 4] = [198, 51, 100, 7];
const B: [u8; 4] = [203, 0, 113, 9];

/// IPv4 packets of which most must be fragmented.
fn packets() -> Vec<Inner> {
    let inner = |length: usize| {
        Inner::new(A, B).dont_fragment(false).udp(40000, 514).payload_length(length)
    };
    // Of two experiments (RFC 4727), to be copied; Linux makes no-operations of those that are not
    // (RFC 791 section 3.1), and we leave them out.
    let copied = [158, 8, 1, 2, 3, 4, 5, 6, 222, 4, 7, 8];
    vec![
        inner(1472), // fits
        inner(1473),
        inner(3000).identification(7).tos(0xb8),
        inner(8900).tcp(40000, 443, 9),
        inner(3000).options(&copied),
        inner(3000).tag(Tag::customer(5)),
        inner(4000).echo(1, 2),
    ]
}

#[test]
fn long_packets_are_fragmented_as_linux_does() -> Result<()> {
    let mut frames: Vec<Vec<u8>> = packets().iter().map(Inner::build).collect();
    // Fragments of fragments, with and without more to follow.
    frames.extend(Inner::new(A, B).udp(1, 2).payload_length(7000).fragments(4000));
    let expected = forwarded_by_linux(&frames, MTU)?.concat();
    ensure!(expected.len() > 2 * frames.len(), "Linux made only {} of it", expected.len());
    let lab = Lab::new()?;
    lab.set_mtu(EGRESS.namespace, EGRESS.name, MTU)?;
    let pipeline = Pipeline::start(&lab, &TRANSPARENT, &[])?;
    let tap = Capture::start(&lab, TAP.namespace, TAP.name)?;
    let packets: Vec<_> = frames.iter().map(|frame| Mirror::default().wrap(frame)).collect();
    send_frames(&lab, MIRROR.namespace, MIRROR.name, &packets)?;
    let stats = pipeline.settle(packets.len() as u64)?;
    closes(&stats)?;
    compare(&expected, &tap.stop()?)?;
    ensure!(stats["sent"] == frames.len(), "{stats:#}");
    ensure!(stats["frames_sent"] == expected.len(), "{stats:#}");
    ensure!(stats["notes"]["oversized_forwarded"] == frames.len() - 1, "{stats:#}");
    pipeline.stop()?;
    Ok(())
}

#[test]
fn a_cleared_df_bit_lets_long_packets_through() -> Result<()> {
    let inner = Inner::new(A, B).udp(40000, 514).payload_length(3000);
    let df = inner.clone().dont_fragment(true).build();
    let without = inner.dont_fragment(false).build();
    let expected = forwarded_by_linux(&[without], MTU)?.concat();
    for (options, fragments) in
        [(&["--df-clear-threshold", "1400"], true), (&["--df-clear-threshold", "65535"], false)]
    {
        let lab = Lab::new()?;
        lab.set_mtu(EGRESS.namespace, EGRESS.name, MTU)?;
        let pipeline = Pipeline::start(&lab, options, &[])?;
        let tap = Capture::start(&lab, TAP.namespace, TAP.name)?;
        send_frames(&lab, MIRROR.namespace, MIRROR.name, &[Mirror::default().wrap(&df)])?;
        let stats = pipeline.settle(1)?;
        closes(&stats)?;
        ensure!((stats["dropped_by_reason"]["too_big"] == 1) != fragments, "{stats:#}");
        ensure!((stats["stages"]["df_cleared"] == 1) == fragments, "{stats:#}");
        compare(if fragments { &expected } else { &[] }, &tap.stop()?)?;
        pipeline.stop()?;
    }
    Ok(())
}

#[test]
fn long_ipv6_packets_are_never_fragmented_on_the_way() -> Result<()> {
    let lab = Lab::new()?;
    lab.set_mtu(EGRESS.namespace, EGRESS.name, MTU)?;
    let pipeline = Pipeline::start(&lab, &[], &[])?;
    let tap = Capture::start(&lab, TAP.namespace, TAP.name)?;
    let inner = Inner::new(MIRROR.ipv6, TAP.ipv6).udp(40000, 514).payload_length(1453).build();
    send_frames(&lab, MIRROR.namespace, MIRROR.name, &[Mirror::default().wrap(&inner)])?;
    let stats = pipeline.settle(1)?;
    closes(&stats)?;
    ensure!(stats["dropped_by_reason"]["too_big"] == 1, "{stats:#}");
    ensure!(tap.stop()?.is_empty(), "a frame arrived");
    pipeline.stop()?;
    Ok(())
}
