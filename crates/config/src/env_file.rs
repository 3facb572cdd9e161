//! The `.env` file: lines of `KEY=value`, read so that they mean what a shell would make of them,
//! and refused where that isn't certain.
//!
//! A value may stand in single or double quotes; nothing is expanded in it. `export` before the
//! key, white space around `=`, empty lines and comments (`#` at the start of a line or after
//! white space) are accepted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::{ConfigError, Warning};
use crate::settings::Key;

/// What a `.env` file says.
#[derive(Debug, Default)]
pub(crate) struct EnvFile {
    pub(crate) path: PathBuf,
    /// Line (from 1) and value of each key; empty values too.
    pub(crate) values: BTreeMap<Key, (usize, String)>,
    pub(crate) warnings: Vec<Warning>,
}

impl EnvFile {
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|e| ConfigError::file(path, e.to_string()))?;
        Self::parse(path, &text)
    }

    /// `path` is for messages only.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let mut file = Self { path: path.to_owned(), ..Self::default() };
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (line, content) in (1..).zip(text.lines()) {
            let pair = parse_line(content).map_err(|problem| ConfigError::EnvFileLine {
                path: path.to_owned(),
                line,
                problem: problem.to_owned(),
            })?;
            if let Some((name, value)) = pair {
                file.add(line, name, value);
            }
        }
        Ok(file)
    }

    fn add(&mut self, line: usize, name: &str, value: &str) {
        let path = self.path.clone();
        let Some(key) = Key::from_name(name) else {
            self.warnings.push(Warning::UnknownKey { name: name.to_owned(), path, line });
            return;
        };
        if let Some((first, _)) = self.values.insert(key, (line, value.to_owned())) {
            self.warnings.push(Warning::RepeatedKey { key, path, first, line });
        }
    }
}

/// Key and value, or `None` for a line that says nothing.
fn parse_line(line: &str) -> Result<Option<(&str, &str)>, &'static str> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (name, value) = line.split_once('=').ok_or("expected KEY=value")?;
    let name = match name.split_once(char::is_whitespace) {
        Some(("export", name)) => name,
        _ => name,
    };
    let name = name.trim();
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts_well || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err("expected KEY=value, with a KEY of letters, digits and '_'");
    }
    Ok(Some((name, parse_value(value)?)))
}

fn parse_value(text: &str) -> Result<&str, &'static str> {
    if text.trim_start().starts_with('#') && text.starts_with(char::is_whitespace) {
        return Ok("");
    }
    let text = text.trim();
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''));
    let Some(quote) = quote else {
        let comment = [" #", "\t#"].iter().filter_map(|mark| text.find(mark)).min();
        let value = text[..comment.unwrap_or(text.len())].trim_end();
        let special = |c: char| c.is_whitespace() || "\"'$`\\".contains(c);
        return match value.contains(special) {
            true => {
                Err("put a value with a space, a quote, '$', '`' or '\\' between single quotes")
            }
            false => Ok(value),
        };
    };
    let (value, rest) = text[1..].split_once(quote).ok_or("the closing quote is missing")?;
    if quote == '"' && value.contains(['$', '`', '\\']) {
        return Err(
            "nothing is expanded here: put a value with '$', '`' or '\\' between single quotes",
        );
    }
    let comment = rest.trim_start();
    match rest.is_empty() || (comment.starts_with('#') && comment.len() < rest.len()) {
        true => Ok(value),
        false => Err("there is text after the closing quote"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<EnvFile, ConfigError> {
        EnvFile::parse(Path::new("dir/test.env"), text)
    }

    fn value(text: &str) -> String {
        let file = parse(text).unwrap();
        assert_eq!(file.warnings, []);
        file.values[&Key::TargetVni].1.clone()
    }

    #[test]
    fn ways_to_write_a_value() {
        for (text, expected) in [
            ("TARGET_VNI=7", "7"),
            ("\u{feff}TARGET_VNI=7\r\n", "7"),
            ("  export  TARGET_VNI = 7  # seven", "7"),
            ("TARGET_VNI=7\t# seven", "7"),
            ("TARGET_VNI=7#8", "7#8"),
            ("TARGET_VNI=\"7, 8\"", "7, 8"),
            ("TARGET_VNI='7, $8' # two", "7, $8"),
            ("TARGET_VNI='a=b#c'", "a=b#c"),
            ("TARGET_VNI=", ""),
            ("TARGET_VNI=  # none", ""),
            ("TARGET_VNI=''", ""),
        ] {
            assert_eq!(value(text), expected, "{text:?}");
        }
    }

    #[test]
    fn lines_are_counted_and_comments_skipped() {
        let file = parse("# first\n\nPIN_DIR=/a\n  # x\nNAT_IP=192.0.2.1").unwrap();
        assert_eq!(file.values[&Key::PinDir], (3, "/a".to_owned()));
        assert_eq!(file.values[&Key::NatIp].0, 5);
        assert_eq!(file.values.len(), 2);
    }

    #[test]
    fn errors_name_file_and_line() {
        for (line, words) in [
            ("NAT_IP", "expected KEY=value"),
            ("=5", "with a KEY of"),
            ("5A=5", "with a KEY of"),
            ("NAT-IP=5", "with a KEY of"),
            ("NAT IP=5", "with a KEY of"),
            ("TARGET_VNI=7, 8", "between single quotes"),
            ("PIN_DIR=$HOME", "between single quotes"),
            ("PIN_DIR=\"$HOME\"", "nothing is expanded"),
            ("PIN_DIR=\"/a", "closing quote is missing"),
            ("PIN_DIR='/a'b", "text after the closing quote"),
            ("PIN_DIR='/a'#b", "text after the closing quote"),
        ] {
            let error = parse(&format!("# ok\n{line}\n")).unwrap_err().to_string();
            assert!(error.starts_with("dir/test.env: line 2: "), "{error}");
            assert!(error.contains(words), "{line}: {error}");
        }
    }

    #[test]
    fn odd_keys_are_warned_of() {
        let file = parse("NAT_PROT=1\nNAT_PORT=2\nNAT_PORT=3\nnat_ip=4").unwrap();
        assert_eq!(file.values[&Key::NatPort], (3, "3".to_owned()));
        let texts: Vec<_> = file.warnings.iter().map(Warning::to_string).collect();
        assert_eq!(
            texts,
            [
                "dir/test.env: line 1: unknown key NAT_PROT, ignored",
                "dir/test.env: line 3: NAT_PORT was already given in line 2; line 3 counts",
                "dir/test.env: line 4: unknown key nat_ip, ignored",
            ]
        );
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let error = EnvFile::read(Path::new("/nonexistent/.env")).unwrap_err().to_string();
        assert!(error.starts_with("/nonexistent/.env: "), "{error}");
    }
}
