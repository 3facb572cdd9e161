//! Refused fragments on their way to AUDIT_LOG, which a thread of its own writes: the reader must
//! never wait for a disk.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use dataplane::abi::{SendFailure, fragment_key};
use dataplane::audit_log::AuditLog;
use dataplane::events::{Event, address};

/// Events that may wait for the disk, and events in one write.
const WAITING: usize = 1024;
/// How long the last events may take to be written.
const FINISH_TIME: Duration = Duration::from_secs(3);

/// The reader's end of the way.
pub struct Audit {
    path: PathBuf,
    events: SyncSender<Event>,
    /// Says at the thread's end how many events it could not write.
    ended: Receiver<u64>,
    rate: Rate,
    /// Events beyond the rate, and such that found no room.
    suppressed: u64,
    crowded_out: u64,
}

impl Audit {
    /// Starts the thread, on the CPUs of the calling one, for `rate` events a second at most.
    ///
    /// # Errors
    /// There is no room for another thread.
    pub fn start(log: AuditLog, rate: u32) -> Result<Self> {
        let path = log.path().to_owned();
        let (events, waiting) = mpsc::sync_channel(WAITING);
        let (end, ended) = mpsc::channel();
        thread::Builder::new()
            .name("audit".into())
            .spawn(move || end.send(write_events(&waiting, log)))
            .context("starting the thread that writes AUDIT_LOG")?;
        let rate = Rate { most: rate, begin: None, used: 0 };
        Ok(Self { path, events, ended, rate, suppressed: 0, crowded_out: 0 })
    }

    /// A fragment of the datagram `key` is refused for `reason`. It is an event if it contradicts
    /// the others or can't be right.
    pub fn refused(&mut self, reason: SendFailure, key: &fragment_key) {
        if !matches!(reason, SendFailure::FragmentOverlap | SendFailure::FragmentInvalid) {
            return;
        }
        if !self.rate.admits(Instant::now()) {
            self.suppressed += 1;
        } else if self.events.try_send(event(reason, key)).is_err() {
            self.crowded_out += 1;
        }
    }

    /// Waits, not for long, until the last events are written, and says what was not.
    pub fn finish(self) {
        let Self { path, events, ended, suppressed, crowded_out, .. } = self;
        drop(events); // the thread ends behind the last one
        let (log, seconds) = (path.display(), FINISH_TIME.as_secs());
        let lost = ended.recv_timeout(FINISH_TIME).unwrap_or_else(|_| {
            warn(format_args!(
                "AUDIT_LOG {log} did not take the last events within {seconds} s: \
                 they may be missing"
            ));
            0
        });
        for (count, why) in [
            (suppressed, "beyond EVENT_RATE were not written"),
            (crowded_out, "were not written: they came faster than the disk took them"),
            (lost, "were never written"),
        ] {
            if count > 0 {
                warn(format_args!("AUDIT_LOG {log}: {count} events {why}"));
            }
        }
    }
}

/// Lets `most` events pass in each second. Seconds begin with an event, as the program's do.
struct Rate {
    most: u32,
    begin: Option<Instant>,
    used: u32,
}

impl Rate {
    fn admits(&mut self, now: Instant) -> bool {
        if self.begin.is_none_or(|begin| now.duration_since(begin) >= Duration::from_secs(1)) {
            (self.begin, self.used) = (Some(now), 0);
        }
        let admitted = self.used < self.most;
        self.used += u32::from(admitted);
        admitted
    }
}

fn event(reason: SendFailure, key: &fragment_key) -> Event {
    Event {
        time: SystemTime::now(),
        verdict: reason.name(),
        // 0 may also mean that the program did not tell: DEDUP_WINDOW_MS makes VNIs one.
        vni: Some(key.vni).filter(|vni| *vni != 0),
        mirror: None,
        source: address(key.family, key.source),
        source_port: None,
        destination: address(key.family, key.destination),
        destination_port: None,
        // In IPv6 it is not part of what a datagram's fragments share.
        protocol: (key.family == 4).then(|| key.protocol.into()),
        interface: None,
    }
}

/// Writes what comes until nobody can send any more. Returns how many events are lost then.
fn write_events(waiting: &Receiver<Event>, mut log: AuditLog) -> u64 {
    while let Ok(first) = waiting.recv() {
        let mut events = vec![first];
        events.extend(waiting.try_iter().take(WAITING - 1));
        if let Some(notice) = log.append(&events) {
            warn(notice);
        }
    }
    log.lost()
}

/// Standard error may be closed: that is no reason to stop.
fn warn(text: impl Display) {
    let _ = writeln!(io::stderr(), "packet-injector: warning: {text}");
}

#[cfg(test)]
mod tests;
