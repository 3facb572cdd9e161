//! Attaching the program to an interface through a BPF link of a chosen mode, which libbpf-rs
//! has no call for.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use libbpf_rs::query::LinkTypeInfo;
use libbpf_rs::{Link, Program, ProgramHandle};

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

/// The pinned link that holds a program on an interface.
pub struct XdpLink(Link);

/// What a link holds, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The interface, in its own network namespace; 0: it is gone.
    pub ifindex: u32,
    /// The program's ID.
    pub program_id: u32,
}

impl XdpLink {
    /// Opens a pinned link.
    ///
    /// # Errors
    /// There is none, or it can't be opened.
    pub fn open(pin: &Path) -> Result<Self> {
        Link::open(pin).map(Self).with_context(|| format!("pin {}", pin.display()))
    }

    /// What it holds.
    ///
    /// # Errors
    /// It is not an XDP link, or the kernel can't be asked.
    pub fn held(&self) -> Result<Held> {
        let info = self.0.info().context("asking the kernel for a link")?;
        let LinkTypeInfo::Xdp(xdp) = info.info else { bail!("the link is not one of XDP") };
        Ok(Held { ifindex: xdp.ifindex, program_id: info.prog_id })
    }

    /// Puts another program in the place of the one it holds, without a gap.
    ///
    /// # Errors
    /// The kernel's refusal; the old program stays.
    pub(crate) fn replace(&mut self, program: &Program<'_>) -> Result<()> {
        self.0.update_prog(program).context("replacing the XDP program")
    }

    /// Takes the program off the interface.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn detach(&self) -> Result<()> {
        self.0.detach().context("detaching the link")
    }
}

/// The name of a loaded program, if there is one of that ID.
pub fn program_name(id: u32) -> Option<String> {
    let program = ProgramHandle::from_prog_id(id).ok()?;
    Some(program.name().to_string_lossy().into_owned())
}

/// Attaches `program` and pins the link, so that it outlives this process.
///
/// # Errors
/// The kernel's refusal; nothing stays attached.
pub fn attach(
    program: BorrowedFd<'_>,
    ifindex: u32,
    mode: Mode,
    pin: &Path,
) -> io::Result<XdpLink> {
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
    XdpLink::open(pin).map_err(|error| {
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
