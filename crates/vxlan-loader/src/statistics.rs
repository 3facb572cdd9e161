//! What the counters say: a line now and then, and everything at the end.

use std::time::{Duration, Instant};

use anyhow::Result;
use dataplane::abi::{SendFailure, Verdict};
use dataplane::ledger::{Ledger, Snapshot};

use crate::report::Report;

/// Drop reasons named in a line.
const REASONS_NAMED: usize = 3;

/// Prints a line of statistics every interval.
pub struct Statistics {
    ledger: Ledger,
    interval: Duration,
    due: Instant,
    last: Snapshot,
    taken: Instant,
}

impl Statistics {
    /// The first line is due after `interval`.
    ///
    /// # Errors
    /// The counters can't be read.
    pub fn start(ledger: Ledger, interval: Duration) -> Result<Self> {
        let now = Instant::now();
        Ok(Self { last: ledger.snapshot()?, ledger, interval, due: now + interval, taken: now })
    }

    /// Prints the line if it is time for it. Counters that can't be read are no reason to stop.
    pub fn print_when_due(&mut self, report: Report) {
        let now = Instant::now();
        if now < self.due {
            return;
        }
        match self.ledger.snapshot() {
            Ok(snapshot) => {
                report.line(line(&self.last, &snapshot, now - self.taken));
                self.last = snapshot;
                self.taken = now;
            }
            Err(error) => report.warning(format_args!("statistics: {error:#}")),
        }
        // Lines that were missed are not made up for.
        self.due = (self.due + self.interval).max(now);
    }
}

fn line(old: &Snapshot, new: &Snapshot, elapsed: Duration) -> String {
    let rate = |old: u64, new: u64| per_second(new.saturating_sub(old), elapsed);
    let stage = |name: &str| (count(&old.stages, name), count(&new.stages, name));
    let with_rate = |(old, new): (u64, u64)| format!("{new} ({} pps)", rate(old, new));
    let (old_bytes, bytes) = stage("bytes");
    format!(
        "[STATS] total {} | vxlan {} | forwarded {}, {:.1} Mbps | dropped {}{} | ring {:.1}%, {} \
         waiting",
        with_rate((old.total, new.total)),
        with_rate(stage("vxlan")),
        with_rate(stage("forwarded")),
        rate(old_bytes, bytes) as f64 * 8.0 / 1e6,
        with_rate((old.dropped, new.dropped)),
        reasons(old, new),
        new.ring.bytes as f64 * 100.0 / new.ring.size.max(1) as f64,
        new.ring.records,
    )
}

fn count(counters: &std::collections::BTreeMap<&'static str, u64>, name: &str) -> u64 {
    counters.get(name).copied().unwrap_or_default()
}

fn per_second(amount: u64, elapsed: Duration) -> u64 {
    (amount as f64 / elapsed.as_secs_f64().max(0.001)).round() as u64
}

/// What most packets were dropped for since the last line, by number.
fn reasons(old: &Snapshot, new: &Snapshot) -> String {
    let since = |(name, new): (&&'static str, &u64)| {
        (new.saturating_sub(count(&old.dropped_by_reason, name)), *name)
    };
    let mut reasons: Vec<_> =
        new.dropped_by_reason.iter().map(since).filter(|(dropped, _)| *dropped > 0).collect();
    reasons.sort_by_key(|(dropped, name)| (std::cmp::Reverse(*dropped), *name));
    let named: Vec<_> = reasons
        .iter()
        .take(REASONS_NAMED)
        .map(|(dropped, name)| format!("{name} {dropped}"))
        .collect();
    if named.is_empty() { String::new() } else { format!(": {}", named.join(", ")) }
}

/// Everything that was counted, for the end.
pub fn final_counters(snapshot: &Snapshot) -> String {
    let mut text = format!("FINAL COUNTERS\n{:>14} packets reached the program\n", snapshot.total);
    let mut add = |amount: u64, name: &str, description: &str| {
        if amount > 0 {
            text += &format!("{amount:>14} {name}: {description}\n");
        }
    };
    for verdict in Verdict::ALL {
        add(count(&snapshot.verdicts, verdict.name()), verdict.name(), verdict.description());
    }
    add(snapshot.sent, "sent", "accepted frames whose data left by the egress interface");
    if snapshot.frames_sent != snapshot.sent {
        add(snapshot.frames_sent, "frames_sent", "what left for them, fragmented or reassembled");
    }
    for failure in SendFailure::ALL {
        let failed = count(&snapshot.send_failed_by_reason, failure.name());
        add(failed, failure.name(), failure.description());
    }
    add(snapshot.resent, "resent", "frames sent again after an injector died");
    add(snapshot.in_doubt, "in_doubt", "of these, perhaps sent only once");
    add(snapshot.in_ring, "in_ring", "frames never sent");
    // The injector ends only when the pins are gone, and then nobody can read its counters.
    add(snapshot.held, "held", "fragments outside the ring, given up by the injector at the end");
    add(snapshot.lost, "lost", "fragments that were held by an injector that died");
    text + &format!("{:>14} unaccounted", snapshot.unaccounted)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use dataplane::ring::Fill;

    use super::*;

    fn snapshot(total: u64, dropped: &[(&'static str, u64)]) -> Snapshot {
        Snapshot {
            total,
            passed: 0,
            dropped: dropped.iter().map(|(_, dropped)| dropped).sum(),
            dropped_by_reason: dropped.iter().copied().collect(),
            redirected: 0,
            queued: 0,
            sent: 0,
            send_failed: 0,
            send_failed_by_reason: BTreeMap::new(),
            held: 0,
            lost: 0,
            frames_sent: 0,
            in_ring: 0,
            resent: 0,
            in_doubt: 0,
            unaccounted: 0,
            stages: BTreeMap::from([("vxlan", total), ("forwarded", 0), ("bytes", total * 125)]),
            notes: BTreeMap::new(),
            verdicts: dropped.iter().copied().collect(),
            ring: Fill { records: 7, bytes: 1024, size: 65536 },
            injector_pid: 0,
            workers: Vec::new(),
        }
    }

    #[test]
    fn a_line_has_totals_and_rates() {
        let old = snapshot(1000, &[("non_ip", 1000)]);
        let new = snapshot(3000, &[("non_ip", 1500), ("not_allowed", 1500)]);
        assert_eq!(
            line(&old, &new, Duration::from_secs(2)),
            "[STATS] total 3000 (1000 pps) | vxlan 3000 (1000 pps) | forwarded 0 (0 pps), 1.0 Mbps \
             | dropped 3000 (1000 pps): not_allowed 1500, non_ip 500 | ring 1.6%, 7 waiting"
        );
    }

    #[test]
    fn an_interval_without_drops_names_no_reason() {
        let snapshot = snapshot(10, &[("non_ip", 3)]);
        let line = line(&snapshot, &snapshot, Duration::from_secs(1));
        assert!(line.contains("dropped 3 (0 pps) |"), "{line}");
    }

    #[test]
    fn the_end_names_what_is_not_zero_in_words() {
        let text = final_counters(&snapshot(5, &[("non_ip", 5), ("ring_full", 0)]));
        assert!(text.contains("5 non_ip: inner frame is not IP"), "{text}");
        for absent in ["ring_full", "frames_sent", "held", "lost"] {
            assert!(!text.contains(absent), "{text}");
        }
        assert!(text.ends_with("0 unaccounted"), "{text}");
    }

    #[test]
    fn the_end_says_what_became_of_fragments() {
        let snapshot = Snapshot { sent: 20, frames_sent: 7, held: 3, lost: 2, ..snapshot(25, &[]) };
        let text = final_counters(&snapshot);
        for line in [
            "20 sent: accepted frames whose",
            "7 frames_sent: what left for them",
            "3 held: fragments outside the ring, given up by the injector at the end",
            "2 lost: fragments that were held",
        ] {
            assert!(text.lines().any(|one| one.trim_start().starts_with(line)), "{text}");
        }
    }
}
