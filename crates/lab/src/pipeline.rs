//! The pipeline's own programs as real processes in a lab.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::lab::{EGRESS, INGRESS, Lab};
use crate::namespace::Namespace;
use crate::process::Process;

/// How long a program may take to start, to stop, or to settle.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where `vxlan-loader`, `packet-injector` and `vxlanctl` are.
#[derive(Clone, Debug)]
pub struct Programs {
    directory: PathBuf,
}

impl Programs {
    /// Beside the running program, or beside the folder of test binaries that it is in.
    ///
    /// # Errors
    /// They are not there: they have to be built first.
    pub fn beside_this() -> Result<Self> {
        let this = env::current_exe().context("the path of this program")?;
        let mut directory = this.parent().context("a program in a directory")?;
        if directory.file_name().is_some_and(|name| name == "deps") {
            directory = directory.parent().context("a deps folder in a directory")?;
        }
        for name in ["vxlan-loader", "packet-injector", "vxlanctl"] {
            ensure!(
                directory.join(name).exists(),
                "{name} is not in {}: build it first (cargo build --workspace --bins)",
                directory.display()
            );
        }
        Ok(Self { directory: directory.to_path_buf() })
    }

    /// A command that runs one of them, with nothing of this process's settings.
    pub fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.directory.join(name));
        command.args(arguments).env_clear().current_dir("/");
        command
    }
}

/// Loader and injector, started in the lab's pipeline namespace.
pub struct Pipeline<'lab> {
    lab: &'lab Lab,
    programs: Programs,
    /// The running `vxlan-loader`.
    pub loader: Process,
    /// The running `packet-injector`.
    pub injector: Process,
}

impl<'lab> Pipeline<'lab> {
    /// Starts both, with further arguments for each, and waits until traffic would flow.
    ///
    /// # Errors
    /// A program does not start; the error quotes what it said.
    pub fn start(lab: &'lab Lab, loader: &[&str], injector: &[&str]) -> Result<Self> {
        let programs = Programs::beside_this()?;
        let loader = start_loader(lab, &programs, loader)?;
        let injector = start_injector(lab, &programs, injector)?;
        Ok(Self { lab, programs, loader, injector })
    }

    /// Starts another injector in the place of one that ended or was killed.
    ///
    /// # Errors
    /// It does not start.
    pub fn restart_injector(&mut self, arguments: &[&str]) -> Result<()> {
        self.injector = start_injector(self.lab, &self.programs, arguments)?;
        Ok(())
    }

    /// Starts another loader in the place of one that ended or was killed.
    ///
    /// # Errors
    /// It does not start.
    pub fn restart_loader(&mut self, arguments: &[&str]) -> Result<()> {
        self.loader = start_loader(self.lab, &self.programs, arguments)?;
        Ok(())
    }

    /// Runs `vxlanctl` on this pipeline and returns its standard output.
    ///
    /// # Errors
    /// It fails; the error quotes what it said.
    pub fn control(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.programs.command("vxlanctl", arguments);
        command.arg("--pin-dir").arg(self.lab.pin_dir());
        let mut process = self.lab.spawn(Namespace::Pipeline, command)?;
        let status = process.wait(PATIENCE)?;
        ensure!(status.success(), "vxlanctl {}: {}", arguments.join(" "), process.output());
        Ok(process.stdout())
    }

    /// The ledger, by `vxlanctl stats --json`.
    ///
    /// # Errors
    /// It fails or prints no JSON.
    pub fn stats(&self) -> Result<Value> {
        serde_json::from_str(&self.control(&["stats", "--json"])?).context("vxlanctl stats --json")
    }

    /// Waits until at least `packets` packets have reached the program (the host's own, like ARP,
    /// count, too), none waits in the ring, and the sums close; returns the ledger.
    ///
    /// # Errors
    /// It does not get there; the error has the ledger.
    pub fn settle(&self, packets: u64) -> Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let stats = self.stats()?;
            // A look in the middle of the last frames finds counters of different moments.
            let at_rest = stats["in_ring"] == 0 && stats["unaccounted"] == 0;
            if stats["total"].as_u64() >= Some(packets) && at_rest {
                return Ok(stats);
            }
            if Instant::now() >= deadline {
                bail!("the pipeline does not settle at {packets} packets: {stats:#}");
            }
            sleep(Duration::from_millis(20));
        }
    }

    /// Stops both as an operator would: the loader first, which detaches and waits until the ring
    /// is empty. Returns what each printed.
    ///
    /// # Errors
    /// One of them ends with another status than 0, or not at all.
    pub fn stop(mut self) -> Result<(String, String)> {
        self.loader.signal(Signal::SIGTERM)?;
        let status = self.loader.wait(PATIENCE)?;
        ensure!(status.success(), "vxlan-loader: {status}\n{}", self.loader.output());
        let status = self.injector.wait(PATIENCE)?;
        ensure!(status.success(), "packet-injector: {status}\n{}", self.injector.output());
        Ok((self.loader.output(), self.injector.output()))
    }
}

/// Starts a loader on the lab's interfaces and waits until it has attached the program.
fn start_loader(lab: &Lab, programs: &Programs, arguments: &[&str]) -> Result<Process> {
    let mut command = programs.command("vxlan-loader", &["-i", INGRESS.name, "-t", EGRESS.name]);
    add(&mut command, lab.pin_dir(), arguments);
    let mut process = lab.spawn(Namespace::Pipeline, command)?;
    process.wait_for_line("attached", PATIENCE)?;
    Ok(process)
}

/// Starts an injector on the lab's egress interface and waits until it drains the ring.
fn start_injector(lab: &Lab, programs: &Programs, arguments: &[&str]) -> Result<Process> {
    let mut command = programs.command("packet-injector", &[EGRESS.name]);
    add(&mut command, lab.pin_dir(), arguments);
    let mut process = lab.spawn(Namespace::Pipeline, command)?;
    process.wait_for_line("draining", PATIENCE)?;
    Ok(process)
}

fn add(command: &mut Command, pins: &Path, arguments: &[&str]) {
    command.args(arguments).arg("--pin-dir").arg(pins);
}
