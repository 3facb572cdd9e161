//! A lab's own directory in the BPF file system.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

const ROOT: &str = "/sys/fs/bpf";
const PREFIX: &str = "vxlan-lab-";

/// `/sys/fs/bpf/vxlan-lab-<pid>-<n>`, removed with all its pins on drop.
#[derive(Debug)]
pub(crate) struct PinDirectory(PathBuf);

impl PinDirectory {
    pub(crate) fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        mount_bpf_file_system()?;
        sweep();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(ROOT).join(format!("{PREFIX}{}-{number}", process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for PinDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn mount_bpf_file_system() -> Result<()> {
    if statfs(ROOT).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC) {
        return Ok(());
    }
    mount(Some("bpf"), ROOT, Some("bpf"), MsFlags::empty(), None::<&str>)
        .with_context(|| format!("cannot mount the BPF file system on {ROOT}"))
}

/// Removes what labs left behind whose process was killed.
fn sweep() {
    let Ok(entries) = fs::read_dir(ROOT) else { return };
    for entry in entries.flatten() {
        let owner = entry.file_name().to_str().and_then(owner_of);
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn owner_of(directory: &str) -> Option<u32> {
    directory.strip_prefix(PREFIX)?.split_once('-')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::owner_of;

    #[test]
    fn the_owner_is_in_the_name() {
        assert_eq!(owner_of("vxlan-lab-123-0"), Some(123));
        assert_eq!(owner_of("vxlan-lab-x-0"), None);
        assert_eq!(owner_of("vxlan_link"), None);
    }
}
