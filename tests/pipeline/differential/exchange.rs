//! Sends packets one after the other and tells what came out for each: after every packet goes a
//! marker, which both sides forward unchanged and in order.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::packet::{Inner, Transport, is_noise};
use lab::{Capture, EGRESS, Frame, Lab, MIRROR, Sender, TAP};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Lists under way at a time: no queue on the way takes fewer.
const AT_ONCE: usize = 50;

const PATIENCE: Duration = Duration::from_secs(20);

/// An experimental protocol (RFC 3692) that no capture has between these two addresses.
const MARKER: (u8, [u8; 4], [u8; 4]) = (253, [198, 18, 254, 1], [198, 18, 254, 2]);

/// The inner frame of a marker.
pub fn marker(number: u32) -> Vec<u8> {
    let (protocol, source, destination) = MARKER;
    let inner = Inner::new(source, destination).transport(Transport::Other(protocol));
    inner.payload(number.to_be_bytes()).build()
}

fn marker_number(frame: &Frame) -> Option<u32> {
    let (protocol, source, destination) = MARKER;
    let found = frame.get(12..14)? == [8, 0]
        && frame.get(23) == Some(&protocol)
        && frame.get(26..30)? == source
        && frame.get(30..34)? == destination;
    found.then(|| Some(u32::from_be_bytes(frame.get(34..38)?.try_into().ok()?)))?
}

/// The frames that came out for what was sent at once.
pub type Outcome = Vec<Vec<u8>>;

/// Sends lists of packets that are wrapped already, each list followed by its marker, wrapped by
/// `wrap`. Returns what the tap received for each list.
pub fn exchange(
    lab: &Lab,
    lists: &[Vec<Vec<u8>>],
    wrap: impl Fn(&[u8]) -> Vec<u8>,
) -> Result<Vec<Outcome>> {
    let _pinned = Pinned::to_one_cpu()?;
    let tap = Capture::start(lab, TAP.namespace, TAP.name)?;
    let mut sender = Sender::open_in(lab, MIRROR.namespace, MIRROR.name)?;
    let mut outcomes = Vec::with_capacity(lists.len());
    for (part, chunk) in lists.chunks(AT_ONCE).enumerate() {
        let first = part * AT_ONCE;
        let mut batch = Vec::with_capacity(2 * AT_ONCE);
        for (number, packets) in chunk.iter().enumerate() {
            batch.extend_from_slice(packets);
            batch.push(wrap(&marker((first + number) as u32)));
        }
        sender.send(&batch)?;
        let last = (first + chunk.len() - 1) as u32;
        let frames = tap
            .take_until(|frame| marker_number(frame) == Some(last), PATIENCE)
            .with_context(|| format!("waiting for marker {last}"))?;
        split(frames, &mut outcomes)?;
    }
    tap.stop()?;
    Ok(outcomes)
}

fn split(frames: Vec<Frame>, outcomes: &mut Vec<Outcome>) -> Result<()> {
    let mut between = Vec::new();
    for frame in frames {
        if let Some(number) = marker_number(&frame) {
            ensure!(number as usize == outcomes.len(), "marker {number} after {}", outcomes.len());
            outcomes.push(std::mem::take(&mut between));
        } else if !is_own(&frame) {
            between.push(frame.bytes);
        }
    }
    ensure!(between.is_empty(), "{} frames after the last marker", between.len());
    Ok(())
}

/// Whether the namespace in the middle sent the frame of its own accord: neighbour resolution.
fn is_own(frame: &Frame) -> bool {
    let from_own_address = || {
        let link_local = [&[0xfe, 0x80][..], &[0; 13], &[EGRESS.index as u8]].concat();
        let source = frame.get(22..38);
        source == Some(&EGRESS.ipv6.octets()) || source == Some(&link_local)
    };
    let is_arp = frame.get(12..14) == Some(&[0x08, 0x06]);
    is_noise(frame) && frame[6..12] == EGRESS.mac && (is_arp || from_own_address())
}

/// Keeps this thread on the CPU that it runs on: the kernel queues received packets per CPU, and a
/// sender that moves would overtake itself.
struct Pinned(CpuSet);

impl Pinned {
    fn to_one_cpu() -> Result<Self> {
        let this = Pid::from_raw(0);
        let before = sched_getaffinity(this)?;
        let mut one = CpuSet::new();
        one.set(nix::sched::sched_getcpu()?)?;
        sched_setaffinity(this, &one)?;
        Ok(Self(before))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = sched_setaffinity(Pid::from_raw(0), &self.0);
    }
}
