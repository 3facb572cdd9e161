//! Anonymous network namespaces.
//!
//! Each namespace is made by a thread of its own, which then stays inside: it starts the lab's
//! processes there. No name in /run/netns and no mount refers to the namespace, so the kernel
//! removes it, with all its interfaces, when this process ends, in whatever way it ends.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns, unshare};

/// The three namespaces of a lab, in the order in which a frame visits them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// Where mirrored traffic comes from: interface `mirror0`.
    Source,
    /// Where the pipeline runs: interfaces `ens5` (ingress) and `ens6` (egress).
    Pipeline,
    /// Where delivered frames arrive: interface `tap0`.
    Target,
}

impl Namespace {
    /// All of them.
    pub const ALL: [Namespace; 3] = [Namespace::Source, Namespace::Pipeline, Namespace::Target];

    /// The word for it, as in the command line and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Namespace::Source => "source",
            Namespace::Pipeline => "pipeline",
            Namespace::Target => "target",
        }
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// A namespace and the thread that lives in it.
pub(crate) struct Keeper {
    file: File,
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    pub(crate) fn new(namespace: Namespace) -> Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (opened, made) = mpsc::channel();
        let thread =
            thread::Builder::new().name(format!("lab-{}", namespace.name())).spawn(move || {
                let file = unshare(CloneFlags::CLONE_NEWNET)
                    .context("cannot make a network namespace (root is needed)")
                    .and_then(|()| Ok(File::open("/proc/thread-self/ns/net")?));
                // The receiver waits for this one message and then goes away.
                let _ = opened.send(file);
                queue.into_iter().for_each(|job| job());
            })?;
        let file = made.recv().context("the namespace's thread died")??;
        Ok(Self { file, jobs: Some(jobs), thread: Some(thread) })
    }

    /// A path by which another process (`ip link ... netns PATH`) finds the namespace.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// Runs a closure in a short-lived thread inside the namespace.
    ///
    /// Not for starting processes: those die with the thread that started them.
    pub(crate) fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.file, CloneFlags::CLONE_NEWNET)
                    .context("cannot enter the namespace")?;
                Ok(work())
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs a closure in the thread that lives as long as the namespace.
    pub(crate) fn submit<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let (done, result) = mpsc::channel();
        let job = Box::new(move || {
            let _ = done.send(work());
        });
        let jobs = self.jobs.as_ref().context("the namespace is closing")?;
        jobs.send(job).map_err(|_| anyhow!("the namespace's thread died"))?;
        result.recv().context("the namespace's thread died")
    }

    /// The processes, other than this one, that run in the namespace.
    pub(crate) fn inhabitants(&self) -> Vec<i32> {
        let Ok(ours) = self.file.metadata() else { return Vec::new() };
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
            .filter(|pid| pid.unsigned_abs() != std::process::id())
            .filter(|pid| {
                fs::metadata(format!("/proc/{pid}/ns/net"))
                    .is_ok_and(|theirs| theirs.ino() == ours.ino() && theirs.dev() == ours.dev())
            })
            .collect()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
