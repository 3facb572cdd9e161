//! The command line.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use clap::{Arg, ArgAction, Command, value_parser};

/// All commands and their options.
pub(crate) fn command() -> Command {
    Command::new("vxlan-lab")
        .about("Send mirrored (VXLAN) traffic on an interface")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(generate())
        .subcommand(replay())
        .subcommand(lab::benchmark::command())
        .subcommand(demo())
}

fn demo() -> Command {
    Command::new("demo").about("Show the pipeline at work in network namespaces (needs root)")
}

fn generate() -> Command {
    Command::new("generate")
        .about("Send generated UDP datagrams, wrapped in VXLAN")
        .long_about(
            "Send generated UDP datagrams, wrapped in VXLAN.\n\nThe inner payload starts with, \
             big-endian: magic 0x564d4c42 (4 bytes), flow (4), sequence number in the flow, from \
             0 (8), send time as CLOCK_MONOTONIC nanoseconds (8). The rest is zeros.",
        )
        .args(outer())
        .arg(
            Arg::new("count")
                .long("count")
                .value_name("N")
                .help("Frames to send; 0: until interrupted")
                .value_parser(value_parser!(u64))
                .default_value("1000"),
        )
        .arg(pps())
        .arg(
            Arg::new("flows")
                .long("flows")
                .value_name("N")
                .help("Flows, sent in turn")
                .value_parser(value_parser!(u32).range(1..=65_536))
                .default_value("1"),
        )
        .arg(
            Arg::new("payload")
                .long("payload")
                .value_name("BYTES")
                .help("Inner UDP payload; several sizes (64,512,1400) are used in turn")
                .value_parser(|text: &str| match text.parse::<usize>() {
                    Ok(size @ 24..=9000) => Ok(size),
                    _ => Err("24 to 9000 bytes"),
                })
                .value_delimiter(',')
                .default_value("64"),
        )
        .arg(
            Arg::new("inner-source")
                .long("inner-source")
                .value_name("ADDRESS")
                .help("Inner source network: its lower 16 bits are the flow")
                .value_parser(value_parser!(Ipv4Addr))
                .default_value("198.19.0.0"),
        )
        .arg(
            Arg::new("inner-destination")
                .long("inner-destination")
                .value_name("ADDRESS:PORT")
                .help("Inner destination")
                .value_parser(value_parser!(SocketAddrV4))
                .default_value("192.0.2.95:31765"),
        )
}

fn replay() -> Command {
    Command::new("replay")
        .about("Send the frames of a pcap or pcapng file")
        .arg(Arg::new("file").value_name("FILE").required(true).help("The capture file"))
        .arg(
            Arg::new("wrap")
                .long("wrap")
                .action(ArgAction::SetTrue)
                .requires("dst")
                .help("Wrap each frame in VXLAN; else they are sent as they are"),
        )
        .args(outer())
        .arg(pps())
        .arg(
            Arg::new("times")
                .long("times")
                .value_name("N")
                .help("Send the file so many times")
                .value_parser(value_parser!(u64).range(1..))
                .default_value("1"),
        )
}

fn pps() -> Arg {
    Arg::new("pps")
        .long("pps")
        .value_name("R")
        .help("Frames a second; as fast as possible if not given")
        .value_parser(value_parser!(u64).range(1..))
}

/// Where to send, and what the outer headers say.
fn outer() -> [Arg; 7] {
    let option = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    [
        option("interface", "IF", "Interface to send on (default: that of the route to --dst)")
            .short('i'),
        option("dst", "ADDRESS", "Outer destination: the VXLAN endpoint")
            .value_parser(value_parser!(IpAddr)),
        option("dst-mac", "MAC", "Outer Ethernet destination (default: the next hop to --dst)"),
        option("src", "ADDRESS", "Outer source (default: as the route says)")
            .value_parser(value_parser!(IpAddr)),
        option("src-mac", "MAC", "Outer Ethernet source (default: the interface's)"),
        option("port", "PORT", "Outer UDP destination port")
            .value_parser(value_parser!(u16))
            .default_value("4789"),
        option("vni", "VNI", "VXLAN network identifier")
            .value_parser(value_parser!(u32).range(0..1 << 24))
            .default_value("100"),
    ]
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_sound() {
        super::command().debug_assert();
    }
}
