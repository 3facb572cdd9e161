//! Security events in AUDIT_LOG, one JSON object a line.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::packet::{Inner, Mirror};
use lab::{INGRESS, Lab, MIRROR, Pipeline, send_frames};
use serde_json::{Value, json};

use crate::ledger::closes;
use crate::oracle::Scratch;

/// The events in a log, which must be whole lines of JSON.
fn events(log: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines = text.lines().map(|line| serde_json::from_str(line).context(line.to_owned()));
    lines.collect()
}

fn wait_for(log: &Path, count: usize) -> Result<Vec<Value>> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let events = events(log)?;
        if events.len() >= count {
            return Ok(events);
        }
        ensure!(Instant::now() < deadline, "{} events of {count}", events.len());
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn each_kind_of_refused_packet_is_an_event() -> Result<()> {
    let lab = Lab::new()?;
    let scratch = Scratch::new("events")?;
    let log = scratch.path().join("audit.log");
    let list = scratch.path().join("allow.json");
    fs::write(&list, r#"{"version":"1","flat_ip_list":["198.51.100.0/24","2001:db8:1::/48"]}"#)?;
    let (log_text, list) = (log.display().to_string(), list.display().to_string());
    let more = ["--audit-log", &log_text, "--enable-allowlist", "1", "--allowlist-file", &list];
    let rule = ["--nat-ip", "198.18.1.2", "--source-port", "2055", "--target-vni", "7"];
    let pipeline = Pipeline::start(&lab, &[&more[..], &rule].concat(), &[])?;
    let inner = |source: [u8; 4]| Inner::new(source, [203, 0, 113, 9]);
    let blocked6 = Inner::new(MIRROR.ipv6, INGRESS.ipv6).tcp(40000, 443, 1).build();
    let tiny = inner([198, 51, 100, 1]).tcp(40000, 2055, 1).payload_length(64).fragments(8);
    let cut = {
        let mut packet = Mirror::vni(7).wrap(&[]);
        packet.truncate(packet.len() - 4);
        let length = (packet.len() - 14) as u16;
        packet[16..18].copy_from_slice(&length.to_be_bytes());
        packet[38..40].copy_from_slice(&(length - 20).to_be_bytes());
        packet
    };
    let packets = [
        Mirror::vni(7).wrap(&inner([203, 0, 113, 8]).udp(40000, 53).build()),
        Mirror { vni: 7, ..Mirror::over_ipv6() }.wrap(&blocked6),
        Mirror::vni(8).wrap(&inner([198, 51, 100, 1]).build()),
        cut,
        Mirror::vni(7).wrap(&tiny[0]),
        Mirror::vni(7).wrap(&inner([198, 51, 100, 1]).udp(1, 2).build()), // allowed
    ];
    send_frames(&lab, MIRROR.namespace, MIRROR.name, &packets)?;
    closes(&pipeline.settle(packets.len() as u64)?)?;
    let found = wait_for(&log, 5)?;
    let expected = [
        json!({ "verdict": "not_allowed", "vni": 7, "mirror": "198.18.0.1", "source": "203.0.113.8",
            "source_port": 40000, "destination": "203.0.113.9", "destination_port": 53,
            "protocol": "udp", "interface": "ens5" }),
        json!({ "verdict": "not_allowed", "vni": 7, "mirror": MIRROR.ipv6, "source": MIRROR.ipv6,
            "source_port": 40000, "destination": INGRESS.ipv6, "destination_port": 443,
            "protocol": "tcp", "interface": "ens5" }),
        json!({ "verdict": "vni_mismatch", "vni": 8, "mirror": "198.18.0.1", "interface": "ens5" }),
        json!({ "verdict": "vxlan_short", "vni": null, "mirror": "198.18.0.1",
            "interface": "ens5" }),
        json!({ "verdict": "fragment_tiny", "vni": 7, "source": "198.51.100.1",
            "destination": "203.0.113.9", "protocol": "tcp", "interface": "ens5" }),
    ];
    ensure!(found.len() == expected.len(), "{found:#?}");
    for (want, got) in expected.iter().zip(&found) {
        let fields = want.as_object().context("an object")?;
        let differs = fields.iter().find(|(name, value)| got.get(name.as_str()) != Some(value));
        ensure!(differs.is_none(), "{differs:?} is not in {got}");
        let time = got["time"].as_str().context("a time")?;
        ensure!(time.starts_with("20") && time.ends_with('Z') && time.contains('T'), "{time}");
    }
    pipeline.stop()?;
    Ok(())
}

#[test]
fn a_flood_gives_no_more_events_than_asked_for() -> Result<()> {
    let lab = Lab::new()?;
    let scratch = Scratch::new("flood")?;
    let log = scratch.path().join("audit.log");
    let text = log.display().to_string();
    let options = ["--audit-log", &text, "--event-rate", "10", "--target-vni", "7"];
    let pipeline = Pipeline::start(&lab, &options, &[])?;
    let packet = Mirror::vni(8).wrap(&Inner::new([198, 51, 100, 1], [203, 0, 113, 9]).build());
    let began = Instant::now();
    send_frames(&lab, MIRROR.namespace, MIRROR.name, &vec![packet; 5000])?;
    let stats = pipeline.settle(5000)?;
    closes(&stats)?;
    // One full second more than have begun: seconds do not begin with the flood.
    let most = 10 * (began.elapsed().as_secs() as usize + 2);
    ensure!(stats["dropped_by_reason"]["vni_mismatch"] == 5000, "{stats:#}");
    wait_for(&log, 10)?;
    pipeline.stop()?;
    let written = events(&log)?.len();
    ensure!((10..=most).contains(&written), "{written} events, {most} at most");
    Ok(())
}

/// A rule for the port of [`overlapping`] datagrams: without one their fragments just pass.
const RULE: [&str; 4] = ["--nat-ip", "198.18.1.2", "--source-port", "2055"];

/// Bytes 400 to 1200 of a datagram, 800 to 1600, then what had been between, and the beginning:
/// the first two are held when the third shows the overlap.
fn overlapping([client, server]: [IpAddr; 2]) -> Vec<Vec<u8>> {
    let inner = Inner::new(client, server).udp(40000, 2055).dont_fragment(false);
    let inner = inner.payload_length(2000);
    let (by_400, by_800) = (inner.fragments(400), inner.fragments(800));
    let fragments = [&by_400[1], &by_400[2], &by_800[1], &by_400[3], &by_400[0]];
    fragments.map(|fragment| Mirror::vni(7).wrap(fragment)).into()
}

#[test]
fn each_fragment_refused_for_an_overlap_is_an_event() -> Result<()> {
    let lab = Lab::new()?;
    let scratch = Scratch::new("overlaps")?;
    let ipv4: [IpAddr; 2] = [[198, 51, 100, 7].into(), [203, 0, 113, 9].into()];
    let ipv6: [IpAddr; 2] = ["2001:db8:1::7".parse()?, "2001:db8:2::9".parse()?];
    let dedup = [&RULE[..], &["--dedup-window-ms", "100"]].concat();
    for (run, (workers, options, addresses, vni, protocol)) in [
        ("1", &RULE[..], ipv4, json!(7), json!("udp")),
        ("2", &["--reassemble", "1"], ipv6, json!(7), json!(null)),
        ("1", &dedup, ipv4, json!(null), json!("udp")),
    ]
    .into_iter()
    .enumerate()
    {
        let log = scratch.path().join(format!("audit-{run}.log"));
        let text = log.display().to_string();
        let options = [options, &["--audit-log", &text, "--target-vni", "7"]].concat();
        let injector = ["--audit-log", &text, "--worker-threads", workers];
        let pipeline = Pipeline::start(&lab, &options, &injector)?;
        let mut packets = overlapping(addresses);
        // What the loader is to write into the same file.
        packets.push(Mirror::vni(8).wrap(&Inner::new(addresses[0], addresses[1]).build()));
        send_frames(&lab, MIRROR.namespace, MIRROR.name, &packets)?;
        let mut found = wait_for(&log, packets.len())?;
        let stats = pipeline.settle(packets.len() as u64)?;
        closes(&stats)?;
        ensure!(stats["send_failed_by_reason"]["fragment_overlap"] == 5, "{stats:#}");
        let (_, said) = pipeline.stop()?;
        ensure!(!said.contains("AUDIT_LOG"), "{said}");
        found.retain(|event| event["verdict"] != "vni_mismatch");
        ensure!(found.len() == 5 && events(&log)?.len() == 6, "{found:#?}");
        for mut event in found {
            let time = event["time"].take();
            ensure!(time.as_str().is_some_and(|time| time.starts_with("20")), "{time}");
            let expected = json!({ "time": null, "verdict": "fragment_overlap", "vni": vni,
                "mirror": null, "source": addresses[0], "source_port": null,
                "destination": addresses[1], "destination_port": null, "protocol": protocol,
                "interface": null });
            ensure!(event == expected, "run {run}: {event} is not {expected}");
        }
    }
    Ok(())
}

#[test]
fn the_injector_says_which_events_it_did_not_write() -> Result<()> {
    let lab = Lab::new()?;
    let scratch = Scratch::new("unwritten")?;
    let log = scratch.path().join("audit.log").display().to_string();
    let nowhere = scratch.path().join("missing/audit.log").display().to_string();
    let packets = overlapping([[198, 51, 100, 7].into(), [203, 0, 113, 9].into()]);
    for (log, rate, words) in [
        (log.as_str(), "2", vec!["3 events beyond EVENT_RATE were not written"]),
        ("/dev/full", "100", vec!["No space left", "5 events were never written"]),
    ] {
        let injector = ["--audit-log", log, "--event-rate", rate];
        let pipeline = Pipeline::start(&lab, &RULE, &injector)?;
        send_frames(&lab, MIRROR.namespace, MIRROR.name, &packets)?;
        pipeline.settle(packets.len() as u64)?;
        let (_, said) = pipeline.stop()?;
        for words in words {
            let line = format!("AUDIT_LOG {log}: {words}");
            ensure!(said.matches(&line).count() == 1, "{line:?} once in:\n{said}");
        }
    }
    ensure!(events(Path::new(&log))?.len() == 2, "what is within the rate is written");
    let error = Pipeline::start(&lab, &RULE, &["--audit-log", &nowhere]).err();
    let said = format!("{:#}", error.context("it started without its log")?);
    ensure!(
        said.contains(&format!("packet-injector: AUDIT_LOG {nowhere}: No such file")),
        "{said}"
    );
    ensure!(said.contains("make the directory that it is to be in"), "{said}");
    Ok(())
}
