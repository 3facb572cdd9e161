//! From records in a ring to frames on a wire: reader, intake, lanes, workers, accounts.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use dataplane::abi::{
    FRAME_HAS_INFO, INFO_DESTINATION, INFO_FRAGMENT, INFO_HOLD, INFO_OVERSIZED, INFO_REASSEMBLE,
    INFO_REWRITTEN, READER_ENTRY, SendFailure, frame_info, frame_record,
};
use dataplane::control::Control;
use dataplane::plain;
use dataplane::ring::Ring;
use lab::{Capture, EGRESS, Lab, TAP};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::accounts::{Accounts, TakeOver};
use crate::intake::Intake;
use crate::lanes::{self, Lane};
use crate::outbox::Outbox;
use crate::raw::RawSender;
use crate::reader::Reader;
use crate::release::Releaser;
use crate::split::{Split, split};
use crate::testing::{fragments, frame, info};
use crate::totals::Totals;
use crate::{single, worker};

/// BPF_RINGBUF_DISCARD_BIT: the kernel took the record back.
const DISCARD: u32 = 1 << 30;

const PAGE: u64 = 4096;
const RING_SIZE: u32 = 1 << 20;
const BATCH: usize = 4;
const BUFFERS: usize = 64;
const MTU: u16 = 1500;

const TRANSLATED: u32 = INFO_FRAGMENT | INFO_DESTINATION | INFO_REWRITTEN;
const HOLD: u32 = INFO_FRAGMENT | INFO_HOLD;
const JOIN: u32 = INFO_FRAGMENT | INFO_REASSEMBLE;

/// A ring in a file, with the records that a test wants.
struct TestRing {
    file: File,
    producer: u64,
    /// Records with a frame.
    records: u64,
}

impl TestRing {
    fn new() -> Result<Self> {
        let file = File::from(memfd_create("ring", MFdFlags::MFD_CLOEXEC)?);
        file.set_len(2 * PAGE + 2 * u64::from(RING_SIZE))?;
        Ok(Self { file, producer: 0, records: 0 })
    }

    /// Commits a record as the XDP program does.
    fn push(&mut self, frame: &[u8], flow_hash: u32, info: Option<frame_info>) -> Result<()> {
        let flags = if info.is_some() { FRAME_HAS_INFO as u16 } else { 0 };
        let header = frame_record { flow_hash, frame_len: frame.len() as u16, flags };
        let mut record = [plain::bytes(&header), frame].concat();
        if let Some(info) = info {
            record.resize(record.len().next_multiple_of(8), 0xa5);
            record.extend_from_slice(plain::bytes(&info));
        }
        self.records += 1;
        self.commit(&record, 0)
    }

    fn commit(&mut self, record: &[u8], flags: u32) -> Result<()> {
        let len = record.len() as u32 | flags;
        let at = 2 * PAGE + self.producer;
        self.file.write_all_at(&len.to_ne_bytes(), at)?;
        self.file.write_all_at(record, at + 8)?;
        self.producer += 8 + (record.len() as u64).next_multiple_of(8);
        self.file.write_all_at(&self.producer.to_ne_bytes(), PAGE)?;
        Ok(())
    }
}

/// What the injector did.
struct Outcome {
    /// Frames on the wire, in order.
    frames: Vec<Vec<u8>>,
    totals: Vec<Totals>,
    taken: u64,
    /// Held at the end.
    held: u64,
}

impl Outcome {
    fn sum(&self) -> Totals {
        self.totals.iter().fold(Totals::default(), |sum, t| sum.plus(t))
    }
}

/// Drains the ring with `workers` workers, and captures what leaves.
fn deliver(ring: &TestRing, workers: usize, expected: usize) -> Result<Outcome> {
    deliver_with_mtu(ring, workers, expected, MTU)
}

fn deliver_with_mtu(ring: &TestRing, workers: usize, expected: usize, mtu: u16) -> Result<Outcome> {
    let lab = Lab::new()?;
    lab.set_mtu(EGRESS.namespace, EGRESS.name, mtu.into())?;
    let index = lab.index(EGRESS.namespace, EGRESS.name)?;
    let capture = Capture::start(&lab, TAP.namespace, TAP.name)?;
    let open = || RawSender::open(index, BATCH, Duration::from_millis(100));
    let senders =
        lab.enter(EGRESS.namespace, || (0..workers).map(|_| open()).collect::<Result<Vec<_>>>())??;
    let (accounts, control) = (Accounts::private(), Control::private()?);
    let mapped = Ring::of_file(&ring.file, RING_SIZE)?;
    let held = drain(&mapped, &ring.file, &accounts, &control, senders);
    assert_eq!(mapped.consumer_position(), ring.producer, "everything is released");
    capture.wait_for(expected, Duration::from_secs(2))?;
    let frames = capture.stop()?.into_iter().map(|frame| frame.bytes).collect();
    let next = accounts.take_over(ring.producer)?;
    assert_eq!(next, TakeOver { released: ring.records, resent: 0, lost: 0 });
    Ok(Outcome { frames, totals: accounts.totals(), taken: accounts.taken(), held })
}

fn drain(
    ring: &Ring,
    file: &File,
    accounts: &Accounts,
    control: &Control,
    mut senders: Vec<RawSender>,
) -> u64 {
    let stop = AtomicBool::new(true); // ends with what is in the ring
    let reader = Reader::new(ring, file.as_fd(), &stop);
    let releaser = Releaser::new(ring, accounts, 0);
    let intake = Intake::new(ring, accounts, control, BUFFERS, None);
    let outbox = |index: usize, sender| Outbox::new(ring, sender, accounts.worker(index), BATCH);
    if senders.len() == 1 {
        return single::run(reader, intake, releaser, outbox(0, senders.remove(0)));
    }
    let lanes: Vec<Lane> = senders.iter().map(|_| Lane::new()).collect();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for (index, sender) in senders.into_iter().enumerate() {
            let (lane, done, outbox) = (&lanes[index], &done, &outbox);
            scope.spawn(move || worker::run(lane, outbox(index, sender), done));
        }
        let held = lanes::run(&lanes, reader, intake, releaser);
        done.store(true, std::sync::atomic::Ordering::Release);
        held
    })
}

/// A frame of no protocol that the lab or the kernel would answer, told apart by its bytes.
fn plain_frame(number: u32) -> Vec<u8> {
    let mut frame = [&[2; 12][..], &[0x88, 0xb5]].concat();
    frame.extend(number.to_be_bytes());
    frame.resize(100, 0x5a);
    frame
}

/// A byte of the MAC addresses says of which flow a frame is.
const FLOW_AT: usize = 9;

fn mark(mut frame: Vec<u8>, flow: u32) -> Vec<u8> {
    frame[FLOW_AT] = (flow >> 24) as u8;
    frame
}

/// Records of every kind between frames of the same flows, and what has to leave, flow by flow.
struct Scene {
    ring: TestRing,
    flows: BTreeMap<u32, Vec<Vec<u8>>>,
    number: u32,
}

impl Scene {
    fn plain(&mut self, flow: u32) -> Result<()> {
        let frame = mark(plain_frame(self.number), flow);
        self.number += 1;
        self.ring.push(&frame, flow, None)?;
        self.leaves(flow, frame);
        Ok(())
    }

    fn leaves(&mut self, flow: u32, frame: Vec<u8>) {
        self.flows.entry(flow).or_default().push(frame);
    }
}

const FLOWS: [u32; 4] = [0x1000_0000, 0x5000_0000, 0x9000_0000, 0xd000_0000];
const ELSEWHERE: u32 = 0xffff_ffff;

fn scene() -> Result<Scene> {
    let mut scene = Scene { ring: TestRing::new()?, flows: BTreeMap::new(), number: 0 };
    for flow in FLOWS {
        let marked = |name| fragments(name).into_iter().map(|f| mark(f, flow)).collect::<Vec<_>>();
        let (came, leaves) = (marked("udp"), marked("translated"));
        (0..9).try_for_each(|_| scene.plain(flow))?;
        // Two wait for their first, and one comes after it, unchanged.
        let id = flow;
        for later in [&came[2], &came[1]] {
            scene.ring.push(later, ELSEWHERE, Some(info(later, id, HOLD, MTU)))?;
        }
        scene.plain(flow)?;
        scene.ring.push(&leaves[0], flow, Some(info(&leaves[0], id, TRANSLATED, MTU)))?;
        for number in [0, 2, 1] {
            scene.leaves(flow, leaves[number].clone());
        }
        scene.plain(flow)?;
        scene.ring.push(&leaves[1], flow, Some(info(&leaves[1], id, INFO_FRAGMENT, MTU)))?;
        scene.leaves(flow, leaves[1].clone());
        // One that comes to be held though its first is known.
        let late = info(&came[1], id, HOLD, MTU);
        scene.ring.push(&came[1], ELSEWHERE, Some(late))?;
        scene.leaves(flow, leaves[1].clone());
        // More pieces than a batch.
        let whole = mark(frame("tagged"), flow);
        scene.ring.push(&whole, flow, Some(info(&whole, 0, INFO_OVERSIZED, 100)))?;
        for piece in split(&whole, Split { l3_off: 22, max_ip_len: 100 }).unwrap() {
            scene.leaves(flow, piece.into_vec());
        }
        scene.plain(flow)?;
        for part in marked("udp6") {
            scene.ring.push(&part, flow, Some(info(&part, id + 1, JOIN, MTU)))?;
        }
        scene.leaves(flow, mark(frame("udp6"), flow));
        scene.plain(flow)?;
        // An overlap of what is held, and what is held until the end.
        scene.ring.push(&came[1], ELSEWHERE, Some(info(&came[1], id + 2, HOLD, MTU)))?;
        let mut shorter = came[1].clone();
        shorter[17] -= 8; // total length
        scene.ring.push(&shorter, ELSEWHERE, Some(info(&shorter, id + 2, HOLD, MTU)))?;
        scene.ring.push(&came[2], ELSEWHERE, Some(info(&came[2], id + 3, HOLD, MTU)))?;
        scene.ring.commit(&[0; 40], DISCARD)?;
    }
    Ok(scene)
}

#[test]
fn frames_leave_whole_and_each_flow_in_order() -> Result<()> {
    for workers in [1, 2, 3] {
        let scene = scene()?;
        let expected: usize = scene.flows.values().map(Vec::len).sum();
        let outcome = deliver(&scene.ring, workers, expected)?;
        assert_eq!(outcome.frames.len(), expected, "{workers} workers");
        for (flow, frames) in scene.flows {
            let of_flow = |frame: &&Vec<u8>| frame[FLOW_AT] == (flow >> 24) as u8;
            assert!(outcome.frames.iter().filter(of_flow).eq(&frames), "{workers}: {flow:x}");
        }
        let sum = outcome.sum();
        let records = scene.ring.records;
        assert_eq!((sum.frames, sum.finished()), (expected as u64, records), "{sum:?}");
        assert_eq!(outcome.taken, 7 * FLOWS.len() as u64);
        let reader = &outcome.totals[READER_ENTRY as usize];
        let failed = |reason| reader.failed[reason as usize];
        assert_eq!(failed(SendFailure::FragmentOverlap), 8, "two of each flow");
        assert_eq!((failed(SendFailure::FragmentTimeout), outcome.held), (4, 4));
        assert_eq!(sum.failed(), 12);
    }
    Ok(())
}

#[test]
fn what_the_egress_refuses_is_counted_for_all_records_of_it() -> Result<()> {
    // Frames of a datagram of 1,062 bytes, and of a fragmented one, are too long for their MTU.
    let mut ring = TestRing::new()?;
    for part in fragments("udp6") {
        ring.push(&part, 1, Some(info(&part, 1, JOIN, 9000)))?;
    }
    let whole = frame("tagged");
    ring.push(&whole, 1, Some(info(&whole, 0, INFO_OVERSIZED, 700)))?;
    ring.push(&plain_frame(1), 1, None)?;
    let outcome = deliver_with_mtu(&ring, 1, 1, 600)?;
    assert_eq!(outcome.frames, [plain_frame(1)]);
    let worker = &outcome.totals[0];
    assert_eq!((worker.sent, worker.frames), (1, 1));
    assert_eq!(worker.failed[SendFailure::Emsgsize as usize], 4);
    assert_eq!(worker.finished(), ring.records);
    Ok(())
}
