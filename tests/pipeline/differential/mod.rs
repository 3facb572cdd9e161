//! One corpus through the pipeline, and through Linux's own vxlan device with nftables and
//! conntrack: packets must be equal, from the IP header on. What may differ stands in `reasons.rs`.

mod datagram;
mod exchange;
mod flows;
mod fragment;
mod generate;
mod ip;
mod judge;
mod linux;
mod reasons;
mod rules;

use std::fs;

use anyhow::{Result, ensure};
use lab::packet::Mirror;
use lab::{Lab, Pipeline, Random, read_pcap};

use self::exchange::{Outcome, exchange};
use self::flows::Flows;
use self::ip::Ip;
use self::judge::{Report, judge, units};
use self::rules::{Protocol, Rule};
use crate::captures::{LONGEST, TRANSPARENT};
use crate::corpus::Corpus;
use crate::ledger::closes;
use crate::oracle::{Scratch, wrap};

pub use self::linux::forwarded_by_linux;

/// A mirrored frame.
pub struct Case {
    /// Where it comes from, for people.
    name: String,
    vni: u32,
    frame: Vec<u8>,
}

impl Case {
    fn ip(&self) -> Option<Ip<'_>> {
        ip::of_frame(&self.frame)
    }
}

/// Packets of the generated corpus.
const GENERATED: usize = 12_000;

/// Ports that many captures use.
const RULES: [Rule; 7] = [
    Rule::new(Protocol::Any, 53, 8053),
    Rule::new(Protocol::Tcp, 80, 8080),
    Rule::new(Protocol::Tcp, 443, 8443),
    Rule::new(Protocol::Udp, 5060, 9060),
    Rule::new(Protocol::Tcp, 502, 9502),
    Rule::new(Protocol::Udp, 514, 9514),
    Rule::new(Protocol::Echo, 0, 0),
];

#[test]
fn captures_leave_as_linux_would_send_them() -> Result<()> {
    let Some(corpus) = Corpus::find("captures_leave_as_linux") else { return Ok(()) };
    let scratch = Scratch::new("differential")?;
    let captures = corpus.captures("inner")?;
    let mut cases = Vec::new();
    for (number, (capture, wrapped)) in
        captures.iter().zip(wrap(&corpus, &captures, &scratch)?).enumerate()
    {
        let name = capture.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let frames = read_pcap(wrapped)?.into_iter().filter(|frame| frame.len() <= LONGEST);
        cases.extend(frames.map(|frame| Case {
            name: name.clone(),
            vni: number as u32 + 1,
            frame: frame.bytes[50..].to_vec(),
        }));
    }
    let report = differ(&cases, &RULES)?;
    eprintln!("{} captures: {report}", captures.len());
    ensure!(report.different.is_empty(), "{} packets differ", report.different.len());
    // Captures are full of what no router forwards: multicast, packets without checksums, cut ones.
    ensure!(report.share() > 0.6, "only {:.2} of the packets are equal", report.share());
    ensure!(report.translated > 4000, "only {} packets were translated", report.translated);
    Ok(())
}

#[test]
fn a_generated_corpus_leaves_as_linux_would_send_it() -> Result<()> {
    let mut random = Random::from_environment()?;
    let ports: Vec<u16> = RULES.iter().map(|rule| rule.port).filter(|port| *port > 0).collect();
    let cases = generate::corpus(&mut random, GENERATED, &ports);
    let report = differ(&cases, &RULES)?;
    eprintln!("{} generated packets: {report}", cases.len());
    ensure!(report.different.is_empty(), "{} packets differ", report.different.len());
    ensure!(report.share() > 0.98, "only {:.2} of the packets are equal", report.share());
    let translated = report.translated as f64 / cases.len() as f64;
    ensure!(translated > 0.3, "only {translated:.2} of the packets were translated");
    Ok(())
}

/// Sends the cases through both and compares.
fn differ(cases: &[Case], rules: &[Rule]) -> Result<Report> {
    let flows = Flows::find(cases, rules);
    let units = units(cases, &flows);
    let mut waits_for_ever = vec![false; cases.len()];
    for unit in units.iter().filter(|unit| !unit.is_whole) {
        unit.cases.iter().for_each(|index| waits_for_ever[*index] = true);
    }
    let ours = ours(cases, rules)?;
    // Linux would join them with later fragments of the same name.
    let linux = linux::answers(cases, &flows, rules, |index| waits_for_ever[index])?;
    Ok(judge(cases, &units, &ours, &linux))
}

fn ours(cases: &[Case], rules: &[Rule]) -> Result<Vec<Outcome>> {
    let scratch = Scratch::new("differential-rules")?;
    let file = scratch.path().join("rules.json");
    fs::write(&file, rules::file(rules).to_string())?;
    let file = file.display().to_string();
    let lab = Lab::new()?;
    let options = [&TRANSPARENT[..], &["--nat-rules-file", &file]].concat();
    let pipeline = Pipeline::start(&lab, &options, &["--worker-threads", "1"])?;
    let packets: Vec<_> =
        cases.iter().map(|case| vec![Mirror::vni(case.vni).wrap(&case.frame)]).collect();
    let outcomes = exchange(&lab, &packets, |inner| Mirror::default().wrap(inner))?;
    closes(&pipeline.settle(2 * cases.len() as u64)?)?;
    pipeline.stop()?;
    Ok(outcomes)
}
