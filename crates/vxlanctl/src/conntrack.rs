//! `vxlanctl conntrack`: the translated flows that are remembered.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use dataplane::Pins;
use dataplane::conntrack::{Conntrack, Filter, Flow, Summary};
use serde_json::{Value, json};

use crate::output;
use crate::table::{Align, columns, thousands};

/// The subcommand.
pub fn command() -> Command {
    let json = Arg::new("json")
        .long("json")
        .action(ArgAction::SetTrue)
        .help("One JSON object: the counters, and \"flows\"");
    let limit = Arg::new("limit")
        .long("limit")
        .value_name("N")
        .value_parser(value_parser!(usize))
        .help("Show only the N flows that had a packet last");
    Command::new("conntrack")
        .about("Show or remove the translated flows that are remembered")
        .subcommand_required(true)
        .subcommands([
            Command::new("show")
                .about("Print the flows, those with the latest packets first")
                .args(filter_args("Which flows"))
                .args([json, limit])
                .after_help(
                    "Examples:\n  vxlanctl conntrack show --limit 20\n  \
                     vxlanctl conntrack show --vni 7 --address 192.0.2.9\n  \
                     vxlanctl conntrack show --json | jq '.flows[].target.address'\n\n\
                     Addresses and ports of client and server are those before translation; an \
                     ICMP echo flow has its identifier for both ports. A flow without a target had \
                     one that was removed: its next packet is given another.",
                ),
            Command::new("flush")
                .about("Remove the flows, all of them or some; their next packets begin them anew")
                .args(filter_args("Which flows; without any of these: all"))
                .after_help(
                    "Examples:\n  vxlanctl conntrack flush\n  \
                     vxlanctl conntrack flush --address 192.0.2.23\n\n\
                     A flow that goes on is given a target as the rules are now.",
                ),
        ])
        .after_help(
            "Examples:\n  vxlanctl conntrack show\n  vxlanctl conntrack flush --vni 7\n\n\
             The table has room for CONNTRACK_SIZE flows. When it is full, the one that had no \
             packet for longest makes room: see \"evicted\".",
        )
}

fn filter_args(heading: &'static str) -> [Arg; 3] {
    [
        Arg::new("vni")
            .value_name("VNI")
            .value_parser(value_parser!(u32).range(..=i64::from(config::MAX_VNI)))
            .help("Of this VNI"),
        Arg::new("address")
            .value_name("ADDR")
            .value_parser(value_parser!(IpAddr))
            .help("With this address as client, server or target"),
        Arg::new("port")
            .value_name("PORT")
            .value_parser(value_parser!(u16))
            .help("With this port, or ICMP identifier, as client, server or target"),
    ]
    .map(|arg| {
        let long = arg.get_id().clone();
        arg.long(long).help_heading(heading)
    })
}

/// Runs it.
pub fn run(pins: &Pins, matches: &ArgMatches) -> Result<()> {
    let Some((name, matches)) = matches.subcommand() else { return Ok(()) };
    let filter = Filter {
        vni: matches.get_one("vni").copied(),
        address: matches.get_one("address").copied(),
        port: matches.get_one("port").copied(),
    };
    let conntrack = Conntrack::open(pins)?;
    if name == "flush" {
        return output::line(&format!("{} removed", counted(conntrack.flush(filter)?)));
    }
    let summary = conntrack.summary()?;
    let mut latest = Latest::new(matches.get_one("limit").copied());
    conntrack.for_each_flow(filter, |flow| latest.add(flow))?;
    let Latest { flows, found, .. } = latest.sorted();
    if matches.get_flag("json") {
        return output::json(&json_of(&summary, &flows));
    }
    output::print(&render(&summary, &flows, found))
}

/// The flows that had a packet last, of all that were found.
struct Latest {
    limit: usize,
    flows: Vec<Flow>,
    found: usize,
}

impl Latest {
    fn new(limit: Option<usize>) -> Self {
        Self { limit: limit.unwrap_or(usize::MAX), flows: Vec::new(), found: 0 }
    }

    fn add(&mut self, flow: Flow) {
        /// Flows beyond the limit that are kept, so that sorting is rare.
        const SPARE: usize = 8192;
        self.found += 1;
        self.flows.push(flow);
        if self.flows.len() >= self.limit.saturating_mul(2).saturating_add(SPARE) {
            self.shorten();
        }
    }

    fn shorten(&mut self) {
        self.flows.sort_by_key(|flow| (flow.idle, flow.age));
        self.flows.truncate(self.limit);
    }

    fn sorted(mut self) -> Self {
        self.shorten();
        self
    }
}

fn json_of(summary: &Summary, flows: &[Flow]) -> Value {
    let end = |end: SocketAddr| json!({ "address": end.ip(), "port": end.port() });
    let flow = |flow: &Flow| {
        json!({
            "vni": flow.vni,
            "protocol": protocol(flow.protocol),
            "client": end(flow.client),
            "server": end(flow.server),
            "target": flow.target,
            "age_seconds": flow.age.as_secs_f64(),
            "idle_seconds": flow.idle.as_secs_f64(),
        })
    };
    let mut json = json!(summary);
    json["flows"] = flows.iter().map(flow).collect();
    json
}

fn render(summary: &Summary, flows: &[Flow], found: usize) -> String {
    let Summary { entries, size, created, hit, flushed, evicted } = *summary;
    let [entries, size] = [entries, size].map(thousands);
    let [created, hit, evicted, flushed] = [created, hit, evicted, flushed].map(thousands);
    let mut text = format!(
        "{entries} flows of at most {size}; created {created}, hit {hit}, evicted {evicted}, \
         flushed {flushed}\n"
    );
    if flows.is_empty() {
        return text;
    }
    let headings = [
        ("VNI", Align::Right),
        ("PROTOCOL", Align::Left),
        ("CLIENT", Align::Left),
        ("SERVER", Align::Left),
        ("TARGET", Align::Left),
        ("AGE", Align::Right),
        ("IDLE", Align::Right),
    ];
    text.push_str(&columns(headings, &flows.iter().map(row).collect::<Vec<_>>()));
    if flows.len() < found {
        text.push_str(&format!("and {} more\n", thousands((found - flows.len()) as u64)));
    }
    text
}

fn row(flow: &Flow) -> [String; 7] {
    [
        flow.vni.to_string(),
        protocol(flow.protocol),
        flow.client.to_string(),
        flow.server.to_string(),
        flow.target.map_or_else(|| "removed".to_owned(), |target| target.to_string()),
        format!("{} s", flow.age.as_secs()),
        format!("{} s", flow.idle.as_secs()),
    ]
}

/// The name of IANA, or the number.
fn protocol(number: u8) -> String {
    match number {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "ipv6-icmp".to_owned(),
        other => other.to_string(),
    }
}

fn counted(flows: u64) -> String {
    let noun = if flows == 1 { "flow" } else { "flows" };
    format!("{} {noun}", thousands(flows))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn summary() -> Summary {
        Summary { entries: 2, size: 65536, created: 1234, hit: 99, flushed: 3, evicted: 1229 }
    }

    fn flows() -> [Flow; 2] {
        let flow = Flow {
            vni: 7,
            protocol: 17,
            client: "10.0.0.1:40000".parse().unwrap(),
            server: "198.51.100.7:31765".parse().unwrap(),
            target: Some(config::parse_target("192.0.2.9:8081", 0).unwrap()),
            age: Duration::from_millis(100_500),
            idle: Duration::from_millis(250),
        };
        let echo = Flow {
            protocol: 58,
            client: "[2001:db8::1]:9".parse().unwrap(),
            server: "[2001:db8::2]:9".parse().unwrap(),
            target: None,
            ..flow.clone()
        };
        [flow, echo]
    }

    #[test]
    fn flows_are_listed_under_the_counters() {
        let head = "2 flows of at most 65,536; created 1,234, hit 99, evicted 1,229, flushed 3\n";
        let expected = "\
            VNI  PROTOCOL   CLIENT           SERVER              TARGET            AGE  IDLE\n  \
            7  udp        10.0.0.1:40000   198.51.100.7:31765  192.0.2.9:8081  100 s   0 s\n  \
            7  ipv6-icmp  [2001:db8::1]:9  [2001:db8::2]:9     removed         100 s   0 s\n";
        assert_eq!(render(&summary(), &flows(), 2), format!("{head}{expected}"));
        assert!(render(&summary(), &flows()[..1], 2).ends_with("\nand 1 more\n"));
        assert_eq!(render(&summary(), &[], 0), head);
    }

    #[test]
    fn a_limit_keeps_the_latest_of_many() {
        let kept = |limit, count: u64| {
            let mut latest = Latest::new(limit);
            // Each number once, in no order: 7919 is a prime.
            for idle in (0..count).map(|number| Duration::from_secs(number * 7919 % count)) {
                latest.add(Flow { idle, ..flows()[0].clone() });
                assert!(latest.flows.len() < 9000 || limit.is_none());
            }
            let Latest { flows, found, .. } = latest.sorted();
            assert_eq!(found as u64, count);
            flows.iter().map(|flow| flow.idle.as_secs()).collect::<Vec<_>>()
        };
        assert_eq!(kept(Some(3), 30_000), [0, 1, 2]);
        assert_eq!(kept(Some(3), 2), [0, 1]);
        assert!(kept(Some(0), 10_000).is_empty());
        assert_eq!(kept(None, 10_000), (0..10_000).collect::<Vec<_>>());
    }

    #[test]
    fn json_has_numbers_as_numbers() {
        let json = json_of(&summary(), &flows());
        assert_eq!((&json["size"], &json["evicted"]), (&json!(65536), &json!(1229)));
        let expected = json!({
            "vni": 7, "protocol": "udp",
            "client": { "address": "10.0.0.1", "port": 40000 },
            "server": { "address": "198.51.100.7", "port": 31765 },
            "target": { "address": "192.0.2.9", "port": 8081 },
            "age_seconds": 100.5, "idle_seconds": 0.25,
        });
        assert_eq!(json["flows"][0], expected);
        assert_eq!(json["flows"][1]["target"], json!(null));
        assert_eq!(protocol(132), "132");
    }

    #[test]
    fn bad_filters_are_usage_errors() {
        for line in
            ["show --vni 16777216", "show --address x", "flush --port 65536", "show --limit x"]
        {
            let line = ["conntrack"].into_iter().chain(line.split(' '));
            assert!(command().try_get_matches_from(line).unwrap_err().use_stderr());
        }
    }
}
