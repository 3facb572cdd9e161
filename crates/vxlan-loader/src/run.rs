//! While the pipeline runs: next hops and interfaces are kept fresh, statistics printed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use dataplane::interfaces::{self, InterfaceRole};
use dataplane::ledger::Ledger;

use crate::netlink::Netlink;
use crate::netlink::events::Changes;
use crate::netlink::interface::Interface;
use crate::next_hop::mac_text;
use crate::report::Report;
use crate::signals::Signals;
use crate::start::Attached;
use crate::statistics::Statistics;

/// How soon a refresh that vxlanctl asks for is met.
const TICK: Duration = Duration::from_millis(50);
/// Between two looks at the kernel's tables when many changes come.
const REFRESH_PAUSE: Duration = Duration::from_millis(50);
/// Before what failed is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Between two confirmations of neighbours that the kernel is not sure of.
const CONFIRM_INTERVAL: Duration = Duration::from_secs(5);

/// Keeps the pipeline fresh until a signal comes.
///
/// # Errors
/// The kernel refuses to wait or to tell of changes: the pipeline can't be kept fresh.
pub fn run(
    attached: &mut Attached,
    interval: Option<Duration>,
    signals: &Signals,
    report: Report,
) -> Result<()> {
    let mut statistics = match interval {
        Some(interval) => Some(Statistics::start(Ledger::open(&attached.pins)?, interval)?),
        None => None,
    };
    let mut keeper = Keeper::new(attached, report)?;
    while !signals.stop_requested() {
        keeper.step()?;
        if let Some(statistics) = &mut statistics {
            statistics.print_when_due(report);
        }
        let events = Some(keeper.attached.events.as_fd());
        signals.wait(events, TICK).context("waiting for signals and notifications")?;
    }
    Ok(())
}

struct Keeper<'a> {
    attached: &'a mut Attached,
    netlink: Netlink,
    report: Report,
    /// What was told and not yet looked at.
    pending: Changes,
    refreshed: Instant,
    /// The last refresh did not succeed.
    failed: bool,
    confirmed: Instant,
    ingress: Watched,
    egress: Watched,
}

impl<'a> Keeper<'a> {
    fn new(attached: &'a mut Attached, report: Report) -> Result<Self> {
        let now = Instant::now();
        Ok(Self {
            netlink: Netlink::open().context("opening a netlink socket")?,
            report,
            // The start took a while.
            pending: Changes::ALL,
            refreshed: now,
            failed: false,
            confirmed: now,
            ingress: Watched::new(InterfaceRole::Ingress, attached.ingress.clone()),
            egress: Watched::new(InterfaceRole::Egress, attached.egress.clone()),
            attached,
        })
    }

    fn step(&mut self) -> Result<()> {
        let (ingress, egress) = (self.attached.ingress.index, self.attached.egress.index);
        let told = self.attached.events.take(ingress, egress).context("netlink notifications")?;
        self.pending.merge(told);

        let requests = self.attached.nat.control().refresh_requests();
        let pause = if self.failed { RETRY_PAUSE } else { REFRESH_PAUSE };
        let rested = self.refreshed.elapsed() >= pause;
        let asked = requests != self.attached.refreshes && (rested || !self.failed);
        let confirm = self.confirmed.elapsed() >= CONFIRM_INTERVAL;
        let changed = self.pending.any() && rested;
        if !asked && !confirm && !changed {
            return Ok(());
        }
        let result = self.refresh(asked, confirm);
        self.refreshed = Instant::now();
        if confirm {
            self.confirmed = self.refreshed;
        }
        self.failed = result.is_err();
        match result {
            Ok(()) => {
                self.attached.refreshes = requests;
                self.pending = Changes::default();
            }
            // What was asked for and told stays so, and is looked at again.
            Err(error) => {
                self.report.warning(format_args!("keeping the pipeline fresh: {error:#}"));
            }
        }
        Ok(())
    }

    fn refresh(&mut self, asked: bool, confirm: bool) -> Result<()> {
        if self.pending.links {
            let map = &self.attached.interfaces;
            for watched in [&mut self.ingress, &mut self.egress] {
                if let Some(entry) = watched.look(&mut self.netlink, self.report)? {
                    interfaces::set(map, watched.role, &entry.as_entry())?;
                }
            }
        }
        let untranslated = self.refresh_untranslated(confirm);
        self.refresh_nat(asked, confirm)?;
        untranslated
    }

    fn refresh_untranslated(&mut self, confirm: bool) -> Result<()> {
        if let Some(untranslated) = &mut self.attached.untranslated {
            untranslated.refresh(self.report)?;
            if confirm {
                untranslated.confirm();
            }
        }
        Ok(())
    }

    fn refresh_nat(&mut self, asked: bool, confirm: bool) -> Result<()> {
        let Attached { next_hops, nat, .. } = &mut *self.attached;
        if asked || confirm {
            next_hops.set_targets(nat.next_hops().into_iter().map(|(target, _)| target));
        }
        if asked {
            self.report.detail("looking for the next hops of new NAT rules");
        }
        let changed = next_hops.refresh(self.report)?;
        if asked || confirm {
            next_hops.confirm();
        }
        // Rules that vxlanctl staged meanwhile may hold an older answer: write all now and then.
        if changed || asked || confirm {
            nat.set_next_hops(&next_hops.macs());
        }
        Ok(())
    }
}

/// An interface whose changes are said.
struct Watched {
    role: InterfaceRole,
    /// As it was last; `None`: gone.
    now: Option<Interface>,
    name: String,
    index: u32,
}

impl Watched {
    fn new(role: InterfaceRole, interface: Interface) -> Self {
        let (name, index) = (interface.name.clone(), interface.index);
        Self { role, now: Some(interface), name, index }
    }

    /// Looks at the interface, says what changed, and returns it if the program must know.
    fn look(&mut self, netlink: &mut Netlink, report: Report) -> Result<Option<Interface>> {
        let next = Interface::by_index(netlink, self.index)
            .with_context(|| format!("asking the kernel for interface {}", self.name))?;
        let old = std::mem::replace(&mut self.now, next.clone());
        for text in changes(self.role, &self.name, old.as_ref(), next.as_ref()) {
            report.event(text);
        }
        let changed = |next: &Interface| old.is_none_or(|old| entry_of(&old) != entry_of(next));
        Ok(next.filter(changed))
    }
}

fn entry_of(interface: &Interface) -> (u32, Option<[u8; 6]>) {
    (interface.mtu, interface.mac)
}

fn changes(
    role: InterfaceRole,
    name: &str,
    old: Option<&Interface>,
    new: Option<&Interface>,
) -> Vec<String> {
    let role = match role {
        InterfaceRole::Ingress => "ingress",
        InterfaceRole::Egress => "egress",
    };
    let (old, new) = match (old, new) {
        (Some(old), Some(new)) => (old, new),
        (Some(_), None) => return vec![format!("warning: {role} interface {name} is gone")],
        (None, Some(_)) => return vec![format!("{role} interface {name} is back")],
        (None, None) => return Vec::new(),
    };
    let mut texts = Vec::new();
    match (old.is_up, new.is_up) {
        (true, false) => texts.push(format!("warning: {role} interface {name} is down")),
        (false, true) => texts.push(format!("{role} interface {name} is up again")),
        _ => match (old.has_carrier, new.has_carrier) {
            (true, false) => texts.push(format!("warning: {role} interface {name} has no carrier")),
            (false, true) => texts.push(format!("{role} interface {name} has a carrier again")),
            _ => {}
        },
    }
    if old.mtu != new.mtu {
        texts.push(format!("MTU of {role} interface {name} is {}, was {}", new.mtu, old.mtu));
    }
    if old.mac != new.mac {
        let [old, new] = [old.mac, new.mac].map(|mac| mac.map_or("none".into(), mac_text));
        texts.push(format!("MAC address of {role} interface {name} is {new}, was {old}"));
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface() -> Interface {
        Interface::for_test("ens6", 1500, [2, 0, 0, 0, 0, 1])
    }

    fn said(old: Option<&Interface>, new: Option<&Interface>) -> String {
        changes(InterfaceRole::Egress, "ens6", old, new).join("; ")
    }

    #[test]
    fn nothing_is_said_of_what_stays() {
        assert_eq!(said(Some(&interface()), Some(&interface())), "");
        assert_eq!(said(None, None), "");
    }

    #[test]
    fn down_says_nothing_of_the_carrier_that_is_lost_with_it() {
        let down = Interface { is_up: false, has_carrier: false, ..interface() };
        assert_eq!(said(Some(&interface()), Some(&down)), "warning: egress interface ens6 is down");
        assert_eq!(said(Some(&down), Some(&interface())), "egress interface ens6 is up again");
    }

    #[test]
    fn a_lost_carrier_gone_and_back_are_said() {
        let loose = Interface { has_carrier: false, ..interface() };
        assert!(said(Some(&interface()), Some(&loose)).contains("no carrier"));
        assert!(said(Some(&interface()), None).contains("is gone"));
        assert!(said(None, Some(&interface())).contains("is back"));
    }

    #[test]
    fn mtu_and_mac_come_with_what_they_were() {
        let new = Interface { mtu: 9001, mac: Some([2, 0, 0, 0, 0, 2]), ..interface() };
        assert_eq!(
            said(Some(&interface()), Some(&new)),
            "MTU of egress interface ens6 is 9001, was 1500; MAC address of egress interface ens6 \
             is 02:00:00:00:00:02, was 02:00:00:00:00:01"
        );
    }
}
