//! Allowlist files (JSON).
//!
//! ```json
//! {"version": "1.0", "description": "...", "total_ips": 3,
//!  "organizations": [{"name": "Example Telecom", "ips": ["192.0.2.1", "2001:db8::/48"]}],
//!  "flat_ip_list": ["198.51.100.0/24"]}
//! ```
//! One of `organizations` and `flat_ip_list` has to be there, both may be. `org_name` is the same
//! as `name`. One bad entry refuses the whole file.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;

use crate::error::ConfigError;
use crate::json::{Json, Object, load};

/// How many different entries a list can have.
pub const MAX_ALLOWLIST_ENTRIES: usize = 131_072;

/// How many duplicates are each warned of; the rest are counted in one more warning.
const DUPLICATES_NAMED: usize = 10;

/// An allowlist that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowlist {
    /// The addresses and networks, each once, sorted; IPv4 before IPv6. A plain address is a
    /// network of one. No entry has bits set behind its prefix.
    pub entries: Vec<IpNet>,
    /// The number of organisations.
    pub organizations: usize,
    /// What is odd about the file: duplicates, a wrong `total_ips`, keys that are not known.
    pub warnings: Vec<String>,
}

impl Allowlist {
    /// Reads an allowlist file.
    ///
    /// # Errors
    /// The file can't be read, or for the reasons of [`Allowlist::parse`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        load(path, Self::parse)
    }

    /// Reads the content of an allowlist file.
    ///
    /// # Errors
    /// In words, with the place: the text is no JSON, neither list is there, an entry is no
    /// address or CIDR, or there are more than [`MAX_ALLOWLIST_ENTRIES`].
    pub fn parse(text: &str) -> Result<Self, String> {
        let json = Json::parse(text)?;
        let file = json.object("top level")?;
        let mut reader = Reader::default();
        let known = ["version", "description", "total_ips", "organizations", "flat_ip_list"];
        reader.note_unknown(file, "top level", "top level", &known);

        let (organizations, flat) = (file.get("organizations"), file.get("flat_ip_list"));
        if organizations.is_none() && flat.is_none() {
            return Err("neither \"organizations\" nor \"flat_ip_list\" is there".to_owned());
        }
        let organizations = match organizations {
            Some(json) => json.list("organizations")?,
            None => &[],
        };
        for (index, json) in organizations.iter().enumerate() {
            reader.read_organization(json, index)?;
        }
        if let Some(json) = flat {
            reader.read_entries(json, "flat_ip_list")?;
        }
        reader.finish(organizations.len(), file.get("total_ips"))
    }
}

/// An address or a CIDR, IPv4 or IPv6; white space around it is ignored. A plain address is a
/// network of one.
///
/// # Errors
/// In words that begin with the entry: it is neither, it is a CIDR with bits set behind its
/// prefix, or it is an IPv4 address written as IPv6 (`::ffff:192.0.2.1`), which no packet has.
pub fn parse_entry(text: &str) -> Result<IpNet, String> {
    let entry = text.trim();
    let net: IpNet = match entry.parse() {
        Ok(net) => net,
        Err(_) => entry
            .parse::<IpAddr>()
            .map(IpNet::from)
            .map_err(|_| format!("{text:?} is not an IPv4/IPv6 address or CIDR"))?,
    };
    if net.addr() != net.network() {
        return Err(format!(
            "{text:?} has host bits set behind its prefix: write {} for the network or {} for the \
             address",
            net.trunc(),
            net.addr()
        ));
    }
    match net {
        IpNet::V6(v6) => match v6.addr().to_ipv4_mapped() {
            Some(v4) if v6.prefix_len() == 128 => {
                Err(format!("{text:?} is an IPv4 address written as IPv6: write {v4}"))
            }
            Some(v4) if v6.prefix_len() >= 96 => Err(format!(
                "{text:?} is an IPv4 network written as IPv6: write {v4}/{}",
                v6.prefix_len() - 96
            )),
            _ => Ok(net),
        },
        IpNet::V4(_) => Ok(net),
    }
}

/// What was read so far.
#[derive(Default)]
struct Reader {
    /// Each entry with the place where it first stands.
    places: HashMap<IpNet, String>,
    duplicates: usize,
    warnings: Vec<String>,
    /// Keys that are not known, by (kind of object, key): the first object and how many have it.
    unknown: BTreeMap<(&'static str, String), (String, usize)>,
}

impl Reader {
    fn note_unknown(&mut self, object: &Object, kind: &'static str, at: &str, known: &[&str]) {
        for key in object.keys().filter(|key| !known.contains(&key.as_str())) {
            let entry = self.unknown.entry((kind, key.clone()));
            entry.or_insert_with(|| (at.to_owned(), 0)).1 += 1;
        }
    }

    fn read_organization(&mut self, json: &Json, index: usize) -> Result<(), String> {
        let mut at = format!("organizations[{index}]");
        let object = json.object(&at)?;
        if let Some(Json::Text(name)) = object.get("name").or_else(|| object.get("org_name")) {
            at = format!("{at} ({name:?})");
        }
        self.note_unknown(object, "organizations", &at, &["name", "org_name", "ips"]);
        let ips = object.get("ips").ok_or_else(|| format!("{at}: key \"ips\" is missing"))?;
        self.read_entries(ips, &format!("{at}.ips"))
    }

    fn read_entries(&mut self, json: &Json, at: &str) -> Result<(), String> {
        for (index, json) in json.list(at)?.iter().enumerate() {
            let place = format!("{at}[{index}]");
            let Json::Text(text) = json else {
                return Err(format!("{place}: {json} is not an IPv4/IPv6 address or CIDR"));
            };
            let entry = parse_entry(text).map_err(|problem| format!("{place}: {problem}"))?;
            if let Some(first) = self.places.get(&entry) {
                self.duplicates += 1;
                if self.duplicates <= DUPLICATES_NAMED {
                    self.warnings.push(format!("{place}: {text:?} is already at {first}"));
                }
            } else {
                self.places.insert(entry, place);
            }
        }
        Ok(())
    }

    fn finish(mut self, organizations: usize, total: Option<&Json>) -> Result<Allowlist, String> {
        let count = self.places.len();
        if count > MAX_ALLOWLIST_ENTRIES {
            return Err(format!(
                "the list has {count} entries, at most {MAX_ALLOWLIST_ENTRIES} are allowed"
            ));
        }
        if let Some(more) = self.duplicates.checked_sub(DUPLICATES_NAMED).filter(|n| *n > 0) {
            self.warnings.push(format!("and {more} more duplicates"));
        }
        let with_duplicates = count + self.duplicates;
        let right = |total: &Json| {
            let total = total.unsigned();
            total == Some(count as u64) || total == Some(with_duplicates as u64)
        };
        if let Some(total) = total.filter(|total| !right(total)) {
            let counted = match self.duplicates {
                0 => format!("{count} entries"),
                _ => format!("{count} entries ({with_duplicates} with duplicates)"),
            };
            self.warnings.push(format!("total_ips is {total}, but the file has {counted}"));
        }
        for ((_, key), (at, count)) in &self.unknown {
            let more = match count {
                1 => String::new(),
                n => format!(" (and in {} more)", n - 1),
            };
            self.warnings.push(format!("{at}: unknown key {key:?}, ignored{more}"));
        }
        let mut entries: Vec<IpNet> = self.places.into_keys().collect();
        entries.sort_unstable();
        Ok(Allowlist { entries, organizations, warnings: self.warnings })
    }
}

#[cfg(test)]
mod tests;
