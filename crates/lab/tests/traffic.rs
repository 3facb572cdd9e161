//! Generators and sinks count alike.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use lab::packet::{Inner, Mirror, Tag};
use lab::{
    Capture, EGRESS, FastGenerator, Frame, Generator, INGRESS, Lab, MIRROR, Sender, Sink, Stamp,
    TAP, send_frames,
};

const SECOND: Duration = Duration::from_secs(1);

fn stamped(flow: u32, sequence: u64) -> Vec<u8> {
    let stamp = Stamp { flow, sequence, sent: 0 };
    Inner::new([10, 0, 0, 1], [10, 0, 0, 2]).payload(stamp.payload(64)).build()
}

#[test]
fn the_sink_notices_gaps_reordering_and_duplicates() {
    let lab = Lab::new().unwrap();
    let sink = Sink::attach_for(&lab, TAP.namespace, TAP.name, 8).unwrap();
    let sequences = [0, 1, 4, 3, 3, 5, 5, 2000, 5];
    let mut frames: Vec<_> = sequences.iter().map(|&n| stamped(1, n)).collect();
    frames.extend((0..10).map(|n| stamped(2, n)));
    frames.push(stamped(8, 0));
    frames.push(Inner::new([10, 0, 0, 1], [10, 0, 0, 2]).build());
    send_frames(&lab, EGRESS.namespace, EGRESS.name, &frames).unwrap();
    let report = sink.wait_for(20, SECOND).unwrap();
    let report = if report.frames < 21 { sink.settle(SECOND / 10).unwrap() } else { report };
    assert_eq!((report.frames, report.stamped, report.unknown_flow), (21, 20, 1));
    let [bad, good] = report.flows[..] else { panic!("{report:?}") };
    assert_eq!((bad.received, bad.next, bad.gaps), (9, 2001, 2));
    assert_eq!((bad.late, bad.duplicates, bad.stale), (1, 2, 1));
    assert_eq!(bad.missing(), 2001 - 6);
    assert_eq!((good.received, good.missing(), good.is_in_order()), (10, 0, true));
    assert!(report.ensure_clean(20).is_err());

    sink.reset().unwrap();
    send_frames(&lab, EGRESS.namespace, EGRESS.name, &frames[9..19]).unwrap();
    sink.wait_for(10, SECOND).unwrap().ensure_clean(10).unwrap();
}

#[test]
fn the_sink_looks_behind_tags_and_vxlan() {
    let lab = Lab::new().unwrap();
    let sink = Sink::attach(&lab, INGRESS.namespace, INGRESS.name).unwrap();
    let inner = |n| {
        let payload = Stamp { flow: 0, sequence: n, sent: 0 }.payload(24);
        Inner::new([10, 0, 0, 1], [10, 0, 0, 2]).tag(Tag::customer(1)).payload(payload)
    };
    let tags = vec![Tag::service(1), Tag::customer(2)];
    let frames = [
        inner(0).build(),
        inner(1).tag(Tag::customer(3)).build(),
        Mirror { tags, options: vec![1; 4], ..Mirror::default() }.wrap(&inner(2).build()),
        Mirror::over_ipv6().wrap(&inner(3).options(&[1; 8]).build()),
    ];
    send_frames(&lab, MIRROR.namespace, MIRROR.name, &frames).unwrap();
    sink.wait_for(4, SECOND).unwrap().ensure_clean(4).unwrap();
}

/// A sender that is faster than the receiver's ring of 256 frames waits and loses nothing.
#[test]
fn a_full_ring_loses_nothing() {
    let lab = Lab::new().unwrap();
    let sink = Sink::attach(&lab, TAP.namespace, TAP.name).unwrap();
    let frames: Vec<_> = (0..50_000).map(|n| stamped((n % 4) as u32, n / 4)).collect();
    for bypass in [false, true] {
        let mut sender = Sender::open_in(&lab, EGRESS.namespace, EGRESS.name).unwrap();
        if bypass {
            sender = sender.bypass_qdisc().unwrap();
        }
        sender.send(&frames).unwrap();
        assert_eq!(sender.report().sent, 50_000);
        sink.wait_for(50_000, 5 * SECOND).unwrap().ensure_clean(50_000).unwrap();
        sink.reset().unwrap();
    }
}

#[test]
fn the_fast_generator_counts_what_arrives() {
    let lab = Lab::new().unwrap();
    let sink = Sink::attach(&lab, INGRESS.namespace, INGRESS.name).unwrap();
    let plain = FastGenerator { duration: SECOND / 4, ..FastGenerator::default() };
    let sizes = vec![24, 64, 512, 1400];
    for generator in [
        plain.clone(),
        FastGenerator { payload: sizes, flows: 3, ..plain.clone() },
        FastGenerator { flows: 1, checksum: false, note_time: true, cpu: 1, ..plain },
    ] {
        let report = generator.run(&lab).unwrap();
        let seen = sink.wait_for(report.sent, SECOND).unwrap();
        assert_eq!(report.attempted, report.sent + report.refused);
        assert!(report.sent > 10_000, "{report:?}");
        assert_eq!(seen.stamped, report.sent);
        assert!(seen.total().is_in_order(), "{report:?} {:?}", seen.total());
        assert_eq!(seen.flows.len(), generator.flows as usize);
        assert_eq!(seen.delays.count(), if generator.note_time { report.sent } else { 0 });
        if report.refused == 0 {
            seen.ensure_clean(report.sent).unwrap();
        }
        sink.reset().unwrap();
    }
}

#[test]
fn the_fast_generator_keeps_its_pace_and_its_count() {
    let lab = Lab::new().unwrap();
    let sink = Sink::attach(&lab, INGRESS.namespace, INGRESS.name).unwrap();
    let paced = FastGenerator { pps: Some(20_000), duration: SECOND / 2, ..Default::default() };
    let report = paced.run(&lab).unwrap();
    // Never faster; other work on the CPU may make it slower.
    assert!((15_000.0..20_200.0).contains(&report.pps()), "{report:?}");
    sink.reset().unwrap();
    let counted = FastGenerator { count: Some(12_345), duration: 10 * SECOND, ..paced };
    let report = counted.run(&lab).unwrap();
    assert_eq!(report.attempted, 12_345);
    assert_eq!(report.sent + report.refused, 12_345);
    assert_eq!(sink.wait_for(report.sent, SECOND).unwrap().stamped, report.sent);
}

/// A receiver on another CPU that is too slow leaves no room in the cable: what it refuses is known.
#[test]
fn refused_frames_are_counted() {
    let lab = Lab::new().unwrap();
    let sink = Sink::attach_passing(&lab, INGRESS.namespace, INGRESS.name).unwrap();
    let other_cpu = "mount -t sysfs none /sys && echo 1 > /sys/class/net/ens5/threaded";
    lab.run(INGRESS.namespace, &["unshare", "-m", "sh", "-c", other_cpu]).unwrap();
    let generator = FastGenerator { duration: SECOND / 4, ..FastGenerator::default() };
    let report = generator.run(&lab).unwrap();
    assert_eq!(report.attempted, report.sent + report.refused);
    assert_eq!(sink.settle(SECOND / 20).unwrap().stamped, report.sent);
}

#[test]
fn a_cable_without_xdp_is_an_error() {
    let lab = Lab::new().unwrap();
    let generator = FastGenerator { duration: SECOND / 20, ..FastGenerator::default() };
    let text = generator.run(&lab).unwrap_err().to_string();
    assert!(text.contains("has it XDP"), "{text}");
}

/// The frames made by the BPF program are those that the builder makes: every checksum is right.
#[test]
fn the_fast_generators_frames_are_well_formed() {
    let lab = Lab::new().unwrap();
    // Without an XDP program the veth would take no redirected frame.
    let _sink = Sink::attach_passing(&lab, INGRESS.namespace, INGRESS.name).unwrap();
    let generator = FastGenerator {
        count: Some(300),
        flows: 7,
        payload: vec![24, 65, 1400],
        pps: Some(50_000),
        note_time: true,
        ..FastGenerator::default()
    };
    let capture = Capture::start(&lab, INGRESS.namespace, INGRESS.name).unwrap();
    let report = generator.run(&lab).unwrap();
    assert_eq!(report.sent, 300);
    // Others are the kernel's answers to what is addressed to it.
    let is_ours = |frame: &&Frame| frame.get(36..38) == Some(&[0x12, 0xb5]);
    let all = |frames: &[Frame]| frames.iter().filter(is_ours).count() == 300;
    let frames = capture.wait_until(all, SECOND).unwrap();
    let sizes = [24, 65, 1400];
    for (number, frame) in frames.iter().filter(is_ours).enumerate() {
        let (flow, sequence) = (number % 7, number / 7);
        let stamp = Stamp::read(&frame[92..]).unwrap();
        assert_eq!((stamp.flow, stamp.sequence), (flow as u32, sequence as u64));
        let inner = Inner::new([198, 19, 0, flow as u8], *generator.destination.ip())
            .udp(40000, generator.destination.port())
            .payload(stamp.payload(sizes[number % 3]));
        let source_port = u16::from_be_bytes([frame[34], frame[35]]);
        let expected = Mirror { source_port, ..Mirror::default() }.wrap(&inner.build());
        lab::packet::assert_frame_eq(expected, frame);
        assert!(source_port >= 49152 && stamp.sent > 0);
    }
}

#[test]
fn the_userspace_generator_keeps_pace_and_order() {
    let lab = Lab::new().unwrap();
    let sink = Sink::attach(&lab, INGRESS.namespace, INGRESS.name).unwrap();
    let generator = Generator {
        count: Some(2_000),
        pps: Some(10_000),
        flows: 5,
        payload: vec![24, 1400, 8000],
        ..Generator::default()
    };
    let started = std::time::Instant::now();
    let run = || generator.run(&AtomicBool::new(false));
    let report = lab.enter(MIRROR.namespace, run).unwrap().unwrap();
    let seconds = started.elapsed().as_secs_f64();
    assert_eq!(report.sent, 2_000);
    assert!((0.19..0.4).contains(&seconds), "{seconds} s");
    let seen = sink.wait_for(2_000, SECOND).unwrap();
    seen.ensure_clean(2_000).unwrap();
    assert_eq!((seen.flows.len(), seen.total().missing()), (5, 0));
    assert_eq!(seen.delays.count(), 2_000);
}
