//! A directory for the pins of one test, gone when the test is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

const ROOT: &str = "/sys/fs/bpf";
const PREFIX: &str = "program-test-";

/// `/sys/fs/bpf/program-test-<pid>-<n>`, removed with all its pins on drop.
pub struct PinDirectory(PathBuf);

impl PinDirectory {
    pub fn new() -> Self {
        static PREPARE: Once = Once::new();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        PREPARE.call_once(|| {
            mount_bpf_file_system();
            sweep();
        });
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(ROOT).join(format!("{PREFIX}{}-{number}", process::id()));
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for PinDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn mount_bpf_file_system() {
    if statfs(ROOT).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC) {
        return;
    }
    mount(Some("bpf"), ROOT, Some("bpf"), MsFlags::empty(), None::<&str>)
        .expect("mounting the BPF file system on /sys/fs/bpf");
}

/// Removes what runs left behind that were killed.
fn sweep() {
    for entry in fs::read_dir(ROOT).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let owner = owner.and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
