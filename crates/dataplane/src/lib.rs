//! The BPF object, its maps and pins, and the ledger. The only crate that talks to libbpf.
//!
//! `vxlan-loader` uses [`pipeline`] to load, pin and attach the program. The injector and
//! `vxlanctl` only open what is pinned: [`Pins`], then the typed handles over the maps.

pub mod abi;
pub mod allowlist;
pub mod attach;
pub mod audit_log;
pub mod conntrack;
pub mod control;
pub mod events;
pub mod features;
pub mod grace;
pub mod interfaces;
pub mod ledger;
pub mod lock;
pub mod maglev;
pub mod nat;
pub mod next_hops;
pub mod pins;
pub mod pipeline;
pub mod plain;
pub mod ring;
pub mod shared;
pub mod stats;
pub mod verifier;
pub mod vni;

pub use libbpf_rs::MapHandle;
pub use pins::{MapName, Pins};
