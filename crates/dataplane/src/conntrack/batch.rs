//! A hash map read a chunk at a time: a table may have millions of entries.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::{null, null_mut};

use anyhow::{Context, Result, ensure};
use libbpf_rs::{MapCore, MapHandle, MapType};

use crate::plain::Plain;

/// What comes behind a chunk.
enum Rest {
    /// More, from this bucket on.
    From(u32),
    /// No entry.
    Nothing,
    /// A bucket with more entries than there is room for. The chunk is empty.
    LargeBucket,
}

/// Shows `see` every entry of a hash map, `chunk` at a time, or as many as the fullest bucket has.
/// Those that come or go meanwhile may be among them or not; `see` may remove entries.
///
/// # Errors
/// The map is of another type or layout, the kernel can't read it, or `see` fails.
pub fn for_each_chunk<K: Plain, V: Plain>(
    map: &MapHandle,
    chunk: usize,
    mut see: impl FnMut(&[K], &[V]) -> Result<()>,
) -> Result<()> {
    let chunk = chunk.max(1);
    let (mut keys, mut values) = (vec![K::default(); chunk], vec![V::default(); chunk]);
    let mut from = None;
    loop {
        let (count, rest) = look_up(map, from, &mut keys, &mut values)
            .with_context(|| format!("reading {}", map.name().to_string_lossy()))?;
        see(&keys[..count], &values[..count])?;
        match rest {
            Rest::From(bucket) => from = Some(bucket),
            Rest::Nothing => return Ok(()),
            Rest::LargeBucket => {
                let double = 2 * keys.len();
                keys.resize(double, K::default());
                values.resize(double, V::default());
            }
        }
    }
}

/// Reads whole buckets, as many as there is room for, and returns the number of entries.
fn look_up<K: Plain, V: Plain>(
    map: &MapHandle,
    from: Option<u32>,
    keys: &mut [K],
    values: &mut [V],
) -> Result<(usize, Rest)> {
    let sizes = (map.key_size() as usize, map.value_size() as usize);
    ensure!(
        matches!(map.map_type(), MapType::Hash | MapType::LruHash)
            && sizes == (size_of::<K>(), size_of::<V>()),
        "it is of another type or layout"
    );
    let mut count = u32::try_from(keys.len().min(values.len()))?;
    let mut first = from.unwrap_or_default();
    let first = if from.is_some() { &raw mut first } else { null_mut() };
    let mut next = 0_u32;
    // SAFETY: in this type of map a bucket's number is 32 bits, and an entry has the sizes of `K`
    // and `V`, for `count` of which the slices have room; every bit pattern is a value of both. All
    // pointers outlive the call, and there need not be options.
    let result = unsafe {
        libbpf_sys::bpf_map_lookup_batch(
            map.as_fd().as_raw_fd(),
            first.cast(),
            (&raw mut next).cast(),
            keys.as_mut_ptr().cast(),
            values.as_mut_ptr().cast(),
            &raw mut count,
            null(),
        )
    };
    let rest = match -result {
        0 => Rest::From(next),
        libc::ENOENT => Rest::Nothing,
        libc::ENOSPC => Rest::LargeBucket,
        error => return Err(io::Error::from_raw_os_error(error).into()),
    };
    Ok((count as usize, rest))
}
