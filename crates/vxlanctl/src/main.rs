//! `vxlanctl`: looks at the running pipeline and changes its lists, through its pins.
#![forbid(unsafe_code)]

mod allowlist;
mod conntrack;
mod nat;
mod nat_change;
mod output;
mod stats;
mod table;
mod vni;

use std::io::{IsTerminal, stderr};
use std::process::ExitCode;

use anyhow::Result;
use clap::{ArgMatches, Command};
use config::{ConfigError, EXIT_STATUS, Key, Settings};
use dataplane::Pins;
use dataplane::lock::{self, Lock, Role};

use crate::output::Usage;

const FAILURE: u8 = 1;

type Run = fn(&Pins, &ArgMatches) -> Result<()>;

/// Every subcommand, in the order of the help.
const SUBCOMMANDS: [(fn() -> Command, Run); 5] = [
    (stats::command, stats::run),
    (allowlist::command, allowlist::run),
    (nat::command, nat::run),
    (conntrack::command, conntrack::run),
    (vni::command, vni::run),
];

fn main() -> ExitCode {
    let matches = match command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) if error.use_stderr() => {
            let text = error.render().to_string();
            output::error(text.strip_prefix("error: ").unwrap_or(&text).trim_end());
            return ExitCode::from(EXIT_STATUS);
        }
        Err(help) => return finish(output::print(&help.render().to_string())),
    };
    finish(run(&matches))
}

fn finish(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&format!("{error:#}"));
            ExitCode::from(exit_status(&error))
        }
    }
}

fn exit_status(error: &anyhow::Error) -> u8 {
    if let Some(error) = error.downcast_ref::<ConfigError>() {
        return error.exit_status();
    }
    if error.is::<Usage>() { EXIT_STATUS } else { FAILURE }
}

fn command() -> Command {
    let about = "Look at the running pipeline and change its lists while traffic flows";
    config::command("vxlanctl", about, &[Key::PinDir])
        .mut_args(|arg| arg.global(true))
        .subcommand_required(true)
        .subcommands(SUBCOMMANDS.map(|(command, _)| command()))
}

fn run(matches: &ArgMatches) -> Result<()> {
    let Some((name, own)) = matches.subcommand() else { return Ok(()) };
    let (settings, warnings) = Settings::from_matches(innermost(own))?;
    for warning in &warnings {
        output::warning(&warning.to_string());
    }
    let pins = Pins::new(&settings.pin_dir);
    match SUBCOMMANDS.iter().find(|(command, _)| command().get_name() == name) {
        Some((_, run)) => run(&pins, own),
        None => Ok(()),
    }
}

/// The matches of the last subcommand: global flags reach down to it, wherever they were given.
fn innermost(matches: &ArgMatches) -> &ArgMatches {
    matches.subcommand().map_or(matches, |(_, own)| innermost(own))
}

/// Keeps everybody else from changing a list until the lock is dropped.
fn hold_lists(pins: &Pins) -> Result<Lock> {
    if let Some(lock) = lock::try_lock(pins, Role::Change)? {
        return Ok(lock);
    }
    if stderr().is_terminal() {
        output::error("waiting for another change of the lists to end");
    }
    lock::lock(pins, Role::Change)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn global_flags_may_stand_anywhere() {
        for line in [
            "vxlanctl --pin-dir /a nat show --json",
            "vxlanctl nat --pin-dir /a show --json",
            "vxlanctl nat show --json --pin-dir /a",
        ] {
            let matches = command().try_get_matches_from(line.split(' ')).unwrap();
            let (settings, _) = Settings::from_matches(innermost(&matches)).unwrap();
            assert_eq!(settings.pin_dir.to_str(), Some("/a"), "{line}");
        }
    }

    #[test]
    fn every_subcommand_teaches_by_example() {
        fn check(command: &Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(&format!("  {}", path.trim())), "{path}: {help:?}");
            command.get_subcommands().for_each(|sub| check(sub, &path));
        }
        command().get_subcommands().for_each(|sub| check(sub, "vxlanctl"));
    }

    #[test]
    fn bad_input_is_told_from_failure() {
        let config = ConfigError::Conflict("x".into());
        assert_eq!(exit_status(&config.into()), 2);
        assert_eq!(exit_status(&Usage("x".into()).into()), 2);
        assert_eq!(exit_status(&anyhow::anyhow!("x")), 1);
    }
}
