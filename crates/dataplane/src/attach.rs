//! Attaching the program to an interface through a BPF link of a chosen mode, which libbpf-rs
//! has no call for.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use libbpf_rs::Link;

/// How a program runs on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the driver, before the kernel makes a socket buffer.
    Native,
    /// In the kernel's receive path, for drivers without XDP.
    Generic,
}

impl Mode {
    /// Word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    fn flags(self) -> u32 {
        match self {
            Self::Native => libbpf_sys::XDP_FLAGS_DRV_MODE,
            Self::Generic => libbpf_sys::XDP_FLAGS_SKB_MODE,
        }
    }
}

/// A program that is attached to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Its ID, as `bpftool prog show id` takes it.
    pub program_id: u32,
    /// How it runs.
    pub mode: Mode,
}

/// Attaches `program` and pins the link, so that it outlives this process.
///
/// # Errors
/// The kernel's refusal; nothing stays attached.
pub fn attach(program: BorrowedFd<'_>, ifindex: u32, mode: Mode, pin: &Path) -> io::Result<Link> {
    let options = libbpf_sys::bpf_link_create_opts {
        sz: size_of::<libbpf_sys::bpf_link_create_opts>() as _,
        flags: mode.flags(),
        ..Default::default()
    };
    // SAFETY: a valid program fd and options that outlive the call.
    let fd = unsafe {
        libbpf_sys::bpf_link_create(
            program.as_raw_fd(),
            ifindex as i32,
            libbpf_sys::BPF_XDP,
            &raw const options,
        )
    };
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(-fd));
    }
    // SAFETY: the call succeeded, so the fd is new and ours. Closing it detaches, unless pinned.
    let link = unsafe { OwnedFd::from_raw_fd(fd) };
    let path = CString::new(pin.as_os_str().as_bytes())?;
    // SAFETY: a valid fd and a NUL-terminated path that outlives the call.
    let result = unsafe { libbpf_sys::bpf_obj_pin(link.as_raw_fd(), path.as_ptr()) };
    if result < 0 {
        return Err(io::Error::from_raw_os_error(-result));
    }
    Link::open(pin).map_err(|error| {
        let _ = std::fs::remove_file(pin); // the last thing that would hold the program
        io::Error::other(error)
    })
}

/// What is attached to the interface now, by whomever.
///
/// # Errors
/// The interface can't be asked.
pub fn query(ifindex: u32) -> io::Result<Option<Attached>> {
    let mut options = libbpf_sys::bpf_xdp_query_opts {
        sz: size_of::<libbpf_sys::bpf_xdp_query_opts>() as _,
        ..Default::default()
    };
    // SAFETY: options outlive the call, and their size is given in them.
    let result = unsafe { libbpf_sys::bpf_xdp_query(ifindex as i32, 0, &raw mut options) };
    if result < 0 {
        return Err(io::Error::from_raw_os_error(-result));
    }
    Ok(match (options.drv_prog_id, options.skb_prog_id, options.hw_prog_id) {
        (0, 0, 0) => None,
        (0, id, 0) => Some(Attached { program_id: id, mode: Mode::Generic }),
        (id, _, 0) => Some(Attached { program_id: id, mode: Mode::Native }),
        (_, _, id) => Some(Attached { program_id: id, mode: Mode::Native }),
    })
}
