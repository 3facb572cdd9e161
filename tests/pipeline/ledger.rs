//! Every packet is accounted for, by name.

use anyhow::{Result, ensure};
use lab::packet::{Inner, Mirror, arp_request};
use lab::{INGRESS, Lab, MIRROR, Pipeline, TAP, send_frames};

/// Adds up what `vxlanctl stats --json` says, term by term, as the specification has it.
pub fn closes(stats: &serde_json::Value) -> Result<()> {
    let term = |name: &str| stats[name].as_u64().unwrap_or_else(|| panic!("no term {name}"));
    let sum_of = |name: &str| -> u64 {
        let terms = stats[name].as_object().unwrap_or_else(|| panic!("no terms {name}"));
        terms.values().filter_map(serde_json::Value::as_u64).sum()
    };
    ensure!(sum_of("dropped_by_reason") == term("dropped"), "{stats:#}");
    ensure!(sum_of("send_failed_by_reason") == term("send_failed"), "{stats:#}");
    let kernel = term("passed") + term("dropped") + term("redirected") + term("queued");
    ensure!(term("total") == kernel, "total is not what became of it: {stats:#}");
    let injector = term("sent")
        + term("send_failed")
        + term("in_doubt")
        + term("held")
        + term("lost")
        + term("in_ring");
    ensure!(term("queued") + term("resent") == injector, "the queue does not add up: {stats:#}");
    ensure!(stats["unaccounted"] == 0, "{stats:#}");
    Ok(())
}

#[test]
fn every_drop_has_its_name_and_the_sums_close() -> Result<()> {
    let lab = Lab::new()?;
    lab.set_mtu(lab::EGRESS.namespace, lab::EGRESS.name, 1500)?;
    let list = std::env::temp_dir().join(format!("allow-{}.json", std::process::id()));
    std::fs::write(&list, r#"{"version":"1","flat_ip_list":["198.51.100.0/24"]}"#)?;
    let file = list.display().to_string();
    let allowlist = ["--enable-allowlist", "1", "--allowlist-file", &file, "--target-vni", "100,7"];
    // DF stays, so that nothing is fragmented.
    let options = [&allowlist[..], &["--df-clear-threshold", "65535"]].concat();
    let pipeline = Pipeline::start(&lab, &options, &[])?;
    std::fs::remove_file(&list)?;
    let listed = Inner::new([198, 51, 100, 1], [203, 0, 113, 9]);
    let blocked = Inner::new([203, 0, 113, 8], [203, 0, 113, 9]).build();
    let good = listed.clone().udp(1, 2).build();
    let wrap = |frame: &[u8]| Mirror::default().wrap(frame);
    let no_flag = Mirror { flags: 0, ..Mirror::default() };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("queued", wrap(&good)),
        ("queued", Mirror::vni(7).wrap(&good)),
        ("vni_mismatch", Mirror::vni(8).wrap(&good)),
        ("vxlan_no_vni", no_flag.wrap(&good)),
        ("not_allowed", wrap(&blocked)),
        ("non_ip", wrap(&arp_request([2, 0, 0, 0, 0, 1], [198, 51, 100, 1], [198, 51, 100, 2]))),
        ("inner_short", wrap(&good[..13])),
        ("too_big", wrap(&listed.payload_length(1500).build())),
    ];
    for (count, (verdict, packet)) in cases.iter().enumerate() {
        let before = pipeline.stats()?;
        send_frames(&lab, MIRROR.namespace, MIRROR.name, &[packet])?;
        let after = pipeline.settle(count as u64 + 1)?;
        closes(&after)?;
        let moved = |name: &str| {
            after["verdicts"][name].as_u64().unwrap_or_default()
                - before["verdicts"][name].as_u64().unwrap_or_default()
        };
        ensure!(moved(verdict) == 1, "{verdict} expected: {after:#}");
    }
    the_interfaces_tell_the_same(&lab, &pipeline, &good)?;
    pipeline.stop()?;
    Ok(())
}

/// Sends some more and compares what the interfaces counted with what the ledger did.
fn the_interfaces_tell_the_same(lab: &Lab, pipeline: &Pipeline<'_>, inner: &[u8]) -> Result<()> {
    let count = || -> Result<[u64; 4]> {
        let stats = pipeline.stats()?;
        let term = |name: &str| stats[name].as_u64().unwrap_or_default();
        Ok([
            lab.interface_counters(INGRESS.namespace, INGRESS.name)?.rx_packets,
            term("total"),
            term("sent"),
            lab.interface_counters(TAP.namespace, TAP.name)?.rx_packets,
        ])
    };
    let before = count()?;
    let packets = vec![Mirror::default().wrap(inner); 1000];
    send_frames(lab, MIRROR.namespace, MIRROR.name, &packets)?;
    pipeline.settle(before[1] + 1000)?;
    let after = count()?;
    let grown: Vec<u64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
    ensure!(grown == [1000; 4], "ingress, total, sent, target: {grown:?}");
    Ok(())
}
