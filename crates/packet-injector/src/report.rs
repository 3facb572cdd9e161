//! What the injector says about itself: one line an interval, and the final statistics.

use std::io::{self, Write};
use std::time::Duration;

use dataplane::abi::SendFailure;

use crate::accounts::Totals;

/// A frame was refused because the egress queue stayed full: a drop. Else: an error.
fn drops(totals: &Totals) -> u64 {
    totals.failed[SendFailure::Enobufs as usize] + totals.failed[SendFailure::Eagain as usize]
}

fn errors(totals: &Totals) -> u64 {
    totals.failed() - drops(totals)
}

/// `[PERF] 87234 PPS, 691.2 Mbps | Total: 523401 pkts, 12 drops, 0 errors`
pub fn line(interval: &Totals, total: &Totals, time: Duration) -> String {
    let seconds = time.as_secs_f64().max(1e-9);
    format!(
        "[PERF] {:.0} PPS, {:.1} Mbps | Total: {} pkts, {} drops, {} errors",
        interval.sent as f64 / seconds,
        interval.sent_bytes as f64 * 8.0 / 1e6 / seconds,
        total.sent,
        drops(total),
        errors(total)
    )
}

/// Prints a line to standard output; who closed it does not want to know.
pub fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

/// The final statistics of this run: `workers` are the totals of each.
pub fn final_statistics(workers: &[Totals], time: Duration, resent: u64) -> String {
    let total = workers.iter().fold(Totals::default(), |sum, w| sum.plus(w));
    let seconds = time.as_secs_f64().max(1e-9);
    let share = |part: u64, whole: u64| 100.0 * part as f64 / (whole.max(1)) as f64;
    let mut text = format!(
        "FINAL STATISTICS\n  run time      {seconds:.1} s\n  sent          {} frames, {} bytes\n  \
         average       {:.0} PPS, {:.1} Mbps\n  frames a call {:.1}\n  retries       {}\n",
        total.sent,
        total.sent_bytes,
        total.sent as f64 / seconds,
        total.sent_bytes as f64 * 8.0 / 1e6 / seconds,
        total.sent as f64 / total.calls.max(1) as f64,
        total.retries,
    );
    for reason in SendFailure::ALL {
        let count = total.failed[reason as usize];
        if count > 0 {
            text += &format!("  failed        {count} frames: {}\n", reason.description());
        }
    }
    if resent > 0 {
        text += &format!("  resent        {resent} frames that a dead injector had sent already\n");
    }
    for (index, worker) in workers.iter().enumerate() {
        text += &format!(
            "  worker {index:<6} {} frames ({:.1} %)\n",
            worker.sent,
            share(worker.sent, total.sent)
        );
    }
    text + &format!("  success rate  {:.3} %", share_of_all(&total))
}

/// Percentage of the finished frames that were sent; nothing to send is success.
fn share_of_all(total: &Totals) -> f64 {
    match total.finished() {
        0 => 100.0,
        finished => 100.0 * total.sent as f64 / finished as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(sent: u64, enobufs: u64, enetdown: u64) -> Totals {
        let mut totals = Totals { sent, sent_bytes: sent * 990, calls: sent, ..Totals::default() };
        totals.failed[SendFailure::Enobufs as usize] = enobufs;
        totals.failed[SendFailure::Enetdown as usize] = enetdown;
        totals
    }

    #[test]
    fn the_line_is_the_one_that_runbooks_know() {
        let line = line(&totals(87_234, 0, 0), &totals(523_401, 12, 3), Duration::from_secs(1));
        assert_eq!(line, "[PERF] 87234 PPS, 690.9 Mbps | Total: 523401 pkts, 12 drops, 3 errors");
    }

    #[test]
    fn the_final_statistics_name_every_loss_and_share() {
        let workers = [totals(750, 0, 0), totals(250, 0, 1000)];
        let text = final_statistics(&workers, Duration::from_secs(2), 7);
        for part in
            ["worker 0      750 frames (75.0 %)", "interface is down", "50.000 %", "7 frames"]
        {
            assert!(text.contains(part), "{part} in:\n{text}");
        }
    }
}
