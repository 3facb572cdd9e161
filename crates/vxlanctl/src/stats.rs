//! `vxlanctl stats`: the ledger.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command};
use dataplane::abi::{Note, SendFailure, Side, Stage, Verdict};
use dataplane::conntrack::{Conntrack, Summary};
use dataplane::ledger::{Ledger, Snapshot};
use dataplane::stats::Counters;
use dataplane::{MapName, Pins};
use serde::Serialize;

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

/// All that is shown.
#[derive(Serialize)]
struct Statistics {
    #[serde(flatten)]
    ledger: Snapshot,
    conntrack: Summary,
    /// Security events, by what became of them.
    events: BTreeMap<&'static str, u64>,
}

/// Those of [`Side`] that are about security events, by the part of the name that says what became
/// of them.
fn event_counters() -> impl Iterator<Item = (&'static str, Side)> {
    Side::ALL.into_iter().filter_map(|side| Some((side.name().strip_prefix("events_")?, side)))
}

impl Statistics {
    fn read(pins: &Pins) -> Result<Self> {
        let ledger = Ledger::open(pins)?.snapshot()?;
        let conntrack = Conntrack::open(pins)?.summary()?;
        let counters = Counters::read(&pins.open(MapName::STATS)?)?;
        let events = event_counters().map(|(name, side)| (name, counters.side(side))).collect();
        Ok(Self { ledger, conntrack, events })
    }
}

/// Runs it.
pub fn run(pins: &Pins, matches: &ArgMatches) -> Result<()> {
    let statistics = Statistics::read(pins)?;
    if matches.get_flag("json") || matches.get_one::<String>("format").is_some_and(|f| f == "json")
    {
        return output::json(&statistics);
    }
    output::print(&render(&statistics, &format!("VXLAN pipeline {}", pins.directory().display())))
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

fn render(statistics: &Statistics, title: &str) -> String {
    let snapshot = &statistics.ledger;
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

    conntrack_rows(&mut panel, &statistics.conntrack);
    panel.section("Security events");
    let events: Vec<_> = event_counters().map(|(name, s)| (name, s.description())).collect();
    counted_rows(&mut panel, &events, |name| statistics.events.get(name));

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
    panel.row("Send failed", thousands(snapshot.send_failed), "refused for good, see below");
    if snapshot.frames_sent != snapshot.sent {
        panel.row("Frames sent", thousands(snapshot.frames_sent), "fragmented or reassembled");
    }
    if snapshot.held != 0 {
        panel.row("Held", thousands(snapshot.held), "fragments held outside the ring");
    }
    if snapshot.lost != 0 {
        panel.row("Lost", thousands(snapshot.lost), "held by an injector that died");
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

fn conntrack_rows(panel: &mut Panel, conntrack: &Summary) {
    if conntrack.created == 0 && conntrack.entries == 0 {
        return; // there may be no rule at all
    }
    panel.section("Connection tracking");
    let size = format!("flows in the table, of at most {}", thousands(conntrack.size));
    panel.row("Entries", thousands(conntrack.entries), size);
    panel.row("Created", thousands(conntrack.created), Side::ConntrackCreated.description());
    panel.row("Hit", thousands(conntrack.hit), Side::ConntrackHit.description());
    panel.row("Evicted", thousands(conntrack.evicted), "flows that gave way to new ones");
    panel.row("Flushed", thousands(conntrack.flushed), "flows removed by vxlanctl");
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

    use dataplane::ledger::Worker;
    use dataplane::ring::Fill;

    use super::*;

    fn statistics() -> Statistics {
        Statistics {
            ledger: snapshot(),
            conntrack: Summary {
                entries: 9,
                size: 65_536,
                created: 12,
                hit: 3456,
                flushed: 2,
                evicted: 1,
            },
            events: BTreeMap::from([("written", 7), ("suppressed", 8), ("lost", 0)]),
        }
    }

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
            frames_sent: 1_232_990,
            send_failed: 5,
            send_failed_by_reason: BTreeMap::from([("enetdown", 5), ("other", 0)]),
            held: 0,
            lost: 0,
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
        let text = render(&statistics(), "T");
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
            "Entries 9 flows in the table, of at most 65,536",
            "Hit 3,456 packets of a translated flow",
            "Evicted 1 flows",
            "suppressed 8 security events beyond EVENT_RATE",
        ] {
            assert!(squeezed.contains(words), "{words}\n{text}");
        }
        for absent in [
            "internal",
            "Held",
            "Lost",
            "Frames sent",
            "fragments_forwarded",
            "other",
            "did not take",
        ] {
            assert!(!text.contains(absent), "{absent}\n{text}");
        }
        assert!(text.find("ring_full") < text.find("non_ip"), "the greatest first:\n{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }

    #[test]
    fn what_fragments_add_is_shown_when_there_is_some() {
        let ledger = Snapshot { frames_sent: 7, held: 3, lost: 2, ..snapshot() };
        let text = render(&Statistics { ledger, ..statistics() }, "T");
        let squeezed = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for words in ["Frames sent 7 fragmented", "Held 3 fragments", "Lost 2 held by"] {
            assert!(squeezed.contains(words), "{words}\n{text}");
        }
    }

    #[test]
    fn an_imbalance_is_shown() {
        let ledger = Snapshot { unaccounted: 3, ..snapshot() };
        let text = render(&Statistics { ledger, ..statistics() }, "T");
        assert!(text.contains(" 3 ") && !text.contains("the sums close"), "{text}");
    }

    #[test]
    fn what_did_not_happen_is_not_shown() {
        let quiet = Statistics {
            conntrack: Summary { size: 65_536, ..Summary::default() },
            events: BTreeMap::new(),
            ..statistics()
        };
        let text = render(&quiet, "T");
        assert!(
            !text.contains("Connection tracking") && !text.contains("Security events"),
            "{text}"
        );
    }

    #[test]
    fn every_counter_has_a_place() {
        let shown = event_counters().map(|(_, side)| side);
        let shown: Vec<_> =
            [Side::ConntrackCreated, Side::ConntrackHit].into_iter().chain(shown).collect();
        assert_eq!(shown, Side::ALL);
    }
}
