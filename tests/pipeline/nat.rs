//! Destination NAT through the two processes, against the corpus's oracle and a real application.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::packet::{Inner, Mirror, format_mac};
use lab::{Capture, EGRESS, Lab, MIRROR, Pipeline, TAP, read_pcap, send_frames};

use crate::captures::{LONGEST, TRANSPARENT, compare, is_refused};
use crate::corpus::Corpus;
use crate::oracle::{self, Answer, Scratch, wrap};

/// Ports that many captures use; the oracle takes one at a time.
const PORTS: [u16; 5] = [53, 80, 443, 5060, 502];

#[test]
fn captures_are_translated_as_the_oracle_says() -> Result<()> {
    let Some(corpus) = Corpus::find("captures_are_translated") else { return Ok(()) };
    let scratch = Scratch::new("translated")?;
    let mut frames = Vec::new();
    for wrapped in wrap(&corpus, &corpus.captures("inner")?, &scratch)? {
        let all = read_pcap(wrapped)?.into_iter();
        frames.extend(all.filter(|f| f.len() <= LONGEST).map(|f| f.bytes[50..].to_vec()));
    }
    let expected = expected_frames(&corpus, frames)?;
    let translated = expected.iter().filter(|(inner, out)| inner != out).count();
    ensure!(translated > 1000, "only {translated} frames are translated: is the corpus complete?");
    let rules = scratch.path().join("rules.json");
    let list: Vec<_> = PORTS.iter().map(|p| rule(*p)).collect();
    fs::write(&rules, serde_json::json!({ "version": "1.0", "rules": list }).to_string())?;
    let rules = rules.display().to_string();
    let lab = Lab::new()?;
    let options = [&TRANSPARENT[..], &["--nat-rules-file", &rules]].concat();
    let pipeline = Pipeline::start(&lab, &options, &[])?;
    let tap = Capture::start(&lab, TAP.namespace, TAP.name)?;
    // The oracle looks at one packet at a time: each has a VNI of its own, and so no flow, no
    // reply, and no first fragment. (Flows are compared with Linux: `differential`.)
    let alone = |(vni, (frame, _)): (u32, &(Vec<u8>, Vec<u8>))| Mirror::vni(vni).wrap(frame);
    let packets: Vec<_> = (1..).zip(&expected).map(alone).collect();
    send_frames(&lab, MIRROR.namespace, MIRROR.name, &packets)?;
    let stats = pipeline.settle(packets.len() as u64)?;
    let expected: Vec<_> = expected.into_iter().map(|(_, out)| out).collect();
    tap.wait_for(expected.len(), Duration::from_secs(10)).with_context(|| format!("{stats:#}"))?;
    compare(&expected, &tap.stop()?)?;
    ensure!(stats["unaccounted"] == 0, "{stats:#}");
    ensure!(stats["stages"]["nat_applied"] == translated, "{stats:#}");
    eprintln!("{} frames, {translated} translated as the oracle says", expected.len());
    pipeline.stop()?;
    Ok(())
}

fn rule(port: u16) -> serde_json::Value {
    serde_json::json!({
        "protocol": "any",
        "port": port,
        "target": { "address": TAP.ipv4.to_string(), "port": 8081 },
    })
}

/// What goes in and what has to come out. Left out: what the specification refuses, later
/// fragments, of which the oracle says that they need a policy, and broken first ones.
fn expected_frames(corpus: &Corpus, frames: Vec<Vec<u8>>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut outcomes: Vec<Option<Vec<u8>>> = frames.iter().cloned().map(Some).collect();
    for port in PORTS {
        let answers = oracle::nat(
            corpus,
            &frames,
            &[
                "--to-ip",
                &TAP.ipv4.to_string(),
                "--match-dport",
                &port.to_string(),
                "--to-port",
                "8081",
                "--dmac",
                &format_mac(TAP.mac),
                "--smac",
                &format_mac(EGRESS.mac),
            ],
        )?;
        for (outcome, answer) in outcomes.iter_mut().zip(answers) {
            match answer {
                Answer::Nat(frame) => *outcome = Some(frame),
                Answer::Fragment => *outcome = None,
                Answer::Pass => {}
            }
        }
    }
    let pairs = frames.into_iter().zip(outcomes);
    Ok(pairs
        .filter_map(|(frame, outcome)| Some((frame, outcome?)))
        .filter(|(frame, _)| !is_refused(frame) && !is_judged_otherwise(frame))
        .filter(|(frame, _)| !is_special_fragment(frame))
        .collect())
}

/// IPv4 fragments, behind up to two tags, that do not just leave where NAT rules are: first ones with
/// half a TCP or UDP header (RFC 1858), or with a length that can't be followed by anything (RFC 791:
/// not a multiple of eight), and later ones, which are held.
fn is_special_fragment(frame: &[u8]) -> bool {
    let mut at = 14;
    while at < 22 && matches!(frame[at - 2..at], [0x81, 0] | [0x88, 0xa8]) {
        at += 4;
    }
    if frame.len() < at + 20 || frame[at - 2..at] != [8, 0] {
        return false;
    }
    let ip = &frame[at..];
    let header = usize::from(ip[0] & 15) * 4;
    let data = usize::from(u16::from_be_bytes([ip[2], ip[3]])).saturating_sub(header);
    let half = match ip[9] {
        6 => data < 20,
        17 => data < 8,
        _ => false,
    };
    let more = ip[6] & 0x20 != 0;
    let is_later = (ip[6] & 0x1f, ip[7]) != (0, 0);
    let broken = more && (half || data % 8 != 0 || data == 0);
    matches!(ip[9], 1 | 6 | 17) && (is_later || broken)
}

/// Broken IPv4 packets that the oracle reads in another way than we do, on purpose:
///
/// - options cut off: it passes the packet as it is; for us a later fragment is one all the same
/// - the IP length ends inside the TCP or UDP header: it takes the rest of the header from the
///   Ethernet padding behind the packet; for us there is no whole header, so nothing to translate
fn is_judged_otherwise(frame: &[u8]) -> bool {
    if frame.len() < 34 || frame[12..14] != [8, 0] {
        return false;
    }
    let header = usize::from(frame[14] & 15) * 4;
    let length = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    let transport = match frame[23] {
        6 => 20,
        17 => 8,
        _ => return false,
    };
    let is_later = (frame[20] & 0x1f, frame[21]) != (0, 0);
    14 + header > frame.len() || (!is_later && (header..header + transport).contains(&length))
}

#[test]
fn a_real_application_receives_the_mirrored_telemetry() -> Result<()> {
    let lab = Lab::new()?;
    let target = TAP.ipv4.to_string();
    let pipeline = Pipeline::start(
        &lab,
        &["--nat-ip", &target, "--source-port", "2055", "--nat-port", "9995"],
        &[],
    )?;
    let socket = lab.enter(TAP.namespace, || UdpSocket::bind((TAP.ipv4, 9995)))??;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    let exporter = Ipv4Addr::new(198, 51, 100, 7);
    let packets: Vec<_> = (0..500u32)
        .map(|number| {
            let flow_export = format!("flow record {number}");
            let inner = Inner::new(exporter, [203, 0, 113, 9])
                .udp(50000, 2055)
                .payload(flow_export.as_bytes())
                .build();
            Mirror::vni(5_569_041).wrap(&inner)
        })
        .collect();
    let mut buffer = [0; 2048];
    let mut number = 0;
    // No more at once than fits into the application's receive buffer.
    for part in packets.chunks(100) {
        send_frames(&lab, MIRROR.namespace, MIRROR.name, part)?;
        for _ in part {
            let (length, sender) = socket.recv_from(&mut buffer).context("the application")?;
            ensure!(buffer[..length] == *format!("flow record {number}").as_bytes());
            ensure!(sender == (exporter, 50000).into(), "the source is kept: {sender}");
            number += 1;
        }
    }
    let seen: serde_json::Value = serde_json::from_str(&pipeline.control(&["vni", "--json"])?)?;
    ensure!(seen.to_string().contains("5569041"), "{seen:#}");
    pipeline.stop()?;
    Ok(())
}

#[test]
fn next_hops_follow_the_neighbour_table() -> Result<()> {
    let lab = Lab::new()?;
    let target = TAP.ipv4.to_string();
    let pipeline = Pipeline::start(&lab, &["--nat-ip", &target, "--source-port", "2055"], &["-s"])?;
    let moved = [2, 0x18, 0, 0, 1, 0x99];
    lab.run(TAP.namespace, &["ip", "link", "set", "dev", TAP.name, "address", &format_mac(moved)])?;
    // The target speaks up with its new address, as a failover pair does.
    let socket = lab.enter(TAP.namespace, || UdpSocket::bind((TAP.ipv4, 0)))??;
    socket.send_to(b"here I am", (EGRESS.ipv4, 9))?;
    let tap = Capture::start(&lab, TAP.namespace, TAP.name)?;
    let inner = Inner::new([198, 51, 100, 7], [203, 0, 113, 9]).udp(1, 2055).build();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !tap.frames().iter().any(|frame| frame[..6] == moved && frame[23] == 17) {
        ensure!(Instant::now() < deadline, "no frame went to the new MAC address");
        let packet = [Mirror::default().wrap(&inner)];
        send_frames(&lab, MIRROR.namespace, MIRROR.name, &packet)?;
        sleep(Duration::from_millis(50));
    }
    let stats = pipeline.stats()?;
    ensure!(stats["unaccounted"] == 0, "{stats:#}");
    pipeline.stop()?;
    Ok(())
}
