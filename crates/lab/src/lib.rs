//! An embedded network lab: namespaces with cables between them, mirrored traffic, capture and
//! counting. Used by the demo, the end-to-end tests and the benchmarks; needs root.
//!
//! ```no_run
//! use std::time::Duration;
//! use lab::packet::{Inner, Mirror};
//! use lab::{Capture, INGRESS, Lab, MIRROR, TAP, send_frames};
//!
//! # fn main() -> anyhow::Result<()> {
//! let lab = Lab::new()?;
//! // ... start a pipeline in Namespace::Pipeline ...
//! let capture = Capture::start(&lab, TAP.namespace, TAP.name)?;
//! let inner = Inner::new([10, 0, 0, 1], [172, 30, 82, 95]).payload_length(100).build();
//! let mirrored = [Mirror::vni(7).wrap(&inner)];
//! send_frames(&lab, MIRROR.namespace, MIRROR.name, &mirrored)?;
//! capture.wait_for(1, Duration::from_secs(1))?;
//! let delivered = capture.stop()?;
//! # Ok(())
//! # }
//! ```

pub mod benchmark;
mod bpf;
mod capture;
mod counters;
mod delays;
pub mod demo;
mod fast;
mod generate;
mod lab;
mod namespace;
pub mod packet;
mod pcap;
mod pins;
mod pipeline;
mod process;
mod random;
mod route;
mod send;
mod sink;
mod socket;
mod stamp;
mod topology;

pub use capture::{Capture, CaptureOptions, Captured, Frame};
pub use counters::InterfaceCounters;
pub use delays::Delays;
pub use fast::{FastGenerator, FastReport};
pub use generate::Generator;
pub use lab::{EGRESS, INGRESS, Lab, MIRROR, Options, Port, TAP};
pub use namespace::Namespace;
pub use pcap::{read_pcap, write_pcap};
pub use pipeline::{Pipeline, Programs};
pub use process::Process;
pub use random::Random;
pub use route::Route;
pub use send::{SendReport, Sender, send_frames};
pub use sink::{FlowReport, Sink, SinkReport};
pub use stamp::Stamp;
