//! What the injector says about itself: one line an interval, and the final statistics.

use std::io::{self, Write};
use std::time::Duration;

use dataplane::abi::SendFailure;

use crate::totals::Totals;

/// Reasons for which the kernel refuses a frame for good, other than a full queue.
const ERRORS: [SendFailure; 4] =
    [SendFailure::Emsgsize, SendFailure::Enetdown, SendFailure::Enxio, SendFailure::Other];

fn errors(totals: &Totals) -> u64 {
    ERRORS.iter().map(|reason| totals.failed[*reason as usize]).sum()
}

/// The rest of what was not sent: the egress queue stayed full, or a fragment was given up.
fn drops(totals: &Totals) -> u64 {
    totals.failed() - errors(totals)
}

/// `[PERF] 87234 PPS, 691.2 Mbps | Total: 523401 pkts, 12 drops, 0 errors`
pub fn line(interval: &Totals, total: &Totals, time: Duration) -> String {
    let seconds = time.as_secs_f64().max(1e-9);
    format!(
        "[PERF] {:.0} PPS, {:.1} Mbps | Total: {} pkts, {} drops, {} errors",
        interval.frames as f64 / seconds,
        interval.sent_bytes as f64 * 8.0 / 1e6 / seconds,
        total.frames,
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

/// What a run did beside sending.
#[derive(Default)]
pub struct Run {
    pub time: Duration,
    /// What the reader refused.
    pub reader: Totals,
    /// Records that a dead injector had sent and not released.
    pub resent: u64,
    /// Records that a dead injector held.
    pub lost: u64,
    /// Records that were held at the end.
    pub held: u64,
}

/// The final statistics of a run: `workers` are the totals of each.
pub fn final_statistics(workers: &[Totals], run: &Run) -> String {
    let total = workers.iter().fold(run.reader, |sum, w| sum.plus(w));
    let seconds = run.time.as_secs_f64().max(1e-9);
    let share = |part: u64, whole: u64| 100.0 * part as f64 / (whole.max(1)) as f64;
    let mut text = format!(
        "FINAL STATISTICS\n  run time      {seconds:.1} s\n  sent          {} frames, {} bytes\n  \
         average       {:.0} PPS, {:.1} Mbps\n  frames a call {:.1}\n  retries       {}\n",
        total.frames,
        total.sent_bytes,
        total.frames as f64 / seconds,
        total.sent_bytes as f64 * 8.0 / 1e6 / seconds,
        total.frames as f64 / total.calls.max(1) as f64,
        total.retries,
    );
    for reason in SendFailure::ALL {
        let count = total.failed[reason as usize];
        if count > 0 {
            text += &format!("  failed        {count} frames: {}\n", reason.description());
        }
    }
    for (count, name, what) in [
        (run.held, "held", "fragments still at the end: they are among the failed ones"),
        (run.resent, "resent", "frames that a dead injector had sent already"),
        (run.lost, "lost", "fragments that a dead injector held"),
    ] {
        if count > 0 {
            text += &format!("  {name:<13} {count} {what}\n");
        }
    }
    for (index, worker) in workers.iter().enumerate() {
        text += &format!(
            "  worker {index:<6} {} frames ({:.1} %)\n",
            worker.frames,
            share(worker.frames, total.frames)
        );
    }
    text + &format!("  success rate  {:.3} %", share_of_all(&total))
}

/// Percentage of the finished records that were sent; nothing to send is success.
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
        let (frames, sent_bytes, calls) = (sent, sent * 990, sent);
        let mut totals = Totals { sent, frames, sent_bytes, calls, ..Totals::default() };
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
    fn rates_count_frames_however_many_records_they_were() {
        let fragmented = Totals { sent: 10, frames: 30, sent_bytes: 30_000, ..Totals::default() };
        let line = line(&fragmented, &fragmented, Duration::from_secs(1));
        assert_eq!(line, "[PERF] 30 PPS, 0.2 Mbps | Total: 30 pkts, 0 drops, 0 errors");
    }

    #[test]
    fn the_final_statistics_name_every_loss_and_share() {
        let workers = [totals(750, 0, 0), totals(250, 0, 900)];
        let mut reader = Totals::default();
        reader.failed[SendFailure::FragmentTimeout as usize] = 100;
        let run = Run { time: Duration::from_secs(2), reader, resent: 7, lost: 5, held: 4 };
        let text = final_statistics(&workers, &run);
        for part in [
            "worker 0      750 frames (75.0 %)",
            "failed        900 frames: egress interface is down",
            "failed        100 frames: held fragment",
            "held          4 fragments",
            "resent        7 frames",
            "lost          5 fragments",
            "50.000 %",
        ] {
            assert!(text.contains(part), "{part} in:\n{text}");
        }
    }
}
