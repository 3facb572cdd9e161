//! Security events: what is told of which packets, and how many of a flood.

use std::net::IpAddr;
use std::thread::sleep;
use std::time::Duration;

use config::VniSet;
use dataplane::abi::{Side, Verdict, program_config};
use dataplane::events::{Event, Protocol};

use crate::frame::{Frame, MF, ethernet, mirror, outer, outer6, pattern, tcp4, tcp6, udp4};
use crate::rig::{Rig, rule, with_rig};

const RATE: u32 = 5;

fn with_events(more: impl FnOnce(&mut program_config), test: impl FnOnce(&mut Rig)) {
    with_rig(
        |config| {
            config.event_rate = 1000;
            more(config);
        },
        test,
    );
}

/// The one event of a packet.
fn event(rig: &Rig, packet: &[u8], expected: Verdict) -> Event {
    rig.run(packet);
    let [event] = &rig.events()[..] else { panic!("{expected:?} gives one event") };
    assert_eq!(event.verdict, expected.name());
    event.clone()
}

fn ip(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

#[test]
fn a_blocked_source_is_told_of() {
    with_events(
        |config| config.allowlist_enabled = 1,
        |rig| {
            let packet = outer().carry_vni(99, &udp4().tag(0x8100, 5).bytes()).bytes();
            let told = event(rig, &packet, Verdict::NotAllowed);
            assert_eq!(told.vni, Some(99));
            assert_eq!((told.mirror, told.source), (ip("192.0.2.101"), ip("10.1.0.1")));
            assert_eq!((told.source_port, told.destination_port), (Some(40000), Some(31765)));
            assert_eq!(told.destination, ip("198.51.100.7"));
            assert_eq!(told.protocol, Some(Protocol::Name("udp")));
            assert!(told.time.elapsed().unwrap() < Duration::from_secs(10));

            let told = event(rig, &outer6().carry(&tcp6().bytes()).bytes(), Verdict::NotAllowed);
            assert_eq!((told.mirror, told.source), (ip("2001:db8:aaaa::1"), ip("fd00::1")));
            assert_eq!((told.destination, told.vni), (ip("2001:db8::7"), Some(7)));
            assert_eq!(told.protocol, Some(Protocol::Name("tcp")));
        },
    );
}

#[test]
fn an_unknown_vni_is_told_of() {
    with_events(
        |_| {},
        |rig| {
            rig.accept(&VniSet::list([7]).unwrap());
            let packet = outer().carry_vni(0xabcdef, &udp4().bytes()).bytes();
            let told = event(rig, &packet, Verdict::VniMismatch);
            assert_eq!((told.vni, told.source, told.protocol), (Some(0xabcdef), None, None));
            assert_eq!(told.mirror, ip("192.0.2.101"));
        },
    );
}

#[test]
fn broken_packets_are_told_of() {
    let short = |bytes: &[u8]| outer().payload(bytes).bytes();
    with_events(
        |config| config.geneve = 1,
        |rig| {
            rig.rules(&[rule(config::NatProtocol::Any, 31765, "192.0.2.9:8081")]);
            let told = event(rig, &short(&[8, 0, 0]), Verdict::VxlanShort);
            assert_eq!((told.vni, told.mirror), (None, ip("192.0.2.101")));
            let no_flag = outer().vxlan([0; 8], &udp4().bytes()).bytes();
            assert_eq!(event(rig, &no_flag, Verdict::VxlanNoVni).vni, None);
            let cut = outer().flags(MF).carry(&udp4().bytes()).bytes();
            event(rig, &cut, Verdict::OuterFragment);
            event(
                rig,
                &outer().to("192.0.2.102:6081").payload(&[]).bytes(),
                Verdict::GeneveMalformed,
            );
            assert_eq!(event(rig, &mirror(&[1; 13]), Verdict::InnerShort).vni, Some(7));
            event(rig, &mirror(&udp4().first_byte(0x35).bytes()), Verdict::InnerMalformed);
            let tiny = udp4().raw(6).payload(&pattern(8)).flags(MF).bytes();
            let told = event(rig, &mirror(&tiny), Verdict::FragmentTiny);
            assert_eq!((told.source, told.source_port), (ip("10.1.0.1"), None));
            assert_eq!(told.protocol, Some(Protocol::Name("tcp")));
        },
    );
}

#[test]
fn ordinary_packets_are_not_told_of() {
    with_events(
        |config| config.unmatched_drop = 1,
        |rig| {
            let packets = [
                mirror(&udp4().bytes()),                         // unmatched
                mirror(&ethernet(0x0806, &pattern(28))),         // non_ip
                udp4().bytes(),                                  // passed
                outer().flags(5).carry(&udp4().bytes()).bytes(), // passed
            ];
            packets.iter().for_each(|packet| drop(rig.run(packet)));
            assert_eq!(rig.events(), []);
        },
    );
    // Without a log nothing is told at all.
    with_rig(
        |config| config.allowlist_enabled = 1,
        |rig| {
            rig.run(&mirror(&udp4().bytes()));
            assert_eq!(rig.events(), []);
            let counters = rig.counters();
            for side in [Side::EventsWritten, Side::EventsSuppressed, Side::EventsLost] {
                assert_eq!(counters.side(side), 0);
            }
        },
    );
}

fn flood(rig: &Rig, frame: &Frame, packets: u32) {
    let packet = mirror(&frame.bytes());
    (0..packets).for_each(|_| drop(rig.run(&packet)));
}

#[test]
fn a_flood_is_sampled_and_counted() {
    let count = |rig: &Rig, side| rig.counters().side(side);
    with_rig(
        |config| {
            config.allowlist_enabled = 1;
            config.event_rate = RATE;
        },
        |rig| {
            // The budget's second may end during the flood; then a second one has begun.
            let (mut told, mut sent) = (0, 0);
            for _ in 0..3 {
                flood(rig, &tcp4(), 100);
                sent += 100;
                let events = rig.events().len() as u64;
                assert!((1..=2 * u64::from(RATE)).contains(&events), "{events} events");
                told += events;
                sleep(Duration::from_millis(1100));
            }
            assert!(told >= 3 * u64::from(RATE));
            assert_eq!(count(rig, Side::EventsWritten), told);
            assert_eq!(count(rig, Side::EventsSuppressed), sent - told);
            assert_eq!(count(rig, Side::EventsLost), 0);
            assert_eq!(rig.counters().verdict(Verdict::NotAllowed), sent);
        },
    );
}

#[test]
fn a_full_event_ring_is_counted() {
    with_rig(
        |config| {
            config.allowlist_enabled = 1;
            config.event_rate = 100_000;
        },
        |rig| {
            let packets = 4000;
            flood(rig, &tcp4(), packets);
            let counters = rig.counters();
            // A record is the event's 80 bytes and the kernel's 8.
            assert_eq!(counters.side(Side::EventsWritten), (256 << 10) / 88);
            let lost = u64::from(packets) - counters.side(Side::EventsWritten);
            assert_eq!(counters.side(Side::EventsLost), lost);
            assert_eq!(rig.events().len(), (256 << 10) / 88);
        },
    );
}
