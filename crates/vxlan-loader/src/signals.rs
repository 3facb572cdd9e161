//! SIGINT and SIGTERM, as a descriptor to poll and a flag.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use signal_hook::consts::{SIGINT, SIGTERM};

/// Somebody asked the process to stop before it was ready.
#[derive(Debug, thiserror::Error)]
#[error("stopped by a signal during the start; nothing is left behind")]
pub struct Interrupted;

/// The signals that stop the loader.
pub struct Signals {
    pipe: UnixStream,
    stop: Arc<AtomicBool>,
}

impl Signals {
    /// From now on the signals don't kill the process.
    ///
    /// # Errors
    /// The handlers can't be set.
    pub fn register() -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (pipe, write) = UnixStream::pair().context("making a pipe for signals")?;
        pipe.set_nonblocking(true).context("making a pipe for signals")?;
        for signal in [SIGINT, SIGTERM] {
            // The flag first: whoever is woken by the pipe finds it set.
            signal_hook::flag::register(signal, Arc::clone(&stop)).context("handling signals")?;
            let write = write.try_clone().context("making a pipe for signals")?;
            signal_hook::low_level::pipe::register(signal, write).context("handling signals")?;
        }
        Ok(Self { pipe, stop })
    }

    /// Whether a signal has come.
    pub fn stop_requested(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Fails if a signal has come.
    ///
    /// # Errors
    /// [`Interrupted`].
    pub fn check(&self) -> Result<(), Interrupted> {
        if self.stop_requested() { Err(Interrupted) } else { Ok(()) }
    }

    /// Waits until a signal comes, `other` can be read, or the time is over.
    ///
    /// # Errors
    /// The kernel refuses to wait.
    pub fn wait(&self, other: Option<BorrowedFd<'_>>, timeout: Duration) -> io::Result<()> {
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds: Vec<_> =
            std::iter::once(self.pipe.as_fd()).chain(other).map(readable).collect();
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Forgets the signals that have come, so that a second one can be told from the first.
    pub fn forget(&self) {
        let mut bytes = [0; 64];
        while matches!((&self.pipe).read(&mut bytes), Ok(1..)) {}
        self.stop.store(false, Ordering::Release);
    }
}
