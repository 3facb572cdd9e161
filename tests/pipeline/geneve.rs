//! Mirrored traffic inside GENEVE, as a Gateway Load Balancer endpoint gets it.

use anyhow::{Result, ensure};
use lab::packet::{Geneve, Inner, Mirror};
use lab::{Capture, Lab, MIRROR, Pipeline, TAP, send_frames};

use crate::captures::{TRANSPARENT, compare};
use crate::ledger::closes;

/// Three options of Amazon's class, as its load balancer sends them: endpoint, attachment, cookie.
fn options() -> Vec<u8> {
    let option = |kind: u8, words: u8| {
        [&[1, 8, kind, words][..], &vec![0x5a; usize::from(words) * 4]].concat()
    };
    [option(1, 2), option(2, 2), option(3, 1)].concat()
}

fn inner(number: u16) -> Vec<u8> {
    Inner::new([198, 51, 100, 1], [203, 0, 113, 9])
        .udp(1000 + number, 514)
        .payload_length(40)
        .build()
}

#[test]
fn vxlan_inside_geneve_is_delivered() -> Result<()> {
    let lab = Lab::new()?;
    let pipeline = Pipeline::start(&lab, &[&TRANSPARENT[..], &["--geneve", "1"]].concat(), &[])?;
    let tap = Capture::start(&lab, TAP.namespace, TAP.name)?;
    let (mut packets, mut expected) = (Vec::new(), Vec::new());
    let outer6 = Mirror { destination_port: 6081, ..Mirror::over_ipv6() };
    for outer in [Geneve::default().outer, outer6] {
        for mirror in [Mirror::vni(7), Mirror::over_ipv6()] {
            for options in [Vec::new(), options(), vec![0; 252]] {
                for ethernet in [false, true] {
                    let (outer, options) = (outer.clone(), options.clone());
                    let geneve = Geneve { outer, options, ethernet, vni: 3, ..Geneve::default() };
                    let inner = inner(expected.len() as u16);
                    packets.push(geneve.wrap(&mirror.wrap(&inner)));
                    expected.push(inner);
                }
            }
        }
    }
    send_frames(&lab, MIRROR.namespace, MIRROR.name, &packets)?;
    let stats = pipeline.settle(packets.len() as u64)?;
    closes(&stats)?;
    tap.wait_for(expected.len(), std::time::Duration::from_secs(5))?;
    compare(&expected, &tap.stop()?)?;
    let seen = pipeline.control(&["vni", "--json"])?;
    ensure!(seen.contains('7'), "the mirror's VNI counts: {seen}");
    pipeline.stop()?;
    Ok(())
}

#[test]
fn what_geneve_must_not_carry_is_dropped_by_name() -> Result<()> {
    let lab = Lab::new()?;
    let pipeline = Pipeline::start(&lab, &["--geneve", "1"], &[])?;
    let tap = Capture::start(&lab, TAP.namespace, TAP.name)?;
    let mirrored = Mirror::default().wrap(&inner(1));
    let other_port = Mirror { destination_port: 4790, ..Mirror::default() }.wrap(&inner(1));
    let plain = Geneve::default;
    let cases = [
        ("geneve_malformed", Geneve { version: 1, ..plain() }.wrap(&mirrored)),
        ("geneve_malformed", Geneve { claimed_words: Some(63), ..plain() }.wrap(&mirrored)),
        ("geneve_critical", Geneve { flags: 0x40, options: options(), ..plain() }.wrap(&mirrored)),
        ("geneve_control", Geneve { flags: 0x80, ..plain() }.wrap(&mirrored)),
        ("geneve_not_vxlan", plain().wrap(&other_port)),
        ("geneve_not_vxlan", plain().wrap(&[&[0; 14][..], &inner(1)[14..]].concat())),
    ];
    for (count, (verdict, packet)) in cases.iter().enumerate() {
        let before = pipeline.stats()?["dropped_by_reason"][verdict].as_u64();
        send_frames(&lab, MIRROR.namespace, MIRROR.name, &[packet])?;
        let stats = pipeline.settle(count as u64 + 1)?;
        let now = stats["dropped_by_reason"][verdict].as_u64();
        ensure!(now == before.map(|count| count + 1), "case {count}, {verdict}: {stats:#}");
        closes(&stats)?;
    }
    ensure!(tap.stop()?.is_empty(), "a frame arrived");
    pipeline.stop()?;
    Ok(())
}

#[test]
fn geneve_passes_to_the_host_unless_it_is_asked_for() -> Result<()> {
    let lab = Lab::new()?;
    let pipeline = Pipeline::start(&lab, &[], &[])?;
    let packet = Geneve::default().wrap(&Mirror::default().wrap(&inner(1)));
    send_frames(&lab, MIRROR.namespace, MIRROR.name, &[packet])?;
    let stats = pipeline.settle(1)?;
    closes(&stats)?;
    ensure!(stats["passed"] == stats["total"], "{stats:#}");
    pipeline.stop()?;
    Ok(())
}
