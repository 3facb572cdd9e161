//! A lab with a loader in it.
#![allow(dead_code)] // each test file uses its part

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use dataplane::attach::{self, Attached};
use dataplane::nat::{InstalledRule, NatTable};
use dataplane::{MapName, Pins};
use lab::packet::{Inner, Mirror};
use lab::{INGRESS, Lab, MIRROR, Namespace, Process, Sender};
use nix::sys::signal::Signal;

/// Longer than the loader waits for a neighbour.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// A loader's command line: flags for the lab's interfaces, then these.
pub fn loader(pin_dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vxlan-loader"));
    command.env_clear().env("PIN_DIR", pin_dir).current_dir("/");
    if !arguments.contains(&"-i") {
        command.args(["-i", "ens5"]);
    }
    if !arguments.contains(&"-t") {
        command.args(["-t", "ens6"]);
    }
    command.args(arguments);
    command
}

/// A lab, and a directory for pins that does not exist yet.
pub struct Bench {
    pub lab: Lab,
    pub pin_dir: PathBuf,
}

impl Bench {
    pub fn new() -> Self {
        let lab = Lab::new().expect("these tests need root");
        let pin_dir = lab.pin_dir().join("instance");
        Self { lab, pin_dir }
    }

    /// Neighbour discovery asks from a link-local address, which labs have none of.
    pub fn add_link_local(&self) {
        let add = ["ip", "addr", "add", "fe80::1/64", "dev", "ens6", "nodad"];
        self.lab.run(Namespace::Pipeline, &add).unwrap();
    }

    pub fn pins(&self) -> Pins {
        Pins::new(&self.pin_dir)
    }

    pub fn spawn(&self, arguments: &[&str]) -> Process {
        let command = loader(&self.pin_dir, arguments);
        self.lab.spawn(Namespace::Pipeline, command).unwrap()
    }

    /// Starts a loader and waits until it says that the pipeline is up.
    pub fn start(&self, arguments: &[&str]) -> Process {
        let mut process = self.spawn(arguments);
        process.wait_for_line("attached", PATIENCE).unwrap();
        process
    }

    /// Runs a loader that must fail with this status, and returns what it says.
    pub fn fails(&self, status: i32, arguments: &[&str]) -> String {
        self.command_fails(status, loader(&self.pin_dir, arguments))
    }

    /// The same as an unprivileged user.
    pub fn fails_as(&self, uid: u32, status: i32, arguments: &[&str]) -> String {
        // Where the user may read it.
        let copy = std::env::temp_dir().join(format!("vxlan-loader-{}", std::process::id()));
        fs::copy(env!("CARGO_BIN_EXE_vxlan-loader"), &copy).unwrap();
        let mut command = Command::new(&copy);
        command.env_clear().env("PIN_DIR", &self.pin_dir).current_dir("/").uid(uid).gid(uid);
        command.args(["-i", "ens5", "-t", "ens6"]).args(arguments);
        let text = self.command_fails(status, command);
        fs::remove_file(copy).unwrap();
        text
    }

    fn command_fails(&self, status: i32, command: Command) -> String {
        let mut process = self.lab.spawn(Namespace::Pipeline, command).unwrap();
        let ended = process.wait(PATIENCE).unwrap();
        let text = process.stderr();
        assert_eq!(ended.code(), Some(status), "{text}");
        assert!(!process.stdout().contains("attached"), "{}", process.stdout());
        text
    }

    /// The program on the ingress interface.
    pub fn attached(&self) -> Option<Attached> {
        self.lab.enter(Namespace::Pipeline, || attach::query(INGRESS.index)).unwrap().unwrap()
    }

    /// Nothing is attached, pinned or locked, and the directory is gone.
    pub fn assert_nothing_left(&self) {
        assert_eq!(self.attached(), None);
        assert!(!self.pin_dir.exists(), "{:?} is still there", self.pin_dir);
    }

    /// The installed rules.
    pub fn rules(&self) -> Vec<InstalledRule> {
        NatTable::open(&self.pins()).unwrap().rules().unwrap()
    }

    /// Sends mirrored UDP packets to a port, on their way through the pipeline when it returns.
    pub fn send(&self, count: usize, port: u16) {
        let inner = Inner::new([10, 0, 0, 1], [10, 0, 0, 2]).udp(1234, port).payload(b"hello");
        let frames = vec![Mirror::vni(7).wrap(&inner.build()); count];
        let mut sender = Sender::open_in(&self.lab, Namespace::Source, MIRROR.name).unwrap();
        sender.send(&frames).unwrap();
    }

    /// Packets written to the ring so far.
    pub fn queued(&self) -> u64 {
        let stats = self.pins().open(MapName::STATS).unwrap();
        let counters = dataplane::stats::Counters::read(&stats).unwrap();
        counters.verdict(dataplane::abi::Verdict::Queued)
    }
}

/// Ends a loader as a service manager does; it must end well.
pub fn stop(mut process: Process) -> String {
    process.signal(Signal::SIGTERM).unwrap();
    let status = process.wait(PATIENCE).unwrap();
    assert_eq!(status.code(), Some(0), "{}", process.output());
    process.output()
}

pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(10));
    }
}

/// Every part must be in the text.
pub fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}
