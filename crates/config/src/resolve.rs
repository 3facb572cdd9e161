//! Where a setting's value comes from: flag, environment, `.env` file, default, in this order.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::ArgMatches;
use clap::parser::ValueSource;

use crate::args::ENV_FILE;
use crate::env_file::EnvFile;
use crate::error::{ConfigError, Warning};
use crate::settings::{Key, Settings};

/// The file that is read when `--env-file` isn't given.
const DEFAULT_ENV_FILE: &str = "./.env";

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Origin {
    /// On the command line, by a flag.
    Flag,
    /// On the command line, by a positional argument.
    Argument,
    /// In the environment.
    Environment,
    /// In a `.env` file.
    File {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// Nowhere.
    Default,
}

impl Origin {
    /// The origin of a value of `key` in words: `flag --nat-ip`.
    pub fn describe(&self, key: Key) -> String {
        match self {
            Self::Flag => format!("flag --{}", key.long()),
            Self::Argument => format!("argument {}", key.spec().value_name),
            Self::Environment => format!("environment variable {key}"),
            Self::File { .. } | Self::Default => self.to_string(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.pad("flag"),
            Self::Argument => f.pad("argument"),
            Self::Environment => f.pad("environment"),
            Self::File { path, line } => write!(f, "file {} line {line}", path.display()),
            Self::Default => f.pad("default"),
        }
    }
}

/// What a setting was given as, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The setting.
    pub key: Key,
    /// The value as it was written, the default if it wasn't given, `None` if there is neither.
    pub text: Option<String>,
    /// Where it was given.
    pub origin: Origin,
}

/// The entries of the keys that the command takes.
pub(crate) type Entries = BTreeMap<Key, Entry>;

/// The chosen text of each setting, before it is parsed.
pub(crate) struct Values(Entries);

impl Values {
    /// The value of a setting that may be unset.
    pub(crate) fn optional<T>(
        &self,
        key: Key,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        let (text, origin) = match self.0.get(&key) {
            Some(entry) => (entry.text.as_deref(), &entry.origin),
            None => (key.default_text(), &Origin::Default),
        };
        let Some(text) = text else { return Ok(None) };
        let value = parse(text).map_err(|problem| bad_value(key, text, origin, problem))?;
        Ok(Some(value))
    }

    /// The value of a setting that has a default.
    pub(crate) fn required<T>(
        &self,
        key: Key,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        self.optional(key, parse)?.ok_or(ConfigError::Missing(key))
    }

    pub(crate) fn into_entries(self) -> Entries {
        self.0
    }
}

impl Settings {
    /// The settings that a command line, the environment and the `.env` file give together.
    /// `matches` are those of a command built with [`command`](crate::command) or
    /// [`args`](crate::args()).
    ///
    /// # Errors
    /// A value that isn't allowed, settings that don't fit together, or a `.env` file that can't
    /// be read. Only the keys that the command takes are judged.
    pub fn from_matches(matches: &ArgMatches) -> Result<(Self, Vec<Warning>), ConfigError> {
        Self::resolve(matches, &|name| std::env::var_os(name), Path::new(DEFAULT_ENV_FILE))
    }

    pub(crate) fn resolve(
        matches: &ArgMatches,
        environment: &dyn Fn(&str) -> Option<OsString>,
        default_file: &Path,
    ) -> Result<(Self, Vec<Warning>), ConfigError> {
        let mut file = read_env_file(matches, default_file)?;
        let mut warnings = std::mem::take(&mut file.warnings);
        let mut entries = Entries::new();
        for key in Key::ALL.iter().copied().filter(|key| takes(matches, *key)) {
            entries.insert(key, choose(key, matches, environment, &file)?);
        }
        let settings = Self::from_values(Values(entries))?;
        settings.check(&mut warnings)?;
        Ok((settings, warnings))
    }

    /// Where the value of `key` was given; [`Origin::Default`] for a key that isn't taken.
    pub fn origin(&self, key: Key) -> &Origin {
        self.entries.get(&key).map_or(&Origin::Default, |entry| &entry.origin)
    }

    /// What each setting that the command takes was given as, in the order of the documentation.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }
}

impl Default for Settings {
    /// Every setting has its default.
    fn default() -> Self {
        Self::from_values(Values(Entries::new())).expect("every default is allowed (unit test)")
    }
}

fn read_env_file(matches: &ArgMatches, default: &Path) -> Result<EnvFile, ConfigError> {
    if let Ok(Some(path)) = matches.try_get_one::<PathBuf>(ENV_FILE) {
        return EnvFile::read(path);
    }
    match default.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(EnvFile::default()),
        _ => EnvFile::read(default),
    }
}

/// Whether the command has this key among its own: its flag has at least a default in the matches.
fn takes(matches: &ArgMatches, key: Key) -> bool {
    matches!(matches.try_contains_id(key.name()), Ok(true))
}

/// What `id` was given as on the command line, if it was.
fn given<'a>(matches: &'a ArgMatches, id: &str) -> Option<&'a OsStr> {
    let value = matches.try_get_one::<OsString>(id).ok().flatten()?;
    (matches.value_source(id) == Some(ValueSource::CommandLine)).then_some(value.as_os_str())
}

fn choose(
    key: Key,
    matches: &ArgMatches,
    environment: &dyn Fn(&str) -> Option<OsString>,
    file: &EnvFile,
) -> Result<Entry, ConfigError> {
    let text_of = |value: &OsStr, origin: &Origin| match value.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(bad_value(key, &value.to_string_lossy(), origin, "it is not UTF-8".to_owned())),
    };
    let entry = |text, origin| Ok(Entry { key, text, origin });

    let spec = key.spec();
    for (id, origin) in [(spec.name, Origin::Flag), (spec.positional_id, Origin::Argument)] {
        if let Some(value) = given(matches, id) {
            return entry(Some(text_of(value, &origin)?), origin);
        }
    }
    if let Some(value) = environment(spec.name).filter(|value| !value.is_empty()) {
        return entry(Some(text_of(&value, &Origin::Environment)?), Origin::Environment);
    }
    if let Some((line, value)) = file.values.get(&key).filter(|(_, value)| !value.is_empty()) {
        let origin = Origin::File { path: file.path.clone(), line: *line };
        return entry(Some(value.clone()), origin);
    }
    entry(spec.default.map(str::to_owned), Origin::Default)
}

fn bad_value(key: Key, value: &str, origin: &Origin, problem: String) -> ConfigError {
    ConfigError::BadValue { key, value: value.to_owned(), origin: origin.clone(), problem }
}

#[cfg(test)]
mod tests;
