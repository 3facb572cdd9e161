//! `vxlanctl allowlist`: the inner addresses that may pass.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use config::{Allowlist, MAX_ALLOWLIST_ENTRIES};
use dataplane::Pins;
use dataplane::allowlist::AllowlistMaps;
use dataplane::lock::Lock;
use ipnet::IpNet;
use serde_json::json;

use crate::output;
use crate::table::thousands;

/// The subcommand.
pub fn command() -> Command {
    let addresses = || {
        Arg::new("address")
            .value_name("ADDR")
            .required(true)
            .num_args(1..)
            .value_parser(config::parse_entry)
            .help("IPv4 or IPv6 address, or CIDR")
    };
    let file = Arg::new("file")
        .value_name("FILE")
        .required(true)
        .value_parser(value_parser!(PathBuf))
        .help("JSON with \"organizations\" or \"flat_ip_list\"");
    let json = Arg::new("json")
        .long("json")
        .action(ArgAction::SetTrue)
        .help("A file that `allowlist load` takes");
    Command::new("allowlist")
        .about("Show or change the list of inner addresses that may pass")
        .subcommand_required(true)
        .subcommands([
            Command::new("load")
                .about("Replace the list by that of a file, at once and as a whole")
                .arg(file)
                .after_help(
                    "Example:\n  vxlanctl allowlist load /etc/vxlan/allowlist.json\n\n\
                     One bad entry refuses the file, and what was loaded stays.",
                ),
            Command::new("show").about("Print the list, an entry a line").arg(json).after_help(
                "Examples:\n  vxlanctl allowlist show | grep 192.0.2.\n  \
                 vxlanctl allowlist show --json > allowlist.json",
            ),
            Command::new("add").about("Add entries to the list").arg(addresses()).after_help(
                "Example:\n  vxlanctl allowlist add 192.0.2.7 198.51.100.0/24 2001:db8::/48",
            ),
            Command::new("remove")
                .about("Remove entries from the list")
                .arg(addresses())
                .after_help(
                    "Example:\n  vxlanctl allowlist remove 192.0.2.7\n\n\
                     An entry is removed as it is listed: an address inside a listed CIDR isn't \
                     one. If one of several isn't listed, none is removed.",
                ),
            Command::new("clear").about("Remove every entry").after_help(
                "Example:\n  vxlanctl allowlist clear\n\n\
                 With ENABLE_ALLOWLIST=1 an empty list blocks everything.",
            ),
        ])
        .after_help(
            "Examples:\n  vxlanctl allowlist load allowlist.json\n  \
             vxlanctl allowlist add 192.0.2.7\n\n\
             The list counts with ENABLE_ALLOWLIST=1 only. Changes last until the loader starts \
             again: it loads ALLOWLIST_FILE.",
        )
}

/// Runs it.
pub fn run(pins: &Pins, matches: &ArgMatches) -> Result<()> {
    let Some((name, matches)) = matches.subcommand() else { return Ok(()) };
    let addresses = || -> Vec<IpNet> {
        let given: BTreeSet<IpNet> =
            matches.get_many("address").into_iter().flatten().copied().collect();
        given.into_iter().collect()
    };
    match (name, matches.try_get_one::<PathBuf>("file")) {
        ("load", Ok(Some(file))) => load(pins, file),
        ("add", _) => add(&open(pins)?, &addresses()),
        ("remove", _) => remove(&open(pins)?, &addresses()),
        ("clear", _) => clear(&open(pins)?),
        _ => show(open(pins)?, matches.get_flag("json")),
    }
}

/// The list, for the one who changes it, or reads it while nobody changes it.
struct List {
    maps: AllowlistMaps,
    _lock: Lock,
}

fn open(pins: &Pins) -> Result<List> {
    let maps = AllowlistMaps::open(pins)?;
    Ok(List { maps, _lock: crate::hold_lists(pins)? })
}

fn load(pins: &Pins, file: &Path) -> Result<()> {
    let new = Allowlist::load(file)?;
    for warning in &new.warnings {
        output::warning(&format!("{}: {warning}", file.display()));
    }
    open(pins)?.maps.replace(&new.entries)?;
    output::line(&format!("{} loaded from {}", counted(new.entries.len()), file.display()))
}

fn show(list: List, as_json: bool) -> Result<()> {
    let entries: Vec<String> = list.maps.entries()?.iter().map(display).collect();
    drop(list); // a pager may keep us from ending, but nobody else from changing the list
    if as_json {
        return output::json(&json!({
            "version": "1.0",
            "description": "written by vxlanctl allowlist show",
            "total_ips": entries.len(),
            "flat_ip_list": entries,
        }));
    }
    output::print(&entries.iter().map(|entry| format!("{entry}\n")).collect::<String>())
}

fn add(list: &List, given: &[IpNet]) -> Result<()> {
    let mut entries: BTreeSet<IpNet> = list.maps.entries()?.into_iter().collect();
    let (new, known): (Vec<IpNet>, Vec<IpNet>) =
        given.iter().partition(|entry| entries.insert(**entry));
    ensure!(
        entries.len() <= MAX_ALLOWLIST_ENTRIES,
        "the allowlist is full: {} would be listed, at most {} fit; nothing was added",
        counted(entries.len()),
        thousands(MAX_ALLOWLIST_ENTRIES as u64)
    );
    match new[..] {
        [] => {}
        [entry] => drop(list.maps.add(entry)?),
        _ => list.maps.replace(&entries.into_iter().collect::<Vec<_>>())?,
    }
    let lines = |entries: &[IpNet], words: &str| -> String {
        entries.iter().map(|entry| format!("{} {words}\n", display(entry))).collect()
    };
    output::print(&(lines(&new, "added") + &lines(&known, "is listed already")))
}

fn remove(list: &List, given: &[IpNet]) -> Result<()> {
    let mut entries: BTreeSet<IpNet> = list.maps.entries()?.into_iter().collect();
    let missing: Vec<String> =
        given.iter().filter(|entry| !entries.remove(entry)).map(display).collect();
    match &missing[..] {
        [] => {}
        [one] => bail!("{one} is not listed; nothing was removed"),
        several => bail!("{} are not listed; nothing was removed", several.join(", ")),
    }
    match given {
        [entry] => drop(list.maps.remove(*entry)?),
        _ => list.maps.replace(&entries.into_iter().collect::<Vec<_>>())?,
    }
    output::print(
        &given.iter().map(|entry| format!("{} removed\n", display(entry))).collect::<String>(),
    )
}

fn clear(list: &List) -> Result<()> {
    let count = list.maps.entries()?.len();
    list.maps.replace(&[])?;
    output::line(&format!("{} removed", counted(count)))
}

/// As people write it: a network of one is an address.
fn display(entry: &IpNet) -> String {
    match entry.prefix_len() == entry.max_prefix_len() {
        true => entry.addr().to_string(),
        false => entry.to_string(),
    }
}

fn counted(entries: usize) -> String {
    let noun = if entries == 1 { "entry" } else { "entries" };
    format!("{} {noun}", thousands(entries as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_one_is_an_address() {
        let shown = |text: &str| display(&config::parse_entry(text).unwrap());
        assert_eq!(shown("192.0.2.1/32"), "192.0.2.1");
        assert_eq!(shown("2001:db8::1"), "2001:db8::1");
        assert_eq!(shown("192.0.2.0/31"), "192.0.2.0/31");
        assert_eq!(shown("::/0"), "::/0");
    }

    #[test]
    fn addresses_are_judged_before_anything_is_touched() {
        let error = |address: &str| {
            let line = ["allowlist", "add", "192.0.2.1", address];
            command().try_get_matches_from(line).unwrap_err().to_string()
        };
        assert!(error("192.0.2.1/24").contains("host bits"), "{}", error("192.0.2.1/24"));
        assert!(error("192.0.2").contains("\"192.0.2\" is not an IPv4/IPv6 address or CIDR"));
    }

    #[test]
    fn counts_are_words() {
        assert_eq!(counted(1), "1 entry");
        assert_eq!(counted(65_536), "65,536 entries");
    }
}
