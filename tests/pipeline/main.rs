//! End-to-end tests: `vxlan-loader` and `packet-injector` as real processes, real packets, and
//! whole frames compared. They need root, and run one at a time.

mod benchmark;
mod captures;
mod corpus;
mod dedup;
mod delivery;
mod demo;
mod differential;
mod documents;
mod events;
mod faults;
mod fragments;
mod geneve;
mod ledger;
mod lifecycle;
mod link_layer;
mod mtu;
mod nat;
mod oracle;
