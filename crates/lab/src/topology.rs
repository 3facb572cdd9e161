//! Builds the cables between a lab's namespaces, and makes the kernel keep quiet on them.

use std::fmt::Write as _;
use std::fs;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::lab::{EGRESS, INGRESS, Lab, MIRROR, Options, Port, TAP};
use crate::namespace::Namespace;
use crate::packet::format_mac;

/// For interfaces made later: no autoconfiguration, no duplicate detection, and the multicast
/// reports that can't be turned off (addresses join groups) sent at once and not a second later.
const QUIET: [(&str, &str); 11] = [
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv6/conf/default/autoconf", "0"),
    ("ipv6/conf/default/router_solicitations", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/default/dad_transmits", "0"),
    ("ipv6/conf/default/addr_gen_mode", "1"),
    ("ipv6/conf/default/mldv1_unsolicited_report_interval", "1"),
    ("ipv6/conf/default/mldv2_unsolicited_report_interval", "1"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv4/conf/default/arp_notify", "0"),
];

/// By then the multicast reports are over.
const SETTLE: Duration = Duration::from_millis(60);

pub(crate) fn build(lab: &Lab, options: Options) -> Result<()> {
    for namespace in Namespace::ALL {
        lab.enter(namespace, quiet)??;
        lab.run(namespace, &["ip", "link", "set", "dev", "lo", "up"])?;
    }
    cable(lab, options, INGRESS, MIRROR)?;
    cable(lab, options, EGRESS, TAP)?;
    sleep(SETTLE);
    Ok(())
}

pub(crate) fn ingress_cable(lab: &Lab, options: Options) -> Result<()> {
    cable(lab, options, INGRESS, MIRROR)?;
    sleep(SETTLE);
    Ok(())
}

pub(crate) fn egress_cable(lab: &Lab, options: Options) -> Result<()> {
    cable(lab, options, EGRESS, TAP)?;
    sleep(SETTLE);
    Ok(())
}

/// A veth pair with one end in the pipeline and the other in another namespace.
///
/// The two ends must not have the same index by chance: the kernel then takes the veth for a plain
/// interface and delays news of its carrier, and what follows from them, for up to a second.
fn cable(lab: &Lab, options: Options, near: Port, far: Port) -> Result<()> {
    let mut arguments = String::from("ip link add ");
    let _ = write!(arguments, "name {} {} type veth peer ", near.name, hardware(options, near));
    let _ = write!(arguments, "name {} {} ", far.name, hardware(options, far));
    let _ = write!(arguments, "netns {}", lab.namespace_path(far.namespace));
    lab.run(near.namespace, &arguments.split_whitespace().collect::<Vec<_>>())?;
    configure(lab, near)?;
    configure(lab, far)
}

fn hardware(options: Options, port: Port) -> String {
    let Options { mtu, queues } = options;
    let mac = format_mac(port.mac);
    let index = port.index;
    format!("index {index} address {mac} mtu {mtu} numrxqueues {queues} numtxqueues {queues}")
}

fn configure(lab: &Lab, port: Port) -> Result<()> {
    let run = |line: String| {
        lab.run(port.namespace, &line.split_whitespace().collect::<Vec<_>>()).map(drop)
    };
    let name = port.name;
    run(format!(
        "ethtool -K {name} tx off rx off sg off gso off tso off gro off rxvlan off txvlan off \
         tx-vlan-stag-hw-insert off rx-vlan-stag-hw-parse off"
    ))?;
    run(format!("ip addr add {}/24 dev {name}", port.ipv4))?;
    run(format!("ip addr add {}/64 dev {name} nodad", port.ipv6))?;
    // Without one the kernel asks no IPv6 neighbour; addr_gen_mode 1 makes none by itself.
    run(format!("ip addr add fe80::{}/64 dev {name} nodad", port.index))?;
    run(format!("ip link set dev {name} up"))
}

fn quiet() -> Result<()> {
    for (key, value) in QUIET {
        fs::write(format!("/proc/sys/net/{key}"), value)
            .with_context(|| format!("cannot set sysctl net/{key}"))?;
    }
    Ok(())
}
