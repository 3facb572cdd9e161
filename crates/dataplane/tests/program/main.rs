//! The XDP program, packet by packet: `BPF_PROG_TEST_RUN` with the real maps behind it.
//!
//! A case is a packet, the verdict that it must get, and the whole frame that must stand in the
//! ring. Expected frames are built from scratch ([`frame`]) or written out as bytes; none is
//! computed by the code under test. Cases are named after the rows of the list of edge cases:
//! A outer headers, B VXLAN, C inner frame, D destination NAT.
//!
//! Needs root: without it each test says so and checks nothing.

mod allowlist;
mod case;
mod checksum;
mod conntrack;
mod dedup;
mod egress;
mod events;
mod flow_table;
mod fragments;
mod frame;
mod geneve;
mod icmp_error;
mod inner;
mod inner_ipv6;
mod jumbo;
mod linear;
mod link_layer;
mod nat;
mod other_traffic;
mod outer;
mod pins;
mod properties;
mod random;
mod random_packet;
mod reference;
mod rig;
mod rules;
mod speed;
mod truncation;
mod verifier;
mod vxlan;
