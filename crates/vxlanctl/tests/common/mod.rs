//! Real pins without any interface, packets for the program behind them, and the binary.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use dataplane::abi::{interface, program_config};
use dataplane::control::Control;
use dataplane::interfaces::{self, InterfaceRole};
use dataplane::pipeline::{Pipeline, Sizes};
use dataplane::vni::Vnis;
use dataplane::{MapName, Pins, lock};

/// VNI of the packets of [`packet`].
pub const VNI: u32 = 7;

/// A pipeline that is loaded and pinned, and attached to nothing.
pub struct Lab {
    pub pipeline: Pipeline,
    pub pins: Pins,
    pub files: PathBuf,
}

/// The defaults, with the allowlist on or off.
pub fn settings(allowlist: bool) -> program_config {
    program_config {
        vxlan_port: 4789u16.to_be(),
        df_clear_threshold: 1400,
        allowlist_enabled: allowlist.into(),
        ..Default::default()
    }
}

impl Lab {
    /// Loads and pins a pipeline that accepts every VNI. Needs root and a BPF file system.
    pub fn new(config: program_config) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "vxlanctl-test-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let pins = Pins::new(Path::new("/sys/fs/bpf").join(&name));
        pins.prepare().expect("these tests need root and a BPF file system at /sys/fs/bpf");
        let sizes = Sizes { ring_bytes: 64 * 1024, conntrack_entries: 65536 };
        let pipeline = Pipeline::load(config, sizes, &pins).unwrap();
        Control::new(&pipeline.map(MapName::CONTROL).unwrap()).unwrap().stamp();
        let egress =
            interface { ifindex: 1, mtu: 1500, mac: [2, 0, 0, 0, 0, 2], ..Default::default() };
        let map = pipeline.map(MapName::INTERFACES).unwrap();
        interfaces::set(&map, InterfaceRole::Egress, &egress).unwrap();
        Vnis::open(&pins).unwrap().replace(&config::VniSet::any()).unwrap();
        let files = std::env::temp_dir().join(name);
        fs::create_dir_all(&files).unwrap();
        Self { pipeline, pins, files }
    }

    /// Runs `vxlanctl` on these pins; the words of `arguments` are separated by spaces.
    pub fn run(&self, arguments: &str) -> Output {
        run_on(self.pins.directory(), arguments)
    }

    /// The same where success is expected: gives what it printed.
    pub fn ok(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same where a failure is expected: gives the exit status and the error.
    pub fn fails(&self, arguments: &str) -> (i32, String) {
        failure(&self.run(arguments), arguments)
    }

    /// The same with JSON printed.
    pub fn json(&self, arguments: &str) -> serde_json::Value {
        serde_json::from_str(&self.ok(arguments)).unwrap()
    }

    /// Writes a file for `vxlanctl` to read.
    pub fn file(&self, name: &str, content: &str) -> String {
        let path = self.files.join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let removed = self.pins.remove().and_then(|()| lock::remove(&self.pins));
        let removed = removed.and_then(|()| Ok(fs::remove_dir(self.pins.directory())?));
        if let Err(error) = removed {
            eprintln!("{error:#}");
        }
        let _ = fs::remove_dir_all(&self.files);
    }
}

/// Runs `vxlanctl` on the pins of `directory`, untouched by the environment of the tests.
pub fn run_on(directory: &Path, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vxlanctl"))
        .args(arguments.split_whitespace())
        .args(["--pin-dir".as_ref(), directory])
        .env_remove("PIN_DIR")
        .current_dir("/")
        .output()
        .unwrap()
}

/// Exit status and error of a run that failed, with nothing on stdout and no panic.
pub fn failure(output: &Output, what: &str) -> (i32, String) {
    let error = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(!output.status.success(), "{what}: {output:?}");
    assert!(output.stdout.is_empty(), "{what}: {output:?}");
    assert!(error.starts_with("vxlanctl: ") && !error.contains("panicked"), "{what}: {error}");
    (output.status.code().unwrap(), error)
}

/// A file of the repository.
pub fn example(name: &str) -> String {
    format!("{}/../../examples/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn ipv4(source: [u8; 4], destination: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0x45, 0, 0, 0, 0, 1, 0, 0, 64, 17, 0, 0];
    header[2..4].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
    header.extend(source.into_iter().chain(destination));
    let sum: u32 = header.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [&header, payload].concat()
}

fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len() as u16).to_be_bytes();
    [&40_000u16.to_be_bytes()[..], &port.to_be_bytes(), &length, &[0, 0], payload].concat()
}

fn ethernet(payload: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8, 0x08, 0x00][..], payload].concat()
}

/// A mirrored UDP datagram: Ethernet, IPv4, UDP, VXLAN, Ethernet, IPv4, UDP.
pub fn packet(vni: u32, source: Ipv4Addr, destination: Ipv4Addr, port: u16) -> Vec<u8> {
    let inner = ethernet(&ipv4(source.octets(), destination.octets(), &udp(port, &[0x55; 64])));
    let vxlan = [&0x0800_0000u32.to_be_bytes()[..], &(vni << 8).to_be_bytes(), &inner].concat();
    ethernet(&ipv4([10, 0, 0, 1], [10, 0, 0, 2], &udp(4789, &vxlan)))
}

/// A packet between two addresses in text.
pub fn between(source: &str, destination: &str) -> Vec<u8> {
    packet(VNI, source.parse().unwrap(), destination.parse().unwrap(), 31_765)
}

/// `count` IPv4 addresses, all different.
pub fn addresses(count: u32, first: [u8; 4]) -> Vec<IpAddr> {
    (0..count).map(|n| Ipv4Addr::from(u32::from_be_bytes(first) + n).into()).collect()
}

/// An allowlist file.
pub fn allowlist_json(entries: &[IpAddr]) -> String {
    serde_json::json!({ "total_ips": entries.len(), "flat_ip_list": entries }).to_string()
}
