//! Who may do what: one loader and one injector a pipeline, one change of its lists at a time.
//!
//! A lock is `flock(2)` on a directory beside the pins: it is where the pins are, whatever the
//! mount or network namespace of the process, and the kernel lets go of it when the holder dies.

use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::PathBuf;
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

fn open(pins: &Pins, role: Role) -> Result<File> {
    let path = role.directory(pins);
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("creating {}", path.display()));
        }
        _ => {}
    }
    // Anybody may create files in /sys/fs/bpf, and who owns a lock could keep us out for ever.
    let owner = fs::symlink_metadata(&path).with_context(|| path.display().to_string())?.uid();
    ensure!(
        owner == geteuid().as_raw(),
        "{} belongs to user {owner}, not to this one: remove it, or choose another PIN_DIR",
        path.display()
    );
    File::open(&path).with_context(|| format!("opening {}", path.display()))
}

/// Takes the lock, or returns `None` when another process holds it.
///
/// # Errors
/// The lock's directory can't be made or opened.
pub fn try_lock(pins: &Pins, role: Role) -> Result<Option<Lock>> {
    for attempt in 0..5 {
        match Flock::lock(open(pins, role)?, FlockArg::LockExclusiveNonblock) {
            Ok(file) => return Ok(Some(Lock { _file: file })),
            // `is_held` takes the lock for a moment.
            Err((_, Errno::EWOULDBLOCK)) if attempt < 4 => sleep(Duration::from_millis(10)),
            Err((_, Errno::EWOULDBLOCK)) => {}
            Err((_, errno)) => return Err(errno).context("flock"),
        }
    }
    Ok(None)
}

/// Waits for the lock.
///
/// # Errors
/// The lock's directory can't be made or opened.
pub fn lock(pins: &Pins, role: Role) -> Result<Lock> {
    Flock::lock(open(pins, role)?, FlockArg::LockExclusive)
        .map(|file| Lock { _file: file })
        .map_err(|(_, errno)| errno)
        .context("flock")
}

/// Whether another process holds the lock now.
///
/// # Errors
/// The lock's directory exists and can't be opened.
pub fn is_held(pins: &Pins, role: Role) -> Result<bool> {
    if !role.directory(pins).exists() {
        return Ok(false);
    }
    match Flock::lock(open(pins, role)?, FlockArg::LockSharedNonblock) {
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
