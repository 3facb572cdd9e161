//! From settings to a running pipeline, or to nothing at all.

use anyhow::{Context, Result};
use config::{Allowlist, NatRule, RewriteL2, Settings, XdpMode};
use dataplane::allowlist::AllowlistMaps;
use dataplane::audit_log::AuditLog;
use dataplane::control::Control;
use dataplane::nat::NatTable;
use dataplane::next_hops::NextHopMap;
use dataplane::pipeline::{Pipeline, Sizes};
use dataplane::{MapHandle, MapName, Pins, features};

use crate::audit::Audit;
use crate::fill;
use crate::netlink::Netlink;
use crate::netlink::events::Events;
use crate::netlink::interface::{self, Interface};
use crate::next_hop::NextHops;
use crate::program_config::program_config;
use crate::report::Report;
use crate::signals::Signals;
use crate::traces::Traces;
use crate::untranslated::Untranslated;
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
    /// The ways of untranslated frames, under REWRITE_L2=all.
    pub untranslated: Option<Untranslated>,
    /// Writes security events, if there is an AUDIT_LOG.
    pub audit: Option<Audit>,
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
    let log = settings.audit_log.as_deref().map(AuditLog::open).transpose()?;
    let pipeline = load(settings, &pins)?;
    let control = Control::new(&pipeline.map(MapName::CONTROL)?)?;
    if running.is_none() {
        // An injector may come as soon as the map is stamped.
        control.set_fragment_timeout(settings.fragment_timeout);
    }
    control.stamp();

    let refreshes = control.refresh_requests();
    let interfaces = pipeline.map(MapName::INTERFACES)?;
    let mut next_hops = NextHops::new(netlink, egress.clone());
    let untranslated = resolve_untranslated(settings, &egress, &pipeline, signals, report)?;
    let nat = fill::fill(input, &pins, &mut next_hops, signals, report)?;
    fill::set_interfaces(&interfaces, &ingress, &egress)?;

    let taken_over = running.is_some();
    let allowlist = describe_allowlist(settings, &pins)?;
    let audit = log.map(|log| Audit::start(&pins, log, report)).transpose()?;
    if let Some(untranslated) = &untranslated {
        untranslated.publish();
    }
    // From here on nothing can fail but going live itself.
    let running = go_live(&pipeline, running, &pins, &ingress, settings.xdp_mode, report)?;
    control.set_fragment_timeout(settings.fragment_timeout);
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
        untranslated,
        audit,
        events,
        refreshes,
    };
    attached.traces.keep();
    report.line(summary(&attached, input, &allowlist, taken_over));
    Ok(attached)
}

fn load(settings: &Settings, pins: &Pins) -> Result<Pipeline> {
    let random = || getrandom::u64().context("asking the kernel for random bytes");
    let dedup_key = [random()?, random()?];
    let sizes = Sizes {
        ring_bytes: settings.ring_buffer_size.bytes(),
        conntrack_entries: settings.conntrack_size,
    };
    Pipeline::load(program_config(settings, dedup_key), sizes, pins)
}

/// Finds the next hops of untranslated frames, if they need any. The program is not told yet.
fn resolve_untranslated(
    settings: &Settings,
    egress: &Interface,
    pipeline: &Pipeline,
    signals: &Signals,
    report: Report,
) -> Result<Option<Untranslated>> {
    if settings.rewrite_l2 != RewriteL2::All {
        return Ok(None);
    }
    let netlink = Netlink::open().context("opening a netlink socket")?;
    let map = NextHopMap::new(&pipeline.map(MapName::NEXT_HOPS)?)?;
    let mut untranslated = Untranslated::new(netlink, egress.clone(), settings.next_hop, map);
    untranslated.resolve(signals, report)?;
    Ok(Some(untranslated))
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
