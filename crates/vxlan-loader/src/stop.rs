//! Stopping without losing a packet that was accepted: detach, let the ring run empty, unpin.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dataplane::Pins;
use dataplane::ledger::{Ledger, Snapshot};
use dataplane::lock::{self, Role};

use crate::report::Report;
use crate::signals::Signals;
use crate::start::Attached;
use crate::statistics;
use crate::xdp;

/// How long the injector has for what is in the ring.
const DRAIN_TIME: Duration = Duration::from_secs(10);
/// How long its counters have after the ring is empty.
const SETTLE_TIME: Duration = Duration::from_millis(500);
const POLL: Duration = Duration::from_millis(10);

/// Takes the pipeline down. Every step is tried whatever became of those before.
///
/// # Errors
/// The steps that failed.
pub fn stop(attached: Attached, signals: &Signals, report: Report) -> Result<()> {
    let detached = xdp::detach(&attached.running, &attached.ingress);
    report.detail("detached");
    signals.forget(); // another signal ends the waiting
    let drained = drain(&attached.pins, signals, report).context("waiting for the ring");
    let Attached { traces, running, audit, .. } = attached;
    drop(audit);
    let removed = traces.remove();
    drop(running);

    let failures: Vec<_> = [detached, drained, removed]
        .into_iter()
        .filter_map(Result::err)
        .map(|error| format!("{error:#}"))
        .collect();
    if failures.is_empty() {
        report.detail("stopped");
        return Ok(());
    }
    bail!("stopping: {}", failures.join("; "))
}

fn drain(pins: &Pins, signals: &Signals, report: Report) -> Result<()> {
    let ledger = Ledger::open(pins)?;
    let has_injector = lock::is_held(pins, Role::Injector)?;
    wait_while(DRAIN_TIME, pins, signals, || Ok(ledger.snapshot()?.ring.bytes > 0))?;
    wait_while(SETTLE_TIME, pins, signals, || Ok(ledger.snapshot()?.unaccounted != 0))?;
    let snapshot = ledger.snapshot()?;
    if snapshot.in_ring > 0 {
        report.warning(never_sent(&snapshot, has_injector));
    }
    report.line(statistics::final_counters(&snapshot));
    Ok(())
}

/// Waits while `busy`, as long as there is an injector that can change it and nobody is in a hurry.
fn wait_while(
    limit: Duration,
    pins: &Pins,
    signals: &Signals,
    busy: impl Fn() -> Result<bool>,
) -> Result<()> {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline
        && !signals.stop_requested()
        && busy()?
        && lock::is_held(pins, Role::Injector)?
    {
        signals.wait(None, POLL).context("waiting for the injector")?;
    }
    Ok(())
}

fn never_sent(snapshot: &Snapshot, had_injector: bool) -> String {
    let why = if had_injector {
        "packet-injector did not send them in time"
    } else {
        "no packet-injector is running"
    };
    format!("{} accepted frames in the ring were never sent: {why}", snapshot.in_ring)
}
