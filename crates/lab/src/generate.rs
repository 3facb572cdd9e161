//! The generator for any interface: paced, from userspace, through a raw socket.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::time::{ClockId, clock_gettime};

use crate::packet::{Inner, Mirror};
use crate::send::{SendReport, Sender};
use crate::stamp::Stamp;

/// Frames built and sent at a time, at most.
const BATCH: u64 = 64;

/// A source of mirrored, stamped UDP datagrams ([`Stamp`]), round-robin over the flows. Flow `n`
/// comes from the inner address `source` + n.
#[derive(Clone, Debug)]
pub struct Generator {
    /// Where to send.
    pub interface: String,
    /// How many frames; `None`: until stopped.
    pub count: Option<u64>,
    /// Frames a second; `None`: as fast as possible.
    pub pps: Option<u64>,
    /// The outer headers. The outer source port is chosen by flow.
    pub mirror: Mirror,
    /// Sizes of the inner UDP payload, used in turn; 24 bytes at least.
    pub payload: Vec<usize>,
    /// Number of flows, 65,536 at most.
    pub flows: u32,
    /// Inner source network: the lower 16 bits of the address are the flow.
    pub source: Ipv4Addr,
    /// Inner destination address and port.
    pub destination: SocketAddrV4,
}

impl Default for Generator {
    fn default() -> Self {
        Self {
            interface: crate::lab::MIRROR.name.into(),
            count: Some(1),
            pps: None,
            mirror: Mirror::default(),
            payload: vec![64],
            flows: 1,
            source: Ipv4Addr::new(10, 1, 0, 0),
            destination: SocketAddrV4::new(Ipv4Addr::new(172, 30, 82, 95), 31765),
        }
    }
}

impl Generator {
    /// Sends until all is sent or `stop` is set, in the namespace of the calling thread.
    pub fn run(&self, stop: &AtomicBool) -> Result<SendReport> {
        ensure!(!self.payload.is_empty(), "no payload size");
        ensure!(self.payload.iter().all(|&n| n >= Stamp::LENGTH), "payloads of 24 bytes or more");
        ensure!((1..=65_536).contains(&self.flows), "1 to 65536 flows");
        ensure!(self.pps != Some(0), "0 frames a second");
        let mut sender = Sender::open(&self.interface)?;
        let started = Instant::now();
        let mut made = 0;
        while !stop.load(Ordering::Relaxed) {
            let left = self.count.map_or(u64::MAX, |count| count - made);
            if left == 0 {
                break;
            }
            let due = self.due(started.elapsed()).saturating_sub(made).min(left).min(BATCH);
            if due == 0 {
                self.wait(started, made);
                continue;
            }
            let frames: Vec<_> = (made..made + due).map(|number| self.frame(number)).collect();
            sender.send(&frames)?;
            made += due;
        }
        Ok(sender.report())
    }

    /// How many frames should have been sent by now.
    fn due(&self, elapsed: Duration) -> u64 {
        let Some(pps) = self.pps else { return u64::MAX };
        let frames = elapsed.as_nanos() * u128::from(pps) / 1_000_000_000;
        u64::try_from(frames).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// Sleeps until the next frame is due, or for a moment, to look at `stop` again.
    fn wait(&self, started: Instant, made: u64) {
        let pps = u128::from(self.pps.unwrap_or(u64::MAX));
        let due = Duration::from_nanos((u128::from(made) * 1_000_000_000 / pps) as u64);
        let wait = due.saturating_sub(started.elapsed());
        sleep(wait.clamp(Duration::from_micros(20), Duration::from_millis(100)));
    }

    fn frame(&self, number: u64) -> Vec<u8> {
        let flow = (number % u64::from(self.flows)) as u32;
        let sequence = number / u64::from(self.flows);
        let size = self.payload[(number % self.payload.len() as u64) as usize];
        let stamp = Stamp { flow, sequence, sent: monotonic() };
        let [a, b, ..] = self.source.octets();
        let [c, d] = (flow as u16).to_be_bytes();
        let inner = Inner::new([a, b, c, d], *self.destination.ip())
            .udp(40000, self.destination.port())
            .payload(stamp.payload(size))
            .build();
        // As in generator.bpf.c.
        let hash = flow.wrapping_mul(2_654_435_761) >> 18;
        let mirror = Mirror { source_port: 49152 + hash as u16, ..self.mirror.clone() };
        mirror.wrap(&inner)
    }
}

fn monotonic() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map(|time| time.tv_sec().cast_unsigned() * 1_000_000_000 + time.tv_nsec().cast_unsigned())
        .unwrap_or_default()
}
