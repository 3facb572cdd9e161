//! A histogram of delays.

use std::time::Duration;

/// 16 buckets for each power of two of nanoseconds: a percentile is right to 6.25%.
const STEPS: u64 = 16;

/// How long frames took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delays(Vec<u64>);

impl Delays {
    pub(crate) fn new(buckets: Vec<u64>) -> Self {
        Self(buckets)
    }

    /// How many delays were measured.
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The delay that this share (0 to 1) of the frames did not exceed; `None` without any.
    pub fn percentile(&self, share: f64) -> Option<Duration> {
        let wanted = ((self.count() as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let bucket = self.0.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        Some(Duration::from_nanos(upper_end(bucket as u64)))
    }
}

/// The greatest number of nanoseconds that falls into a bucket; sink.bpf.c has the other direction.
fn upper_end(bucket: u64) -> u64 {
    let (exponent, step) = (bucket / STEPS, bucket % STEPS);
    match exponent {
        0 => step,
        _ => ((STEPS + step + 1) << (exponent - 1)) - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_where_the_program_puts_delays() {
        assert_eq!(upper_end(15), 15);
        assert_eq!(upper_end(16), 16);
        assert_eq!(upper_end(31), 31);
        assert_eq!(upper_end(32), 33);
        assert_eq!(upper_end(6 * 16), 543);
    }

    #[test]
    fn percentiles_walk_the_buckets() {
        let mut buckets = vec![0; 64];
        (buckets[3], buckets[10]) = (90, 10);
        let delays = Delays::new(buckets);
        assert_eq!(delays.percentile(0.5), Some(Duration::from_nanos(3)));
        assert_eq!(delays.percentile(0.9), Some(Duration::from_nanos(3)));
        assert_eq!(delays.percentile(0.99), Some(Duration::from_nanos(10)));
        assert_eq!(Delays::default().percentile(0.5), None);
    }
}
