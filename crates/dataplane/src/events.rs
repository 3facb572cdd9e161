//! Security events: what the XDP program tells of packets that it dropped, as JSON.

use std::net::IpAddr;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use chrono::{DateTime, SecondsFormat, Utc};
use libbpf_rs::{RingBuffer, RingBufferBuilder};
use nix::net::if_::if_indextoname;
use nix::time::{ClockId, clock_gettime};
use serde::{Serialize, Serializer};

use crate::abi::{EVENT_NO_VNI, Verdict, event};
use crate::nat::decode_address;
use crate::{MapHandle, MapName, Pins, plain};

/// A packet that was dropped, and where it came from. As JSON, what is not known is `null`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// When; written as RFC 3339, UTC, with microseconds.
    #[serde(serialize_with = "rfc3339")]
    pub time: SystemTime,
    /// What it was dropped for: the name of the counter that counts it.
    pub verdict: &'static str,
    /// VNI of the mirror packet.
    pub vni: Option<u32>,
    /// Outer source address: who sent the mirror packet.
    pub mirror: Option<IpAddr>,
    /// Inner source address.
    pub source: Option<IpAddr>,
    /// Inner source port.
    pub source_port: Option<u16>,
    /// Inner destination address.
    pub destination: Option<IpAddr>,
    /// Inner destination port.
    pub destination_port: Option<u16>,
    /// Inner protocol.
    pub protocol: Option<Protocol>,
    /// Interface that it arrived on; `None` also if that is gone.
    pub interface: Option<String>,
}

/// An IP protocol: a name if it is a common one, else its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Protocol {
    /// As `tcp`.
    Name(&'static str),
    /// As assigned by IANA.
    Number(u8),
}

impl From<u8> for Protocol {
    fn from(number: u8) -> Self {
        Self::Name(match i32::from(number) {
            libc::IPPROTO_ICMP => "icmp",
            libc::IPPROTO_TCP => "tcp",
            libc::IPPROTO_UDP => "udp",
            libc::IPPROTO_GRE => "gre",
            libc::IPPROTO_ESP => "esp",
            libc::IPPROTO_AH => "ah",
            libc::IPPROTO_ICMPV6 => "icmpv6",
            libc::IPPROTO_SCTP => "sctp",
            _ => return Self::Number(number),
        })
    }
}

impl Event {
    /// What a record says. `boot` is when `CLOCK_MONOTONIC` was 0.
    fn decode(record: &event, boot: SystemTime, interface: Option<String>) -> Self {
        let verdict = Verdict::ALL.get(record.verdict as usize);
        let port = |port: u16| Some(u16::from_be(port)).filter(|port| *port != 0);
        Self {
            time: boot + Duration::from_nanos(record.time),
            verdict: verdict.map_or("unknown", |verdict| verdict.name()),
            vni: Some(record.vni).filter(|vni| *vni != EVENT_NO_VNI),
            mirror: address(record.mirror_family, record.mirror),
            source: address(record.family, record.source),
            source_port: port(record.source_port),
            destination: address(record.family, record.destination),
            destination_port: port(record.destination_port),
            protocol: (record.family != 0).then(|| record.protocol.into()),
            interface,
        }
    }
}

/// An address as the structs of `bpf/abi.h` have it; family 0: it was not read.
pub fn address(family: u8, bytes: [u8; 16]) -> Option<IpAddr> {
    (family != 0).then(|| decode_address(family, &bytes))
}

fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let text = DateTime::<Utc>::from(*time).to_rfc3339_opts(SecondsFormat::Micros, true);
    serializer.serialize_str(&text)
}

/// The one consumer of `event_ringbuf`.
pub struct EventReader {
    ring: RingBuffer<'static>,
    records: Receiver<event>,
    /// Keeps the descriptor that `ring` waits on.
    _map: MapHandle,
}

impl EventReader {
    /// Begins with the oldest event in the pinned ring. There must not be another reader: the
    /// caller holds [`crate::lock::Role::Loader`].
    ///
    /// # Errors
    /// See [`Pins::open`]; or the ring can't be mapped.
    pub fn open(pins: &Pins) -> Result<Self> {
        let map = pins.open(MapName::EVENTS)?;
        let (sender, records) = mpsc::channel();
        let mut builder = RingBufferBuilder::new();
        let take = move |bytes: &[u8]| match plain::from_bytes(bytes).map(|e| sender.send(e)) {
            Some(Ok(())) => 0,
            _ => -libc::EBADMSG,
        };
        builder.add(&map, take).context("reading event_ringbuf")?;
        let ring = builder.build().context("reading event_ringbuf")?;
        Ok(Self { ring, records, _map: map })
    }

    /// Takes the events that are there. While there are none, waits for one for this long.
    ///
    /// # Errors
    /// The ring can't be read, or holds a record that is no event.
    pub fn take(&self, timeout: Duration) -> Result<Vec<Event>> {
        match self.ring.poll(timeout) {
            Err(error) if error.kind() == libbpf_rs::ErrorKind::Interrupted => {}
            result => result.context("reading event_ringbuf")?,
        }
        // Also what was written without waking anybody.
        self.ring.consume().context("reading event_ringbuf")?;
        let boot = boot_time()?;
        let name = |index| if_indextoname(index).ok().and_then(|name| name.into_string().ok());
        let events = self.records.try_iter();
        Ok(events.map(|record| Event::decode(&record, boot, name(record.ifindex))).collect())
    }
}

/// When `CLOCK_MONOTONIC` was 0, by what the two clocks say now: it moves when the time is set.
fn boot_time() -> Result<SystemTime> {
    let up = clock_gettime(ClockId::CLOCK_MONOTONIC).context("reading CLOCK_MONOTONIC")?;
    Ok(SystemTime::now() - Duration::from(up))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record as the kernel writes it, on a little-endian machine or not.
    fn record(verdict: Verdict, vni: u32, family: u8, protocol: u8) -> Vec<u8> {
        let mut bytes = 1_500_000_123_456_u64.to_ne_bytes().to_vec();
        for word in [verdict as u32, 7, vni] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend([0x7c, 0x15, 0, 53]); // ports in network order: 31765 and 53
        bytes.extend([198, 18, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend([192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        bytes.extend([4, family, protocol, 0, 0, 0, 0, 0]);
        bytes
    }

    fn json(bytes: &[u8], interface: Option<&str>) -> String {
        // 2026-01-02 03:04:05 UTC
        let boot = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_323_045);
        let record = plain::from_bytes(bytes).unwrap();
        let event = Event::decode(&record, boot, interface.map(str::to_owned));
        serde_json::to_string(&event).unwrap()
    }

    #[test]
    fn an_event_is_a_line_with_all_that_is_known() {
        assert_eq!(
            json(&record(Verdict::NotAllowed, 0xabcdef, 4, 17), Some("ens5")),
            r#"{"time":"2026-01-02T03:29:05.000123Z","verdict":"not_allowed","vni":11259375,"#
                .to_owned()
                + r#""mirror":"198.18.0.1","source":"192.0.2.1","source_port":31765,"#
                + r#""destination":"32.1.13.184","destination_port":53,"protocol":"udp","#
                + r#""interface":"ens5"}"#
        );
    }

    #[test]
    fn what_is_not_known_is_null() {
        let mut bytes = record(Verdict::VxlanShort, u32::MAX, 0, 0);
        bytes[20..24].fill(0);
        bytes[72] = 0;
        assert_eq!(
            json(&bytes, None),
            r#"{"time":"2026-01-02T03:29:05.000123Z","verdict":"vxlan_short","vni":null,"#
                .to_owned()
                + r#""mirror":null,"source":null,"source_port":null,"destination":null,"#
                + r#""destination_port":null,"protocol":null,"interface":null}"#
        );
    }

    #[test]
    fn ipv6_addresses_and_other_protocols() {
        let text = json(&record(Verdict::VniMismatch, 0, 6, 253), None);
        for part in [
            r#""vni":0,"#,
            r#""source":"c000:201::","#,
            r#""destination":"2001:db8::2","#,
            r#""protocol":253,"#,
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(json(&record(Verdict::NotAllowed, 0, 6, 58), None).contains(r#""icmpv6""#));
    }

    #[test]
    fn the_clocks_agree() {
        let up: Duration = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap().into();
        let now = boot_time().unwrap() + up;
        assert!(now.elapsed().unwrap_or_default() < Duration::from_secs(1));
        assert!(now <= SystemTime::now() + Duration::from_secs(1));
    }
}
