//! Figures for people.

use std::fmt::Write as _;

use super::{Figures, Peak, Required, Run};

/// All tables, one below the other.
pub(super) fn render(figures: &Figures) -> String {
    let machine = &figures.machine;
    let mut text = format!(
        "{}, {} CPUs, Linux {}, load {:.2} at the start\n",
        machine.processor, machine.cpus, machine.kernel, machine.load
    );
    text += &section("XDP program, nanoseconds a packet", &program(figures));
    text += &section("Verifier", &verifier(figures));
    text += &section("Required run", &required(&figures.required));
    text += &section("Highest loss-free rate, packets a second", &peaks(figures));
    text += &section("Overload: the generator as fast as it can", &overload(figures));
    text += &section("A flood of blocked packets, medians, packets a second", &flood(figures));
    text += &section("Ratios, 64 bytes", &ratios(figures));
    text
}

fn program(figures: &Figures) -> Vec<Vec<String>> {
    let rows = figures
        .program
        .iter()
        .map(|cost| row(&[cost.packet, &cost.nanoseconds.to_string(), &cost.fastest.to_string()]));
    [row(&["packet", "median", "fastest"])].into_iter().chain(rows).collect()
}

fn verifier(figures: &Figures) -> Vec<Vec<String>> {
    let mut rows = vec![row(&["settings", "instructions", "processed", "limit", "states"])];
    for (name, verifier) in ["default", "everything on"].into_iter().zip(&figures.verifier) {
        let numbers = [verifier.instructions, verifier.processed, verifier.limit, verifier.states];
        let numbers = numbers.map(|number| grouped(number as f64));
        rows.push([vec![name.to_owned()], numbers.to_vec()].concat());
    }
    rows
}

fn flood(figures: &Figures) -> Vec<Vec<String>> {
    let flood = &figures.flood;
    let mut rows = vec![row(&["", "sent", "of these allowed", "received"])];
    for (name, run) in [
        ("no flood", flood.alone),
        ("3 blocked for each allowed", flood.flood),
        ("the same, with AUDIT_LOG", flood.events),
    ] {
        let numbers = [run.sent_pps, run.allowed_pps, run.received_pps].map(grouped);
        rows.push([vec![name.to_owned()], numbers.to_vec()].concat());
    }
    rows
}

fn required(required: &Required) -> Vec<Vec<String>> {
    let run = &required.run;
    let sizes: Vec<String> = run.payload.iter().map(usize::to_string).collect();
    let mebibytes = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let mut rows = vec![
        vec!["asked for".into(), format!("{} pps", grouped(required.target_pps as f64))],
        vec!["payload, in turn".into(), format!("{} bytes", sizes.join(" "))],
        vec!["flows".into(), required.flows.to_string()],
        vec!["time".into(), format!("{:.1} s", run.seconds)],
        vec![
            "sent".into(),
            format!("{} ({} pps)", grouped(run.sent as f64), grouped(run.sent_pps())),
        ],
        vec!["received".into(), grouped(run.received as f64)],
        vec!["lost".into(), (run.sent - run.received).to_string()],
    ];
    rows.extend(run.lost.iter().map(|(name, lost)| vec![format!("  {name}"), lost.to_string()]));
    rows.extend([
        vec!["out of order".into(), run.out_of_order.to_string()],
        vec!["unaccounted".into(), run.unaccounted.to_string()],
        vec![
            "injector, CPU".into(),
            format!(
                "{:.3} s a million packets ({:.1}% of a CPU)",
                required.injector_cpu_seconds_per_million,
                100.0 * required.injector_cpu_share
            ),
        ],
        vec!["loader, resident".into(), mebibytes(required.loader_resident_bytes)],
        vec!["injector, resident".into(), mebibytes(required.injector_resident_bytes)],
    ]);
    if let Some(latency) = required.latency_microseconds {
        let values = format!("{:.1} / {:.1} / {:.1} us", latency.p50, latency.p99, latency.p999);
        rows.push(vec!["latency p50/p99/p99.9".into(), values]);
    }
    rows
}

fn peaks(figures: &Figures) -> Vec<Vec<String>> {
    let mut rows = vec![row(&["path", "payload", "pps", "tries"])];
    for (name, peak) in paths(figures) {
        rows.push(vec![
            name.into(),
            peak.payload.to_string(),
            grouped(peak.loss_free_pps),
            peak.trials.len().to_string(),
        ]);
    }
    let bare = "bare loop of sendmmsg(64)";
    for (name, run) in [(bare, &figures.bare), ("the same beside a busy CPU", &figures.bare_busy)] {
        let payload = run.payload.first().copied().unwrap_or_default().to_string();
        rows.push(vec![name.into(), payload, grouped(run.received_pps()), "1".into()]);
    }
    if figures.kernel.is_none() {
        rows.push(row(&["vxlan device, nftables, forwarding", "", "skipped: no nft", ""]));
    }
    rows
}

fn overload(figures: &Figures) -> Vec<Vec<String>> {
    let mut rows = vec![row(&["path", "payload", "sent, pps", "received, pps", "lost"])];
    for (name, Peak { payload, overload, .. }) in paths(figures) {
        rows.push(vec![
            name.into(),
            payload.to_string(),
            grouped(overload.sent_pps()),
            grouped(overload.received_pps()),
            shares(overload),
        ]);
    }
    rows
}

fn ratios(figures: &Figures) -> Vec<Vec<String>> {
    let ratios = &figures.ratios;
    let value = |ratio: Option<f64>| ratio.map_or("-".into(), |ratio| format!("{ratio:.2}"));
    vec![
        vec!["pipeline to the kernel's path on one CPU".into(), value(ratios.to_kernel)],
        vec!["pipeline to the kernel's path on two CPUs".into(), value(ratios.to_kernel_two_cpus)],
        vec!["pipeline to the bare loop".into(), value(Some(ratios.to_bare))],
        vec![
            "pipeline to the bare loop beside a busy CPU".into(),
            value(Some(ratios.to_bare_busy)),
        ],
        vec![
            "pipeline under overload to the same".into(),
            value(Some(ratios.overload_to_bare_busy)),
        ],
    ]
}

fn paths(figures: &Figures) -> Vec<(&'static str, &Peak)> {
    let pipeline = figures.peaks.iter().map(|peak| ("pipeline", peak));
    let kernel = figures.kernel.iter().map(|peak| ("vxlan device, nftables, forwarding", peak));
    let steered = figures.kernel_two_cpus.iter().map(|peak| ("the same on two CPUs (RPS)", peak));
    pipeline.chain(kernel).chain(steered).collect()
}

/// What was lost, as shares of what was sent.
fn shares(run: &Run) -> String {
    let sent = run.sent.max(1) as f64;
    let share =
        |(name, lost): (&String, &u64)| format!("{name} {:.1}%", 100.0 * *lost as f64 / sent);
    let words: Vec<String> = run.lost.iter().map(share).collect();
    if words.is_empty() { "nothing".into() } else { words.join(", ") }
}

fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|&cell| cell.to_owned()).collect()
}

/// A title and aligned columns: words to the left, numbers to the right.
fn section(title: &str, rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|r| r.get(column)).map(String::len).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = format!("\n{title}\n");
    for cells in rows {
        let mut line = String::new();
        for (index, (cell, &width)) in cells.iter().zip(&widths).enumerate() {
            // Of two columns, the second is text that goes with a name.
            let _ = match index == 0 || columns == 2 || index == 4 {
                true => write!(line, "  {cell:<width$}"),
                false => write!(line, "  {cell:>width$}"),
            };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// A rounded number with thousands separators.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(grouped(0.4), "0");
        assert_eq!(grouped(999.0), "999");
        assert_eq!(grouped(1_234_567.8), "1,234,568");
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [row(&["a", "pps", "n"]), row(&["long", "1", "10"])];
        assert_eq!(section("T", &rows), "\nT\n  a     pps   n\n  long    1  10\n");
    }

    #[test]
    fn losses_are_shares() {
        let mut run = Run { sent: 200, received: 150, ..Run::default() };
        run.lose("ring_full", 50);
        assert_eq!(shares(&run), "ring_full 25.0%");
    }
}
