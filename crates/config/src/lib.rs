//! Settings (flags, environment, `.env` file), allowlist files and NAT rule files, read into
//! validated types.
//!
//! Each setting is declared once, in [`settings`]: its flag, its environment variable, its place
//! in the file, its help and the text of its errors all come from there. A binary asks for the
//! keys that it uses, adds arguments of its own, and gets typed [`Settings`]:
//!
//! ```
//! use config::{Key, Settings};
//!
//! const KEYS: &[Key] = &[Key::Interface, Key::VxlanPort, Key::PinDir];
//! let matches = config::command("vxlan-loader", "Attach the pipeline", KEYS)
//!     .get_matches_from(["vxlan-loader", "-i", "ens5"]);
//! let (settings, warnings) = Settings::from_matches(&matches)?;
//! for warning in &warnings {
//!     eprintln!("vxlan-loader: warning: {warning}");
//! }
//! assert_eq!(settings.ingress()?.as_str(), "ens5");
//! # Ok::<(), config::ConfigError>(())
//! ```
//!
//! Numbers in the public types are in host byte order.
#![forbid(unsafe_code)]

mod allowlist;
mod args;
mod check;
mod choice;
mod cpu;
mod env_example;
mod env_file;
mod error;
mod json;
mod nat;
mod nat_file;
mod next_hop;
mod resolve;
mod ring_size;
pub mod settings;
mod value;
mod vni;

pub use allowlist::{Allowlist, MAX_ALLOWLIST_ENTRIES, parse_entry};
pub use args::{after_help, args, command, positional};
pub use choice::{AllowlistMatch, Disposition, RewriteL2, VniMismatch, XdpMode};
pub use cpu::CpuAffinity;
pub use env_example::env_example;
pub use error::{ConfigError, EXIT_STATUS, Warning};
pub use nat::{
    MAX_NAT_RULES, MAX_NAT_TARGETS, MAX_RULE_TARGETS, NatMatch, NatProtocol, NatRule, NatTarget,
    WeightedTarget, check_nat_limits, nat_rules_json, parse_target, parse_weighted_target,
};
pub use nat_file::{load_nat_rules, parse_nat_rules};
pub use next_hop::NextHopAddresses;
pub use resolve::{Entry, Origin};
pub use ring_size::RingSize;
pub use settings::{Key, Settings};
pub use value::{InterfaceName, WorkerThreads};
pub use vni::{MAX_VNI, MAX_VNIS, VniSet};
