//! `packet-injector ens6 [workers]`: drains the pinned ring and sends every frame out of the
//! egress interface.
//!
//! A frame's way: [`reader`] walks the ring without copying; with one worker it sends in the same
//! thread ([`single`]), with more it hands frames to lanes ([`lanes`]) of which each belongs to
//! one worker ([`worker`]). [`raw`] sends straight from ring memory, [`release`] gives the ring
//! back to the kernel in order, and [`accounts`] keeps the counters that outlive the process.
//!
//! A frame that can't just be sent, about which the program says more, passes [`intake`] first:
//! [`fragment`] decides about inner fragments and joins them, a [`job`] says what is to be done to a
//! frame, [`split`] fragments it, and [`outbox`] sends both kinds in order. [`audit`] tells of
//! fragments that were refused.

mod accounts;
mod affinity;
mod audit;
#[cfg(test)]
mod delivery_tests;
mod egress;
mod fragment;
mod injector;
mod intake;
mod ipv4;
mod job;
mod lanes;
mod outbox;
mod raw;
mod reader;
mod release;
mod report;
mod single;
mod split;
#[cfg(test)]
mod testing;
mod totals;
mod worker;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command};
use config::{ConfigError, Key, Settings};

const KEYS: &[Key] = &[
    Key::TargetInterface,
    Key::WorkerThreads,
    Key::BatchSize,
    Key::TxRetryMs,
    Key::CpuAffinity,
    Key::FragmentBuffers,
    Key::AuditLog,
    Key::EventRate,
    Key::StatsInterval,
    Key::PinDir,
];

fn command() -> Command {
    config::command(
        "packet-injector",
        "Drain the ring of a running pipeline and send every frame out of the egress interface",
        KEYS,
    )
    .arg(config::positional(Key::TargetInterface))
    .arg(config::positional(Key::WorkerThreads))
    .arg(
        Arg::new("stats")
            .short('s')
            .long("stats")
            .action(ArgAction::SetTrue)
            .help("Print a line of rates and totals every STATS_INTERVAL"),
    )
    .arg(
        Arg::new("verbose")
            .short('v')
            .long("verbose")
            .action(ArgAction::SetTrue)
            .help("Say what is set up and where each thread runs"),
    )
    .after_help(config::after_help(
        "SIGTERM and SIGINT send what is in the ring at that moment, give up the fragments that \
         are held, print the final statistics and end. What comes later stays in the ring for \
         the next injector.\n\n\
         Exit status: 0 ended by a signal or because the pipeline was removed, 1 failure, \
         2 bad configuration.\n\n\
         Example: packet-injector ens6 2 -s",
    ))
}

fn main() -> ExitCode {
    let matches = command().get_matches();
    match run(&matches) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("packet-injector: {error:#}");
            let status = error.downcast_ref::<ConfigError>().map_or(1, ConfigError::exit_status);
            ExitCode::from(status)
        }
    }
}

fn run(matches: &ArgMatches) -> Result<()> {
    let (settings, warnings) = Settings::from_matches(matches)?;
    for warning in warnings {
        eprintln!("packet-injector: warning: {warning}");
    }
    injector::run(&injector::Options {
        settings,
        statistics: matches.get_flag("stats"),
        verbose: matches.get_flag("verbose"),
    })
}
