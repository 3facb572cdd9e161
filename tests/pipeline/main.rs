//! End-to-end tests: `vxlan-loader` and `packet-injector` as real processes, real packets, and
//! whole frames compared. They need root, and run one at a time.

mod benchmark;
mod captures;
mod corpus;
mod delivery;
mod demo;
mod faults;
mod ledger;
mod lifecycle;
mod nat;
mod oracle;
