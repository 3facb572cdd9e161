//! The one entry of `control_map`: which generation of each list counts.

use std::mem::offset_of;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use anyhow::Result;

use crate::abi::{ABI_MAGIC, ABI_VERSION, control};
use crate::shared::Shared;
use crate::{MapName, Pins};

/// How long fragments are waited for while nobody has said so: as long as Linux does
/// (net.ipv4.ipfrag_time).
const DEFAULT_FRAGMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// `control_map`, mapped.
pub struct Control {
    map: Shared<control>,
}

/// The active NAT rules: generation, and which kinds of rule it holds (bitmap of `NAT_SHAPE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatActive {
    /// Generation in the keys of `nat_map`.
    pub generation: u8,
    /// Bitmap of `NAT_SHAPE_*`; 0: there are no rules.
    pub shapes: u32,
}

impl Control {
    /// Maps the pinned control map.
    ///
    /// # Errors
    /// See [`Pins::open`].
    pub fn open(pins: &Pins) -> Result<Self> {
        Self::new(&pins.open(MapName::CONTROL)?)
    }

    /// Maps a control map whose layout is known to fit.
    ///
    /// # Errors
    /// The kernel refuses the mapping.
    pub fn new(map: &libbpf_rs::MapHandle) -> Result<Self> {
        Ok(Self { map: Shared::map(map)? })
    }

    /// A control map of zeroes that no other process sees, to test what works on one.
    ///
    /// # Errors
    /// The kernel has no memory.
    #[cfg(feature = "testing")]
    pub fn private() -> Result<Self> {
        Ok(Self { map: Shared::private(1)? })
    }

    /// Marks the map as being of this layout; the last step of initialising the maps.
    pub fn stamp(&self) {
        self.map.u32_at(0, offset_of!(control, version)).store(ABI_VERSION, Relaxed);
        self.map.u32_at(0, offset_of!(control, magic)).store(ABI_MAGIC, Release);
    }

    /// Generation of the allowlist that counts.
    pub fn allowlist_generation(&self) -> u32 {
        self.map.u32_at(0, offset_of!(control, allowlist_generation)).load(Acquire)
    }

    /// Makes another generation of the allowlist count.
    pub fn set_allowlist_generation(&self, generation: u32) {
        self.map.u32_at(0, offset_of!(control, allowlist_generation)).store(generation, Release);
    }

    /// `CONTROL_VNI_ANY`, or the generation of the accepted VNIs that counts.
    pub fn vni_active(&self) -> u32 {
        self.map.u32_at(0, offset_of!(control, vni_active)).load(Acquire)
    }

    /// Makes another set of accepted VNIs count.
    pub fn set_vni_active(&self, active: u32) {
        self.map.u32_at(0, offset_of!(control, vni_active)).store(active, Release);
    }

    /// The NAT rules that count.
    pub fn nat_active(&self) -> NatActive {
        let word = self.map.u64_at(0, offset_of!(control, nat_active)).load(Acquire);
        NatActive { generation: (word >> 32) as u8, shapes: word as u32 }
    }

    /// Makes another set of NAT rules count.
    pub fn set_nat_active(&self, active: NatActive) {
        let word = u64::from(active.generation) << 32 | u64::from(active.shapes);
        self.map.u64_at(0, offset_of!(control, nat_active)).store(word, Release);
    }

    /// A serial for an entry of `target_map`: another one each time, never 0. The caller holds
    /// [`crate::lock::Role::Change`].
    pub fn next_target_serial(&self) -> u32 {
        let last = self.map.u32_at(0, offset_of!(control, target_serial));
        let serial = last.load(Relaxed).wrapping_add(1).max(1);
        last.store(serial, Relaxed);
        serial
    }

    /// How many entries of `conntrack_map` were removed on request.
    pub fn conntrack_flushed(&self) -> u64 {
        self.map.u64_at(0, offset_of!(control, conntrack_flushed)).load(Acquire)
    }

    /// Counts entries of `conntrack_map` that were removed on request.
    pub fn add_conntrack_flushed(&self, entries: u64) {
        self.map.u64_at(0, offset_of!(control, conntrack_flushed)).fetch_add(entries, Release);
    }

    /// Asks the loader to resolve the next hops of new NAT targets.
    pub fn request_refresh(&self) {
        self.map.u32_at(0, offset_of!(control, refresh_requests)).fetch_add(1, Release);
    }

    /// How often a refresh was asked for.
    pub fn refresh_requests(&self) -> u32 {
        self.map.u32_at(0, offset_of!(control, refresh_requests)).load(Acquire)
    }

    /// How long the injector waits for the rest of a fragmented datagram.
    pub fn fragment_timeout(&self) -> Duration {
        match self.map.u32_at(0, offset_of!(control, fragment_timeout_ms)).load(Relaxed) {
            0 => DEFAULT_FRAGMENT_TIMEOUT,
            milliseconds => Duration::from_millis(milliseconds.into()),
        }
    }

    /// Sets that time, to the millisecond, of which it has at least one.
    pub fn set_fragment_timeout(&self, timeout: Duration) {
        let milliseconds = timeout.as_millis().clamp(1, u32::MAX.into()) as u32;
        self.map.u32_at(0, offset_of!(control, fragment_timeout_ms)).store(milliseconds, Relaxed);
    }

    /// Process ID of the loader that owns the pipeline.
    pub fn loader_pid(&self) -> u32 {
        self.map.u32_at(0, offset_of!(control, loader_pid)).load(Relaxed)
    }

    /// Says who owns the pipeline.
    pub fn set_loader_pid(&self, pid: u32) {
        self.map.u32_at(0, offset_of!(control, loader_pid)).store(pid, Relaxed);
    }
}
