//! What a pipeline leaves in the file system: pins, locks, the directory. A start that fails
//! removes what it made, a clean stop removes everything.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dataplane::control::Control;
use dataplane::lock::{self, Lock, Role};
use dataplane::{MapName, Pins};

/// Directory, lock and pins. Dropped before [`Traces::keep`], what this process made goes away.
pub struct Traces {
    pins: Pins,
    made: Vec<PathBuf>,
    lock: Option<Lock>,
    /// Whether the pins there are made by this process.
    fresh: bool,
    keep: bool,
}

impl Traces {
    /// Prepares `PIN_DIR` and takes the loader's lock.
    ///
    /// # Errors
    /// The directory can't be used, or another loader runs.
    pub fn claim(pins: Pins) -> Result<Self> {
        let made = missing(pins.directory());
        let mut traces = Self { pins, made, lock: None, fresh: false, keep: false };
        traces.pins.prepare()?;
        traces.lock = lock::try_lock(&traces.pins, Role::Loader)?;
        if traces.lock.is_none() {
            bail!(already_running(&traces.pins));
        }
        traces.fresh = traces.pins.existing().is_empty();
        Ok(traces)
    }

    /// Whether there were no pins: this process makes them.
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// The start has succeeded: what is there stays, even when this process dies.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// Removes pins, locks, and the directory if this process made it.
    ///
    /// # Errors
    /// What can't be removed.
    pub fn remove(mut self) -> Result<()> {
        self.keep = true;
        self.pins.remove()?;
        self.remove_rest()
    }

    fn remove_rest(&mut self) -> Result<()> {
        lock::remove(&self.pins)?;
        self.lock = None;
        for directory in &self.made {
            fs::remove_dir(directory)
                .with_context(|| format!("removing {}", directory.display()))?;
        }
        Ok(())
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        // The failure that led here is what is told.
        if self.fresh && self.lock.is_some() {
            let _ = self.pins.remove();
            let _ = self.remove_rest();
        } else {
            self.made.iter().for_each(|directory| drop(fs::remove_dir(directory)));
        }
    }
}

/// The directories that have to be made for `directory`, the innermost first.
fn missing(directory: &Path) -> Vec<PathBuf> {
    let ancestors = directory.ancestors().take_while(|ancestor| !ancestor.exists());
    ancestors.map(Path::to_path_buf).collect()
}

fn already_running(pins: &Pins) -> String {
    let control = pins.open(MapName::CONTROL).and_then(|map| Control::new(&map));
    let pid = control.map(|control| control.loader_pid()).unwrap_or_default();
    let process = if pid == 0 { String::new() } else { format!(" (process {pid})") };
    format!(
        "another vxlan-loader{process} runs the pipeline under PIN_DIR {}: stop it first, or set \
         PIN_DIR to another directory for another instance",
        pins.directory().display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_that_are_not_there_are_made() {
        assert_eq!(missing(Path::new("/")), Vec::<PathBuf>::new());
        assert_eq!(
            missing(Path::new("/proc/no-such/deeper")),
            [PathBuf::from("/proc/no-such/deeper"), PathBuf::from("/proc/no-such")]
        );
    }
}
