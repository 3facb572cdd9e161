//! Reading and writing capture files.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use pcap_parser::pcapng::Block;
use pcap_parser::{InterfaceDescriptionBlock, Linktype, PcapBlockOwned, PcapError, create_reader};

use crate::capture::Frame;

const BUFFER: usize = 1 << 20;

/// Reads all frames of a pcap or pcapng file, with as many bytes as were captured of each.
pub fn read_pcap(path: impl AsRef<Path>) -> Result<Vec<Frame>> {
    let path = path.as_ref();
    read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Writes a pcap file with nanosecond timestamps.
pub fn write_pcap(path: impl AsRef<Path>, frames: &[Frame]) -> Result<()> {
    let path = path.as_ref();
    write(path, frames).with_context(|| format!("cannot write {}", path.display()))
}

fn read(path: &Path) -> Result<Vec<Frame>> {
    let mut reader = create_reader(BUFFER, File::open(path)?).map_err(describe)?;
    let mut frames = Vec::new();
    let mut clocks = Vec::new();
    let mut nanoseconds = false;
    loop {
        match reader.next() {
            Ok((consumed, block)) => {
                match block {
                    PcapBlockOwned::LegacyHeader(header) => {
                        ensure_ethernet(header.network)?;
                        nanoseconds = header.is_nanosecond_precision();
                    }
                    PcapBlockOwned::Legacy(packet) => {
                        let unit = if nanoseconds { 1 } else { 1000 };
                        let seconds = Duration::from_secs(packet.ts_sec.into());
                        let time = seconds + Duration::from_nanos(u64::from(packet.ts_usec) * unit);
                        frames.push(frame(packet.data, packet.caplen, time)?);
                    }
                    PcapBlockOwned::NG(block) => read_block(&block, &mut clocks, &mut frames)?,
                }
                reader.consume(consumed);
            }
            Err(PcapError::Eof) => return Ok(frames),
            Err(PcapError::Incomplete(_)) => reader.refill().map_err(describe)?,
            Err(error) => return Err(describe(error)),
        }
    }
}

/// Timestamp units of a pcapng interface.
struct Clock {
    per_second: u64,
    offset: i64,
}

impl Clock {
    fn of(interface: &InterfaceDescriptionBlock<'_>) -> Self {
        let per_second = interface.ts_resolution().filter(|&units| units > 0);
        Self { per_second: per_second.unwrap_or(1_000_000), offset: interface.if_tsoffset }
    }

    fn time(&self, high: u32, low: u32) -> Duration {
        let units = u64::from(high) << 32 | u64::from(low);
        let seconds = (units / self.per_second).saturating_add_signed(self.offset);
        let rest = u128::from(units % self.per_second) * 1_000_000_000;
        Duration::new(seconds, (rest / u128::from(self.per_second)) as u32)
    }
}

fn read_block(block: &Block<'_>, clocks: &mut Vec<Clock>, frames: &mut Vec<Frame>) -> Result<()> {
    match block {
        Block::SectionHeader(_) => clocks.clear(),
        Block::InterfaceDescription(interface) => {
            ensure_ethernet(interface.linktype)?;
            clocks.push(Clock::of(interface));
        }
        Block::EnhancedPacket(packet) => {
            let clock = clocks.get(packet.if_id as usize).context("a packet of no interface")?;
            let time = clock.time(packet.ts_high, packet.ts_low);
            frames.push(frame(packet.data, packet.caplen, time)?);
        }
        Block::SimplePacket(packet) => {
            let length = (packet.data.len() as u32).min(packet.origlen);
            frames.push(frame(packet.data, length, Duration::ZERO)?);
        }
        _ => {}
    }
    Ok(())
}

/// The data of a pcapng block is padded; `length` says how much of it is the frame.
fn frame(data: &[u8], length: u32, timestamp: Duration) -> Result<Frame> {
    let bytes = data.get(..length as usize).context("a packet longer than its block")?;
    Ok(Frame { bytes: bytes.to_vec(), timestamp, outgoing: false })
}

/// The upper half of the field may tell the length of a frame check sequence.
fn ensure_ethernet(link: Linktype) -> Result<()> {
    let kind = link.0 & 0xffff;
    if Linktype(kind) != Linktype::ETHERNET {
        bail!("link type {kind} is not Ethernet");
    }
    Ok(())
}

fn describe<T: std::fmt::Debug>(error: T) -> anyhow::Error {
    anyhow::anyhow!("not a readable pcap or pcapng file: {error:?}")
}

fn write(path: &Path, frames: &[Frame]) -> Result<()> {
    const NANOSECOND_MAGIC: u32 = 0xa1b2_3c4d;
    let mut file = BufWriter::new(File::create(path)?);
    let ethernet = Linktype::ETHERNET.0.cast_unsigned();
    // Magic, version 2.4, time zone, accuracy, longest frame, link type.
    for word in [NANOSECOND_MAGIC, 4 << 16 | 2, 0, 0, 262_144, ethernet] {
        file.write_all(&word.to_le_bytes())?;
    }
    for frame in frames {
        let (time, length) = (frame.timestamp, frame.bytes.len() as u32);
        for word in [time.as_secs() as u32, time.subsec_nanos(), length, length] {
            file.write_all(&word.to_le_bytes())?;
        }
        file.write_all(&frame.bytes)?;
    }
    Ok(file.flush()?)
}
