//! Headers that the driver spread over several buffers: the program reads only the first one, and
//! must not take a frame for something else because of that.

use std::os::fd::{AsRawFd, OwnedFd};

use config::NatProtocol::Any;
use dataplane::abi::Verdict::{self, HeadersNotLinear, Passed, Queued};
use libbpf_rs::Program;
use libbpf_rs::query::{ProgInfoIter, ProgInfoQueryOptions};

use crate::case::{counted, difference, ledger};
use crate::frame::{Frame, outer, outer6, pattern, tcp4, tcp6, udp4, udp6};
use crate::rig::{Rig, rule, skipped, with_rig};

const TARGETS: [&str; 2] = ["192.0.2.9:8081", "[2001:db8::99]:8081"];

/// The program of this rig: the only one that uses its ring.
fn program(rig: &Rig) -> OwnedFd {
    let ring = rig.ring_id();
    let options = ProgInfoQueryOptions::default().include_map_ids(true);
    let info = ProgInfoIter::with_query_opts(options).find(|info| info.map_ids.contains(&ring));
    Program::fd_from_id(info.expect("the program is loaded").id).unwrap()
}

/// Runs the program on a packet of which only `linear` bytes stand in the first buffer. `None`:
/// this kernel can't do it (before Linux 6.18).
fn run_split(program: &OwnedFd, packet: &[u8], linear: usize) -> Option<u32> {
    let context = libbpf_sys::xdp_md { data_end: linear as u32, ..Default::default() };
    let mut options = libbpf_sys::bpf_test_run_opts {
        sz: size_of::<libbpf_sys::bpf_test_run_opts>() as u64,
        data_in: packet.as_ptr().cast(),
        data_size_in: packet.len() as u32,
        ctx_in: (&raw const context).cast(),
        ctx_size_in: size_of_val(&context) as u32,
        repeat: 1,
        ..Default::default()
    };
    // SAFETY: the pointers in `options` are valid for the lengths beside them.
    let result = unsafe { libbpf_sys::bpf_prog_test_run_opts(program.as_raw_fd(), &mut options) };
    match result {
        0 => Some(options.retval),
        refused if refused == -libc::EINVAL => None,
        error => panic!("BPF_PROG_TEST_RUN with {linear} bytes in the first buffer: {error}"),
    }
}

/// Every split of one packet.
fn every_split(rig: &Rig, program: &OwnedFd, outer: &Frame, inner: &Frame) -> usize {
    let target = TARGETS[usize::from(!inner.is_ipv4())];
    let expected = inner.clone().translated(target).bytes();
    let packet = outer.clone().carry(&inner.bytes()).bytes();
    let udp_end = outer.layer4_offset() + 8;
    let transport = if inner.is_tcp() { 20 } else { 8 };
    let headers_end = udp_end + 8 + inner.layer4_offset() + transport;
    let mut before = rig.counters();
    let mut runs = 0;
    for linear in 14..packet.len() {
        let Some(action) = run_split(program, &packet, linear) else {
            continue;
        };
        runs += 1;
        let after = rig.counters();
        let wanted: Verdict = match linear {
            _ if linear < udp_end => Passed, // nobody knows that it is VXLAN
            _ if linear < headers_end => HeadersNotLinear,
            _ => Queued,
        };
        let name = format!("{} in {}, {linear} bytes", inner.summary(), outer.summary());
        assert_eq!(ledger(&before, &after), Vec::<String>::new(), "{name}");
        assert_eq!(counted(&before, &after), Some(wanted), "{name}");
        assert_eq!(action, if wanted == Passed { 2 } else { 1 }, "{name}");
        let frames = rig.drain();
        assert_eq!(frames.len(), usize::from(wanted == Queued), "{name}");
        if let Some(frame) = frames.first() {
            assert_eq!(difference("frame", frame, &expected), None, "{name}");
        }
        before = after;
    }
    runs
}

#[test]
fn headers_that_are_not_in_the_first_buffer() {
    let payload = |frame: Frame| frame.payload(&pattern(300));
    let chain = |frame: Frame| frame.options_header(0, 1).options_header(43, 3).fragment_header(0);
    let packets = [
        (outer(), payload(udp4())),
        (outer().tag(0x8100, 5).options(&[1; 8]), payload(tcp4()).tag(0x88a8, 1).tag(0x8100, 2)),
        (outer6(), payload(tcp6())),
        (chain(outer6()), chain(payload(udp6()))),
        (outer(), payload(udp4()).options(&[1; 40])),
    ];
    with_rig(
        |_| {},
        |rig| {
            rig.rules(&TARGETS.map(|target| rule(Any, 31765, target)));
            let program = program(rig);
            let runs: Vec<_> = packets
                .iter()
                .map(|(outer, inner)| every_split(rig, &program, outer, inner))
                .collect();
            if runs.contains(&0) {
                skipped("this kernel does not split the packets of test runs (Linux 6.18 does)");
            }
            println!("{} cases", runs.iter().sum::<usize>());
        },
    );
}
