//! The BPF ring buffer (`BPF_MAP_TYPE_RINGBUF`, kernel/bpf/ringbuf.c) as its one consumer sees it.
//!
//! Not libbpf's ring buffer manager: that releases a record when a callback returns, while here a
//! record is released after its frame has been sent, in order, possibly by another thread.
//! The layout is kernel ABI: a page with the consumer's position, a page with the producer's, and
//! the data area, mapped twice in a row so that every record is contiguous.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use anyhow::{Context, Result};
use libbpf_rs::{MapCore, MapHandle};
use memmap2::{MmapOptions, MmapRaw};

use crate::abi::{FRAME_HAS_INFO, frame_info, frame_record};
use crate::plain::Plain;

/// Set in a record's length while the kernel still writes it (include/uapi/linux/bpf.h).
const BUSY: u32 = libbpf_sys::BPF_RINGBUF_BUSY_BIT;
/// Set in a record's length when the kernel took it back.
const DISCARD: u32 = libbpf_sys::BPF_RINGBUF_DISCARD_BIT;
/// Header that the kernel puts before each record.
const HEADER: u64 = libbpf_sys::BPF_RINGBUF_HDR_SZ as u64;

/// A frame that stands in the ring, until its record is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRef {
    /// Offset of the first byte in the data area.
    offset: u32,
    /// Bytes.
    pub len: u16,
    /// Whether [`Ring::info`] says more about it: it can't just be sent.
    pub has_info: bool,
    /// Equal for all packets of a flow.
    pub flow_hash: u32,
}

impl FrameRef {
    /// Where the info stands in the data area: records begin at multiples of 8.
    fn info_offset(self) -> u64 {
        (u64::from(self.offset) + u64::from(self.len)).next_multiple_of(8)
    }
}

/// A committed record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Position behind the record: releasing it lets the kernel write over the record.
    pub end: u64,
    /// The frame, unless the kernel took the record back.
    pub frame: Option<FrameRef>,
}

/// What waits in the ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Fill {
    /// Committed records that hold a frame.
    pub records: u64,
    /// Bytes between the two positions.
    pub bytes: u64,
    /// Bytes of the data area.
    pub size: u64,
}

/// The mapped ring.
pub struct Ring {
    consumer: MmapRaw,
    producer_and_data: MmapRaw,
    page: usize,
    size: u64,
}

impl Ring {
    /// Maps the ring for its one consumer (see [`crate::lock::Role::Injector`]).
    ///
    /// # Errors
    /// The kernel refuses the mapping.
    pub fn consume(map: &MapHandle) -> Result<Self> {
        let (fd, size) = (map.as_fd(), map.max_entries());
        Self::map(fd, size, MmapOptions::new().len(page_size()).map_raw(&fd))
    }

    /// Maps the ring for somebody who only looks. [`Ring::release`] must not be called.
    ///
    /// # Errors
    /// The kernel refuses the mapping.
    pub fn observe(map: &MapHandle) -> Result<Self> {
        let (fd, size) = (map.as_fd(), map.max_entries());
        Self::map(fd, size, MmapOptions::new().len(page_size()).map_raw_read_only(&fd))
    }

    /// Maps a file that has the layout of a ring of `size` bytes, to test what works on one.
    ///
    /// # Errors
    /// The kernel refuses the mapping.
    #[cfg(feature = "testing")]
    pub fn of_file(file: &std::fs::File, size: u32) -> Result<Self> {
        Self::map(file.as_fd(), size, MmapOptions::new().len(page_size()).map_raw(file))
    }

    fn map(fd: BorrowedFd<'_>, size: u32, consumer: io::Result<MmapRaw>) -> Result<Self> {
        let page = page_size();
        let consumer = consumer.context("mapping the ring's consumer position")?;
        let producer_and_data = MmapOptions::new()
            .offset(page as u64)
            .len(page + 2 * size as usize)
            .map_raw_read_only(&fd)
            .context("mapping the ring's data")?;
        Ok(Self { consumer, producer_and_data, page, size: size.into() })
    }

    /// Position up to which records were released.
    pub fn consumer_position(&self) -> u64 {
        self.consumer_word().load(Ordering::Acquire)
    }

    /// Position up to which the kernel has reserved records.
    pub fn producer_position(&self) -> u64 {
        // SAFETY: the mapping starts with the producer's page, whose first word this is; the
        // kernel writes it atomically and the mapping lives as long as `self`.
        unsafe { AtomicU64::from_ptr(self.producer_and_data.as_mut_ptr().cast()) }
            .load(Ordering::Acquire)
    }

    /// The record at `position`, if the kernel has committed one there. `producer` is a value of
    /// [`Ring::producer_position`], read before.
    pub fn record_at(&self, position: u64, producer: u64) -> Option<Record> {
        if position >= producer {
            return None;
        }
        let offset = position & (self.size - 1);
        // SAFETY: offset is inside the data area and a multiple of 8, since positions are; the
        // kernel accesses a record's length atomically.
        let len = unsafe { AtomicU32::from_ptr(self.data(offset).cast()) }.load(Ordering::Acquire);
        if len & BUSY != 0 {
            return None;
        }
        let bytes = u64::from(len & !DISCARD);
        let end = position + (HEADER + bytes).next_multiple_of(8);
        let frame = if len & DISCARD != 0 { None } else { self.frame(offset + HEADER, bytes) };
        Some(Record { end, frame })
    }

    /// The frame of a committed record whose payload has `bytes` bytes at `offset`.
    fn frame(&self, offset: u64, bytes: u64) -> Option<FrameRef> {
        let header: frame_record = self.read(offset)?;
        let start = offset + size_of::<frame_record>() as u64;
        let has_info = u32::from(header.flags) & FRAME_HAS_INFO != 0;
        let frame = FrameRef {
            offset: start as u32,
            len: header.frame_len,
            has_info,
            flow_hash: header.flow_hash,
        };
        let end = if has_info {
            frame.info_offset() + size_of::<frame_info>() as u64
        } else {
            start + u64::from(header.frame_len)
        };
        (end <= offset + bytes).then_some(frame)
    }

    /// What the program says of a frame that has an info.
    pub fn info(&self, frame: FrameRef) -> Option<frame_info> {
        if frame.has_info { self.read(frame.info_offset()) } else { None }
    }

    /// Makes `to` the bytes of a frame whose record was not released yet.
    ///
    /// # Panics
    /// The frame is of another ring, a larger one.
    pub fn copy(&self, frame: FrameRef, to: &mut Vec<u8>) {
        let len = usize::from(frame.len);
        assert!(u64::from(frame.offset) + len as u64 <= 2 * self.size);
        to.clear();
        to.reserve(len);
        // SAFETY: the bytes are inside the mapping, any of them is a `u8`, and the kernel writes
        // to a record no more until it is released; `to` is other memory, with room for all.
        unsafe {
            let from = self.data(u64::from(frame.offset));
            std::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), len);
            to.set_len(len);
        }
    }

    fn read<T: Plain>(&self, offset: u64) -> Option<T> {
        if offset + size_of::<T>() as u64 > 2 * self.size {
            return None;
        }
        // SAFETY: inside the mapping; the kernel writes a committed record no more until it is
        // released, and an observer that comes too late reads bytes, which any `Plain` may be.
        Some(unsafe { self.data(offset).cast::<T>().read_unaligned() })
    }

    /// Where the frame stands, for a system call to read.
    pub fn iovec(&self, frame: FrameRef) -> libc::iovec {
        libc::iovec {
            iov_base: self.data(u64::from(frame.offset)).cast(),
            iov_len: usize::from(frame.len),
        }
    }

    /// Gives everything before `position` back to the kernel.
    pub fn release(&self, position: u64) {
        self.consumer_word().store(position, Ordering::Release);
    }

    /// Counts what waits. Exact when neither side moves meanwhile.
    pub fn fill(&self) -> Fill {
        let mut position = self.consumer_position();
        let producer = self.producer_position();
        let bytes = producer.saturating_sub(position);
        let mut records = 0;
        while let Some(record) = self.record_at(position, producer) {
            if record.end > producer {
                break; // written over while we looked
            }
            records += u64::from(record.frame.is_some());
            position = record.end;
        }
        Fill { records, bytes, size: self.size }
    }

    fn consumer_word(&self) -> &AtomicU64 {
        // SAFETY: first word of the consumer's page, accessed atomically by the kernel; a
        // read-only mapping is only loaded from.
        unsafe { AtomicU64::from_ptr(self.consumer.as_mut_ptr().cast()) }
    }

    fn data(&self, offset: u64) -> *mut u8 {
        self.producer_and_data.as_mut_ptr().wrapping_add(self.page + offset as usize)
    }
}

fn page_size() -> usize {
    // SAFETY: sysconf has no preconditions.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}
