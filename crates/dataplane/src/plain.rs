//! Structs of `bpf/abi.h` as bytes, which is what map operations take.

use crate::abi;

/// A `repr(C)` struct without padding bytes and without invalid bit patterns.
///
/// # Safety
/// Every bit pattern is a value, and every byte of a value is initialised.
pub unsafe trait Plain: Copy + Default {}

macro_rules! plain {
    ($($type:ty),+) => {$(
        // SAFETY: integers and arrays of integers only; `bpf/abi.h` spells out padding.
        unsafe impl Plain for $type {}
    )+};
}

plain!(
    abi::allowlist_key,
    abi::allowlist_key_v6,
    abi::conntrack_key,
    abi::conntrack_value,
    abi::control,
    abi::event,
    abi::fragment_key,
    abi::frame_info,
    abi::frame_record,
    abi::injector_state,
    abi::interface,
    abi::maglev,
    abi::nat_key,
    abi::nat_target,
    abi::nat_value,
    abi::next_hop,
    abi::vni_count,
    abi::vni_key,
    abi::vni_slot,
    abi::worker_stats,
    u32,
    u64
);

/// The bytes of `value`, in memory order.
pub fn bytes<T: Plain>(value: &T) -> &[u8] {
    // SAFETY: `Plain` has no padding, so all size_of::<T>() bytes are initialised.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

/// The value that stands at the beginning of `bytes`, or `None` when there are too few.
pub fn from_bytes<T: Plain>(bytes: &[u8]) -> Option<T> {
    if bytes.len() < size_of::<T>() {
        return None;
    }
    // SAFETY: enough bytes, any bit pattern is a value, and the read asks for no alignment.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}
