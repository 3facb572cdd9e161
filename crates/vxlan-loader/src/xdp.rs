//! The program on the ingress interface: attaching it, taking over a pinned link, detaching.

use std::fs;
use std::io;

use anyhow::{Context, Result, anyhow, bail, ensure};
use config::XdpMode;
use dataplane::attach::{self, Attached, Mode, XdpLink};
use dataplane::interfaces::{self, InterfaceRole};
use dataplane::lock::{self, Role};
use dataplane::pipeline::Pipeline;
use dataplane::{MapName, Pins};

use crate::explain::{self, Refusal};
use crate::netlink::Netlink;
use crate::netlink::interface::Interface;
use crate::report::Report;

/// The link of a running pipeline.
pub struct Running {
    /// Holds the program on the interface.
    pub link: XdpLink,
    /// How the program runs.
    pub mode: Mode,
}

/// Looks at the pins of a pipeline that is to be taken over. `None`: its link is gone, with its
/// interface or by `bpftool link detach`, but its maps are there.
///
/// # Errors
/// The pins are of another layout or incomplete, or the pipeline is not on this interface or not
/// in the mode that is asked for.
pub fn find_running(
    netlink: &mut Netlink,
    pins: &Pins,
    ingress: &Interface,
    wanted: XdpMode,
) -> Result<Option<Running>> {
    check_complete(pins)?;
    pins.check_layout()?;
    let path = pins.link();
    if !path.exists() {
        return Ok(None);
    }
    let link = XdpLink::open(&path)?;
    let held = link.held().with_context(|| format!("pin {}", path.display()))?;
    if held.ifindex == 0 {
        return Ok(None);
    }
    ensure!(
        held.ifindex == ingress.index,
        on_other_interface(netlink, pins, held.ifindex, ingress)
    );
    match query(ingress)? {
        Some(attached) if attached.program_id == held.program_id => {
            check_mode(attached.mode, wanted, ingress)?;
            Ok(Some(Running { link, mode: attached.mode }))
        }
        _ => bail!(
            "the pipeline pinned under PIN_DIR {} is attached in another network namespace, to the \
             interface of index {} there: stop it first, or set PIN_DIR to another directory",
            pins.directory().display(),
            held.ifindex
        ),
    }
}

fn check_complete(pins: &Pins) -> Result<()> {
    let missing = MapName::ALL.into_iter().find(|name| !pins.map(*name).exists());
    if let Some(name) = missing {
        let directory = pins.directory().display();
        bail!(
            "the pins under {directory} are incomplete, vxlan_{name} is missing: clear them with \
             rm {directory}/vxlan_* (a directory of that name with rmdir)"
        );
    }
    Ok(())
}

fn on_other_interface(
    netlink: &mut Netlink,
    pins: &Pins,
    index: u32,
    ingress: &Interface,
) -> String {
    let other = Interface::by_index(netlink, index).ok().flatten();
    let other = other.map_or_else(|| format!("interface index {index}"), |other| other.name);
    format!(
        "a pipeline for {other} is pinned under PIN_DIR {}, and INTERFACE is {}: stop it first, or \
         set PIN_DIR to another directory for another instance",
        pins.directory().display(),
        ingress.name
    )
}

fn check_mode(running: Mode, wanted: XdpMode, ingress: &Interface) -> Result<()> {
    let fits = match wanted {
        XdpMode::Auto => true,
        XdpMode::Native => running == Mode::Native,
        XdpMode::Generic => running == Mode::Generic,
    };
    ensure!(
        fits,
        "the running pipeline is attached to {} in {} mode, and XDP_MODE={wanted}: the mode can't \
         change while it runs, stop it first or set XDP_MODE=auto",
        ingress.name,
        running.as_str()
    );
    Ok(())
}

/// Refuses another egress interface while an injector sends out of the old one.
///
/// # Errors
/// An injector runs, and `egress` is not the interface that the running pipeline has.
pub fn refuse_other_egress(pins: &Pins, egress: &Interface) -> Result<()> {
    let now = interfaces::get(&pins.open(MapName::INTERFACES)?, InterfaceRole::Egress)?;
    ensure!(
        now.ifindex == egress.index || !lock::is_held(pins, Role::Injector)?,
        "the running packet-injector sends out of the interface of index {}, and TARGET_INTERFACE \
         is {} (index {}): stop packet-injector first",
        now.ifindex,
        egress.name,
        egress.index
    );
    Ok(())
}

/// Refuses an interface on which somebody else's program runs.
///
/// # Errors
/// There is one, or the kernel can't be asked.
pub fn refuse_foreign(ingress: &Interface) -> Result<()> {
    let Some(Attached { program_id, .. }) = query(ingress)? else { return Ok(()) };
    let name = attach::program_name(program_id).unwrap_or_default();
    bail!(explain::foreign_program(&ingress.name, program_id, &name))
}

fn query(ingress: &Interface) -> Result<Option<Attached>> {
    attach::query(ingress.index)
        .with_context(|| format!("asking the kernel for the XDP program of {}", ingress.name))
}

/// Attaches the program in the mode that is asked for, and pins the link.
///
/// # Errors
/// Why not, and what to do.
pub fn attach(
    pipeline: &Pipeline,
    pins: &Pins,
    ingress: &Interface,
    wanted: XdpMode,
    report: Report,
) -> Result<Running> {
    remove_stale_link(pins)?;
    let attach =
        |mode| pipeline.attach(ingress.index, mode, pins).map(|link| Running { link, mode });
    let refused = |mode, error: &io::Error| refusal(ingress, mode, error);
    let fixed = match wanted {
        XdpMode::Native => Mode::Native,
        XdpMode::Generic => Mode::Generic,
        XdpMode::Auto => match attach(Mode::Native) {
            Ok(running) => return Ok(running),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EEXIST)) => {
                return Err(refused(Mode::Native, &error));
            }
            Err(error) => {
                let why = refused(Mode::Native, &error);
                report.warning(format_args!("using generic mode, which is slower; {why}"));
                Mode::Generic
            }
        },
    };
    attach(fixed).map_err(|error| refused(fixed, &error))
}

/// A pinned link that holds nothing any more stands in the way of the new one.
fn remove_stale_link(pins: &Pins) -> Result<()> {
    let path = pins.link();
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing the stale pin {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn refusal(ingress: &Interface, mode: Mode, error: &io::Error) -> anyhow::Error {
    let Some(errno) = error.raw_os_error() else {
        return anyhow!("attaching the XDP program to {}: {error}", ingress.name);
    };
    anyhow!(explain::attach_refusal(Refusal {
        errno,
        mode,
        interface: &ingress.name,
        mtu: ingress.mtu,
        driver: ingress.driver().as_deref(),
    }))
}

/// Takes the program off the interface and makes sure that it is gone.
///
/// # Errors
/// It is still there.
pub fn detach(running: &Running, ingress: &Interface) -> Result<()> {
    let id = running.link.held().map(|held| held.program_id).unwrap_or_default();
    let what = || format!("detaching the XDP program from {}", ingress.name);
    running.link.detach().with_context(what)?;
    match attach::query(ingress.index) {
        Ok(Some(attached)) if attached.program_id == id => {
            bail!("{}: program {id} is still attached", what())
        }
        // Gone, another's, or the interface is gone too.
        _ => Ok(()),
    }
}
