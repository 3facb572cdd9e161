//! The fast generator: mirrored traffic made in the kernel, by an XDP program that runs over
//! recycled frames (`BPF_PROG_TEST_RUN` with live frames) and redirects each into the cable.

use std::mem::{MaybeUninit, offset_of, size_of};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use libbpf_rs::libbpf_sys::BPF_F_TEST_XDP_LIVE_FRAMES;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{ErrorKind, MapCore, MapFlags, MapHandle, ProgramInput};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::pthread::{Pthread, pthread_kill, pthread_self};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::bpf::generator::{GeneratorSkel, GeneratorSkelBuilder, types};
use crate::bpf::{element, word};
use crate::lab::{INGRESS, Lab, MIRROR};
use crate::packet::{Inner, Mirror};
use crate::stamp::Stamp;

/// Ends a run: the kernel looks for signals between batches. Ignored by default, so harmless.
const SIGNAL: Signal = Signal::SIGURG;
/// Frames of one system call. Each call costs about 20 ms before its first frame.
const REPEAT: u32 = 1 << 30;
const MAX_SIZES: usize = 16;
/// What fits into a page together with the kernel's own data.
const MAX_FRAME: usize = 3300;

/// A source of mirrored UDP datagrams that are stamped ([`Stamp`]) and sent out of `mirror0`
/// towards `ens5`, round-robin over the flows. Flow `n` comes from the inner address `source` + n.
///
/// The other end of the cable must have an XDP program: without one, a veth takes no redirected
/// frames.
#[derive(Clone, Debug)]
pub struct FastGenerator {
    /// Frames a second; `None`: as fast as possible.
    pub pps: Option<u64>,
    /// When to stop, at the latest.
    pub duration: Duration,
    /// Stop after so many frames.
    pub count: Option<u64>,
    /// Sizes of the inner UDP payload, used in turn: 24 to 3,184 bytes, 16 sizes at most.
    pub payload: Vec<usize>,
    /// Number of flows, 65,536 at most.
    pub flows: u32,
    /// The VNI.
    pub vni: u32,
    /// Inner source network: the lower 16 bits of the address are the flow.
    pub source: Ipv4Addr,
    /// Inner destination address and port.
    pub destination: SocketAddrV4,
    /// Whether the inner UDP checksum is computed.
    pub checksum: bool,
    /// Whether the stamp says when the frame was sent; costs about 20 ns a frame.
    pub note_time: bool,
    /// How far behind its pace it may fall (because other work had the CPU) and still catch up.
    pub catch_up: Duration,
    /// The CPU to run on. The XDP program of `ens5` runs there, too.
    pub cpu: usize,
}

impl Default for FastGenerator {
    fn default() -> Self {
        Self {
            pps: None,
            duration: Duration::from_secs(1),
            count: None,
            payload: vec![64],
            flows: 64,
            vni: 100,
            source: Ipv4Addr::new(198, 19, 0, 0),
            destination: SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 95), 31765),
            checksum: true,
            note_time: false,
            catch_up: Duration::from_millis(10),
            cpu: 0,
        }
    }
}

/// What a run has sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FastReport {
    /// Frames that the program made.
    pub attempted: u64,
    /// Frames that went into the cable, and so to the XDP program at its other end (which may
    /// take the last of them a moment after the run).
    pub sent: u64,
    /// Frames that the cable refused because its ring of 256 was full.
    pub refused: u64,
    /// From the first frame to the last, on the program's own clock.
    pub seconds: f64,
}

impl FastReport {
    /// Frames sent a second.
    pub fn pps(&self) -> f64 {
        if self.seconds > 0.0 { self.sent as f64 / self.seconds } else { 0.0 }
    }
}

impl FastGenerator {
    /// Sends until time or count is up.
    pub fn run(&self, lab: &Lab) -> Result<FastReport> {
        self.check()?;
        let before = Transmitted::read(lab)?;
        let (attempted, seconds) = lab.enter(MIRROR.namespace, || self.drive())??;
        let after = Transmitted::read(lab)?;
        let sent = after.frames - before.frames;
        ensure!(sent > 0 || attempted == 0, "{} took no frame: has it XDP?", INGRESS.name);
        Ok(FastReport { attempted, sent, refused: after.errors - before.errors, seconds })
    }

    fn check(&self) -> Result<()> {
        let sizes = &self.payload;
        ensure!((1..=MAX_SIZES).contains(&sizes.len()), "1 to {MAX_SIZES} payload sizes");
        ensure!((1..=65_536).contains(&self.flows), "1 to 65536 flows");
        ensure!(sizes.iter().all(|&size| size >= Stamp::LENGTH), "payloads of 24 bytes or more");
        let longest = self.frames().iter().map(Vec::len).max().unwrap_or_default();
        ensure!(longest <= MAX_FRAME, "frames of {MAX_FRAME} bytes at most");
        ensure!(self.pps != Some(0), "0 frames a second");
        Ok(())
    }

    /// A frame of each size as flow 0 sends it, but for the sequence number and the time.
    fn frames(&self) -> Vec<Vec<u8>> {
        let [a, b, ..] = self.source.octets();
        let inner = Inner::new([a, b, 0, 0], *self.destination.ip());
        let port = self.destination.port();
        let inner = match self.checksum {
            true => inner.udp(40000, port),
            false => inner.udp_without_checksum(40000, port),
        };
        let mirror = Mirror::vni(self.vni);
        let stamp = Stamp::default();
        let payloads = self.payload.iter().map(|&size| stamp.payload(size));
        payloads.map(|payload| mirror.wrap(&inner.clone().payload(payload).build())).collect()
    }

    /// Loads the program and runs it in this thread; returns the frames made and the time taken.
    fn drive(&self) -> Result<(u64, f64)> {
        let mut cpus = CpuSet::new();
        cpus.set(self.cpu)?;
        sched_setaffinity(Pid::from_raw(0), &cpus)
            .with_context(|| format!("cannot run on CPU {}", self.cpu))?;
        catch_signal()?;
        let mut object = MaybeUninit::uninit();
        let mut builder = GeneratorSkelBuilder::default();
        builder.obj_builder.debug(false);
        let mut open = builder.open(&mut object)?;
        let settings = open.maps.rodata_data.as_deref_mut().context("no .rodata")?;
        settings.interface = MIRROR.index;
        settings.flow_count = self.flows;
        settings.size_count = self.payload.len() as u32;
        settings.limit = self.count.unwrap_or(0);
        settings.interval = self.pps.map_or(0, |pps| (1_000_000_000 << 10) / pps);
        settings.slack = (self.catch_up.as_nanos() as u64) << 10;
        settings.note_time = self.note_time.into();
        settings.checksum = self.checksum.into();
        let skeleton = open.load()?;
        let longest = self.load_sizes(&skeleton)?;
        let progress = MapHandle::try_from(&skeleton.maps.bss)?;
        self.watched(&progress, || {
            let input = ProgramInput {
                data_in: Some(&longest),
                flags: BPF_F_TEST_XDP_LIVE_FRAMES,
                repeat: REPEAT,
                ..ProgramInput::default()
            };
            match skeleton.progs.generator.test_run(input) {
                Err(error) if error.kind() != ErrorKind::Interrupted => Err(error.into()),
                _ => Ok(()),
            }
        })
    }

    /// Returns the longest frame.
    fn load_sizes(&self, skeleton: &GeneratorSkel<'_>) -> Result<Vec<u8>> {
        let frames = self.frames();
        for (number, frame) in (0_u32..).zip(&frames) {
            let mut value = vec![0; size_of::<types::size>()];
            let header = offset_of!(types::size, header);
            let room = value.len() - header;
            value[..4].copy_from_slice(&(frame.len() as u32).to_ne_bytes());
            value[header..].copy_from_slice(&frame[..room]);
            skeleton.maps.sizes.update(&number.to_ne_bytes(), &value, MapFlags::ANY)?;
        }
        frames.into_iter().max_by_key(Vec::len).context("no sizes")
    }

    /// Calls `run` again and again, and has it interrupted when time or count is up.
    fn watched(&self, progress: &MapHandle, run: impl Fn() -> Result<()>) -> Result<(u64, f64)> {
        let worker = pthread_self();
        let finished = AtomicBool::new(false);
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let result = self.watch(progress);
                over.store(true, Ordering::Release);
                interrupt(worker, &finished);
                result
            });
            let mut result = Ok(());
            while result.is_ok() && !over.load(Ordering::Acquire) {
                result = run();
            }
            finished.store(true, Ordering::Release);
            watch.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            result?;
            let made = Made::read(progress)?;
            Ok((made.frames, Duration::from_nanos(made.last - made.first).as_secs_f64()))
        })
    }

    /// Returns when time or count is up.
    fn watch(&self, progress: &MapHandle) -> Result<()> {
        let asked = Instant::now();
        let mut first = None;
        loop {
            let made = Made::read(progress)?.frames;
            if made > 0 && first.is_none() {
                first = Some(Instant::now());
            }
            let elapsed = first.unwrap_or(asked).elapsed();
            if self.count.is_some_and(|count| made >= count) || elapsed >= self.duration {
                return Ok(());
            }
            sleep(Duration::from_micros(500).min(self.duration - elapsed));
        }
    }
}

/// What `mirror0` has sent by redirection. Its driver counts that apart from all else.
struct Transmitted {
    frames: u64,
    errors: u64,
}

impl Transmitted {
    fn read(lab: &Lab) -> Result<Self> {
        let table = lab.run(MIRROR.namespace, &["ethtool", "-S", MIRROR.name])?;
        let sum = |suffix: &str| {
            let lines = table.lines().filter_map(|line| line.trim().split_once(": "));
            let queues =
                lines.filter(|(name, _)| name.starts_with("tx_queue_") && name.ends_with(suffix));
            queues.map(|(_, count)| count.parse::<u64>().unwrap_or(0)).sum()
        };
        Ok(Self { frames: sum("_xdp_xmit"), errors: sum("_xdp_xmit_errors") })
    }
}

/// How far the program is.
struct Made {
    frames: u64,
    first: u64,
    last: u64,
}

impl Made {
    fn read(progress: &MapHandle) -> Result<Self> {
        const START: usize = offset_of!(types::bss, progress);
        let value = element(progress, 0)?;
        Ok(Self {
            frames: word(&value, START + offset_of!(types::progress, frames)),
            first: word(&value, START + offset_of!(types::progress, first)),
            last: word(&value, START + offset_of!(types::progress, last)),
        })
    }
}

/// A signal that comes just before the system call would have no effect, so it is repeated.
fn interrupt(worker: Pthread, finished: &AtomicBool) {
    while !finished.load(Ordering::Acquire) {
        let _ = pthread_kill(worker, SIGNAL);
        sleep(Duration::from_millis(1));
    }
}

/// An ignored signal interrupts nothing; one with a handler does.
fn catch_signal() -> Result<()> {
    static CAUGHT: OnceLock<Result<(), String>> = OnceLock::new();
    let register = || {
        let flag = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(SIGNAL as i32, flag).map(drop).map_err(|e| e.to_string())
    };
    CAUGHT.get_or_init(register).clone().map_err(anyhow::Error::msg).context("cannot catch SIGURG")
}
