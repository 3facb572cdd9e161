//! `conntrack_map`: the translated flows that are remembered.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use config::NatTarget;
use libbpf_rs::{ErrorKind, MapCore, MapHandle};
use nix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::abi::{Side, conntrack_key, conntrack_value};
use crate::control::Control;
use crate::nat::{Targets, decode_address};
use crate::stats::Counters;
use crate::{MapName, Pins, plain};

pub mod batch;

/// Entries read at once.
const CHUNK: usize = 8192;

/// The tracked flows.
pub struct Conntrack {
    map: MapHandle,
    stats: MapHandle,
    targets: Targets,
    control: Control,
}

/// A translated flow, as it is mirrored: before translation. The ports of an ICMP echo flow are
/// both its identifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The VNI that carries it.
    pub vni: u32,
    /// Protocol number of IP.
    pub protocol: u8,
    /// Who began it.
    pub client: SocketAddr,
    /// Its first destination, for which the target stands.
    pub server: SocketAddr,
    /// Where its packets go. `None`: the target was removed since, the flow's next packet is given
    /// a new one.
    pub target: Option<NatTarget>,
    /// Time since its first packet.
    pub age: Duration,
    /// Time since its last packet.
    pub idle: Duration,
}

/// Which flows are meant: those that fit everything that is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Flows of this VNI.
    pub vni: Option<u32>,
    /// Flows of which this is the address of the client, the server or the target.
    pub address: Option<IpAddr>,
    /// Flows of which this is the port of the client, the server or the target.
    pub port: Option<u16>,
}

/// The table as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Flows in the table.
    pub entries: u64,
    /// Flows that it has room for (CONNTRACK_SIZE).
    pub size: u64,
    /// Flows that began.
    pub created: u64,
    /// Packets of flows that were known.
    pub hit: u64,
    /// Flows removed on request.
    pub flushed: u64,
    /// Flows that made room for others, the least recent ones.
    pub evicted: u64,
}

impl Conntrack {
    /// Opens the pinned maps.
    ///
    /// # Errors
    /// See [`Pins::open`].
    pub fn open(pins: &Pins) -> Result<Self> {
        Ok(Self {
            map: pins.open(MapName::CONNTRACK)?,
            stats: pins.open(MapName::STATS)?,
            targets: Targets::open(pins)?,
            control: Control::open(pins)?,
        })
    }

    /// Shows `see` the flows that fit, in no order. Those that come or go meanwhile may be among them
    /// or not.
    ///
    /// # Errors
    /// The map can't be read.
    pub fn for_each_flow(&self, filter: Filter, mut see: impl FnMut(Flow)) -> Result<()> {
        self.for_each_entry(filter, |_, flow| {
            see(flow);
            Ok(())
        })
    }

    /// Removes the flows that fit and returns how many there were. The next packet of one of them
    /// begins it anew.
    ///
    /// # Errors
    /// The map can't be read or written; some flows may be removed.
    pub fn flush(&self, filter: Filter) -> Result<u64> {
        let mut removed = 0;
        self.for_each_entry(filter, |key, _| {
            match self.map.delete(plain::bytes(key)) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()), // evicted
                result => result.context("removing entries of conntrack_map")?,
            }
            removed += 1;
            // At once: else what is removed before this process is killed would count as evicted.
            self.control.add_conntrack_flushed(1);
            Ok(())
        })?;
        Ok(removed)
    }

    /// Reads the counters. Under traffic they are of slightly different moments.
    ///
    /// # Errors
    /// A map can't be read.
    pub fn summary(&self) -> Result<Summary> {
        let counters = Counters::read(&self.stats)?;
        let flushed = self.control.conntrack_flushed();
        let mut entries = 0;
        self.for_each_chunk(|keys, _| {
            entries += keys.len() as u64;
            Ok(())
        })?;
        let created = counters.side(Side::ConntrackCreated);
        Ok(Summary {
            entries,
            size: self.map.max_entries().into(),
            created,
            hit: counters.side(Side::ConntrackHit),
            flushed,
            evicted: created.saturating_sub(entries + flushed),
        })
    }

    fn for_each_entry(
        &self,
        filter: Filter,
        mut see: impl FnMut(&conntrack_key, Flow) -> Result<()>,
    ) -> Result<()> {
        let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
        self.for_each_chunk(|keys, values| {
            let flows =
                keys.iter().zip(values).map(|(key, value)| (key, self.flow(key, value, now)));
            flows.filter(|(_, flow)| filter.fits(flow)).try_for_each(|(key, flow)| see(key, flow))
        })
    }

    fn for_each_chunk(
        &self,
        see: impl FnMut(&[conntrack_key], &[conntrack_value]) -> Result<()>,
    ) -> Result<()> {
        batch::for_each_chunk(&self.map, CHUNK, see)
    }

    fn flow(&self, key: &conntrack_key, value: &conntrack_value, now: Duration) -> Flow {
        let endpoint = |address, port: u16| {
            SocketAddr::new(decode_address(key.family, address), u16::from_be(port))
        };
        let low = endpoint(&key.low_address, key.low_port);
        let high = endpoint(&key.high_address, key.high_port);
        let (client, server) = if value.server_is_high != 0 { (low, high) } else { (high, low) };
        let target = self.targets.get(value.target).filter(|entry| entry.serial == value.serial);
        let since = |time| now.saturating_sub(Duration::from_nanos(time));
        Flow {
            vni: u32::from_be(key.vni),
            protocol: key.protocol,
            client,
            server,
            target: target.map(|entry| entry.target),
            age: since(value.created),
            idle: since(value.seen),
        }
    }
}

impl Filter {
    fn fits(&self, flow: &Flow) -> bool {
        let target = flow.target.map(|target| (target.address, target.port));
        let [client, server] = [flow.client, flow.server].map(|end| (end.ip(), end.port()));
        let mut ends = [client, server].into_iter().chain(target);
        self.vni.is_none_or(|vni| vni == flow.vni)
            && self.address.is_none_or(|address| ends.clone().any(|(one, _)| one == address))
            && self.port.is_none_or(|port| ends.any(|(_, one)| one == port))
    }
}
