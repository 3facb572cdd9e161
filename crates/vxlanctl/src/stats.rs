//! `vxlanctl stats`: the ledger.

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command};
use dataplane::Pins;
use dataplane::abi::{Note, SendFailure, Stage, Verdict};
use dataplane::ledger::{Ledger, Snapshot};

use crate::output;
use crate::table::{Panel, percent, thousands};

/// The subcommand.
pub fn command() -> Command {
    Command::new("stats")
        .about("Show what became of every packet: counters, drop reasons, ring, workers")
        .arg(
            Arg::new("format")
                .long("format")
                .value_name("FORMAT")
                .value_parser(["table", "json"])
                .default_value("table")
                .help("table for people; json with every term, numbers in full"),
        )
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .conflicts_with("format")
                .help("The same as --format json"),
        )
        .after_help(
            "Examples:\n  vxlanctl stats\n  vxlanctl stats --json | jq .unaccounted\n\n\
             \"unaccounted\" is 0 whenever traffic is at rest; under traffic the counters are read \
             at slightly different moments.",
        )
}

/// Runs it.
pub fn run(pins: &Pins, matches: &ArgMatches) -> Result<()> {
    let snapshot = Ledger::open(pins)?.snapshot()?;
    if matches.get_flag("json") || matches.get_one::<String>("format").is_some_and(|f| f == "json")
    {
        return output::json(&snapshot);
    }
    output::print(&render(&snapshot, &format!("VXLAN pipeline {}", pins.directory().display())))
}

fn label(stage: Stage) -> &'static str {
    match stage {
        Stage::Total => "Total received",
        Stage::Vxlan => "VXLAN",
        Stage::Inner => "Inner",
        Stage::NatApplied => "NAT applied",
        Stage::DfCleared => "DF cleared",
        Stage::Forwarded => "Forwarded",
        Stage::Redirected => "Redirected",
        Stage::Errors => "Errors",
        Stage::Bytes => "Bytes",
    }
}

fn render(snapshot: &Snapshot, title: &str) -> String {
    let mut panel = Panel::new(title);
    for stage in Stage::ALL {
        let value = snapshot.stages.get(stage.name()).copied().unwrap_or_default();
        panel.row(label(stage), thousands(value), stage.description());
        if stage == Stage::Total {
            let processed = snapshot.total.saturating_sub(snapshot.passed);
            panel.row("Processed", thousands(processed), "received, but for those passed");
            panel.row("Passed", thousands(snapshot.passed), "handed to the host");
            panel.row("Dropped", thousands(snapshot.dropped), "all reasons, see below");
        }
    }
    injector_rows(&mut panel, snapshot);

    panel.section("Dropped, by reason");
    let drops = Verdict::ALL.map(|v| (v.name(), v.description()));
    counted_rows(&mut panel, &drops, |name| snapshot.dropped_by_reason.get(name));
    panel.section("Send failed, by reason");
    let failures = SendFailure::ALL.map(|f| (f.name(), f.description()));
    counted_rows(&mut panel, &failures, |name| snapshot.send_failed_by_reason.get(name));
    panel.section("Also");
    let notes = Note::ALL.map(|n| (n.name(), n.description()));
    counted_rows(&mut panel, &notes, |name| snapshot.notes.get(name));

    panel.section("Ring");
    let ring = &snapshot.ring;
    let note = format!("of {} bytes", thousands(ring.size));
    panel.row("Fill", percent(ring.bytes, ring.size), note);
    worker_rows(&mut panel, snapshot);
    panel.render()
}

fn injector_rows(panel: &mut Panel, snapshot: &Snapshot) {
    panel.section("Injector");
    panel.row("Queued", thousands(snapshot.queued), "written to the ring");
    panel.row("Sent", thousands(snapshot.sent), "taken by the egress interface");
    panel.row("Send failed", thousands(snapshot.send_failed), "refused for good by the kernel");
    if snapshot.held != 0 {
        panel.row("Held", thousands(snapshot.held), "held outside the ring");
    }
    panel.row("In ring", thousands(snapshot.in_ring), "waiting to be sent");
    panel.row("Resent", thousands(snapshot.resent), "sent again after an injector died");
    panel.row("In doubt", thousands(snapshot.in_doubt), "of these: perhaps sent only once");
    let note = match snapshot.unaccounted {
        0 => "the sums close",
        _ => "in flight while the counters were read, if traffic flows",
    };
    panel.row("Unaccounted", thousands(snapshot.unaccounted), note);
}

/// Rows for those of a list that aren't zero, the greatest first.
fn counted_rows<'a>(
    panel: &mut Panel,
    names: &[(&'static str, &'static str)],
    count: impl Fn(&str) -> Option<&'a u64>,
) {
    let mut rows: Vec<_> = names
        .iter()
        .map(|(name, text)| (count(name).copied().unwrap_or_default(), name, text))
        .filter(|(count, ..)| *count != 0)
        .collect();
    rows.sort_by_key(|(count, ..)| std::cmp::Reverse(*count));
    for (count, name, text) in rows {
        panel.row(*name, thousands(count), *text);
    }
}

fn worker_rows(panel: &mut Panel, snapshot: &Snapshot) {
    let title = match snapshot.injector_pid {
        0 => "Workers".to_owned(),
        pid => format!("Workers (last injector: process {pid})"),
    };
    panel.section(title);
    for (index, worker) in snapshot.workers.iter().enumerate() {
        let note = format!(
            "{} of all sent, {} bytes, {} calls, {} retries",
            percent(worker.sent, snapshot.sent),
            thousands(worker.sent_bytes),
            thousands(worker.calls),
            thousands(worker.retries)
        );
        panel.row(format!("Worker {index}"), thousands(worker.sent), note);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use dataplane::ledger::Worker;
    use dataplane::ring::Fill;

    use super::*;

    fn snapshot() -> Snapshot {
        Snapshot {
            total: 1_234_567,
            passed: 67,
            dropped: 1_500,
            dropped_by_reason: BTreeMap::from([
                ("ring_full", 1_000),
                ("non_ip", 500),
                ("internal", 0),
            ]),
            redirected: 0,
            queued: 1_233_000,
            sent: 1_232_990,
            send_failed: 5,
            send_failed_by_reason: BTreeMap::from([("enetdown", 5), ("other", 0)]),
            held: 0,
            in_ring: 5,
            resent: 0,
            in_doubt: 0,
            unaccounted: 0,
            stages: BTreeMap::from([("total", 1_234_567), ("bytes", 9_999_999)]),
            notes: BTreeMap::from([("truncated_forwarded", 12), ("fragments_forwarded", 0)]),
            verdicts: BTreeMap::new(),
            ring: Fill { records: 5, bytes: 1024, size: 4096 },
            injector_pid: 4711,
            workers: vec![Worker { sent: 616_495, ..Default::default() }],
        }
    }

    #[test]
    fn people_see_what_counts() {
        let text = render(&snapshot(), "T");
        let squeezed = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for words in [
            "Total received 1,234,567 packets that reached",
            "Processed 1,234,500",
            "ring_full 1,000 no room in the ring",
            "enetdown 5 egress interface is down",
            "truncated_forwarded",
            "Fill 25.0% of 4,096 bytes",
            "Unaccounted 0 the sums close",
            "50.0% of all sent",
            "last injector: process 4711",
        ] {
            assert!(squeezed.contains(words), "{words}\n{text}");
        }
        for absent in ["internal", "Held", "fragments_forwarded", "other"] {
            assert!(!text.contains(absent), "{absent}\n{text}");
        }
        assert!(text.find("ring_full") < text.find("non_ip"), "the greatest first:\n{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }

    #[test]
    fn an_imbalance_is_shown() {
        let text = render(&Snapshot { unaccounted: 3, ..snapshot() }, "T");
        assert!(text.contains(" 3 ") && !text.contains("the sums close"), "{text}");
    }
}
