//! Real captures through the two processes: whole frames, all of them, in order.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::packet::diff;
use lab::{Capture, INGRESS, Lab, MIRROR, Pipeline, TAP, read_pcap, send_frames};

use crate::corpus::{Corpus, read_hex_lines, to_hex};
use crate::oracle::{Scratch, wrap};

/// Allowlist and NAT off, everything forwarded, nothing rewritten.
pub const TRANSPARENT: [&str; 4] = ["--non-ip", "forward", "--df-clear-threshold", "65535"];

/// Captures that go through before what arrived is thrown away.
const AT_ONCE: usize = 50;

const PATIENCE: Duration = Duration::from_secs(5);

/// The longest frame that the lab's cables carry: MTU 9,500 and an Ethernet header.
pub const LONGEST: usize = 9514;

/// Compares what arrived with what should have, in order, and names the first difference.
pub fn compare(expected: &[Vec<u8>], arrived: &[lab::Frame]) -> Result<()> {
    for (index, (want, got)) in expected.iter().zip(arrived).enumerate() {
        if let Some(difference) = diff(want, got) {
            let place = format!("frame {index} of {}", expected.len());
            anyhow::bail!("{place} differs\n{difference}\nexpected {}", to_hex(want));
        }
    }
    ensure!(
        expected.len() == arrived.len(),
        "{} frames expected, {} arrived; first unexpected or missing: {}",
        expected.len(),
        arrived.len(),
        arrived
            .get(expected.len())
            .map(|frame| to_hex(frame))
            .or_else(|| expected.get(arrived.len()).map(|frame| to_hex(frame)))
            .unwrap_or_default()
    );
    Ok(())
}

#[test]
fn mirrored_captures_leave_as_tshark_and_scapy_say() -> Result<()> {
    let Some(corpus) = Corpus::find("mirrored_captures") else { return Ok(()) };
    let lab = Lab::new()?;
    let pipeline = Pipeline::start(&lab, &TRANSPARENT, &[])?;
    let mut packets = 0;
    for capture in corpus.captures("vxlan")? {
        let mut frames = read_pcap(&capture)?;
        // What exceeds 64 KiB can't be on a wire; the oracle refuses these frames, too.
        frames.retain(|frame| frame.len() <= LONGEST);
        let expected = read_hex_lines(&capture.with_extension("inner.hex"))?;
        let tap = Capture::start(&lab, TAP.namespace, TAP.name)?;
        let sent = send_frames(&lab, MIRROR.namespace, MIRROR.name, &frames)?;
        packets += sent.sent;
        pipeline.settle(packets)?;
        let arrived = tap.wait_for(expected.len(), PATIENCE)?;
        compare(&expected, &arrived).with_context(|| capture.display().to_string())?;
        compare(&expected, &tap.stop()?).with_context(|| capture.display().to_string())?;
    }
    let stats = pipeline.settle(packets)?;
    ensure!(stats["unaccounted"] == 0, "{stats:#}");
    pipeline.stop()?;
    Ok(())
}

#[test]
fn wrapped_captures_leave_byte_for_byte() -> Result<()> {
    let Some(corpus) = Corpus::find("wrapped_captures") else { return Ok(()) };
    let scratch = Scratch::new("wrapped")?;
    let captures = corpus.captures("inner")?;
    let wrapped = wrap(&corpus, &captures, &scratch)?;
    let lab = Lab::new()?;
    let pipeline = Pipeline::start(&lab, &TRANSPARENT, &[])?;
    let (mut packets, mut delivered, mut refused, mut too_long) = (0, 0, 0, 0);
    let mut tap = Capture::start(&lab, TAP.namespace, TAP.name)?;
    let mut checked = 0;
    for (number, (capture, wrapped)) in captures.iter().zip(&wrapped).enumerate() {
        if number % AT_ONCE == 0 {
            ensure!(tap.stop()?.len() == delivered - checked, "more came");
            tap = Capture::start(&lab, TAP.namespace, TAP.name)?;
            checked = delivered;
        }
        let mut frames = read_pcap(wrapped)?;
        too_long += frames.iter().filter(|frame| frame.len() > LONGEST).count();
        frames.retain(|frame| frame.len() <= LONGEST);
        let inner: Vec<Vec<u8>> = frames.iter().map(|frame| frame[50..].to_vec()).collect();
        let expected: Vec<_> = inner.into_iter().filter(|frame| !is_refused(frame)).collect();
        refused += frames.len() - expected.len();
        packets += send_frames(&lab, MIRROR.namespace, MIRROR.name, &frames)?.sent;
        let context = || capture.display().to_string();
        let before = delivered - checked;
        delivered += expected.len();
        let arrived = tap.wait_for(delivered - checked, PATIENCE).with_context(context)?;
        compare(&expected, &arrived[before..]).with_context(context)?;
    }
    ensure!(tap.stop()?.len() == delivered - checked, "more came");
    let stats = pipeline.settle(packets)?;
    ensure!(stats["unaccounted"] == 0 && stats["sent"] == delivered, "{stats:#}");
    eprintln!(
        "{} captures, {packets} packets, {delivered} delivered, {refused} refused by rule, \
         {too_long} too long for a cable",
        captures.len()
    );
    pipeline.stop()?;
    Ok(())
}

/// Frames that the specification refuses whatever the policy: shorter than an Ethernet header, or
/// with an IP length of 0.
pub fn is_refused(frame: &[u8]) -> bool {
    let mut at = 12;
    let word = |at: usize| frame.get(at..at + 2).map(|b| u16::from_be_bytes([b[0], b[1]]));
    for _ in 0..2 {
        if matches!(word(at), Some(0x8100 | 0x88a8)) {
            at += 4;
        }
    }
    let ip = at + 2;
    frame.len() < 14
        || (word(at) == Some(0x0800)
            && frame.len() >= ip + 20
            && (0x45..=0x4f).contains(&frame[ip])
            && word(ip + 2) == Some(0))
        || (word(at) == Some(0x86dd)
            && frame.len() >= ip + 40
            && frame[ip] >> 4 == 6
            && word(ip + 4) == Some(0)
            && frame[ip + 6] != 59)
}

#[test]
fn unwrapped_captures_pass_to_the_host_untouched() -> Result<()> {
    let Some(corpus) = Corpus::find("unwrapped_captures") else { return Ok(()) };
    let lab = Lab::new()?;
    let pipeline = Pipeline::start(&lab, &TRANSPARENT, &[])?;
    let tap = Capture::start(&lab, TAP.namespace, TAP.name)?;
    let mut host = Capture::start(&lab, INGRESS.namespace, INGRESS.name)?;
    let (mut packets, mut checked, mut unreadable) = (0, 0, 0);
    for (number, capture) in corpus.captures("inner")?.into_iter().enumerate() {
        if number % AT_ONCE == 0 {
            ensure!(host.stop()?.len() as u64 == packets - checked, "more came");
            host = Capture::start(&lab, INGRESS.namespace, INGRESS.name)?;
            checked = packets;
        }
        // A few are not of Ethernet, or are broken files on purpose.
        let Ok(mut frames) = read_pcap(&capture) else {
            unreadable += 1;
            continue;
        };
        frames.retain(|frame| (14..=LONGEST).contains(&frame.len()));
        let expected: Vec<Vec<u8>> = frames.iter().map(|frame| frame.bytes.clone()).collect();
        let before = (packets - checked) as usize;
        packets += send_frames(&lab, MIRROR.namespace, MIRROR.name, &frames)?.sent;
        let context = || capture.display().to_string();
        let arrived = host.wait_for((packets - checked) as usize, PATIENCE);
        compare(&expected, &arrived.with_context(context)?[before..]).with_context(context)?;
    }
    ensure!(host.stop()?.len() as u64 == packets - checked, "more came");
    let stats = pipeline.settle(packets)?;
    ensure!(stats["passed"] == packets && stats["unaccounted"] == 0, "{stats:#}");
    ensure!(unreadable < 10, "{unreadable} captures can't be read");
    let arrived = tap.stop()?;
    ensure!(arrived.is_empty(), "{} frames reached the target", arrived.len());
    pipeline.stop()?;
    Ok(())
}
