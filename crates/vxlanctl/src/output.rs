//! What goes to stdout and stderr.

use std::io::{ErrorKind, Write, stderr, stdout};

use anyhow::{Context, Result};

/// The command line is wrong in a way that clap can't see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Writes to stdout. A reader that has gone away (`vxlanctl ... | head -1`) is no error.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.context("writing to stdout"),
    }
}

/// Writes a line to stdout, see [`print()`].
pub fn line(text: &str) -> Result<()> {
    print(&format!("{text}\n"))
}

/// Writes JSON to stdout, see [`print()`].
pub fn json(value: &impl serde::Serialize) -> Result<()> {
    line(&serde_json::to_string_pretty(value)?)
}

/// Writes an error to stderr.
pub fn error(text: &str) {
    to_stderr(text);
}

/// Writes a warning to stderr.
pub fn warning(text: &str) {
    to_stderr(&format!("warning: {text}"));
}

fn to_stderr(text: &str) {
    // There is nowhere left to tell that stderr is gone.
    let _ = writeln!(stderr(), "vxlanctl: {text}");
}
