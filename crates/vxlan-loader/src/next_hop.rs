//! The MAC address of the next hop towards every NAT target, found and kept fresh.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dataplane::nat::Mac;

use crate::netlink::Netlink;
use crate::netlink::interface::Interface;
use crate::netlink::neighbour::{self, Neighbour};
use crate::netlink::route::{self, Unreachable};
use crate::report::Report;
use crate::signals::Signals;

/// How long a neighbour has to answer at the start: the kernel asks three times, a second apart.
pub const ANSWER_TIME: Duration = Duration::from_millis(3200);
/// Between two looks at the neighbour table while waiting for an answer.
pub const ANSWER_POLL: Duration = Duration::from_millis(10);

/// What is known about the way to a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// The kernel has been told to find out.
    Pending,
    /// Frames can be sent. While the kernel asks again, the last answer counts.
    Resolved(Mac),
    /// The next hop doesn't answer.
    Silent,
    /// There is no way.
    Unreachable(Unreachable),
}

/// The way to a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The gateway, or the target itself.
    pub next_hop: Option<IpAddr>,
    /// Whether it can be used.
    pub status: Status,
}

impl Target {
    /// Nothing has been asked yet.
    pub const UNKNOWN: Self = Self { next_hop: None, status: Status::Pending };

    /// The MAC address that frames can be sent to.
    pub fn mac(&self) -> Option<Mac> {
        match self.status {
            Status::Resolved(mac) => Some(mac),
            _ => None,
        }
    }

    /// The state that follows from what the kernel says now.
    fn next(&self, route: Result<IpAddr, Unreachable>, neighbour: Option<Neighbour>) -> Self {
        let next_hop = match route {
            Ok(next_hop) => next_hop,
            Err(reason) => return Self { next_hop: None, status: Status::Unreachable(reason) },
        };
        let usable = neighbour.and_then(|neighbour| neighbour.usable_mac());
        let status = match usable {
            Some(mac) => Status::Resolved(mac),
            None if neighbour.is_some_and(|neighbour| neighbour.has_failed()) => Status::Silent,
            None if self.next_hop == Some(next_hop) => self.status.clone(),
            None => Status::Pending,
        };
        Self { next_hop: Some(next_hop), status }
    }
}

/// Every NAT target and the way to it.
pub struct NextHops {
    netlink: Netlink,
    egress: Interface,
    targets: BTreeMap<IpAddr, Target>,
}

impl NextHops {
    /// No targets yet; all leave by `egress`.
    pub fn new(netlink: Netlink, egress: Interface) -> Self {
        Self { netlink, egress, targets: BTreeMap::new() }
    }

    /// Makes these the targets. Those that were there already keep what is known of them.
    pub fn set_targets(&mut self, targets: impl IntoIterator<Item = IpAddr>) {
        let mut old = std::mem::take(&mut self.targets);
        self.targets = targets
            .into_iter()
            .map(|target| (target, old.remove(&target).unwrap_or(Target::UNKNOWN)))
            .collect();
    }

    /// The MAC address for every target, `None` where there is none.
    pub fn macs(&self) -> BTreeMap<IpAddr, Option<Mac>> {
        self.targets.iter().map(|(target, state)| (*target, state.mac())).collect()
    }

    /// Asks the kernel about every target and makes it look for those that it doesn't know.
    /// Returns whether a MAC address changed.
    ///
    /// # Errors
    /// The kernel can't be asked.
    pub fn refresh(&mut self, report: Report) -> Result<bool> {
        let mut changed = false;
        let mut warnings = Vec::new();
        for (target, state) in &mut self.targets {
            let next = look_up(&mut self.netlink, &self.egress, *target, state)
                .with_context(|| format!("looking for the next hop to {target}"))?;
            if next != *state {
                changed |= next.mac() != state.mac();
                describe(*target, state, &next, &self.egress, report, &mut warnings);
                *state = next;
            }
        }
        report.warnings(&warnings);
        Ok(changed)
    }

    /// Makes the kernel confirm what it is not sure of, so that a changed MAC address is noticed.
    pub fn confirm(&mut self) {
        let mut next_hops: Vec<_> = self.targets.values().filter_map(|t| t.next_hop).collect();
        next_hops.sort_unstable();
        next_hops.dedup();
        for next_hop in next_hops {
            // What fails here (an interface that went down) is found and said by `refresh`.
            let _ = probe_if_unsure(&mut self.netlink, &self.egress, next_hop);
        }
    }

    /// Waits until every target is resolved.
    ///
    /// # Errors
    /// Names every target that can't be reached, and why; or a signal came.
    pub fn resolve(&mut self, signals: &Signals, report: Report) -> Result<()> {
        let deadline = Instant::now() + ANSWER_TIME;
        self.look_up_all()?;
        self.confirm(); // what failed before the start gets another chance
        while self.targets.values().any(|target| target.mac().is_none()) {
            signals.check()?;
            if Instant::now() >= deadline {
                bail!("{}", self.unresolved());
            }
            signals.wait(None, ANSWER_POLL).context("waiting for neighbours")?;
            self.look_up_all()?;
        }
        for (target, state) in &self.targets {
            report.detail(resolved_text(*target, state));
        }
        Ok(())
    }

    /// Asks the kernel about every target that is not resolved yet, and fails for one to which
    /// there is no way.
    fn look_up_all(&mut self) -> Result<()> {
        for (target, state) in self.targets.iter_mut().filter(|(_, state)| state.mac().is_none()) {
            *state = look_up(&mut self.netlink, &self.egress, *target, state)
                .with_context(|| format!("looking for the next hop to {target}"))?;
        }
        let hopeless = |state: &Target| matches!(state.status, Status::Unreachable(_));
        if self.targets.values().any(hopeless) {
            bail!("{}", self.unresolved());
        }
        Ok(())
    }

    /// The targets without a MAC address, and why they have none.
    fn unresolved(&self) -> String {
        const NAMED: usize = 5;
        let problems: Vec<String> = self
            .targets
            .iter()
            .filter(|(_, state)| state.mac().is_none())
            .map(|(target, state)| problem_text(*target, state, &self.egress.name))
            .collect();
        let mut text = String::from("NAT targets can't be reached");
        for problem in problems.iter().take(NAMED) {
            let _ = write!(text, "\n  {problem}");
        }
        if problems.len() > NAMED {
            let _ = write!(text, "\n  and {} more", problems.len() - NAMED);
        }
        text
    }
}

fn look_up(
    netlink: &mut Netlink,
    egress: &Interface,
    target: IpAddr,
    state: &Target,
) -> io::Result<Target> {
    let route = route::next_hop(netlink, target, egress);
    follow(netlink, egress, route, state)
}

/// The state of a target with this route, by what the kernel knows of the neighbour.
///
/// # Errors
/// The kernel can't be asked.
pub fn follow(
    netlink: &mut Netlink,
    egress: &Interface,
    route: Result<IpAddr, Unreachable>,
    state: &Target,
) -> io::Result<Target> {
    let Ok(next_hop) = route else { return Ok(state.next(route, None)) };
    let mut neighbour = neighbour::get(netlink, egress.index, next_hop)?;
    if neighbour.is_none() {
        // Refused for an interface that is going down: the routes tell of that.
        let _ = neighbour::probe(netlink, egress.index, next_hop);
        neighbour = neighbour::get(netlink, egress.index, next_hop)?;
    }
    Ok(state.next(route, neighbour))
}

/// Makes the kernel ask a neighbour that it isn't sure of.
///
/// # Errors
/// The kernel refuses, for an interface that is down or gone.
pub fn probe_if_unsure(
    netlink: &mut Netlink,
    egress: &Interface,
    next_hop: IpAddr,
) -> io::Result<()> {
    let neighbour = neighbour::get(netlink, egress.index, next_hop)?;
    if neighbour.is_none_or(|neighbour| neighbour.wants_probe()) {
        neighbour::probe(netlink, egress.index, next_hop)?;
    }
    Ok(())
}

/// Says what changed, once.
fn describe(
    target: IpAddr,
    old: &Target,
    new: &Target,
    egress: &Interface,
    report: Report,
    warnings: &mut Vec<String>,
) {
    match &new.status {
        Status::Pending => {
            report.detail(format_args!("looking for the next hop to {target}"));
        }
        Status::Resolved(_) if old.status == Status::Pending => {
            report.detail(resolved_text(target, new));
        }
        Status::Resolved(_) => report.event(resolved_text(target, new)),
        Status::Silent | Status::Unreachable(_) => warnings.push(format!(
            "no way to the NAT target {target}, packets for it are dropped (next_hop_unresolved): {}",
            problem_text(target, new, &egress.name)
        )),
    }
}

fn resolved_text(target: IpAddr, state: &Target) -> String {
    let mac = state.mac().map_or_else(|| "not known yet".into(), mac_text);
    match state.next_hop {
        Some(next_hop) if next_hop != target => {
            format!("next hop to {target} is {next_hop}, MAC address {mac}")
        }
        _ => format!("next hop to {target} is itself, MAC address {mac}"),
    }
}

/// Why there is no MAC address, and what to look at.
pub fn problem_text(target: IpAddr, state: &Target, egress: &str) -> String {
    if let Status::Unreachable(reason) = &state.status {
        return reason.to_string();
    }
    let next_hop = state.next_hop.unwrap_or(target);
    let who = if next_hop == target {
        format!("{target} does not answer on {egress}")
    } else {
        format!("{next_hop}, the next hop to {target}, does not answer on {egress}")
    };
    let check = match next_hop {
        IpAddr::V4(_) => format!("`arping -I {egress} {next_hop}`"),
        IpAddr::V6(_) => format!(
            "`ping {next_hop}%{egress}`, and that {egress} has a link-local address, from which the \
             kernel asks"
        ),
    };
    format!(
        "{who}: check `ip route get {target} oif {egress}` and {check}; on EC2 also the security \
         groups, and that it is in the subnet of {egress} or has the subnet's router as next hop"
    )
}

/// A MAC address as people write it.
pub fn mac_text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::neighbour::NeighbourState;

    use super::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 1];
    const OTHER: Mac = [2, 0, 0, 0, 0, 2];

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn neighbour(state: NeighbourState, mac: Option<Mac>) -> Option<Neighbour> {
        Some(Neighbour { state, mac })
    }

    fn resolved() -> Target {
        Target { next_hop: Some(address(1)), status: Status::Resolved(MAC) }
    }

    #[test]
    fn what_is_known_counts_while_the_kernel_asks_again() {
        for (state, mac) in [
            (NeighbourState::Stale, Some(MAC)),
            (NeighbourState::Probe, Some(MAC)),
            (NeighbourState::Incomplete, None),
            (NeighbourState::None, None),
        ] {
            let next = resolved().next(Ok(address(1)), neighbour(state, mac));
            assert_eq!(next, resolved(), "{state}");
        }
        assert_eq!(resolved().next(Ok(address(1)), None), resolved());
    }

    #[test]
    fn a_failed_neighbour_is_not_sent_to_although_its_mac_is_remembered() {
        let next = resolved().next(Ok(address(1)), neighbour(NeighbourState::Failed, Some(MAC)));
        assert_eq!((next.mac(), next.status), (None, Status::Silent));
    }

    #[test]
    fn a_silent_neighbour_that_is_asked_again_stays_silent() {
        let silent = Target { next_hop: Some(address(1)), status: Status::Silent };
        let next = silent.next(Ok(address(1)), neighbour(NeighbourState::Incomplete, None));
        assert_eq!(next, silent);
        let next = silent.next(Ok(address(1)), neighbour(NeighbourState::Reachable, Some(OTHER)));
        assert_eq!(next.mac(), Some(OTHER));
    }

    #[test]
    fn the_mac_of_another_next_hop_is_not_kept() {
        let next = resolved().next(Ok(address(2)), neighbour(NeighbourState::Incomplete, None));
        assert_eq!(next, Target { next_hop: Some(address(2)), status: Status::Pending });
    }

    #[test]
    fn without_a_route_there_is_no_mac() {
        let reason = Unreachable::NoRoute { target: address(9), egress: "ens6".into() };
        let next = resolved().next(Err(reason.clone()), None);
        assert_eq!(next, Target { next_hop: None, status: Status::Unreachable(reason) });
    }

    #[test]
    fn a_problem_names_target_next_hop_interface_and_what_to_do() {
        let state = Target { next_hop: Some(address(1)), status: Status::Silent };
        let text = problem_text(address(9), &state, "ens6");
        for part in ["192.0.2.9", "192.0.2.1", "ens6", "ip route get 192.0.2.9 oif ens6", "arping"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
