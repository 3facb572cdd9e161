//! The lab itself: three namespaces, two cables, and what a test does with them.

use std::fs::{self, File};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::counters::InterfaceCounters;
use crate::namespace::{Keeper, Namespace};
use crate::pins::PinDirectory;
use crate::process::Process;
use crate::topology;

/// One end of a cable: where it is and who it is.
#[derive(Clone, Copy, Debug)]
pub struct Port {
    /// The namespace.
    pub namespace: Namespace,
    /// The interface's name in it.
    pub name: &'static str,
    /// Its index, the same in every lab.
    pub index: u32,
    /// Its MAC address, the same in every lab.
    pub mac: [u8; 6],
    /// Its IPv4 address (/24).
    pub ipv4: Ipv4Addr,
    /// Its IPv6 address (/64).
    pub ipv6: Ipv6Addr,
}

/// The end of the ingress cable from which mirrored traffic is sent.
pub const MIRROR: Port = Port {
    namespace: Namespace::Source,
    name: "mirror0",
    index: 11,
    mac: [2, 0x18, 0, 0, 0, 1],
    ipv4: Ipv4Addr::new(198, 18, 0, 1),
    ipv6: Ipv6Addr::new(0x2001, 0xdb8, 0x18, 0, 0, 0, 0, 1),
};
/// The pipeline's ingress interface.
pub const INGRESS: Port = Port {
    namespace: Namespace::Pipeline,
    name: "ens5",
    index: 12,
    mac: [2, 0x18, 0, 0, 0, 2],
    ipv4: Ipv4Addr::new(198, 18, 0, 2),
    ipv6: Ipv6Addr::new(0x2001, 0xdb8, 0x18, 0, 0, 0, 0, 2),
};
/// The pipeline's egress interface.
pub const EGRESS: Port = Port {
    namespace: Namespace::Pipeline,
    name: "ens6",
    index: 13,
    mac: [2, 0x18, 0, 0, 1, 1],
    ipv4: Ipv4Addr::new(198, 18, 1, 1),
    ipv6: Ipv6Addr::new(0x2001, 0xdb8, 0x19, 0, 0, 0, 0, 1),
};
/// Where delivered frames arrive.
pub const TAP: Port = Port {
    namespace: Namespace::Target,
    name: "tap0",
    index: 14,
    mac: [2, 0x18, 0, 0, 1, 2],
    ipv4: Ipv4Addr::new(198, 18, 1, 2),
    ipv6: Ipv6Addr::new(0x2001, 0xdb8, 0x19, 0, 0, 0, 0, 2),
};

/// What may differ between labs.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The MTU of all four interfaces.
    pub mtu: u32,
    /// Receive and transmit queues of each interface.
    pub queues: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { mtu: 9500, queues: 1 }
    }
}

/// Three network namespaces in a row:
///
/// ```text
/// source                pipeline                  target
/// mirror0 ------------- ens5    ens6 ------------ tap0
/// 198.18.0.1      198.18.0.2    198.18.1.1  198.18.1.2
/// 2001:db8:18::1        ::2     2001:db8:19::1     ::2
/// ```
///
/// Everything disappears when the value is dropped, and also when the process is killed. One lab
/// exists at a time on a machine; `new` waits for its turn.
///
/// `/sys` still shows the machine's own interfaces to processes in the lab: what is below
/// /sys/class/net belongs to the namespace in which /sys was mounted. `/proc/sys/net` and netlink
/// show the right ones.
pub struct Lab {
    // Fields are dropped in this order.
    pins: PinDirectory,
    source: Keeper,
    pipeline: Keeper,
    target: Keeper,
    _turn: Flock<File>,
}

impl Lab {
    /// Makes a lab with the usual options.
    pub fn new() -> Result<Self> {
        Self::with(Options::default())
    }

    /// Makes a lab.
    pub fn with(options: Options) -> Result<Self> {
        let turn = wait_for_turn()?;
        let lab = Self {
            pins: PinDirectory::new()?,
            source: Keeper::new(Namespace::Source)?,
            pipeline: Keeper::new(Namespace::Pipeline)?,
            target: Keeper::new(Namespace::Target)?,
            _turn: turn,
        };
        topology::build(&lab, options)?;
        Ok(lab)
    }

    /// The lab's own directory for pins (`PIN_DIR`), empty at first.
    pub fn pin_dir(&self) -> &Path {
        self.pins.path()
    }

    /// Starts a process in a namespace; its output is captured.
    pub fn spawn(&self, namespace: Namespace, command: Command) -> Result<Process> {
        Process::spawn(self.keeper(namespace), command)
    }

    /// Runs a command to its end and returns its standard output; a failure is an error that
    /// quotes what the command printed.
    pub fn run(&self, namespace: Namespace, argv: &[&str]) -> Result<String> {
        let (program, arguments) = argv.split_first().context("an empty command")?;
        let mut command = Command::new(program);
        command.args(arguments);
        let mut process = self.spawn(namespace, command)?;
        let status = process.wait(Duration::from_secs(60))?;
        if !status.success() {
            bail!("`{}` in {}: {status}\n{}", argv.join(" "), namespace.name(), process.output());
        }
        Ok(process.stdout())
    }

    /// Runs a closure in a thread inside a namespace. Sockets opened there stay in that namespace.
    pub fn enter<T: Send>(
        &self,
        namespace: Namespace,
        work: impl FnOnce() -> T + Send,
    ) -> Result<T> {
        self.keeper(namespace).enter(work)
    }

    /// A path (`/proc/PID/fd/N`) to the namespace, for `ip link set X netns PATH` and `nsenter`.
    pub fn namespace_path(&self, namespace: Namespace) -> String {
        self.keeper(namespace).path()
    }

    /// The MAC address of an interface.
    pub fn mac(&self, namespace: Namespace, interface: &str) -> Result<[u8; 6]> {
        let text = self.run(namespace, &["ip", "-j", "link", "show", "dev", interface])?;
        let links: serde_json::Value = serde_json::from_str(&text)?;
        let address = links[0]["address"].as_str().context("no address in ip's answer")?;
        crate::packet::parse_mac(address)
    }

    /// The index of an interface.
    pub fn index(&self, namespace: Namespace, interface: &str) -> Result<u32> {
        self.enter(namespace, || nix::net::if_::if_nametoindex(interface))?
            .with_context(|| format!("no interface {interface} in {}", namespace.name()))
    }

    /// What an interface has counted.
    pub fn interface_counters(
        &self,
        namespace: Namespace,
        interface: &str,
    ) -> Result<InterfaceCounters> {
        self.enter(namespace, || InterfaceCounters::read(interface))?
    }

    /// Changes an interface's MTU.
    pub fn set_mtu(&self, namespace: Namespace, interface: &str, mtu: u32) -> Result<()> {
        self.ip_link(namespace, &["set", "dev", interface, "mtu", &mtu.to_string()])
    }

    /// Sets an interface up.
    pub fn set_link_up(&self, namespace: Namespace, interface: &str) -> Result<()> {
        self.ip_link(namespace, &["set", "dev", interface, "up"])
    }

    /// Sets an interface down: the other end loses its carrier.
    pub fn set_link_down(&self, namespace: Namespace, interface: &str) -> Result<()> {
        self.ip_link(namespace, &["set", "dev", interface, "down"])
    }

    /// Deletes an interface, and with it the other end of its cable.
    pub fn delete_link(&self, namespace: Namespace, interface: &str) -> Result<()> {
        self.ip_link(namespace, &["delete", "dev", interface])
    }

    /// Makes the ingress cable anew, after `delete_link`.
    pub fn restore_ingress(&self, options: Options) -> Result<()> {
        topology::ingress_cable(self, options)
    }

    /// Makes the egress cable anew, after `delete_link`.
    pub fn restore_egress(&self, options: Options) -> Result<()> {
        topology::egress_cable(self, options)
    }

    fn ip_link(&self, namespace: Namespace, arguments: &[&str]) -> Result<()> {
        self.run(namespace, &[&["ip", "link"], arguments].concat()).map(drop)
    }

    fn keeper(&self, namespace: Namespace) -> &Keeper {
        match namespace {
            Namespace::Source => &self.source,
            Namespace::Pipeline => &self.pipeline,
            Namespace::Target => &self.target,
        }
    }
}

impl Drop for Lab {
    /// Ends what still runs in the namespaces, daemons that left their process group included.
    fn drop(&mut self) {
        for namespace in Namespace::ALL {
            for pid in self.keeper(namespace).inhabitants() {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}

/// Labs queue up here, those of other processes included. The kernel frees the lock of a dead one.
fn wait_for_turn() -> Result<Flock<File>> {
    let directory = if Path::new("/run").is_dir() { "/run".into() } else { std::env::temp_dir() };
    let path = directory.join("vxlan-lab.lock");
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, error)| error)
        .with_context(|| format!("cannot lock {}", path.display()))
}
