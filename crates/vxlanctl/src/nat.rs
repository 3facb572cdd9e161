//! `vxlanctl nat`: destination NAT rules.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use config::{NatMatch, NatProtocol, NatRule, WeightedTarget, nat_rules_json};
use dataplane::Pins;
use dataplane::lock::{self, Role};
use dataplane::maglev::SLOTS;
use dataplane::nat::{InstalledRule, InstalledTarget, NatTable};
use ipnet::IpNet;

use crate::nat_change::{self, Match};
use crate::output::{self, Usage};
use crate::table::{Align, columns, percent};

/// The subcommand.
pub fn command() -> Command {
    let file = Arg::new("file")
        .value_name("FILE")
        .required(true)
        .value_parser(value_parser!(PathBuf))
        .help("JSON with \"rules\"");
    let json = Arg::new("json")
        .long("json")
        .action(ArgAction::SetTrue)
        .help("A file that `nat load` takes");
    let targets = Arg::new("to")
        .long("to")
        .value_name("ADDR[:PORT][,weight=N]")
        .required(true)
        .action(ArgAction::Append)
        .help(
            "New destination: 192.0.2.9:8081, [2001:db8::9]:8081; without a port it is kept. Given \
             several times, a flow goes to one of them, chosen by weight: 0 to 65535, 1 without; \
             0: no new flows",
        );
    let replace = Arg::new("replace")
        .long("replace")
        .action(ArgAction::SetTrue)
        .help("Put it in the place of the rule that matches the same packets, if there is one");
    Command::new("nat")
        .about("Show or change the destination NAT rules")
        .subcommand_required(true)
        .subcommands([
            Command::new("load")
                .about("Replace the rules by those of a file, at once and as a whole")
                .arg(file)
                .after_help("Example:\n  vxlanctl nat load /etc/vxlan/nat-rules.json"),
            Command::new("show")
                .about("Print the rules in the order in which they are tried")
                .arg(json)
                .after_help(
                    "Examples:\n  vxlanctl nat show\n  vxlanctl nat show --json > nat-rules.json",
                ),
            Command::new("add")
                .about("Add a rule")
                .args(match_args("What the rule matches"))
                .args([targets, replace])
                .after_help(
                    "Examples:\n  \
                     vxlanctl nat add --port 31765 --protocol udp --to 192.0.2.9:8081\n  \
                     vxlanctl nat add --port 514 --destination 203.0.113.7 --vni 7 --to 192.0.2.11\n  \
                     vxlanctl nat add --port 6343 --to 192.0.2.21,weight=3 --to 192.0.2.22\n  \
                     vxlanctl nat add --port 6343 --to 192.0.2.21,weight=0 --to 192.0.2.22 --replace\n  \
                     vxlanctl nat add --protocol icmp --to 192.0.2.9\n\n\
                     The last but one drains a target: the flows that it has stay until they end \
                     or `vxlanctl conntrack flush` removes them.",
                ),
            Command::new("remove")
                .about("Remove the rule that matches exactly this")
                .args(match_args("What the rule matches, as `nat show` has it"))
                .after_help(
                    "Examples:\n  vxlanctl nat remove --port 31765 --protocol udp\n  \
                     vxlanctl nat remove --port 31765 --protocol udp --destination ::/0\n  \
                     vxlanctl nat remove --protocol icmp --destination 198.51.100.0/24\n\n\
                     A destination of ::/0 or 0.0.0.0/0 stands for a rule without one, of that \
                     family: needed where both families have such a rule.",
                ),
            Command::new("clear")
                .about("Remove every rule")
                .after_help("Example:\n  vxlanctl nat clear"),
        ])
        .after_help(
            "Examples:\n  vxlanctl nat load nat-rules.json\n  vxlanctl nat show\n\n\
             New rules count once vxlan-loader has found the next hop of their targets. Changes \
             last until the loader starts again: it loads NAT_IP and NAT_RULES_FILE.",
        )
}

fn match_args(heading: &'static str) -> [Arg; 4] {
    [
        Arg::new("port")
            .value_name("PORT")
            .value_parser(value_parser!(u16).range(1..))
            .help("Inner destination port; needed but for icmp, which has none"),
        Arg::new("protocol")
            .value_name("PROTOCOL")
            .value_parser(value_parser!(NatProtocol))
            .default_value("any")
            .help("udp, tcp, any (a rule for both), or icmp: echo requests"),
        Arg::new("destination")
            .value_name("CIDR")
            .value_parser(config::parse_entry)
            .help("Inner destination address or network"),
        Arg::new("vni")
            .value_name("VNI")
            .value_parser(value_parser!(u32).range(..=i64::from(config::MAX_VNI)))
            .help("VNI; without it the rule is for all"),
    ]
    .map(|arg| {
        let long = arg.get_id().clone();
        arg.long(long).help_heading(heading)
    })
}

/// Runs it.
pub fn run(pins: &Pins, matches: &ArgMatches) -> Result<()> {
    let Some((name, matches)) = matches.subcommand() else { return Ok(()) };
    match name {
        "load" => nat_change::load(pins, required::<PathBuf>(matches, "file")?),
        "add" => nat_change::add(pins, rule_of(matches)?, matches.get_flag("replace")),
        "remove" => nat_change::remove(pins, &match_of(matches)?),
        "clear" => nat_change::clear(pins),
        _ => show(pins, matches.get_flag("json")),
    }
}

fn required<'a, T: Clone + Send + Sync + 'static>(m: &'a ArgMatches, id: &str) -> Result<&'a T> {
    Ok(m.get_one(id).ok_or_else(|| Usage(format!("{id} is missing")))?)
}

fn match_of(matches: &ArgMatches) -> Result<Match> {
    let protocol: NatProtocol = *required(matches, "protocol")?;
    let port = match (matches.get_one("port"), protocol.has_ports()) {
        (Some(port), true) => *port,
        (None, false) => 0,
        (Some(_), false) => return Err(Usage(format!("--port: {protocol} has no ports")).into()),
        (None, true) => return Err(Usage("--port is missing".to_owned()).into()),
    };
    Ok(Match {
        protocol,
        port,
        destination: matches.get_one::<IpNet>("destination").copied(),
        vni: matches.get_one("vni").copied(),
    })
}

fn rule_of(matches: &ArgMatches) -> Result<NatRule> {
    let Match { protocol, port, destination, vni } = match_of(matches)?;
    let texts = matches.get_many::<String>("to").into_iter().flatten();
    let targets = texts
        .map(|text| config::parse_weighted_target(text, port))
        .collect::<Result<_, _>>()
        .map_err(|problem| Usage(format!("--to: {problem}")))?;
    let rule = NatRule::new(protocol, port, destination, vni, targets);
    Ok(rule.map_err(|problem| Usage(flag_of(&problem)))?)
}

/// A problem of [`NatRule::new`] in the words of the command line.
fn flag_of(problem: &str) -> String {
    match problem.split_once(": ") {
        Some((part, problem)) if part.starts_with("target") => format!("--to: {problem}"),
        _ => format!("--{problem}"),
    }
}

fn show(pins: &Pins, as_json: bool) -> Result<()> {
    let table = NatTable::open(pins)?;
    // Nobody replaces the rules while they are read. Whoever holds the lock now waits for next
    // hops, for seconds, which is no reason to wait, too.
    let lock = lock::try_lock(pins, Role::Change)?;
    let installed = table.rules()?;
    drop(lock);
    if as_json {
        let rules: Vec<NatRule> = installed.into_iter().map(|i| i.rule).collect();
        return output::json(&nat_rules_json(&rules));
    }
    output::print(&render(&installed))
}

fn render(installed: &[InstalledRule]) -> String {
    if installed.is_empty() {
        return "no NAT rules\n".to_owned();
    }
    let headings = [
        ("RULE", Align::Left),
        ("TARGET", Align::Left),
        ("WEIGHT", Align::Right),
        ("NEW FLOWS", Align::Right),
        ("NEXT HOP", Align::Left),
    ];
    columns(headings, &installed.iter().flat_map(rows).collect::<Vec<_>>())
}

/// A row for each target; the first has what the rule matches.
fn rows(InstalledRule { rule, targets }: &InstalledRule) -> Vec<[String; 5]> {
    let mut matched = NatMatch::of(rule).to_string();
    let row = |(weighted, installed): (&WeightedTarget, &InstalledTarget)| {
        let next_hop = installed.next_hop.map_or_else(
            || "unresolved".to_owned(),
            |mac| mac.map(|byte| format!("{byte:02x}")).join(":"),
        );
        [
            std::mem::take(&mut matched),
            weighted.target.to_string(),
            weighted.weight.to_string(),
            percent(installed.slots as u64, SLOTS as u64),
            next_hop,
        ]
    };
    rule.targets.iter().zip(targets).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(line: &str) -> Result<NatRule> {
        let matches = command().try_get_matches_from(line.split(' ')).map_err(|error| {
            assert!(error.use_stderr());
            Usage(error.to_string())
        })?;
        rule_of(matches.subcommand().unwrap().1)
    }

    #[test]
    fn a_rule_is_read_from_its_flags() {
        for (flags, shown) in [
            ("--port 31765 --protocol udp --to 192.0.2.9:8081", "udp/31765 -> 192.0.2.9:8081"),
            (
                "--port 514 --destination 203.0.113.7 --vni 7 --to 192.0.2.11",
                "any/514 to 203.0.113.7/32 vni 7 -> 192.0.2.11:514",
            ),
            ("--port 9 --protocol TCP --to [2001:db8::9]:10", "tcp/9 -> [2001:db8::9]:10"),
            ("--port 9 --destination ::/0 --to 2001:db8::9", "any/9 -> [2001:db8::9]:9"),
            (
                "--port 9 --to 192.0.2.9,weight=3 --to 192.0.2.9:10",
                "any/9 -> 192.0.2.9:9 weight 3, 192.0.2.9:10",
            ),
            ("--protocol icmp --to 192.0.2.9 --vni 1", "icmp vni 1 -> 192.0.2.9"),
        ] {
            assert_eq!(added(&format!("nat add {flags}")).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn bad_flags_are_usage_errors() {
        for (flags, words) in [
            ("--to 192.0.2.9", "--port"),
            ("--port 0 --to 192.0.2.9", "0 is not in 1..=65535"),
            ("--port 9", "--to"),
            ("--port 9 --to 192.0.2.9:0", "0 is not a port"),
            ("--port 9 --to 127.0.0.1", "loopback"),
            ("--port 9 --to x", "--to: \"x\" is not a target"),
            ("--port 9 --to 192.0.2.9 --destination 10.0.0.1/8", "host bits"),
            ("--port 9 --to 192.0.2.9 --destination 2001:db8::/32", "--destination: "),
            ("--port 9 --to 192.0.2.9 --vni 16777216", "16777216"),
            ("--port 9 --to 192.0.2.9 --protocol sctp", "\"sctp\" is not a protocol"),
            ("--port 9 --to 192.0.2.9 --protocol icmp", "--port: icmp has no ports"),
            ("--to 192.0.2.9:9 --protocol icmp", "--to: 9 is given, but icmp has no ports"),
            (
                "--port 9 --to 192.0.2.9,weight=x",
                "--to: \"192.0.2.9,weight=x\": \"x\" is not a weight",
            ),
            ("--port 9 --to 192.0.2.9,weight=0", "--to: all have weight 0"),
            ("--port 9 --to 192.0.2.9 --to 192.0.2.9", "--to: 192.0.2.9:9 is given twice"),
            (
                "--port 9 --to 192.0.2.9 --to 2001:db8::9",
                "--to: 2001:db8::9 is IPv6, but the first",
            ),
        ] {
            let error = added(&format!("nat add {flags}")).unwrap_err();
            assert!(error.is::<Usage>() && error.to_string().contains(words), "{flags}: {error}");
        }
    }

    #[test]
    fn rules_are_shown_with_their_next_hops() {
        let next_hop = Some([2, 0, 0xab, 0, 0, 1]);
        let one = InstalledRule {
            rule: added("nat add --port 9 --vni 7 --to 192.0.2.9").unwrap(),
            targets: vec![InstalledTarget { next_hop, slots: SLOTS }],
        };
        let several = InstalledRule {
            rule: added("nat add --protocol icmp --to 192.0.2.1,weight=2 --to 192.0.2.10").unwrap(),
            targets: vec![
                InstalledTarget { next_hop, slots: 2733 },
                InstalledTarget { next_hop: None, slots: 1366 },
            ],
        };
        assert_eq!(
            render(&[one, several]),
            "RULE         TARGET       WEIGHT  NEW FLOWS  NEXT HOP\n\
             any/9 vni 7  192.0.2.9:9       1     100.0%  02:00:ab:00:00:01\n\
             icmp         192.0.2.1         2      66.7%  02:00:ab:00:00:01\n             \
             192.0.2.10        1      33.3%  unresolved\n"
        );
        assert_eq!(render(&[]), "no NAT rules\n");
    }
}
