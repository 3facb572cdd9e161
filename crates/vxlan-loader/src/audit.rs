//! Security events on their way from the ring to AUDIT_LOG, in a thread of their own: a slow disk
//! must hold up neither next hops nor the end.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use dataplane::Pins;
use dataplane::audit_log::AuditLog;
use dataplane::events::EventReader;

use crate::report::Report;

/// How soon the thread sees that it is to end.
const POLL: Duration = Duration::from_millis(100);
/// How long the last events may take to be written.
const FINISH_TIME: Duration = Duration::from_secs(3);

/// The running thread. Dropped, it writes what is in the ring and ends.
pub struct Audit {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
    report: Report,
}

impl Audit {
    /// Begins with what is in the ring already.
    ///
    /// # Errors
    /// The ring can't be read, or there is no room for another thread.
    pub fn start(pins: &Pins, log: AuditLog, report: Report) -> Result<Self> {
        let reader = EventReader::open(pins)?;
        let path = log.path().to_owned();
        let stop = Arc::new(AtomicBool::new(false));
        let (end, ended) = mpsc::channel();
        let asked = Arc::clone(&stop);
        let work = move || {
            write_events(&reader, log, &asked, report);
            drop(end);
        };
        thread::Builder::new()
            .name("audit".into())
            .spawn(work)
            .context("starting the thread that writes AUDIT_LOG")?;
        Ok(Self { path, stop, ended, report })
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if self.ended.recv_timeout(FINISH_TIME) == Err(RecvTimeoutError::Timeout) {
            self.report.warning(format_args!(
                "AUDIT_LOG {} did not take the last events within {} s: they may be missing",
                self.path.display(),
                FINISH_TIME.as_secs()
            ));
        }
    }
}

fn write_events(reader: &EventReader, mut log: AuditLog, stop: &AtomicBool, report: Report) {
    loop {
        // Asked before the ring is read: whatever came before the end is written.
        let last = stop.load(Ordering::Acquire);
        match reader.take(if last { Duration::ZERO } else { POLL }) {
            Ok(events) => {
                if let Some(notice) = log.append(&events) {
                    report.warning(notice);
                }
            }
            Err(error) => {
                report.warning(format_args!("no more events are written: {error:#}"));
                break;
            }
        }
        if last {
            break;
        }
    }
    if log.lost() > 0 {
        report.warning(format_args!(
            "AUDIT_LOG {}: {} events were never written",
            log.path().display(),
            log.lost()
        ));
    }
}
