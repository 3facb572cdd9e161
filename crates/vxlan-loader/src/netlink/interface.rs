//! Network interfaces.

use std::fs;
use std::io;

use anyhow::{Context, Result, bail};
use dataplane::abi;
use dataplane::nat::Mac;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage};

use super::Netlink;

/// An interface as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Bytes from the IP header on.
    pub mtu: u32,
    /// Its MAC address, if it has one of six bytes.
    pub mac: Option<Mac>,
    /// Whether it is an Ethernet interface.
    pub is_ethernet: bool,
    /// Whether it is set up.
    pub is_up: bool,
    /// Whether it has a carrier.
    pub has_carrier: bool,
    /// Its kind, if it is a virtual one (`veth`).
    pub kind: Option<String>,
}

impl Interface {
    /// The interface of that name, or `None`.
    ///
    /// # Errors
    /// The kernel can't be asked.
    pub fn by_name(netlink: &mut Netlink, name: &str) -> io::Result<Option<Self>> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        Self::get(netlink, message)
    }

    /// The interface of that index, or `None`.
    ///
    /// # Errors
    /// The kernel can't be asked.
    pub fn by_index(netlink: &mut Netlink, index: u32) -> io::Result<Option<Self>> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        Self::get(netlink, message)
    }

    fn get(netlink: &mut Netlink, message: LinkMessage) -> io::Result<Option<Self>> {
        match netlink.ask(RouteNetlinkMessage::GetLink(message), 0) {
            Ok(answers) => Ok(answers.into_iter().find_map(Self::from_answer)),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn from_answer(answer: RouteNetlinkMessage) -> Option<Self> {
        let RouteNetlinkMessage::NewLink(message) = answer else { return None };
        let flags = message.header.flags;
        let mut interface = Self {
            name: String::new(),
            index: message.header.index,
            mtu: 0,
            mac: None,
            is_ethernet: message.header.link_layer_type == LinkLayerType::Ether,
            is_up: flags.contains(LinkFlags::Up),
            has_carrier: flags.contains(LinkFlags::LowerUp),
            kind: None,
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => interface.name = name,
                LinkAttribute::Mtu(mtu) => interface.mtu = mtu,
                LinkAttribute::Address(bytes) => interface.mac = bytes.try_into().ok(),
                LinkAttribute::LinkInfo(infos) => interface.kind = kind(&infos),
                _ => {}
            }
        }
        Some(interface)
    }

    /// An Ethernet interface that is up.
    #[cfg(test)]
    pub fn for_test(name: &str, mtu: u32, mac: Mac) -> Self {
        Self {
            name: name.to_owned(),
            index: 1,
            mtu,
            mac: Some(mac),
            is_ethernet: true,
            is_up: true,
            has_carrier: true,
            kind: None,
        }
    }

    /// The interface's driver, if it can be told.
    pub fn driver(&self) -> Option<String> {
        let link = || fs::read_link(format!("/sys/class/net/{}/device/driver", self.name)).ok();
        let of_device = || Some(link()?.file_name()?.to_string_lossy().into_owned());
        self.kind.clone().or_else(of_device)
    }

    /// The interface as the XDP program must know it.
    pub fn as_entry(&self) -> abi::interface {
        abi::interface {
            ifindex: self.index,
            mtu: self.mtu,
            mac: self.mac.unwrap_or_default(),
            ..Default::default()
        }
    }
}

fn kind(infos: &[LinkInfo]) -> Option<String> {
    infos.iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    })
}

/// The names of all interfaces.
fn names(netlink: &mut Netlink) -> io::Result<Vec<String>> {
    let answers = netlink.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
    let interfaces = answers.into_iter().filter_map(Interface::from_answer);
    Ok(interfaces.map(|interface| interface.name).collect())
}

/// The ingress interface, fit for use.
///
/// # Errors
/// There is none of that name, or it is down or without a MAC address.
pub fn find_ingress(netlink: &mut Netlink, name: &str) -> Result<Interface> {
    let interface = find(netlink, name, "INTERFACE")?;
    if interface.mac.is_none() {
        bail!(
            "INTERFACE {name} has no MAC address: mirrored packets must arrive in Ethernet frames"
        );
    }
    Ok(interface)
}

/// The egress interface, fit for use.
///
/// # Errors
/// There is none of that name, or it is down or not an Ethernet interface.
pub fn find_egress(netlink: &mut Netlink, name: &str) -> Result<Interface> {
    let interface = find(netlink, name, "TARGET_INTERFACE")?;
    if !interface.is_ethernet || interface.mac.is_none() {
        bail!(
            "TARGET_INTERFACE {name} is not an Ethernet interface with a MAC address: frames can't \
             leave there, choose another one"
        );
    }
    Ok(interface)
}

fn find(netlink: &mut Netlink, name: &str, key: &str) -> Result<Interface> {
    let asking = || format!("asking the kernel for interface {name}");
    let Some(interface) = Interface::by_name(netlink, name).with_context(asking)? else {
        let names = names(netlink).with_context(asking)?.join(", ");
        bail!("{key} {name}: there is no such interface; there are {names}");
    };
    if !interface.is_up {
        bail!("{key} {name} is down: ip link set {name} up");
    }
    Ok(interface)
}
