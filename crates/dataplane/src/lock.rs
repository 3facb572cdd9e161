//! Who may do what: one loader and one injector a pipeline, one change of its lists at a time.
//!
//! A lock is `flock(2)` on a directory beside the pins: it is where the pins are, whatever the
//! mount or network namespace of the process, and the kernel lets go of it when the holder dies.

use std::fs::{self, DirBuilder, File, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;

use crate::Pins;

/// What a lock is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Owns the program and the pins.
    Loader,
    /// Reads the ring, which can have one consumer only.
    Injector,
    /// Replaces or changes a list (allowlist, NAT rules, VNIs).
    Change,
}

impl Role {
    fn directory(self, pins: &Pins) -> PathBuf {
        pins.directory().join(match self {
            Self::Loader => "vxlan_lock_loader",
            Self::Injector => "vxlan_lock_injector",
            Self::Change => "vxlan_lock_change",
        })
    }
}

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

/// Makes the lock's directory if need be.
fn prepare(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("creating {}", path.display()));
        }
        _ => {}
    }
    // Anybody may create files in /sys/fs/bpf, and who owns a lock could keep us out for ever.
    let owner = fs::symlink_metadata(path).with_context(|| path.display().to_string())?.uid();
    ensure!(
        owner == geteuid().as_raw(),
        "{} belongs to user {owner}, not to this one: remove it, or choose another PIN_DIR",
        path.display()
    );
    Ok(())
}

/// Takes the lock in one of the two ways. `None`: another process holds it. A lock on a directory
/// that a leaving loader has removed meanwhile is none: the next one is tried.
fn take(pins: &Pins, role: Role, how: FlockArg) -> Result<Option<Lock>> {
    let path = role.directory(pins);
    loop {
        prepare(&path)?;
        let file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            file => file.with_context(|| format!("opening {}", path.display()))?,
        };
        match Flock::lock(file, how) {
            Ok(file) if is_at(&file, &path) => return Ok(Some(Lock { _file: file })),
            Ok(_) => {}
            Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
            Err((_, errno)) => return Err(errno).context("flock"),
        }
    }
}

/// Whether the open directory is the one that the path names now.
fn is_at(file: &File, path: &Path) -> bool {
    let same = |a: &Metadata, b: &Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    matches!((file.metadata(), fs::symlink_metadata(path)), (Ok(a), Ok(b)) if same(&a, &b))
}

/// Takes the lock, or returns `None` when another process holds it.
///
/// # Errors
/// The lock's directory can't be made or opened.
pub fn try_lock(pins: &Pins, role: Role) -> Result<Option<Lock>> {
    for _ in 0..5 {
        if let Some(lock) = take(pins, role, FlockArg::LockExclusiveNonblock)? {
            return Ok(Some(lock));
        }
        sleep(Duration::from_millis(10)); // `is_held` takes it for a moment
    }
    Ok(None)
}

/// Waits for the lock.
///
/// # Errors
/// The lock's directory can't be made or opened.
pub fn lock(pins: &Pins, role: Role) -> Result<Lock> {
    take(pins, role, FlockArg::LockExclusive)?.context("flock gave no lock")
}

/// Whether another process holds the lock now.
///
/// # Errors
/// The lock's directory exists and can't be opened.
pub fn is_held(pins: &Pins, role: Role) -> Result<bool> {
    let path = role.directory(pins);
    let file = match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        file => file.with_context(|| format!("opening {}", path.display()))?,
    };
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(_) => Ok(false),
        Err((_, Errno::EWOULDBLOCK)) => Ok(true),
        Err((_, errno)) => Err(errno).context("flock"),
    }
}

/// Removes the lock directories, for the loader that leaves. A held lock stays held.
///
/// # Errors
/// A directory that can't be removed.
pub fn remove(pins: &Pins) -> Result<()> {
    for role in [Role::Change, Role::Injector, Role::Loader] {
        let path = role.directory(pins);
        if path.exists() {
            fs::remove_dir(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    Ok(())
}
