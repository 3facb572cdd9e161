//! The benchmark: what the pipeline costs and carries, next to the kernel's own path and to a bare
//! loop of `sendmmsg`, in one run on one machine. Figures of two runs, or of two machines, say
//! little; ratios within a run do.

mod arrivals;
mod bare;
mod command;
mod figures;
mod flood;
mod kernel;
mod machine;
mod peak;
mod pipeline;
mod program;
mod required;
mod table;
mod usage;

use std::time::Duration;

use anyhow::Result;

pub use command::{command, execute};
pub use figures::{Figures, Latency, Ratios, Run};
pub use flood::{Flood, FloodRun};
pub use machine::Machine;
pub use peak::{Peak, Trial};
pub use program::ProgramCost;
pub use required::Required;

use self::bare::FirstCpu;
use self::kernel::Steering;

/// What is measured, and for how long.
#[derive(Clone, Debug)]
pub struct Benchmark {
    /// Length of the required run.
    pub duration: Duration,
    /// Rate of the required run, frames a second.
    pub target_pps: u64,
    /// Sizes of the inner UDP payload of the required run, used in turn.
    pub payload: Vec<usize>,
    /// Number of flows, 1,024 at most.
    pub flows: u32,
    /// How long each run of a search, and of what is compared, lasts.
    pub trial: Duration,
    /// How many rates a search tries.
    pub trials: u32,
    /// How often the XDP program runs on each packet.
    pub program_runs: u32,
}

/// What the generator's frames carry to be measured on their own.
const PEAK_PAYLOADS: [usize; 2] = [64, 1400];

impl Default for Benchmark {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(60),
            target_pps: 85_000,
            payload: vec![64, 128, 256, 512, 1024, 1400],
            flows: 64,
            trial: Duration::from_secs(2),
            trials: 7,
            program_runs: 2_000_000,
        }
    }
}

impl Benchmark {
    /// A smoke test of half a minute: the figures are rough.
    pub fn quick() -> Self {
        Self {
            duration: Duration::from_secs(5),
            trial: Duration::from_millis(400),
            trials: 3,
            program_runs: 100_000,
            ..Self::default()
        }
    }

    /// Measures everything, one thing after the other, on labs of its own.
    ///
    /// # Errors
    /// The machine lacks what a lab needs, a program does not start, or a ledger does not close.
    pub fn run(&self) -> Result<Figures> {
        let machine = Machine::look()?;
        let verifier = program::verify()?;
        let program = program::measure(self)?;
        let required = required::measure(self)?;
        let [small, large] = PEAK_PAYLOADS;
        let peaks = vec![pipeline::peak(self, small)?, pipeline::peak(self, large)?];
        let flood = flood::measure(self, &peaks[0])?;
        let kernel = kernel::peak(self, small, Steering::OneCpu)?;
        let kernel_two_cpus = kernel::peak(self, small, Steering::TwoCpus)?;
        let bare = bare::measure(self, small, FirstCpu::Idle)?;
        let bare_busy = bare::measure(self, small, FirstCpu::Generating)?;
        let ratios =
            Ratios::new(&peaks[0], kernel.as_ref(), kernel_two_cpus.as_ref(), [&bare, &bare_busy]);
        Ok(Figures {
            machine,
            program,
            verifier,
            required,
            peaks,
            kernel,
            kernel_two_cpus,
            bare,
            bare_busy,
            flood,
            ratios,
        })
    }
}

/// Says on standard error what goes on.
fn progress(text: &str) {
    eprintln!("benchmark: {text}");
}
