//! Child processes inside a lab's namespace. One of the modules with `unsafe`: `pre_exec`.

use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, getpid, getppid};

use crate::namespace::Keeper;

const POLL: Duration = Duration::from_millis(2);

/// A running child. Its output goes to memory and can be read at any time; it is killed, with its
/// process group, when this value is dropped, and by the kernel when the lab's process dies.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdout: File,
    stderr: File,
}

impl Process {
    pub(crate) fn spawn(keeper: &Keeper, mut command: Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let stdout = memory_file()?;
        let stderr = memory_file()?;
        command.stdin(Stdio::null()).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
        command.process_group(0);
        die_with_parent(&mut command);
        let child = keeper
            .submit(move || command.spawn())?
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name, child, stdout, stderr })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything written to standard output so far.
    pub fn stdout(&self) -> String {
        contents(&self.stdout)
    }

    /// Everything written to standard error so far.
    pub fn stderr(&self) -> String {
        contents(&self.stderr)
    }

    /// Standard output followed by standard error, so far.
    pub fn output(&self) -> String {
        self.stdout() + &self.stderr()
    }

    /// Waits for a whole line that contains `pattern` on either stream, also one printed before
    /// the call, and returns it. The error tells what was printed instead.
    pub fn wait_for_line(&mut self, pattern: &str, timeout: Duration) -> Result<String> {
        let deadline = Instant::now() + timeout;
        loop {
            let ended = self.child.try_wait()?;
            for text in [self.stdout(), self.stderr()] {
                let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
                if let Some(line) = whole.map(str::trim_end).find(|line| line.contains(pattern)) {
                    return Ok(line.to_owned());
                }
            }
            if let Some(status) = ended {
                bail!("{} ended ({status}) without {pattern:?}\n{}", self.name, self.transcript());
            }
            if Instant::now() >= deadline {
                let name = &self.name;
                bail!("no {pattern:?} from {name} in {timeout:?}\n{}", self.transcript());
            }
            sleep(POLL);
        }
    }

    /// Sends a signal to the process (not to its children).
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal)
            .with_context(|| format!("cannot send {signal} to {}", self.name))
    }

    /// Whether it is still running.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for the end of the process.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!("{} did not end in {timeout:?}\n{}", self.name, self.transcript());
            }
            sleep(POLL);
        }
    }

    fn transcript(&self) -> String {
        let mut text = String::new();
        for (stream, content) in [("stdout", self.stdout()), ("stderr", self.stderr())] {
            if !content.is_empty() {
                let _ = writeln!(text, "--- {stream} of {}\n{}", self.name, content.trim_end());
            }
        }
        text
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Once it has been waited for, the group's id may belong to someone else. What it left
        // behind ends with the lab.
        if self.is_running() {
            let _ = killpg(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes the kernel kill the child when the thread that starts it ends.
fn die_with_parent(command: &mut Command) {
    let parent = getpid();
    let in_child = move || {
        set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have died before the request took effect.
        if getppid() != parent {
            return Err(io::Error::from(Errno::ESRCH));
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure only makes two system calls; it allocates nothing
    // and takes no lock.
    unsafe { command.pre_exec(in_child) };
}

fn memory_file() -> Result<File> {
    let fd = memfd_create(c"lab-output", MFdFlags::MFD_CLOEXEC).context("memfd_create")?;
    Ok(File::from(fd))
}

/// Reads from the start without moving the offset, which is shared with the writing child.
fn contents(file: &File) -> String {
    let mut bytes = Vec::new();
    let mut chunk = [0; 16 * 1024];
    while let Ok(read @ 1..) = file.read_at(&mut chunk, bytes.len() as u64) {
        bytes.extend_from_slice(&chunk[..read]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
