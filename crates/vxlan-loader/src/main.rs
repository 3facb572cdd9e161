//! `vxlan-loader`: loads and attaches the XDP program, owns the pins, keeps next hops and
//! interfaces fresh, and takes everything down again on SIGINT and SIGTERM.
#![forbid(unsafe_code)]

mod audit;
mod explain;
mod fill;
mod netlink;
mod next_hop;
mod program_config;
mod report;
mod run;
mod signals;
mod start;
mod statistics;
mod stop;
mod traces;
mod untranslated;
mod xdp;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command};
use config::{ConfigError, Key, Settings};

use crate::report::Report;
use crate::signals::{Interrupted, Signals};
use crate::start::Input;

const KEYS: &[Key] = &[
    Key::Interface,
    Key::TargetInterface,
    Key::XdpMode,
    Key::PinDir,
    Key::VxlanPort,
    Key::TargetVni,
    Key::VniMismatch,
    Key::Geneve,
    Key::EnableAllowlist,
    Key::AllowlistFile,
    Key::AllowlistMatch,
    Key::NonIp,
    Key::Truncated,
    Key::DedupWindowMs,
    Key::NatIp,
    Key::NatPort,
    Key::SourcePort,
    Key::NatRulesFile,
    Key::Unmatched,
    Key::ConntrackSize,
    Key::FragmentTimeout,
    Key::Reassemble,
    Key::RewriteL2,
    Key::NextHop,
    Key::DfClearThreshold,
    Key::RingBufferSize,
    Key::AuditLog,
    Key::EventRate,
    Key::StatsInterval,
];

const ABOUT: &str = "Attaches the pipeline to the ingress interface and keeps it running. SIGINT \
                     and SIGTERM detach it; if the process is killed, the pipeline goes on and \
                     the next vxlan-loader takes it over.";

fn command() -> Command {
    let switch = |id: &'static str, short, help: &'static str| {
        Arg::new(id).long(id).short(short).action(ArgAction::SetTrue).help(help)
    };
    config::command("vxlan-loader", ABOUT, KEYS)
        .arg(switch("verbose", 'v', "Say more: every next hop, every change"))
        .arg(switch("stats", 's', "Print a line of statistics every STATS_INTERVAL"))
        .after_help(config::after_help(
            "Exit status: 0 ended by a signal, 1 failure, 2 bad configuration.\n\n\
             Example: vxlan-loader -i ens5 -t ens6 --nat-ip 192.0.2.9 --source-port 2055",
        ))
}

fn main() -> ExitCode {
    let matches = command().get_matches();
    let report = Report::new(matches.get_flag("verbose"));
    match run(&matches, report) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report.event(format_args!("{error:#}"));
            exit_code(&error)
        }
    }
}

fn run(matches: &ArgMatches, report: Report) -> Result<()> {
    let input = read_input(matches, report)?;
    let signals = Signals::register()?;
    let mut attached = start::start(&input, &signals, report)?;
    let interval = matches.get_flag("stats").then_some(input.settings.stats_interval);
    let ran = run::run(&mut attached, interval, &signals, report);
    let stopped = stop::stop(attached, &signals, report);
    if let (Err(error), Err(_)) = (&stopped, &ran) {
        report.event(format_args!("{error:#}"));
    }
    ran.and(stopped)
}

fn read_input(matches: &ArgMatches, report: Report) -> Result<Input, ConfigError> {
    let (settings, warnings) = Settings::from_matches(matches)?;
    warnings.iter().for_each(|warning| report.warning(warning));
    settings.ingress()?;
    settings.egress()?;
    let rules = settings.nat_rules()?;
    let allowlist = settings.allowlist()?;
    if let Some(allowlist) = &allowlist {
        allowlist.warnings.iter().for_each(|warning| report.warning(warning));
    }
    Ok(Input { settings, rules, allowlist })
}

fn exit_code(error: &anyhow::Error) -> ExitCode {
    if error.is::<Interrupted>() {
        ExitCode::SUCCESS
    } else if let Some(error) = error.downcast_ref::<ConfigError>() {
        ExitCode::from(error.exit_status())
    } else {
        ExitCode::FAILURE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn the_short_flags_are_those_that_users_know() {
        let matches = command()
            .try_get_matches_from(["vxlan-loader", "-i", "ens5", "-t", "ens6", "-v", "-s"])
            .unwrap();
        assert!(matches.get_flag("verbose") && matches.get_flag("stats"));
    }
}
