//! What can be wrong with a configuration, in words that say where to mend it.

use std::path::{Path, PathBuf};

use crate::resolve::Origin;
use crate::settings::Key;

/// The exit status of a binary whose configuration is refused; the same as clap's for bad flags.
pub const EXIT_STATUS: u8 = 2;

/// Why a configuration is refused. `Display` is the whole message, on one line.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A setting has a value that it can't have.
    #[error("bad value {value:?} for {key} ({}): {}", .origin.describe(*.key), Self::reason(.problem, .key))]
    BadValue {
        /// The setting.
        key: Key,
        /// What was given.
        value: String,
        /// Where it was given.
        origin: Origin,
        /// What is wrong with it, if there is more to say than what is allowed; else empty.
        problem: String,
    },
    /// A setting without a default is needed and not given.
    #[error("{0} is needed: give --{long}, or {0} in the environment or the .env file ({allowed})", long = .0.long(), allowed = .0.allowed())]
    Missing(Key),
    /// Settings that are each right don't fit together. The text names the keys.
    #[error("{0}")]
    Conflict(String),
    /// A line of the `.env` file can't be understood.
    #[error("{}: line {line}: {problem}", .path.display())]
    EnvFileLine {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// A file can't be read, or an allowlist or NAT rule file is refused.
    #[error("{}: {problem}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where in the file.
        problem: String,
    },
}

impl ConfigError {
    /// The exit status for this error: always [`EXIT_STATUS`].
    pub fn exit_status(&self) -> u8 {
        EXIT_STATUS
    }

    pub(crate) fn file(path: &Path, problem: impl Into<String>) -> Self {
        Self::File { path: path.to_owned(), problem: problem.into() }
    }

    fn reason(problem: &str, key: &Key) -> String {
        let allowed = key.allowed();
        match problem {
            "" => format!("allowed: {allowed}"),
            problem => format!("{problem}; allowed: {allowed}"),
        }
    }
}

/// Something odd about a configuration that can nevertheless be used. For the caller to print.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// The `.env` file has a key that is no setting.
    #[error("{}: line {line}: unknown key {name}, ignored", .path.display())]
    UnknownKey {
        /// The key as written.
        name: String,
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// The `.env` file gives a key twice; the later line counts.
    #[error("{}: line {line}: {key} was already given in line {first}; line {line} counts", .path.display())]
    RepeatedKey {
        /// The setting.
        key: Key,
        /// The file.
        path: PathBuf,
        /// The earlier line, counted from 1.
        first: usize,
        /// The later line.
        line: usize,
    },
    /// The allowlist is on and no file fills it.
    #[error(
        "ENABLE_ALLOWLIST is on and ALLOWLIST_FILE is not set: everything is blocked until a list is loaded"
    )]
    AllowlistEmpty,
    /// A list is named and the allowlist is off.
    #[error(
        "ALLOWLIST_FILE is set and ENABLE_ALLOWLIST is off: the list is not used, nothing is blocked"
    )]
    AllowlistOff,
}
