//! From settings to a running pipeline, or to nothing at all.

use anyhow::{Context, Result};
use config::{Allowlist, AllowlistMatch, Disposition, NatRule, Settings, VniMismatch, XdpMode};
use dataplane::abi::{
    ALLOWLIST_MATCH_BOTH, ALLOWLIST_MATCH_DST, ALLOWLIST_MATCH_EITHER, ALLOWLIST_MATCH_SRC,
    program_config,
};
use dataplane::allowlist::AllowlistMaps;
use dataplane::control::Control;
use dataplane::nat::NatTable;
use dataplane::pipeline::Pipeline;
use dataplane::{MapHandle, MapName, Pins, features};

use crate::fill;
use crate::netlink::Netlink;
use crate::netlink::events::Events;
use crate::netlink::interface::{self, Interface};
use crate::next_hop::NextHops;
use crate::report::Report;
use crate::signals::Signals;
use crate::traces::Traces;
use crate::xdp::{self, Running};

/// What a start works with: settings, and the files that they name.
pub struct Input {
    /// Every setting.
    pub settings: Settings,
    /// The rules of NAT_IP and NAT_RULES_FILE.
    pub rules: Vec<NatRule>,
    /// The list of ALLOWLIST_FILE.
    pub allowlist: Option<Allowlist>,
}

/// A pipeline that is attached, and what is needed to keep it fresh and to stop it.
pub struct Attached {
    /// Its pins.
    pub pins: Pins,
    /// What goes away with it.
    pub traces: Traces,
    /// Its link.
    pub running: Running,
    /// Where mirrored packets arrive.
    pub ingress: Interface,
    /// Where inner frames leave.
    pub egress: Interface,
    /// Its NAT rules.
    pub nat: NatTable,
    /// `interface_map`.
    pub interfaces: MapHandle,
    /// The ways to the NAT targets.
    pub next_hops: NextHops,
    /// Notifications since before the next hops were looked up.
    pub events: Events,
    /// The refresh requests of vxlanctl that have been met.
    pub refreshes: u32,
}

/// Starts the pipeline, or takes over the one that is pinned.
///
/// # Errors
/// What failed, on what, and what to do. A fresh start then leaves nothing behind, a takeover the
/// running pipeline as it was.
pub fn start(input: &Input, signals: &Signals, report: Report) -> Result<Attached> {
    let settings = &input.settings;
    let mut netlink = Netlink::open().context("opening a netlink socket")?;
    let events = Events::subscribe().context("subscribing to netlink notifications")?;
    let ingress = interface::find_ingress(&mut netlink, settings.ingress()?.as_str())?;
    let egress = interface::find_egress(&mut netlink, settings.egress()?.as_str())?;
    features::check()?;

    let pins = Pins::new(&settings.pin_dir);
    let traces = Traces::claim(pins.clone())?;
    let running = find_running(&traces, &pins, &mut netlink, &ingress, settings.xdp_mode)?;
    if running.is_some() {
        xdp::refuse_other_egress(&pins, &egress)?;
    }
    signals.check()?;
    let pipeline =
        Pipeline::load(program_config(settings), settings.ring_buffer_size.bytes(), &pins)?;
    let control = Control::new(&pipeline.map(MapName::CONTROL)?)?;
    control.stamp();

    let refreshes = control.refresh_requests();
    let interfaces = pipeline.map(MapName::INTERFACES)?;
    let mut next_hops = NextHops::new(netlink, egress.clone());
    let nat = fill::fill(input, &pins, &mut next_hops, signals, report)?;
    fill::set_interfaces(&interfaces, &ingress, &egress)?;

    let taken_over = running.is_some();
    let allowlist = describe_allowlist(settings, &pins)?;
    // From here on nothing can fail but going live itself.
    let running = go_live(&pipeline, running, &pins, &ingress, settings.xdp_mode, report)?;
    control.set_loader_pid(std::process::id());
    let mut attached = Attached {
        pins,
        traces,
        running,
        ingress,
        egress,
        nat,
        interfaces,
        next_hops,
        events,
        refreshes,
    };
    attached.traces.keep();
    report.line(summary(&attached, input, &allowlist, taken_over));
    Ok(attached)
}

/// What there is to take over. Without that, the interface must be free.
fn find_running(
    traces: &Traces,
    pins: &Pins,
    netlink: &mut Netlink,
    ingress: &Interface,
    wanted: XdpMode,
) -> Result<Option<Running>> {
    if !traces.is_fresh()
        && let Some(running) = xdp::find_running(netlink, pins, ingress, wanted)?
    {
        return Ok(Some(running));
    }
    xdp::refuse_foreign(ingress)?;
    Ok(None)
}

/// The program goes live: in the place of the running one, or on an interface that has none.
fn go_live(
    pipeline: &Pipeline,
    running: Option<Running>,
    pins: &Pins,
    ingress: &Interface,
    wanted: XdpMode,
    report: Report,
) -> Result<Running> {
    match running {
        Some(mut running) => {
            pipeline.replace(&mut running.link)?;
            Ok(running)
        }
        None => xdp::attach(pipeline, pins, ingress, wanted, report),
    }
}

fn program_config(settings: &Settings) -> program_config {
    program_config {
        vxlan_port: settings.vxlan_port.to_be(),
        df_clear_threshold: settings.df_clear_threshold,
        vni_mismatch_pass: (settings.vni_mismatch == VniMismatch::Pass).into(),
        allowlist_enabled: settings.enable_allowlist.into(),
        allowlist_match: match settings.allowlist_match {
            AllowlistMatch::Either => ALLOWLIST_MATCH_EITHER,
            AllowlistMatch::Src => ALLOWLIST_MATCH_SRC,
            AllowlistMatch::Dst => ALLOWLIST_MATCH_DST,
            AllowlistMatch::Both => ALLOWLIST_MATCH_BOTH,
        } as u8,
        unmatched_drop: (settings.unmatched == Disposition::Drop).into(),
        non_ip_forward: (settings.non_ip == Disposition::Forward).into(),
        truncated_drop: (settings.truncated == Disposition::Drop).into(),
        ..Default::default()
    }
}

fn describe_allowlist(settings: &Settings, pins: &Pins) -> Result<String> {
    if !settings.enable_allowlist {
        return Ok("allowlist off".to_string());
    }
    let entries = AllowlistMaps::open(pins)?.entries()?.len();
    Ok(format!("allowlist of {entries} ({})", settings.allowlist_match))
}

fn summary(attached: &Attached, input: &Input, allowlist: &str, taken_over: bool) -> String {
    let Attached { ingress, egress, running, .. } = attached;
    let how = if taken_over { " in the place of the running one" } else { "" };
    format!(
        "attached{how}: {} ({}) -> {}, VNI {}, {allowlist}, NAT rules {}, PIN_DIR {}",
        ingress.name,
        running.mode.as_str(),
        egress.name,
        input.settings.target_vni,
        input.rules.len(),
        attached.pins.directory().display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_program_that_most_users_run() {
        let config = program_config(&Settings::default());
        assert_eq!(config.vxlan_port.to_ne_bytes(), 4789u16.to_be_bytes());
        assert_eq!(config.df_clear_threshold, 1400);
        let switches = [
            config.vni_mismatch_pass,
            config.allowlist_enabled,
            config.unmatched_drop,
            config.non_ip_forward,
            config.truncated_drop,
        ];
        assert_eq!(switches, [0; 5]);
    }

    #[test]
    fn every_switch_reaches_the_program() {
        let mut settings = Settings::default();
        settings.vni_mismatch = VniMismatch::Pass;
        settings.enable_allowlist = true;
        settings.allowlist_match = AllowlistMatch::Both;
        settings.unmatched = Disposition::Drop;
        settings.non_ip = Disposition::Forward;
        settings.truncated = Disposition::Drop;
        let config = program_config(&settings);
        assert_eq!(u32::from(config.allowlist_match), ALLOWLIST_MATCH_BOTH);
        let switches = [
            config.vni_mismatch_pass,
            config.allowlist_enabled,
            config.unmatched_drop,
            config.non_ip_forward,
            config.truncated_drop,
        ];
        assert_eq!(switches, [1; 5]);
    }
}
