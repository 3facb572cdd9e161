//! The `vxlan-lab` command.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use lab::packet::{Inner, Mirror, Tag, assert_frame_eq, assert_frames_eq};
use lab::{
    Capture, CaptureOptions, Frame, INGRESS, Lab, MIRROR, Namespace, Sink, read_pcap, write_pcap,
};

const SECOND: Duration = Duration::from_secs(1);
const PROGRAM: &str = env!("CARGO_BIN_EXE_vxlan-lab");

struct TempFile(PathBuf);

impl TempFile {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("lab-{}-{name}", std::process::id())))
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn frames() -> Vec<Frame> {
    let inner = Inner::new([10, 0, 0, 1], [10, 0, 0, 2]);
    [inner.clone().payload_length(18), inner.clone().tag(Tag::service(3)), inner.tcp(1, 2, 3)]
        .iter()
        .enumerate()
        .map(|(number, inner)| Frame {
            bytes: inner.build(),
            timestamp: Duration::new(1_700_000_000, number as u32 * 1001),
            outgoing: false,
        })
        .collect()
}

#[test]
fn capture_files_read_back() {
    let file = TempFile::new("readback.pcap");
    write_pcap(file.path(), &frames()).unwrap();
    assert_eq!(read_pcap(file.path()).unwrap(), frames());
    fs::write(file.path(), "no capture").unwrap();
    let error = format!("{:#}", read_pcap(file.path()).unwrap_err());
    assert!(error.contains(file.path()), "{error}");
}

/// What another program makes of our file, as pcapng, reads back, too.
#[test]
fn pcapng_reads_back() {
    if std::process::Command::new("editcap").arg("-V").output().is_err() {
        eprintln!("skipped: no editcap");
        return;
    }
    let (file, converted) = (TempFile::new("a.pcap"), TempFile::new("a.pcapng"));
    write_pcap(file.path(), &frames()).unwrap();
    let status = std::process::Command::new("editcap")
        .args(["-F", "pcapng", file.path(), converted.path()])
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(read_pcap(converted.path()).unwrap(), frames());
}

#[test]
fn generate_finds_its_way_by_itself() {
    let lab = Lab::new().unwrap();
    let sink = Sink::attach(&lab, INGRESS.namespace, INGRESS.name).unwrap();
    let arguments = ["generate", "--count", "500", "--vni", "7", "--flows", "10"];
    for destination in [INGRESS.ipv4.to_string(), INGRESS.ipv6.to_string()] {
        let way = ["--dst", destination.as_str(), "--payload", "64,1400"];
        let argv = [&[PROGRAM][..], &arguments, &way].concat();
        let output = lab.run(Namespace::Source, &argv).unwrap();
        assert!(output.starts_with("500 frames in "), "{output}");
        let report = sink.wait_for(500, SECOND).unwrap();
        report.ensure_clean(500).unwrap();
        assert_eq!(report.flows.len(), 10);
        sink.reset().unwrap();
    }
}

#[test]
fn replay_sends_files_as_they_are_or_wrapped() {
    let lab = Lab::new().unwrap();
    let file = TempFile::new("replay.pcap");
    write_pcap(file.path(), &frames()).unwrap();
    let options = CaptureOptions { skip_noise: true, ..CaptureOptions::default() };
    let start = || Capture::start_with(&lab, INGRESS.namespace, INGRESS.name, options).unwrap();

    let capture = start();
    let plain = [PROGRAM, "replay", file.path(), "--interface", MIRROR.name, "--times", "2"];
    lab.run(MIRROR.namespace, &plain).unwrap();
    let twice = [frames(), frames()].concat();
    capture.wait_for(twice.len(), SECOND).unwrap();
    assert_frames_eq(&twice, &capture.stop().unwrap());

    let capture = start();
    let destination = INGRESS.ipv4.to_string();
    let wrapped = [PROGRAM, "replay", file.path(), "--wrap", "--vni", "9", "--dst", &destination];
    lab.run(MIRROR.namespace, &wrapped).unwrap();
    let captured = capture.wait_for(frames().len(), SECOND).unwrap();
    let ours = captured.iter().filter(|frame| frame.get(36..38) == Some(&[0x12, 0xb5]));
    let ours: Vec<_> = ours.collect();
    assert_eq!(ours.len(), frames().len());
    for (frame, inner) in ours.into_iter().zip(frames()) {
        assert_frame_eq(Mirror::vni(9).wrap(&inner), frame);
    }
}

#[test]
fn mistakes_are_explained() {
    let lab = Lab::new().unwrap();
    let explain = |arguments: &[&str]| {
        lab.run(Namespace::Source, &[&[PROGRAM], arguments].concat()).unwrap_err().to_string()
    };
    let text = explain(&["generate", "--dst", "203.0.113.1"]);
    assert!(text.contains("no way to 203.0.113.1"), "{text}");
    let text = explain(&["generate", "--dst", &MIRROR.ipv4.to_string()]);
    assert!(text.contains("an address of this machine"), "{text}");
    let text = explain(&["generate", "--vni", "16777216"]);
    assert!(text.contains("16777216"), "{text}");
    let text = explain(&["replay", "/no/such/file", "--interface", "mirror0"]);
    assert!(text.contains("/no/such/file"), "{text}");
}
