//! `vxlan-lab benchmark`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::{Benchmark, table};
use crate::stamp::Stamp;

/// The subcommand and its options.
pub fn command() -> Command {
    let option = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    Command::new("benchmark")
        .about("Measure the pipeline next to the kernel's own path and a bare send loop (as root)")
        .long_about(
            "Measure the pipeline next to the kernel's own path and a bare send loop, on labs of \
             its own (as root). vxlan-loader, packet-injector and vxlanctl must be beside this \
             program. Progress goes to standard error. The exit status is 1 if the required run \
             lost a frame or changed the order of a flow.",
        )
        .arg(
            option("duration", "SECONDS", "Length of the required run [default: 60, quick: 5]")
                .value_parser(value_parser!(u64).range(1..=86_400)),
        )
        .arg(
            option("target-pps", "N", "Frames a second of the required run [default: 85000]")
                .value_parser(value_parser!(u64).range(1..)),
        )
        .arg(
            option("payload", "LIST", "Inner UDP payloads of the required run, used in turn")
                .long_help(
                    "Inner UDP payloads of the required run, used in turn: 24 to 3184 bytes, 16 \
                     sizes at most [default: 64,128,256,512,1024,1400]",
                )
                .value_parser(|text: &str| match text.parse::<usize>() {
                    Ok(size @ Stamp::LENGTH..=3184) => Ok(size),
                    _ => Err("24 to 3184 bytes"),
                })
                .value_delimiter(','),
        )
        .arg(
            option("flows", "N", "Flows, sent in turn [default: 64]")
                .value_parser(value_parser!(u32).range(1..=1024)),
        )
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("Print one JSON object instead of tables"),
        )
        .arg(
            Arg::new("quick")
                .long("quick")
                .action(ArgAction::SetTrue)
                .help("A smoke test of half a minute, with rough figures"),
        )
}

/// Runs the benchmark that the options ask for, and prints its figures.
///
/// # Errors
/// Something could not be measured, or the required run lost a frame or an order.
pub fn execute(matches: &ArgMatches) -> Result<()> {
    let benchmark = from(matches)?;
    let figures = benchmark.run()?;
    if matches.get_flag("json") {
        println!("{}", serde_json::to_string(&figures).context("writing JSON")?);
    } else {
        print!("{}", table::render(&figures));
    }
    let run = &figures.required.run;
    ensure!(run.is_clean(), "the required run is not clean: {}", run.losses());
    Ok(())
}

fn from(matches: &ArgMatches) -> Result<Benchmark> {
    let mut benchmark =
        if matches.get_flag("quick") { Benchmark::quick() } else { Benchmark::default() };
    if let Some(&seconds) = matches.get_one::<u64>("duration") {
        benchmark.duration = Duration::from_secs(seconds);
    }
    if let Some(&pps) = matches.get_one::<u64>("target-pps") {
        benchmark.target_pps = pps;
    }
    if let Some(&flows) = matches.get_one::<u32>("flows") {
        benchmark.flows = flows;
    }
    if let Some(sizes) = matches.get_many::<usize>("payload") {
        benchmark.payload = sizes.copied().collect();
    }
    ensure!(benchmark.payload.len() <= 16, "--payload: 16 sizes at most");
    Ok(benchmark)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Benchmark> {
        from(&command().no_binary_name(true).try_get_matches_from(arguments)?)
    }

    #[test]
    fn options_replace_the_defaults() {
        let plain = parse(&[]).unwrap();
        assert_eq!((plain.duration.as_secs(), plain.target_pps, plain.flows), (60, 85_000, 64));
        let quick = parse(&["--quick", "--payload", "64,1400", "--flows", "3"]).unwrap();
        assert_eq!((quick.duration.as_secs(), quick.flows), (5, 3));
        assert_eq!(quick.payload, [64, 1400]);
        let asked = parse(&["--quick", "--duration", "7", "--target-pps", "9"]).unwrap();
        assert_eq!((asked.duration.as_secs(), asked.target_pps), (7, 9));
    }

    #[test]
    fn bad_values_are_refused() {
        for arguments in [["--payload", "23"], ["--flows", "0"], ["--duration", "0"]] {
            assert!(parse(&arguments).is_err(), "{arguments:?}");
        }
        let sizes = ["64"; 17].join(",");
        assert!(parse(&["--payload", &sizes]).is_err());
    }
}
