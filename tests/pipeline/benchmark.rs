//! The benchmark runs to its end and says what it has measured. How fast is not for a test.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::Programs;
use serde_json::Value;

#[test]
fn a_quick_benchmark_gives_every_figure() -> Result<()> {
    let mut command = Programs::beside_this()?.command("vxlan-lab", &["benchmark", "--quick"]);
    command.arg("--json").env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let output = command.output().context("starting vxlan-lab")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let figures: Value =
        serde_json::from_slice(&output.stdout).with_context(|| said.to_string())?;
    for place in
        ["/program/0/nanoseconds", "/required/run/sent", "/bare/received", "/bare_busy/received"]
    {
        let number = figures.pointer(place).and_then(Value::as_u64);
        ensure!(number > Some(0), "{place} is {number:?}\n{figures:#}");
    }
    for place in ["/peaks/0/overload/received", "/peaks/1/overload/received"] {
        ensure!(figures.pointer(place).is_some_and(|n| n.as_u64() > Some(0)), "{figures:#}");
    }
    ensure!(figures["ratios"]["to_bare"].is_f64(), "{figures:#}");
    let run = &figures["required"]["run"];
    let [sent, received] = ["sent", "received"].map(|n| run[n].as_u64().unwrap_or_default());
    let lost = run["lost"].as_object().context("no losses by name")?;
    let named: u64 = lost.values().filter_map(Value::as_u64).sum();
    ensure!(run["unaccounted"] == 0 && sent == received + named, "{run:#}\n{said}");
    ensure!(run["out_of_order"] == 0, "{run:#}");
    ensure!(output.status.success() == (named == 0), "{}: {run:#}\n{said}", output.status);
    let seconds = Duration::from_secs_f64(run["seconds"].as_f64().unwrap_or_default());
    ensure!(seconds > Duration::from_secs(4), "the required run took {seconds:?} of 5 s");
    Ok(())
}
