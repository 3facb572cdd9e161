//! `vxlanctl nat`: destination NAT rules.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use config::{NatProtocol, NatRule, nat_rules_json};
use dataplane::Pins;
use dataplane::lock::{self, Role};
use dataplane::nat::{InstalledRule, NatTable};
use ipnet::IpNet;

use crate::nat_change::{self, Match};
use crate::output::{self, Usage};
use crate::table::{Align, columns};

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
    let target = Arg::new("to")
        .long("to")
        .value_name("ADDR[:PORT]")
        .required(true)
        .help("New destination: 192.0.2.9:8081, [2001:db8::9]:8081; without a port it is kept");
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
                .arg(target)
                .after_help(
                    "Examples:\n  \
                     vxlanctl nat add --port 31765 --protocol udp --to 192.0.2.9:8081\n  \
                     vxlanctl nat add --port 514 --destination 203.0.113.7 --vni 7 --to 192.0.2.11",
                ),
            Command::new("remove")
                .about("Remove the rule that matches exactly this")
                .args(match_args("What the rule matches, as `nat show` has it"))
                .after_help(
                    "Examples:\n  vxlanctl nat remove --port 31765 --protocol udp\n  \
                     vxlanctl nat remove --port 31765 --protocol udp --destination ::/0\n\n\
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
            .required(true)
            .value_name("PORT")
            .value_parser(value_parser!(u16).range(1..))
            .help("Inner destination port"),
        Arg::new("protocol")
            .value_name("PROTOCOL")
            .value_parser(value_parser!(NatProtocol))
            .default_value("any")
            .help("udp, tcp, or any: a rule for both"),
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
        "add" => nat_change::add(pins, rule_of(matches)?),
        "remove" => nat_change::remove(pins, &match_of(matches)?),
        "clear" => nat_change::clear(pins),
        _ => show(pins, matches.get_flag("json")),
    }
}

fn required<'a, T: Clone + Send + Sync + 'static>(m: &'a ArgMatches, id: &str) -> Result<&'a T> {
    Ok(m.get_one(id).ok_or_else(|| Usage(format!("{id} is missing")))?)
}

fn match_of(matches: &ArgMatches) -> Result<Match> {
    Ok(Match {
        protocol: *required(matches, "protocol")?,
        port: *required(matches, "port")?,
        destination: matches.get_one::<IpNet>("destination").copied(),
        vni: matches.get_one("vni").copied(),
    })
}

fn rule_of(matches: &ArgMatches) -> Result<NatRule> {
    let Match { protocol, port, destination, vni } = match_of(matches)?;
    let text: &String = required(matches, "to")?;
    let target =
        config::parse_target(text, port).map_err(|problem| Usage(format!("--to: {problem}")))?;
    let mut rule = NatRule::new(protocol, port, destination, vni, target)
        .map_err(|problem| Usage(format!("--{problem}")))?;
    // The kernel knows no difference between all addresses of a family and no destination.
    rule.destination = destination.filter(|net| net.prefix_len() > 0);
    Ok(rule)
}

fn show(pins: &Pins, as_json: bool) -> Result<()> {
    let table = NatTable::open(pins)?;
    // Nobody replaces the rules while they are read. Whoever holds the lock now waits for next
    // hops, for seconds, which is no reason to wait, too.
    let lock = lock::try_lock(pins, Role::Change)?;
    let installed = table.rules()?;
    drop(lock);
    if as_json {
        let rules: Vec<NatRule> = installed.iter().map(|installed| installed.rule).collect();
        return output::json(&nat_rules_json(&rules));
    }
    output::print(&render(&installed))
}

fn render(installed: &[InstalledRule]) -> String {
    if installed.is_empty() {
        return "no NAT rules\n".to_owned();
    }
    let rows: Vec<_> = installed
        .iter()
        .map(|InstalledRule { rule, next_hop }| {
            let text = rule.to_string();
            let matched = text.split_once(" -> ").map_or(text.as_str(), |(matched, _)| matched);
            let next_hop = next_hop.map_or_else(
                || "unresolved".to_owned(),
                |mac| mac.map(|byte| format!("{byte:02x}")).join(":"),
            );
            [matched.to_owned(), rule.target.to_string(), next_hop]
        })
        .collect();
    columns([("RULE", Align::Left), ("TARGET", Align::Left), ("NEXT HOP", Align::Left)], &rows)
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
            ("--port 9 --to 192.0.2.9 --protocol icmp", "\"icmp\" is not a protocol"),
        ] {
            let error = added(&format!("nat add {flags}")).unwrap_err();
            assert!(error.is::<Usage>() && error.to_string().contains(words), "{flags}: {error}");
        }
    }

    #[test]
    fn rules_are_shown_with_their_next_hops() {
        let rule = added("nat add --port 9 --vni 7 --to 192.0.2.9").unwrap();
        let known = InstalledRule { rule, next_hop: Some([2, 0, 0xab, 0, 0, 1]) };
        let unknown = InstalledRule { rule, next_hop: None };
        assert_eq!(
            render(&[known, unknown]),
            "RULE         TARGET       NEXT HOP\n\
             any/9 vni 7  192.0.2.9:9  02:00:ab:00:00:01\n\
             any/9 vni 7  192.0.2.9:9  unresolved\n"
        );
        assert_eq!(render(&[]), "no NAT rules\n");
    }
}
