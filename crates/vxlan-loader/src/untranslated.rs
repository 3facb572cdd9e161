//! The next hops of untranslated frames (REWRITE_L2=all), one for each IP version, found and kept
//! fresh.

use std::net::IpAddr;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use config::NextHopAddresses;
use dataplane::next_hops::{Family, NextHopMap};

use crate::netlink::Netlink;
use crate::netlink::interface::Interface;
use crate::netlink::route;
use crate::next_hop::{self, ANSWER_POLL, ANSWER_TIME, Status, Target, mac_text};
use crate::report::Report;
use crate::signals::Signals;

/// Where untranslated frames of one IP version go.
struct Way {
    family: Family,
    /// What NEXT_HOP says; `None`: the gateway of the default route.
    given: Option<IpAddr>,
    state: Target,
}

impl Way {
    /// Asks the kernel, and makes it look for a neighbour that it doesn't know.
    fn look_up(&self, netlink: &mut Netlink, egress: &Interface) -> Result<Target> {
        let route = match self.given {
            Some(address) => route::next_hop(netlink, address, egress),
            None => route::default_gateway(netlink, self.family, egress),
        };
        next_hop::follow(netlink, egress, route, &self.state)
            .with_context(|| format!("looking for the next hop of {} frames", self.family))
    }

    /// Whether an answer may still come.
    fn is_open(&self) -> bool {
        matches!(self.state.status, Status::Pending | Status::Silent)
    }

    /// Why there is no next hop.
    fn problem(&self, egress: &Interface) -> String {
        match (&self.state.status, self.given.or(self.state.next_hop)) {
            (Status::Unreachable(reason), _) => reason.to_string(),
            (_, Some(address)) => next_hop::problem_text(address, &self.state, &egress.name),
            (_, None) => format!("it is not known yet on {}", egress.name),
        }
    }

    /// The state in words; a problem is a warning.
    fn describe(&self, egress: &Interface) -> Result<String, String> {
        let family = self.family;
        match (&self.state.status, self.state.next_hop) {
            (Status::Resolved(mac), Some(next_hop)) => Ok(format!(
                "next hop of untranslated {family} frames is {next_hop}, MAC address {}",
                mac_text(*mac)
            )),
            (Status::Pending, _) => {
                Ok(format!("looking for the next hop of untranslated {family} frames"))
            }
            _ => Err(format!(
                "untranslated {family} frames have no next hop and are dropped \
                 (next_hop_unresolved): {}",
                self.problem(egress)
            )),
        }
    }
}

/// The next hops of untranslated frames.
pub struct Untranslated {
    netlink: Netlink,
    egress: Interface,
    map: NextHopMap,
    ways: [Way; 2],
}

impl Untranslated {
    /// Nothing is asked yet, and the map is left as it is.
    pub fn new(
        netlink: Netlink,
        egress: Interface,
        given: Option<NextHopAddresses>,
        map: NextHopMap,
    ) -> Self {
        let ways = Family::ALL.map(|family| {
            let given = given.and_then(|given| match family {
                Family::Ipv4 => given.ipv4.map(IpAddr::from),
                Family::Ipv6 => given.ipv6.map(IpAddr::from),
            });
            Way { family, given, state: Target::UNKNOWN }
        });
        Self { netlink, egress, map, ways }
    }

    /// Waits until the next hops are known.
    ///
    /// # Errors
    /// One of NEXT_HOP can't be reached, or no IP version has a next hop; or a signal came.
    pub fn resolve(&mut self, signals: &Signals, report: Report) -> Result<()> {
        let deadline = Instant::now() + ANSWER_TIME;
        self.look_up()?;
        self.confirm(); // what failed before the start gets another chance
        while self.ways.iter().any(Way::is_open) && Instant::now() < deadline {
            signals.check()?;
            signals.wait(None, ANSWER_POLL).context("waiting for neighbours")?;
            self.look_up()?;
        }
        self.refuse()?;
        for way in &self.ways {
            match way.describe(&self.egress) {
                Ok(text) => report.detail(text),
                Err(problem) => report.warning(problem),
            }
        }
        Ok(())
    }

    fn look_up(&mut self) -> Result<()> {
        for way in self.ways.iter_mut().filter(|way| way.state.mac().is_none()) {
            way.state = way.look_up(&mut self.netlink, &self.egress)?;
        }
        Ok(())
    }

    fn refuse(&self) -> Result<()> {
        let lacking = || self.ways.iter().filter(|way| way.state.mac().is_none());
        let egress = &self.egress;
        if let Some(way) = lacking().find(|way| way.given.is_some()) {
            bail!("NEXT_HOP can't be reached\n  {}", way.problem(egress));
        }
        if lacking().count() == self.ways.len() {
            let problems: String =
                lacking().map(|way| format!("\n  {}", way.problem(egress))).collect();
            bail!(
                "REWRITE_L2=all, and untranslated frames have no next hop{problems}\nset NEXT_HOP \
                 to the address of the device behind {name}, or add a default route (ip route add \
                 default via GATEWAY dev {name})",
                name = egress.name
            );
        }
        Ok(())
    }

    /// Tells the program what is known.
    pub fn publish(&self) {
        for way in &self.ways {
            self.map.set(way.family, way.state.mac());
        }
    }

    /// Asks the kernel again, and tells the program what changed.
    ///
    /// # Errors
    /// The kernel can't be asked.
    pub fn refresh(&mut self, report: Report) -> Result<()> {
        for way in &mut self.ways {
            let next = way.look_up(&mut self.netlink, &self.egress)?;
            if next == way.state {
                continue;
            }
            let was_pending = way.state.status == Status::Pending;
            way.state = next;
            match way.describe(&self.egress) {
                Ok(text) if was_pending || way.state.mac().is_none() => report.detail(text),
                Ok(text) => report.event(text),
                Err(problem) => report.warning(problem),
            }
        }
        self.publish();
        Ok(())
    }

    /// Makes the kernel confirm what it is not sure of, so that a changed MAC address is noticed.
    pub fn confirm(&mut self) {
        for next_hop in self.ways.iter().filter_map(|way| way.state.next_hop) {
            // What fails here (an interface that went down) is found and said by `refresh`.
            let _ = next_hop::probe_if_unsure(&mut self.netlink, &self.egress, next_hop);
        }
    }
}
