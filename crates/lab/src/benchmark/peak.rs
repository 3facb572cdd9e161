//! The highest rate that a path carries without loss, by search.

use anyhow::Result;
use serde::Serialize;

use super::{Run, progress};

/// What a path carries.
#[derive(Clone, Debug, Serialize)]
pub struct Peak {
    /// Inner UDP payload, bytes.
    pub payload: usize,
    /// Highest rate at which nothing was lost, in the search and once more after it; the rate of
    /// arrival, for a buffer on the way could take what exceeds that.
    pub loss_free_pps: f64,
    /// With the generator as fast as it can.
    pub overload: Run,
    /// Every paced run, in the order of the search.
    pub trials: Vec<Trial>,
}

/// One paced run of a search.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Trial {
    /// The rate of the generator.
    pub sent_pps: f64,
    /// The rate of arrival.
    pub received_pps: f64,
    /// Frames that did not arrive, or not in order.
    pub lost: u64,
}

/// How much lower the next rate is when one that was loss-free is not so a second time.
const STEP_BACK: f64 = 0.97;
/// How often that is done.
const STEPS_BACK: u32 = 8;

/// Searches from half of what arrives under overload up to well above it (overload may cost more
/// than it brings), by halving, with `trials` runs. `run` takes a rate, or none for overload.
pub(super) fn search(
    payload: usize,
    trials: u32,
    mut run: impl FnMut(Option<u64>) -> Result<Run>,
) -> Result<Peak> {
    let overload = run(None)?;
    let (sent, received) = (overload.sent_pps(), overload.received_pps());
    progress(&format!("  overload: {sent:.0} pps sent, {received:.0} pps received"));
    let mut search = Search { run, trials: Vec::new() };
    let (mut low, mut high) = (received / 2.0, sent.min(1.6 * received));
    let mut best = 0.0;
    for _ in 0..trials {
        let rate = (low + high) / 2.0;
        match search.is_loss_free(rate)? {
            true => (low, best) = (rate, rate),
            false => high = rate,
        }
    }
    if best == 0.0 {
        best = low;
    }
    for _ in 0..STEPS_BACK {
        if search.is_loss_free(best)? {
            break;
        }
        best *= STEP_BACK;
    }
    let loss_free_pps = search.confirmed();
    Ok(Peak { payload, loss_free_pps, overload, trials: search.trials })
}

struct Search<F> {
    run: F,
    trials: Vec<Trial>,
}

impl<F: FnMut(Option<u64>) -> Result<Run>> Search<F> {
    fn is_loss_free(&mut self, rate: f64) -> Result<bool> {
        let run = (self.run)(Some(rate as u64))?;
        let lost = (run.sent - run.received) + run.out_of_order;
        let (sent_pps, received_pps) = (run.sent_pps(), run.received_pps());
        progress(&format!(
            "  {sent_pps:.0} pps sent, {received_pps:.0} received: lost {}",
            run.losses()
        ));
        self.trials.push(Trial { sent_pps, received_pps, lost });
        Ok(lost == 0)
    }

    /// The rate of arrival of the last run, if that lost nothing.
    fn confirmed(&self) -> f64 {
        self.trials.last().filter(|trial| trial.lost == 0).map_or(0.0, |trial| trial.received_pps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path that loses what exceeds `limit`, fed by a generator that reaches `most`.
    fn path(limit: f64, most: f64) -> impl FnMut(Option<u64>) -> Result<Run> {
        move |rate| {
            let sent = rate.map_or(most, |rate| (rate as f64).min(most));
            let mut run = Run {
                sent: sent as u64,
                received: sent.min(limit) as u64,
                seconds: 1.0,
                arrival_seconds: 1.0,
                ..Run::default()
            };
            run.lose("ring_full", run.sent - run.received);
            Ok(run)
        }
    }

    #[test]
    fn the_search_closes_in_on_the_limit() {
        let peak = search(64, 10, path(600_000.0, 900_000.0)).unwrap();
        assert!((598_000.0..=600_000.0).contains(&peak.loss_free_pps), "{peak:?}");
        assert_eq!(peak.trials.len(), 11);
    }

    #[test]
    fn a_path_faster_than_the_generator_gets_the_generators_rate() {
        let peak = search(64, 10, path(900_000.0, 600_000.0)).unwrap();
        assert!((598_000.0..=600_000.0).contains(&peak.loss_free_pps), "{peak:?}");
    }

    #[test]
    fn a_path_that_always_loses_has_no_loss_free_rate() {
        let always = |rate: Option<u64>| {
            let sent = rate.unwrap_or(1000);
            Ok(Run { sent, received: sent / 2, seconds: 1.0, ..Run::default() })
        };
        assert_eq!(search(64, 3, always).unwrap().loss_free_pps, 0.0);
    }
}
