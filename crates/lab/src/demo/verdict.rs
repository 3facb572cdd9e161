//! The demo's verdict: every frame compared, every packet accounted for.

use serde_json::Value;

use super::application::Application;
use super::{STREAM_RATE, STREAM_SECONDS};
use crate::capture::Frame;
use crate::packet::diff;

/// What came of it all.
pub struct Verdict {
    sent: u64,
    delivered: usize,
    dropped: String,
    unaccounted: i64,
    /// What is not as it should be.
    pub problems: Vec<String>,
}

impl Verdict {
    /// Compares what arrived with what should have, and asks the ledger.
    pub fn new(
        sent: u64,
        expected: &[Vec<u8>],
        arrived: &[Frame],
        back: &[Frame],
        stats: &Value,
        application: &Application,
    ) -> Self {
        let mut problems = Vec::new();
        let delivered = compare(expected, arrived, &mut problems);
        if !back.is_empty() {
            problems.push(format!("{} frames left through the ingress interface", back.len()));
        }
        let stream = (STREAM_RATE * STREAM_SECONDS) as u64;
        if application.received() != stream {
            problems.push(format!("the application got {} of {stream}", application.received()));
        }
        let unaccounted = stats["unaccounted"].as_i64().unwrap_or(i64::MAX);
        if unaccounted != 0 {
            problems.push(format!("unaccounted packets: {stats:#}"));
        }
        Self { sent, delivered, dropped: dropped(stats), unaccounted, problems }
    }

    /// The last line.
    pub fn line(&self) -> String {
        format!(
            "{}: {} frames sent, {} delivered byte for byte, dropped: {}, unaccounted: {}",
            if self.problems.is_empty() { "OK" } else { "FAILED" },
            self.sent,
            self.delivered,
            self.dropped,
            self.unaccounted
        )
    }
}

/// Number of frames that arrived as they should. With several workers flows overtake each other,
/// so the frames are matched whatever their order; the application checks the stream's.
fn compare(expected: &[Vec<u8>], arrived: &[Frame], problems: &mut Vec<String>) -> usize {
    let mut wanted: Vec<&[u8]> = expected.iter().map(Vec::as_slice).collect();
    let mut got: Vec<&[u8]> = arrived.iter().map(|frame| frame.bytes.as_slice()).collect();
    wanted.sort_unstable();
    got.sort_unstable();
    if wanted == got {
        return got.len();
    }
    problems.push(format!("{} frames expected, {} arrived", wanted.len(), got.len()));
    let pairs = wanted.iter().zip(&got);
    if let Some(difference) = pairs.clone().find_map(|(want, got)| diff(want, got)) {
        problems.push(difference);
    }
    pairs.filter(|(want, got)| want == got).count()
}

/// `not_allowed 200, non_ip 200`, or `none`.
fn dropped(stats: &Value) -> String {
    let reasons = stats["dropped_by_reason"].as_object();
    let terms: Vec<String> = reasons
        .into_iter()
        .flatten()
        .filter(|(_, count)| count.as_u64() != Some(0))
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    if terms.is_empty() { "none".into() } else { terms.join(", ") }
}
