//! NAT rule files (JSON).
//!
//! ```json
//! {"version": "1.0", "description": "...", "rules": [
//!   {"protocol": "udp", "port": 31765, "destination": "198.51.100.0/24", "vni": 7,
//!    "target": {"address": "192.0.2.9", "port": 8081}},
//!   {"protocol": "icmp", "targets": [
//!     {"address": "192.0.2.9", "weight": 3}, {"address": "192.0.2.10"}]}
//! ]}
//! ```
//! `protocol` is `any` if it is missing; `destination` (an address or CIDR) and `vni` narrow the
//! rule. A rule has one `target`, or several `targets`; a target's `port` is the matched one if it
//! is missing, its `weight` 1. ICMP has no ports, neither to match nor in a target. Keys that are
//! not known are refused.

use std::collections::HashMap;
use std::path::Path;

use crate::allowlist::parse_entry;
use crate::error::ConfigError;
use crate::json::{Json, Object, load};
use crate::nat::{
    NatMatch, NatProtocol, NatRule, NatTarget, WeightedTarget, check_nat_limits,
    parse_target_address,
};

/// Reads a NAT rule file.
///
/// # Errors
/// The file can't be read, or for the reasons of [`parse_nat_rules`].
pub fn load_nat_rules(path: &Path) -> Result<Vec<NatRule>, ConfigError> {
    load(path, parse_nat_rules)
}

/// Reads the content of a NAT rule file. The rules are in the order of the file.
///
/// # Errors
/// In words, with the place: the text is no JSON, a key is missing or not known, a value isn't
/// allowed, two rules match the same packets, or for the reasons of [`check_nat_limits`].
pub fn parse_nat_rules(text: &str) -> Result<Vec<NatRule>, String> {
    let json = Json::parse(text)?;
    let file = json.object("top level")?;
    refuse_unknown(file, "top level", &["version", "description", "rules"])?;
    for key in ["version", "description"] {
        file.get(key).map(|value| value.text(key)).transpose()?;
    }
    let rules = file.get("rules").ok_or("top level: key \"rules\" is missing")?.list("rules")?;
    let mut indexes = HashMap::new();
    let mut parsed = Vec::with_capacity(rules.len());
    for (index, json) in rules.iter().enumerate() {
        let rule = parse_rule(json, &format!("rules[{index}]"))?;
        if let Some(first) = indexes.insert(NatMatch::of(&rule), index) {
            return Err(format!(
                "rules[{index}] matches the same packets as rules[{first}] ({rule})"
            ));
        }
        parsed.push(rule);
    }
    check_nat_limits(&parsed).map_err(|problem| format!("rules: {problem}"))?;
    Ok(parsed)
}

fn parse_rule(json: &Json, at: &str) -> Result<NatRule, String> {
    let rule = json.object(at)?;
    let known = ["protocol", "port", "destination", "vni", "target", "targets"];
    refuse_unknown(rule, at, &known)?;

    let protocol = match rule.get("protocol") {
        None => NatProtocol::Any,
        Some(json) => {
            let at = format!("{at}.protocol");
            json.text(&at)?.parse().map_err(|problem| format!("{at}: {problem}"))?
        }
    };
    let port = match rule.get("port") {
        Some(json) => parse_port(json, protocol, &format!("{at}.port"))?,
        None if protocol.has_ports() => return Err(format!("{at}: key \"port\" is missing")),
        None => 0,
    };
    let destination = match rule.get("destination") {
        None => None,
        Some(json) => {
            let at = format!("{at}.destination");
            Some(parse_entry(json.text(&at)?).map_err(|problem| format!("{at}: {problem}"))?)
        }
    };
    let vni = match rule.get("vni") {
        None => None,
        Some(json) => {
            let vni = json.unsigned().and_then(|vni| u32::try_from(vni).ok());
            Some(vni.ok_or_else(|| format!("{at}.vni: {json} is not a VNI"))?)
        }
    };
    let targets = parse_targets(rule, at, protocol, port)?;
    NatRule::new(protocol, port, destination, vni, targets)
        .map_err(|problem| format!("{at}.{problem}"))
}

fn parse_targets(
    rule: &Object,
    at: &str,
    protocol: NatProtocol,
    matched_port: u16,
) -> Result<Vec<WeightedTarget>, String> {
    match (rule.get("target"), rule.get("targets")) {
        (Some(json), None) => {
            let at = format!("{at}.target");
            let target = json.object(&at)?;
            refuse_unknown(target, &at, &["address", "port"])?;
            Ok(vec![parse_target(target, &at, protocol, matched_port)?.into()])
        }
        (None, Some(json)) => {
            let at = format!("{at}.targets");
            let element = |(index, json): (usize, &Json)| {
                parse_weighted(json, &format!("{at}[{index}]"), protocol, matched_port)
            };
            json.list(&at)?.iter().enumerate().map(element).collect()
        }
        (Some(_), Some(_)) => Err(format!("{at}: has both \"target\" and \"targets\"")),
        (None, None) => Err(format!("{at}: key \"target\" is missing")),
    }
}

fn parse_weighted(
    json: &Json,
    at: &str,
    protocol: NatProtocol,
    matched_port: u16,
) -> Result<WeightedTarget, String> {
    let object = json.object(at)?;
    refuse_unknown(object, at, &["address", "port", "weight"])?;
    let target = parse_target(object, at, protocol, matched_port)?;
    let weight = match object.get("weight") {
        None => WeightedTarget::DEFAULT_WEIGHT,
        Some(json) => {
            let weight = json.unsigned().and_then(|weight| u16::try_from(weight).ok());
            weight.ok_or_else(|| {
                format!("{at}.weight: {json} is not a weight, a number from 0 to 65535 is allowed")
            })?
        }
    };
    Ok(WeightedTarget { target, weight })
}

fn parse_target(
    target: &Object,
    at: &str,
    protocol: NatProtocol,
    matched_port: u16,
) -> Result<NatTarget, String> {
    let address =
        target.get("address").ok_or_else(|| format!("{at}: key \"address\" is missing"))?;
    let at_address = format!("{at}.address");
    let text = address.text(&at_address)?;
    let address = parse_target_address(text)
        .map_err(|problem| format!("{at_address}: {text:?}: {problem}"))?;
    let port = match target.get("port") {
        None => matched_port,
        Some(json) => parse_port(json, protocol, &format!("{at}.port"))?,
    };
    Ok(NatTarget { address, port })
}

fn parse_port(json: &Json, protocol: NatProtocol, at: &str) -> Result<u16, String> {
    if !protocol.has_ports() {
        return Err(format!("{at}: {json} is given, but {protocol} has no ports"));
    }
    let port = json.unsigned().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    port.ok_or_else(|| format!("{at}: {json} is not a port, a number from 1 to 65535 is allowed"))
}

fn refuse_unknown(object: &Object, at: &str, known: &[&str]) -> Result<(), String> {
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => Err(format!("{at}: unknown key {key:?}, known are {}", known.join(", "))),
    }
}

#[cfg(test)]
mod tests;
