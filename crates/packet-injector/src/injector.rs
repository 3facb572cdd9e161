//! Setting up and running: one reader on the ring, and its workers.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use config::Settings;
use dataplane::abi::READER_ENTRY;
use dataplane::audit_log::AuditLog;
use dataplane::control::Control;
use dataplane::lock::{self, Role};
use dataplane::ring::Ring;
use dataplane::{MapHandle, MapName, Pins};

use crate::accounts::Accounts;
use crate::audit::Audit;
use crate::intake::Intake;
use crate::lanes::Lane;
use crate::outbox::Outbox;
use crate::raw::RawSender;
use crate::reader::Reader;
use crate::release::Releaser;
use crate::totals::Totals;
use crate::{affinity, egress, lanes, report, single, worker};

/// How often the watcher looks.
const TICK: Duration = Duration::from_millis(50);

/// How the injector was started.
pub struct Options {
    pub settings: Settings,
    pub statistics: bool,
    pub verbose: bool,
}

/// Everything that the threads share.
struct Injector {
    ring: Ring,
    map: MapHandle,
    accounts: Accounts,
    control: Control,
    stop: Arc<AtomicBool>,
    batch: usize,
    fragment_buffers: usize,
    /// CPU of the reader, then of each worker.
    cpus: Vec<Option<usize>>,
}

/// Runs until a signal comes or the pipeline is removed.
pub fn run(options: &Options) -> Result<()> {
    let settings = &options.settings;
    let pins = Pins::new(&settings.pin_dir);
    let map = pins.open(MapName::RING)?;
    let name = settings.egress()?;
    let ifindex = egress::check(name.as_str(), &pins)?;
    let accounts = Accounts::open(&pins)?;
    let Some(_lock) = lock::try_lock(&pins, Role::Injector)? else {
        bail!(
            "another packet-injector drains the ring under {} already, and a ring has one consumer: \
             stop it first, or give it more workers",
            pins.directory().display()
        );
    };
    let log = settings.audit_log.as_deref().map(AuditLog::open).transpose()?;
    let ring = Ring::consume(&map)?;
    let allowed = affinity::allowed_cpus()?;
    let workers = affinity::workers(settings.worker_threads, allowed.len());
    let threads = if workers == 1 { 1 } else { workers + 1 };
    let senders = (0..workers)
        .map(|_| RawSender::open(ifindex, settings.batch_size, settings.tx_retry))
        .collect::<Result<Vec<_>>>()?;
    let injector = Injector {
        ring,
        map,
        stop: stop_on_signals()?,
        control: Control::open(&pins)?,
        batch: settings.batch_size,
        fragment_buffers: settings.fragment_buffers,
        cpus: affinity::plan(&settings.cpu_affinity, threads, &allowed),
        accounts,
    };
    // Before this thread is pinned to a CPU.
    let audit = log.map(|log| Audit::start(log, settings.event_rate)).transpose()?;
    report::say(&format!(
        "packet-injector: draining {} to {name} with {workers} worker{}",
        pins.map(MapName::RING).display(),
        if workers == 1 { "" } else { "s" }
    ));
    if options.verbose {
        report::say(&format!("packet-injector: CPU of each thread: {:?}", injector.cpus));
    }
    injector.run(senders, audit, options, &pins)
}

fn stop_on_signals() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [libc::SIGTERM, libc::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("installing signals")?;
    }
    Ok(stop)
}

impl Injector {
    fn run(
        &self,
        senders: Vec<RawSender>,
        audit: Option<Audit>,
        options: &Options,
        pins: &Pins,
    ) -> Result<()> {
        let workers = senders.len();
        let before = self.accounts.totals();
        let found = self.accounts.take_over(self.ring.consumer_position())?;
        let releaser = Releaser::new(&self.ring, &self.accounts, found.released);
        let reader = Reader::new(&self.ring, self.map.as_fd(), &self.stop);
        let buffers = self.fragment_buffers;
        let intake = Intake::new(&self.ring, &self.accounts, &self.control, buffers, audit);
        let start = Instant::now();
        let done = AtomicBool::new(false);
        let held = thread::scope(|scope| {
            scope.spawn(|| self.watch(options, pins, &before, &done));
            let result = self.drain(senders, reader, intake, releaser);
            done.store(true, Ordering::Release);
            result
        })?;
        let after = self.accounts.totals().into_iter();
        let mut shares: Vec<_> = after.zip(&before).map(|(a, b)| a.since(b)).collect();
        let run = report::Run {
            time: start.elapsed(),
            reader: shares[READER_ENTRY as usize],
            resent: found.resent,
            lost: found.lost,
            held,
        };
        shares.truncate(workers);
        report::say(&report::final_statistics(&shares, &run));
        Ok(())
    }

    /// Reads and sends until the reader is finished. Returns how many fragments were held then.
    fn drain(
        &self,
        mut senders: Vec<RawSender>,
        reader: Reader<'_>,
        intake: Intake<'_>,
        releaser: Releaser<'_>,
    ) -> Result<u64> {
        self.pin(0)?;
        if senders.len() == 1 {
            return Ok(single::run(reader, intake, releaser, self.outbox(0, senders.remove(0))));
        }
        let lanes: Vec<Lane> = senders.iter().map(|_| Lane::new()).collect();
        let reader_done = AtomicBool::new(false);
        let held = thread::scope(|scope| {
            for (index, sender) in senders.into_iter().enumerate() {
                let (lane, reader_done) = (&lanes[index], &reader_done);
                let handle = scope.spawn(move || {
                    if let Err(error) = self.pin(index + 1) {
                        eprintln!("packet-injector: warning: worker {index}: {error:#}");
                    }
                    worker::run(lane, self.outbox(index, sender), reader_done);
                });
                lane.set_worker(handle.thread().clone());
            }
            let held = lanes::run(&lanes, reader, intake, releaser);
            reader_done.store(true, Ordering::Release);
            lanes.iter().for_each(Lane::wake);
            held
        });
        Ok(held)
    }

    fn outbox(&self, worker: usize, sender: RawSender) -> Outbox<'_> {
        Outbox::new(&self.ring, sender, self.accounts.worker(worker), self.batch)
    }

    fn pin(&self, thread: usize) -> Result<()> {
        self.cpus[thread].map_or(Ok(()), affinity::pin_this_thread)
    }

    /// Prints rates, and ends the injector when its pipeline is removed.
    fn watch(&self, options: &Options, pins: &Pins, before: &[Totals], done: &AtomicBool) {
        let sum = |totals: &[Totals]| totals.iter().fold(Totals::default(), |sum, t| sum.plus(t));
        let before = sum(before);
        let (mut last, mut since) = (before, Instant::now());
        let pin = pins.map(MapName::RING);
        let ring = inode(&pin);
        let mut removed = false;
        while !done.load(Ordering::Acquire) {
            thread::sleep(TICK);
            if options.statistics && since.elapsed() >= options.settings.stats_interval {
                let now = sum(&self.accounts.totals());
                report::say(&report::line(&now.since(&last), &now.since(&before), since.elapsed()));
                (last, since) = (now, Instant::now());
            }
            if !removed && inode(&pin) != ring {
                removed = true;
                eprintln!(
                    "packet-injector: the pipeline was removed: sending what is left, then ending"
                );
                self.stop.store(true, Ordering::Relaxed);
            }
        }
    }
}

/// Tells a pin from another one of the same name; `None`: there is none.
fn inode(pin: &Path) -> Option<u64> {
    fs::metadata(pin).ok().map(|metadata| metadata.ino())
}
