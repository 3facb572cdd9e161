//! The command line, built from the settings table.

use std::path::PathBuf;

use clap::builder::{ValueParser, ValueParserFactory};
use clap::{Arg, Command};

use crate::settings::Key;

pub(crate) const ENV_FILE: &str = "env-file";

/// A command that takes these settings as flags, and `--env-file`. The binary adds arguments of
/// its own and passes what was matched to [`Settings::from_matches`](crate::Settings).
pub fn command(name: &'static str, about: &'static str, keys: &[Key]) -> Command {
    Command::new(name)
        .version(env!("CARGO_PKG_VERSION"))
        .about(about)
        .args(args(keys))
        .after_help(after_help(""))
}

/// The end of a command's help: where settings come from, then what the command has to add.
pub fn after_help(more: &str) -> String {
    let settings = "A setting is taken from its flag, else from the environment variable in capitals, else \
         from the .env file, else it has its default. An empty variable counts as unset.";
    format!("{settings}\n\n{more}").trim_end().to_string()
}

/// The flags of these settings, and `--env-file`, for a command that is built in another way (with
/// [`Arg::global`] for one with subcommands, say).
pub fn args(keys: &[Key]) -> Vec<Arg> {
    let env_file = Arg::new(ENV_FILE)
        .long(ENV_FILE)
        .value_name("FILE")
        .value_parser(PathBuf::value_parser())
        .help(
            "File with settings, KEY=value a line. Without this flag ./.env is read if it exists",
        );
    keys.iter().map(|key| flag(*key)).chain([env_file]).collect()
}

/// A positional argument that gives the same setting as the key's flag (`packet-injector ens6 8`).
/// The key must be among those of the command.
pub fn positional(key: Key) -> Arg {
    let spec = key.spec();
    Arg::new(spec.positional_id)
        .value_name(spec.value_name)
        .value_parser(ValueParser::os_string())
        .conflicts_with(spec.name)
        .help(format!("The same as --{}", spec.long))
}

fn flag(key: Key) -> Arg {
    let spec = key.spec();
    let arg = Arg::new(spec.name)
        .long(spec.long)
        .value_name(spec.value_name)
        // Values are judged together with those from elsewhere, see `resolve`.
        .value_parser(ValueParser::os_string())
        .allow_negative_numbers(true)
        .help_heading(spec.group)
        .help(format!("{} Allowed: {} [env: {}]", spec.help, spec.allowed, spec.name))
        // The default also marks the key as one that this command takes: an argument that isn't
        // given and has none leaves no trace in the matches.
        .default_value(spec.default.unwrap_or_default())
        .hide_default_value(spec.default.is_none());
    match spec.short {
        Some(short) => arg.short(short),
        None => arg,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_well_formed() {
        command("test", "A test.", Key::ALL)
            .arg(positional(Key::TargetInterface))
            .arg(positional(Key::WorkerThreads))
            .debug_assert();
    }

    #[test]
    fn help_shows_every_setting() {
        let help = command("test", "A test.", Key::ALL).term_width(0).render_long_help();
        let help = help.to_string();
        for key in Key::ALL {
            assert!(help.contains(&format!("--{} <", key.long())), "{key}");
            let text = format!("{} Allowed: {} [env: {key}]", key.help(), key.allowed());
            assert!(help.contains(&text), "{key}");
        }
        assert!(help.contains("[default: 4789]") && !help.contains("[default: ]"), "{help}");
        assert!(help.contains("-i, --interface <IFNAME>"), "{help}");
    }

    #[test]
    fn a_command_takes_only_its_keys() {
        let command = command("test", "A test.", &[Key::PinDir]);
        let refused = command.try_get_matches_from(["test", "--batch-size", "1"]);
        assert_eq!(refused.unwrap_err().kind(), clap::error::ErrorKind::UnknownArgument);
    }
}
