//! Opening, sizing, loading and pinning the BPF object.

use std::mem::MaybeUninit;
use std::sync::Mutex;

use anyhow::{Context, Result, anyhow, ensure};
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use libbpf_rs::{MapCore, MapHandle, OpenObject, PrintLevel, ProgramInput};

use crate::abi::program_config;
use crate::attach::{self, Mode, XdpLink};
use crate::{MapName, Pins};

/// What libbpf-cargo generates from the object.
#[allow(missing_docs, clippy::all, clippy::pedantic, clippy::undocumented_unsafe_blocks)]
pub mod skel {
    include!(concat!(env!("OUT_DIR"), "/vxlan_pipeline.skel.rs"));
}

/// The loaded program and its maps.
pub struct Pipeline {
    skel: skel::VxlanPipelineSkel<'static>,
}

/// Sizes of the maps that the configuration sizes.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Bytes of the ring between program and injector (`RING_BUFFER_SIZE`).
    pub ring_bytes: u32,
    /// Translated flows that are remembered (`CONNTRACK_SIZE`).
    pub conntrack_entries: u32,
}

/// What a test run of the program gave.
#[derive(Clone, Debug)]
pub struct TestRun {
    /// `XDP_PASS`, `XDP_DROP`, ...
    pub action: u32,
    /// The packet after the program.
    pub packet: Vec<u8>,
    /// Mean duration of a run, nanoseconds.
    pub nanoseconds: u64,
}

/// Lines that libbpf wants to say, kept for the error that follows them.
static LIBBPF_LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn keep_line(_: PrintLevel, line: String) {
    if let Ok(mut lines) = LIBBPF_LINES.lock() {
        lines.push(line.trim_end().to_string());
    }
}

/// The last lines that libbpf said, for an error's text.
fn libbpf_lines() -> String {
    let lines =
        LIBBPF_LINES.lock().map(|mut lines| std::mem::take(&mut *lines)).unwrap_or_default();
    lines[lines.len().saturating_sub(12)..].iter().map(|line| format!("\n  {line}")).collect()
}

impl Pipeline {
    /// Loads the program and pins its maps. Maps that are pinned already are taken over, with
    /// what they hold; otherwise they are new and empty.
    ///
    /// # Errors
    /// A map that is pinned has another size, or the kernel refuses the object; the text has
    /// what libbpf said. Pins made here stay: the caller removes them.
    pub fn load(config: program_config, sizes: Sizes, pins: &Pins) -> Result<Self> {
        check_sizes(sizes, pins)?;
        libbpf_rs::set_print(Some((PrintLevel::Warn, keep_line)));
        let storage = Box::leak(Box::new(MaybeUninit::<OpenObject>::uninit()));
        let mut open = skel::VxlanPipelineSkelBuilder::default()
            .open(storage)
            .map_err(|error| anyhow!("opening the BPF object: {error}{}", libbpf_lines()))?;
        open.maps.rodata_data.as_deref_mut().context("the object has no .rodata")?.config = config;
        open.maps.packet_ringbuf.set_max_entries(sizes.ring_bytes)?;
        open.maps.conntrack_map.set_max_entries(sizes.conntrack_entries)?;
        for mut map in open.open_object_mut().maps_mut() {
            let name = map.name().to_string_lossy().into_owned();
            if let Some(name) = MapName::ALL.into_iter().find(|known| known.0 == name) {
                map.set_pin_path(pins.map(name))?;
            }
        }
        let skel = open
            .load()
            .map_err(|error| anyhow!("loading the XDP program: {error}{}", libbpf_lines()))?;
        Ok(Self { skel })
    }

    /// Attaches the program to an interface and pins the link.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn attach(&self, ifindex: u32, mode: Mode, pins: &Pins) -> std::io::Result<XdpLink> {
        use std::os::fd::AsFd;
        attach::attach(self.skel.progs.vxlan_pipeline.as_fd(), ifindex, mode, &pins.link())
    }

    /// Puts the program in the place of the one that the link holds, without a gap.
    ///
    /// # Errors
    /// The kernel's refusal; the old program stays.
    pub fn replace(&self, link: &mut XdpLink) -> Result<()> {
        link.replace(&self.skel.progs.vxlan_pipeline)
    }

    /// A handle on one of its maps.
    ///
    /// # Errors
    /// No more file descriptors.
    pub fn map(&self, name: MapName) -> Result<MapHandle> {
        let map = self.skel.object().maps().find(|map| map.name() == name.0);
        MapHandle::try_from(&map.with_context(|| format!("the object has no map {name}"))?)
            .with_context(|| format!("map {name}"))
    }

    /// Runs the program on a packet that is nowhere else (`BPF_PROG_TEST_RUN`).
    ///
    /// # Errors
    /// The kernel refuses the packet, for one shorter than an Ethernet header.
    pub fn test_run(&self, packet: &[u8], repeat: u32) -> Result<TestRun> {
        let mut out = vec![0; packet.len() + 512];
        let output = self.skel.progs.vxlan_pipeline.test_run(ProgramInput {
            data_in: Some(packet),
            data_out: Some(&mut out),
            repeat,
            ..Default::default()
        })?;
        Ok(TestRun {
            action: output.return_value,
            packet: output.data.map(|data| data.to_vec()).unwrap_or_default(),
            nanoseconds: output.duration.as_nanos() as u64,
        })
    }
}

fn check_sizes(sizes: Sizes, pins: &Pins) -> Result<()> {
    let directory = pins.directory().display();
    if let Some(bytes) = pinned_entries(MapName::RING, pins)? {
        ensure!(
            bytes == sizes.ring_bytes,
            "RING_BUFFER_SIZE={}, but the ring pinned under {directory} has {bytes} bytes and holds \
             traffic: keep RING_BUFFER_SIZE={bytes}, or stop the pipeline first",
            sizes.ring_bytes
        );
    }
    if let Some(entries) = pinned_entries(MapName::CONNTRACK, pins)? {
        ensure!(
            entries == sizes.conntrack_entries,
            "CONNTRACK_SIZE={}, but the table of flows pinned under {directory} has room for \
             {entries} and holds those that are translated: keep CONNTRACK_SIZE={entries}, or stop \
             the pipeline first",
            sizes.conntrack_entries
        );
    }
    Ok(())
}

/// Number of entries of a pinned map (of a ring, bytes); `None`: it is not pinned.
fn pinned_entries(name: MapName, pins: &Pins) -> Result<Option<u32>> {
    if !pins.map(name).exists() {
        return Ok(None);
    }
    Ok(Some(pins.open(name)?.max_entries()))
}
