//! When frames arrive. A buffer on the way takes more than the path carries for a while, so a rate
//! is only sustained if it is also the rate of arrival.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::sink::Sink;

/// How often the sink is looked at.
const STEP: Duration = Duration::from_millis(2);
/// When nothing has come for so long, nothing more will.
const QUIET: Duration = Duration::from_millis(200);

/// Resets a sink and runs `work`, which sends; returns once no more frames arrive. The number is
/// the time from the first arrival to the last, in seconds.
pub(super) fn watch<T>(sink: &Sink, work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    sink.reset()?;
    let sent = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| span(sink, &sent));
        let result = work();
        sent.store(true, Ordering::Release);
        let seconds = watcher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok((result?, seconds))
    })
}

fn span(sink: &Sink, sent: &AtomicBool) -> Result<f64> {
    let mut seen = 0;
    let (mut first, mut last) = (None, Instant::now());
    loop {
        let ends = sent.load(Ordering::Acquire) && last.elapsed() >= QUIET;
        let now = Instant::now();
        let stamped = sink.stamped()?;
        if stamped != seen {
            (seen, last) = (stamped, now);
            first.get_or_insert(now);
        } else if ends {
            return Ok(first.map_or(0.0, |first| (last - first).as_secs_f64()));
        }
        sleep(STEP);
    }
}
