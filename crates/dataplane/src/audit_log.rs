//! The file that security events are appended to (`AUDIT_LOG`), one JSON object a line.

use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};

use crate::events::Event;

/// The log. Several processes may append to one file: each batch is one write, at its end.
#[derive(Debug)]
pub struct AuditLog {
    path: PathBuf,
    file: File,
    identity: Identity,
    /// The last line in the file has no end.
    torn: bool,
    /// Events that could not be written since the last one that was.
    lost: u64,
}

/// What an operator should be told of the log.
#[derive(Debug)]
pub enum Notice {
    /// From now on events are lost.
    Failing {
        /// The log.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Events are written again.
    Working {
        /// The log.
        path: PathBuf,
        /// How many were not.
        lost: u64,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failing { path, error } => write!(
                f,
                "AUDIT_LOG {}: {error}: events are lost until it can be written again",
                path.display()
            ),
            Self::Working { path, lost } => {
                write!(f, "AUDIT_LOG {} is written again, {lost} events were lost", path.display())
            }
        }
    }
}

/// Device and inode.
type Identity = (u64, u64);

fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

impl AuditLog {
    /// Opens the file, or makes it, for its owner and group.
    ///
    /// # Errors
    /// It can't be opened; the text says why and what to do.
    pub fn open(path: &Path) -> Result<Self> {
        let (file, identity, torn) = open(path).map_err(|error| anyhow!(refusal(path, &error)))?;
        Ok(Self { path: path.to_owned(), file, identity, torn, lost: 0 })
    }

    /// Appends events, to a new file if the path doesn't lead to this one any more. The notice is
    /// for the caller to print; while events are lost, only the first one is told.
    #[must_use]
    pub fn append(&mut self, events: &[Event]) -> Option<Notice> {
        if events.is_empty() {
            return None;
        }
        let before = self.lost;
        let text = lines(events);
        let mut rest = text.as_slice();
        match self.follow().and_then(|()| self.write(&mut rest)) {
            Ok(()) if before == 0 => None,
            Ok(()) => {
                self.lost = 0;
                Some(Notice::Working { path: self.path.clone(), lost: before })
            }
            Err(error) => {
                self.lost += rest.iter().filter(|byte| **byte == b'\n').count() as u64;
                (before == 0).then(|| Notice::Failing { path: self.path.clone(), error })
            }
        }
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Events that could not be written since the last one that was.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Opens the file anew if it was renamed or removed.
    fn follow(&mut self) -> io::Result<()> {
        if self.path.symlink_metadata().is_ok_and(|there| identity(&there) == self.identity) {
            return Ok(());
        }
        (self.file, self.identity, self.torn) = open(&self.path)?;
        Ok(())
    }

    /// Writes `rest`, and leaves in it what was not written.
    fn write(&mut self, rest: &mut &[u8]) -> io::Result<()> {
        if self.torn {
            self.file.write_all(b"\n")?;
            self.torn = false;
        }
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.torn = rest[written - 1] != b'\n';
                    *rest = &rest[written..];
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn lines(events: &[Event]) -> Vec<u8> {
    let mut text = Vec::new();
    for event in events {
        serde_json::to_writer(&mut text, event).expect("an event has no key that is not a string");
        text.push(b'\n');
    }
    text
}

/// Returns also whether its last line has no end.
fn open(path: &Path) -> io::Result<(File, Identity, bool)> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        // A link could lead elsewhere; a pipe nobody reads must not hold up a start.
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    let metadata = file.metadata()?;
    Ok((file, identity(&metadata), is_torn(path, &metadata)))
}

/// Whether a file that is there already ends within a line: a writer was killed, or a disk full.
fn is_torn(path: &Path, metadata: &Metadata) -> bool {
    if !metadata.is_file() || metadata.len() == 0 {
        return false;
    }
    let mut last = [0];
    let file =
        OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let read = file.and_then(|file| file.read_exact_at(&mut last, metadata.len() - 1));
    // Of one that may not be read nothing is known: an empty line does the least harm.
    read.is_err() || last != *b"\n"
}

fn refusal(path: &Path, error: &io::Error) -> String {
    let advice = match error.raw_os_error() {
        Some(libc::ELOOP) => "it is a symbolic link, which is not followed: name the file itself",
        Some(libc::EISDIR) => "name a file in it",
        Some(libc::ENOENT | libc::ENOTDIR) => "make the directory that it is to be in",
        Some(libc::ENXIO) => "it is a pipe that nobody reads: name a file, or start the reader",
        Some(libc::ENOSPC | libc::EDQUOT) => "make room, or name a file elsewhere",
        _ => "name a file that this user may write",
    };
    format!("AUDIT_LOG {}: {error}: {advice}", path.display())
}

#[cfg(test)]
mod tests;
