//! The pins: where the running pipeline's maps and link are found, and whether they fit.

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::abi::{ABI_MAGIC, ABI_VERSION};
use crate::plain;

/// A map by its name in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapName(pub &'static str);

impl MapName {
    /// Counters of the XDP program, per CPU.
    pub const STATS: Self = Self("stats_map");
    /// What userspace changes while traffic flows.
    pub const CONTROL: Self = Self("control_map");
    /// Ingress and egress interface.
    pub const INTERFACES: Self = Self("interface_map");
    /// IPv4 allowlist.
    pub const ALLOWLIST: Self = Self("ip_allowlist");
    /// IPv6 allowlist.
    pub const ALLOWLIST_V6: Self = Self("ip_allowlist_v6");
    /// NAT rules.
    pub const NAT: Self = Self("nat_map");
    /// Targets of the NAT rules, with their next hops.
    pub const TARGETS: Self = Self("target_map");
    /// Look-up tables of NAT rules with several targets.
    pub const MAGLEV: Self = Self("maglev_map");
    /// Translated flows.
    pub const CONNTRACK: Self = Self("conntrack_map");
    /// Next hops of untranslated frames (REWRITE_L2=all).
    pub const NEXT_HOPS: Self = Self("next_hop_map");
    /// Accepted VNIs.
    pub const VNI: Self = Self("vni_map");
    /// VNIs that packets carried, the first with their lower bits.
    pub const VNI_SLOTS: Self = Self("vni_slots");
    /// VNIs that packets carried, the others.
    pub const VNI_SEEN: Self = Self("vni_seen");
    /// Ports of inner datagrams whose fragments are under way.
    pub const FRAGMENTS: Self = Self("fragment_map");
    /// Inner packets that were forwarded a moment ago.
    pub const DEDUP: Self = Self("dedup_map");
    /// Security events for the loader.
    pub const EVENTS: Self = Self("event_ringbuf");
    /// Security events of the running second.
    pub const EVENT_BUDGET: Self = Self("event_map");
    /// Frames for the injector.
    pub const RING: Self = Self("packet_ringbuf");
    /// What a restarted injector must know.
    pub const INJECTOR: Self = Self("injector_map");
    /// Counters of the injector's workers.
    pub const WORKERS: Self = Self("worker_map");

    /// Every map that is pinned.
    pub const ALL: [Self; 20] = [
        Self::STATS,
        Self::CONTROL,
        Self::INTERFACES,
        Self::ALLOWLIST,
        Self::ALLOWLIST_V6,
        Self::NAT,
        Self::TARGETS,
        Self::MAGLEV,
        Self::CONNTRACK,
        Self::NEXT_HOPS,
        Self::VNI,
        Self::VNI_SLOTS,
        Self::VNI_SEEN,
        Self::FRAGMENTS,
        Self::DEDUP,
        Self::EVENTS,
        Self::EVENT_BUDGET,
        Self::RING,
        Self::INJECTOR,
        Self::WORKERS,
    ];
}

impl fmt::Display for MapName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The directory on the BPF file system (`PIN_DIR`) that holds one pipeline's pins.
#[derive(Clone, Debug)]
pub struct Pins {
    directory: PathBuf,
}

impl Pins {
    /// Pins below `directory`; nothing is touched yet.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// `PIN_DIR`.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Pin of a map.
    pub fn map(&self, name: MapName) -> PathBuf {
        self.directory.join(format!("vxlan_{name}"))
    }

    /// Pin of the XDP link.
    pub fn link(&self) -> PathBuf {
        self.directory.join("vxlan_link")
    }

    /// Pins of this pipeline that exist, the link first.
    pub fn existing(&self) -> Vec<PathBuf> {
        std::iter::once(self.link())
            .chain(MapName::ALL.into_iter().map(|name| self.map(name)))
            .filter(|path| path.exists())
            .collect()
    }

    /// Creates the directory if need be.
    ///
    /// # Errors
    /// The directory can't be made or is not on a BPF file system.
    pub fn prepare(&self) -> Result<()> {
        let directory = self.directory.display();
        fs::create_dir_all(&self.directory)
            .with_context(|| format!("PIN_DIR {directory} can't be created"))?;
        let file_system =
            statfs(&self.directory).with_context(|| format!("PIN_DIR {directory}"))?;
        if file_system.filesystem_type() != BPF_FS_MAGIC {
            bail!(
                "PIN_DIR {directory} is not on a BPF file system: mount one there \
                 (mount -t bpf bpf /sys/fs/bpf) or set PIN_DIR to a directory below one"
            );
        }
        Ok(())
    }

    /// Opens the pinned map.
    ///
    /// # Errors
    /// No pipeline is pinned here, its layout is another version's, or the privileges are missing.
    pub fn open(&self, name: MapName) -> Result<MapHandle> {
        self.check_layout()?;
        self.open_unchecked(name)
    }

    fn open_unchecked(&self, name: MapName) -> Result<MapHandle> {
        let path = self.map(name);
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => bail!(
                "no pin {}: no pipeline is running under PIN_DIR {}; start it with vxlan-loader, \
                 or set PIN_DIR to where it is pinned",
                path.display(),
                self.directory.display()
            ),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                bail!("{}: {error}; run this as root", path.display())
            }
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
            Ok(_) => {}
        }
        MapHandle::from_pinned_path(&path).map_err(|error| {
            let hint = match error.kind() {
                libbpf_rs::ErrorKind::PermissionDenied => "; run this as root",
                _ => "",
            };
            anyhow!("opening pin {}: {error}{hint}", path.display())
        })
    }

    /// Whether the pins that exist were made by a program of the same layout.
    ///
    /// # Errors
    /// Names the layout that was found and how to clear it.
    pub fn check_layout(&self) -> Result<()> {
        let control = self.open_unchecked(MapName::CONTROL)?;
        let value = control
            .lookup(&0u32.to_ne_bytes(), MapFlags::ANY)
            .context("reading control_map")?
            .unwrap_or_default();
        let word = |index: usize| {
            value.get(4 * index..).and_then(plain::from_bytes::<u32>).unwrap_or_default()
        };
        let (magic, version) = (word(0), word(1));
        if magic == ABI_MAGIC && version == ABI_VERSION {
            return Ok(());
        }
        let found = if magic == ABI_MAGIC {
            format!("layout version {version}")
        } else {
            "an unknown layout".to_string()
        };
        bail!(
            "the pins under {} are of {found}, this program knows version {ABI_VERSION}: stop that \
             pipeline with its own vxlan-loader (SIGTERM), or clear its pins with: rm -r {}/vxlan_*",
            self.directory.display(),
            self.directory.display()
        )
    }

    /// Removes every pin of this pipeline, the link first, so that no packet meets half of it.
    ///
    /// # Errors
    /// The first pin that can't be removed.
    pub fn remove(&self) -> Result<()> {
        for path in self.existing() {
            fs::remove_file(&path).with_context(|| format!("removing pin {}", path.display()))?;
        }
        Ok(())
    }
}
