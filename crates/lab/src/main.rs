//! `vxlan-lab`: mirrored traffic on one's own interface.

mod arguments;

use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::ArgMatches;
use lab::packet::{Mirror, parse_mac};
use lab::{Generator, Route, SendReport, Sender, read_pcap};

fn main() -> ExitCode {
    let matches = arguments::command().get_matches();
    match run(&matches) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vxlan-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(matches: &ArgMatches) -> Result<()> {
    // Before the signals: they end a benchmark at once, and a lab leaves nothing behind.
    if let Some(("benchmark", matches)) = matches.subcommand() {
        return lab::benchmark::execute(matches);
    }
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    match matches.subcommand() {
        Some(("generate", matches)) => generate(matches, &stop),
        Some(("replay", matches)) => replay(matches, &stop),
        Some(("demo", _)) => {
            ensure!(lab::demo::run()?, "the demo failed");
            Ok(())
        }
        _ => unreachable!("clap asks for a subcommand"),
    }
}

fn generate(matches: &ArgMatches, stop: &AtomicBool) -> Result<()> {
    let (interface, mirror) = outer(matches)?;
    let generator = Generator {
        interface,
        mirror,
        count: matches.get_one("count").copied().filter(|&count| count > 0),
        pps: matches.get_one("pps").copied(),
        payload: matches.get_many("payload").into_iter().flatten().copied().collect(),
        flows: *matches.get_one("flows").context("flows")?,
        source: *matches.get_one("inner-source").context("inner-source")?,
        destination: *matches.get_one("inner-destination").context("inner-destination")?,
    };
    let started = Instant::now();
    let report = generator.run(stop)?;
    print(report, started);
    Ok(())
}

fn replay(matches: &ArgMatches, stop: &AtomicBool) -> Result<()> {
    let file: &String = matches.get_one("file").context("file")?;
    let mut frames: Vec<Vec<u8>> = read_pcap(file)?.into_iter().map(|f| f.bytes).collect();
    ensure!(!frames.is_empty(), "{file} has no frames");
    let interface = if matches.get_flag("wrap") {
        let (interface, mirror) = outer(matches)?;
        frames = frames.iter().map(|frame| mirror.wrap(frame)).collect();
        interface
    } else {
        matches.get_one::<String>("interface").context("--interface is needed")?.clone()
    };
    let mut sender = Sender::open(&interface)?;
    let interval = matches.get_one("pps").map(|&pps: &u64| 1.0 / pps as f64);
    let times: u64 = *matches.get_one("times").context("times")?;
    let started = Instant::now();
    let all = (0..times).flat_map(|_| &frames);
    for (number, frame) in all.enumerate().take_while(|_| !stop.load(Ordering::Relaxed)) {
        if let Some(interval) = interval {
            let due = Duration::from_secs_f64(number as f64 * interval);
            sleep(due.saturating_sub(started.elapsed()));
        }
        sender.send(std::slice::from_ref(frame))?;
    }
    print(sender.report(), started);
    Ok(())
}

/// The interface and the outer headers: what is not given is asked of the kernel.
fn outer(matches: &ArgMatches) -> Result<(String, Mirror)> {
    let destination: IpAddr = *matches.get_one("dst").context("--dst is needed")?;
    let interface = matches.get_one::<String>("interface").cloned();
    let source: Option<IpAddr> = matches.get_one("src").copied();
    let mac = |key| matches.get_one::<String>(key).map(|text| parse_mac(text)).transpose();
    let (destination_mac, source_mac) = (mac("dst-mac")?, mac("src-mac")?);
    let mut mirror = Mirror {
        destination,
        destination_port: *matches.get_one("port").context("port")?,
        vni: *matches.get_one("vni").context("vni")?,
        ..Mirror::default()
    };
    let interface = match (interface, source, destination_mac, source_mac) {
        (Some(interface), Some(source), Some(to), Some(from)) => {
            (mirror.source, mirror.destination_mac, mirror.source_mac) = (source, to, from);
            interface
        }
        (interface, source, to, from) => {
            let route = Route::to(destination)?;
            mirror.source = source.unwrap_or(route.source);
            mirror.destination_mac = to.unwrap_or(route.next_hop_mac);
            mirror.source_mac = from.unwrap_or(route.source_mac);
            interface.unwrap_or(route.interface)
        }
    };
    ensure!(mirror.source.is_ipv4() == destination.is_ipv4(), "--src and --dst differ in family");
    Ok((interface, mirror))
}

fn print(report: SendReport, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    let rate = report.sent as f64 / seconds;
    let SendReport { sent, retries } = report;
    println!("{sent} frames in {seconds:.2} s ({rate:.0} pps), {retries} retries");
}
