//! `vxlanctl vni`: the VNIs seen, and the accepted set.

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use config::VniSet;
use dataplane::Pins;
use dataplane::lock::{self, Role};
use dataplane::vni::{SeenVni, Vnis};
use serde_json::json;

use crate::output;
use crate::table::{Align, columns, thousands};

/// The subcommand.
pub fn command() -> Command {
    let set = Command::new("set")
        .about("Replace the accepted VNIs, at once, until the loader starts again")
        .arg(
            Arg::new("vnis")
                .value_name("any|LIST")
                .required(true)
                .value_parser(value_parser!(VniSet))
                .help("any, or VNIs 0 to 16777215 separated by commas"),
        )
        .after_help(
            "Examples:\n  vxlanctl vni set 7,4242\n  vxlanctl vni set any\n\n\
             To keep the set, write it into TARGET_VNI, too.",
        );
    Command::new("vni")
        .about("Show the VNIs that packets carried and which are accepted")
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("One JSON object: \"accepted\" (\"any\" or a list) and \"seen\""),
        )
        .subcommand(set)
        .after_help(
            "Examples:\n  vxlanctl vni\n  vxlanctl vni --json | jq '.seen[].vni'\n\n\
             AWS gives a mirror session a random VNI unless its owner chose one: it is seen here.",
        )
}

/// Runs it.
pub fn run(pins: &Pins, matches: &ArgMatches) -> Result<()> {
    let vnis = Vnis::open(pins)?;
    if let Some(("set", matches)) = matches.subcommand() {
        let Some(set) = matches.get_one::<VniSet>("vnis") else { return Ok(()) };
        let _lock = crate::hold_lists(pins)?;
        vnis.replace(set)?;
        return output::line(&format!("accepted VNIs: {set}"));
    }
    // If another change is under way, what is shown may be of before and after it.
    let lock = lock::try_lock(pins, Role::Change)?;
    let (accepted, seen) = (vnis.accepted()?, vnis.seen()?);
    drop(lock);
    if matches.get_flag("json") {
        let accepted = accepted.map_or_else(|| json!("any"), |list| json!(list));
        return output::json(&json!({ "accepted": accepted, "seen": seen }));
    }
    output::print(&render(accepted.as_deref(), &seen))
}

fn render(accepted: Option<&[u32]>, seen: &[SeenVni]) -> String {
    let accepted = match accepted {
        None => "any".to_owned(),
        Some([]) => "none".to_owned(),
        Some(list) => list.iter().map(u32::to_string).collect::<Vec<_>>().join(","),
    };
    let mut text = format!("accepted VNIs: {accepted}\n");
    if seen.is_empty() {
        return text + "no VXLAN packet was seen yet\n";
    }
    let rows: Vec<_> = seen
        .iter()
        .map(|seen| {
            let accepted = if seen.accepted { "yes" } else { "no" };
            [
                seen.vni.to_string(),
                thousands(seen.packets),
                thousands(seen.bytes),
                accepted.to_owned(),
            ]
        })
        .collect();
    let headings = [
        ("VNI", Align::Right),
        ("PACKETS", Align::Right),
        ("BYTES", Align::Right),
        ("ACCEPTED", Align::Left),
    ];
    text.push_str(&columns(headings, &rows));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seen_vnis_are_listed_with_their_fate() {
        let seen = [
            SeenVni { vni: 7, packets: 1234, bytes: 99_999, accepted: true },
            SeenVni { vni: 16_777_215, packets: 1, bytes: 60, accepted: false },
        ];
        assert_eq!(
            render(Some(&[7, 8]), &seen),
            "accepted VNIs: 7,8\n     VNI  PACKETS   BYTES  ACCEPTED\n       7    1,234  99,999  yes\n\
             16777215        1      60  no\n"
        );
        assert!(render(None, &[]).contains("accepted VNIs: any\nno VXLAN packet"));
    }

    #[test]
    fn a_bad_vni_is_a_usage_error() {
        let error = command().try_get_matches_from(["vni", "set", "7,x"]).unwrap_err();
        assert!(error.use_stderr() && error.to_string().contains("\"x\" is not a VNI"), "{error}");
    }
}
