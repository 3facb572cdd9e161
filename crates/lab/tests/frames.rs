//! Frames cross a plain lab byte for byte.

use std::net::Ipv6Addr;
use std::time::Duration;

use lab::packet::{Extension, Inner, Mirror, Tag, arp_request, assert_frames_eq};
use lab::{Capture, CaptureOptions, EGRESS, INGRESS, Lab, MIRROR, Port, TAP, send_frames};

const SECOND: Duration = Duration::from_secs(1);

fn variety() -> Vec<Vec<u8>> {
    let (a, b) = ([10, 0, 0, 1], [10, 0, 0, 2]);
    // The outer packets are for nobody, else the kernel would answer them.
    let nobody = Mirror { destination: [198, 18, 0, 200].into(), ..Mirror::vni(1) };
    let nobody_six = Mirror { destination: Ipv6Addr::LOCALHOST.into(), ..Mirror::over_ipv6() };
    let (c, d) = (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9), Ipv6Addr::LOCALHOST);
    let plain = Inner::new(a, b).payload_length(18);
    let six = Inner::new(c, d).payload_length(300);
    let tagged = plain.clone().tag(Tag::customer(0x6fff));
    let mut frames = vec![
        plain.build(),
        tagged.build(),
        plain.clone().tag(Tag::service(5)).tag(Tag::customer(0)).build(),
        plain.clone().payload_length(9000).build(),
        six.clone().extension(Extension::hop_by_hop()).build(),
        six.clone().tag(Tag::customer(1)).tcp(1, 2, 3).build(),
        Inner::new(c, d).echo(1, 1).build(),
        arp_request([2, 0, 0, 0, 0, 9], a, b),
        nobody.wrap(&tagged.build()),
        Mirror { tags: vec![Tag::service(7)], ..nobody }.wrap(&six.build()),
        nobody_six.wrap(&plain.clone().payload_length(9000).build()),
    ];
    frames.extend(plain.payload_length(2000).fragments(576));
    frames.extend(six.payload_length(2000).fragments(576));
    frames
}

fn crosses(lab: &Lab, from: Port, to: Port) {
    let capture = Capture::start(lab, to.namespace, to.name).unwrap();
    let frames = variety();
    let report = send_frames(lab, from.namespace, from.name, &frames).unwrap();
    assert_eq!(report.sent, frames.len() as u64);
    capture.wait_for(frames.len(), SECOND).unwrap();
    assert_frames_eq(&frames, &capture.stop().unwrap());
}

#[test]
fn frames_cross_byte_for_byte() {
    let lab = Lab::new().unwrap();
    crosses(&lab, MIRROR, INGRESS);
    crosses(&lab, EGRESS, TAP);
}

/// More than a default socket buffer holds arrives whole and in order, and the counters agree.
#[test]
fn a_burst_is_captured_whole() {
    let lab = Lab::new().unwrap();
    let capture = Capture::start(&lab, TAP.namespace, TAP.name).unwrap();
    let frame = |n: u32| Inner::new([10, 0, 0, 1], [10, 0, 0, 2]).payload(n.to_be_bytes()).build();
    let frames: Vec<_> = (0..20_000).map(frame).collect();
    let before = lab.interface_counters(TAP.namespace, TAP.name).unwrap();
    send_frames(&lab, EGRESS.namespace, EGRESS.name, &frames).unwrap();
    capture.wait_for(frames.len(), 10 * SECOND).unwrap();
    assert_frames_eq(&frames, &capture.stop().unwrap());
    let counted = lab.interface_counters(TAP.namespace, TAP.name).unwrap().since(before);
    assert_eq!((counted.rx_packets, counted.rx_dropped), (20_000, 0));
}

/// The kernel says nothing of its own accord: not after the start, not when a link comes back.
#[test]
fn an_idle_lab_is_silent() {
    let lab = Lab::new().unwrap();
    let t0 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let start = |port: Port| {
        let options = CaptureOptions { outgoing: true, skip_noise: false };
        Capture::start_with(&lab, port.namespace, port.name, options).unwrap()
    };
    let captures = [start(INGRESS), start(EGRESS)];
    std::thread::sleep(3 * SECOND);
    for capture in captures {
        let frames: Vec<_> = capture.stop().unwrap().iter().map(|f| f.timestamp - t0).collect();
        assert!(frames.is_empty(), "{frames:?}");
    }
}

/// A frame that an interface refuses is an error that names it.
#[test]
fn a_refused_frame_is_an_error() {
    let lab = Lab::new().unwrap();
    lab.set_mtu(EGRESS.namespace, EGRESS.name, 1500).unwrap();
    let small = Inner::new([10, 0, 0, 1], [10, 0, 0, 2]).build();
    let big = Inner::new([10, 0, 0, 1], [10, 0, 0, 2]).payload_length(1600).build();
    let error = send_frames(&lab, EGRESS.namespace, EGRESS.name, &[small, big]).unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("frame 1 of 2 (1642 bytes) on ens6"), "{text}");
    assert!(text.contains("Message too long"), "{text}");
}
