//! `vxlan-lab demo`: the main job on real packets, shown step by step and checked to the last byte.

mod application;
mod scenes;
mod verdict;

use std::fs;
use std::io::{IsTerminal, Write, stdout};
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::capture::{Capture, CaptureOptions};
use crate::lab::{EGRESS, INGRESS, Lab, MIRROR, TAP};
use crate::pipeline::Pipeline;
use crate::send::send_frames;

use application::Application;
use scenes::Scene;
use verdict::Verdict;

const PATIENCE: Duration = Duration::from_secs(10);

/// Datagrams of the telemetry stream a second, and how long it lasts.
const STREAM_RATE: usize = 2000;
const STREAM_SECONDS: usize = 3;

/// Runs the demo. Returns whether everything was as it should be.
pub fn run() -> Result<bool> {
    let files = Files::write()?;
    let lab = Lab::new().context("building the lab (needs root)")?;
    heading("Three network namespaces: source, pipeline, target");
    tell(&format!(
        "{} --- {} [pipeline] {} --- {}, MTU 9500",
        MIRROR.name, INGRESS.name, EGRESS.name, TAP.name
    ));
    let application = Application::start(&lab)?;
    heading("vxlan-loader and packet-injector");
    let pipeline = Pipeline::start(
        &lab,
        &[
            "--enable-allowlist",
            "1",
            "--allowlist-file",
            &files.path("allowlist.json"),
            "--nat-rules-file",
            &files.path("nat-rules.json"),
            "--target-vni",
            "100,5569041",
        ],
        &[],
    )?;
    tell(pipeline.loader.stdout().trim_end());
    tell(pipeline.injector.stdout().trim_end());
    let verdict = show(&lab, &pipeline, &application)?;
    heading("Stopping: detach, drain, unpin");
    let (loader, injector) = pipeline.stop()?;
    for line in loader.lines().chain(injector.lines()) {
        if ["detached", "unaccounted", "sent  ", "success rate"].iter().any(|w| line.contains(w)) {
            tell(line);
        }
    }
    println!();
    println!("{}", verdict.line());
    for problem in &verdict.problems {
        eprintln!("vxlan-lab demo: {problem}");
    }
    Ok(verdict.problems.is_empty())
}

/// Sends everything and judges what came of it.
fn show(lab: &Lab, pipeline: &Pipeline<'_>, application: &Application) -> Result<Verdict> {
    let quiet = CaptureOptions { skip_noise: true, ..CaptureOptions::default() };
    let host_packets = scenes::talk_to_the_host(lab)?;
    heading("Traffic that is no mirror traffic passes to the host");
    tell(&format!("{host_packets} datagrams were answered by the host behind the ingress"));
    let tap = Capture::start_with(lab, TAP.namespace, TAP.name, quiet)?;
    let back = Capture::start_with(lab, MIRROR.namespace, MIRROR.name, quiet)?;
    let before = pipeline.stats()?["total"].as_u64().unwrap_or_default();
    let mut sent = 0;
    let mut expected: Vec<Vec<u8>> = Vec::new();
    heading("A mirrored UDP telemetry stream, translated to the application behind the NAT rule");
    let start = Instant::now();
    for (number, part) in
        scenes::telemetry(STREAM_RATE * STREAM_SECONDS).parts(20).iter().enumerate()
    {
        let due = start + Duration::from_secs_f64((number * 20) as f64 / STREAM_RATE as f64);
        sleep(due.saturating_duration_since(Instant::now()));
        sent += deliver(lab, part, &mut expected)?;
        if number % 25 == 24 {
            live(&pipeline.stats()?, application.received());
        }
    }
    if stdout().is_terminal() {
        println!();
    }
    heading("Other flows, blocked sources, foreign traffic");
    for scene in scenes::others() {
        let count = deliver(lab, &scene, &mut expected)?;
        sent += count;
        tell(&format!("{count:>5}  {}", scene.title));
    }
    let stats = pipeline.settle(before + sent)?;
    // Whether all came in time is the verdict's business.
    let arrived = tap.wait_for(expected.len(), PATIENCE).unwrap_or_else(|_| tap.frames());
    Ok(Verdict::new(sent, &expected, &arrived, &back.stop()?, &stats, application))
}

fn deliver(lab: &Lab, scene: &Scene, expected: &mut Vec<Vec<u8>>) -> Result<u64> {
    expected.extend(scene.expected.iter().cloned());
    Ok(send_frames(lab, MIRROR.namespace, MIRROR.name, &scene.packets)?.sent)
}

fn heading(text: &str) {
    println!("\n== {text}");
}

fn tell(text: &str) {
    for line in text.lines() {
        println!("   {line}");
    }
}

/// One line of figures; on a terminal it is written over the last one.
fn live(stats: &Value, received: u64) {
    let line = format!(
        "   received {}  queued {}  sent {}  in ring {}  application got {received}",
        stats["total"], stats["queued"], stats["sent"], stats["in_ring"]
    );
    if stdout().is_terminal() {
        print!("\r{line}   ");
        let _ = stdout().flush();
    } else {
        println!("{line}");
    }
}

/// The demo's allowlist and rules, in a folder of its own that is removed at the end.
struct Files(PathBuf);

impl Files {
    fn write() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("vxlan-lab-demo-{}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let files = Self(folder);
        fs::write(files.path("allowlist.json"), scenes::allowlist().to_string())?;
        fs::write(files.path("nat-rules.json"), scenes::rules().to_string())?;
        Ok(files)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
