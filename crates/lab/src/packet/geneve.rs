//! GENEVE around mirrored packets (RFC 8926), as a Gateway Load Balancer sends them.

use super::Mirror;

/// What the payload is: an ethertype.
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const ETHERNET: u16 = 0x6558;

/// GENEVE headers, field by field. The default goes from one end of the lab's ingress cable to the
/// other and has an IP packet in it, no options and no flags.
#[derive(Clone, Debug)]
pub struct Geneve {
    /// Ethernet, IP and UDP in front of the GENEVE header.
    pub outer: Mirror,
    /// Version, 2 bits.
    pub version: u8,
    /// 0x80: control packet, 0x40: there are critical options.
    pub flags: u8,
    /// Options: whole words, 252 bytes at most.
    pub options: Vec<u8>,
    /// How many words of options the header claims to have, if not as many as there are.
    pub claimed_words: Option<u8>,
    /// Whether a whole Ethernet frame is inside, and not only its IP packet.
    pub ethernet: bool,
    /// The virtual network identifier (24 bits); it says nothing of the mirror's.
    pub vni: u32,
}

impl Default for Geneve {
    fn default() -> Self {
        Self {
            outer: Mirror { destination_port: 6081, ..Mirror::default() },
            version: 0,
            flags: 0,
            options: Vec::new(),
            claimed_words: None,
            ethernet: false,
            vni: 0,
        }
    }
}

impl Geneve {
    /// A mirrored packet, as [`Mirror::wrap`] gives it, in GENEVE. Panics if it does not fit.
    pub fn wrap(&self, mirrored: &[u8]) -> Vec<u8> {
        assert!(self.options.len().is_multiple_of(4) && self.options.len() <= 252, "options");
        let words = self.claimed_words.unwrap_or((self.options.len() / 4) as u8);
        let version = mirrored.get(14).map_or(0, |byte| byte >> 4);
        let (protocol, payload) = match (self.ethernet, version) {
            (true, _) => (ETHERNET, mirrored),
            (false, 4) => (IPV4, &mirrored[14..]),
            (false, _) => (IPV6, &mirrored[14..]),
        };
        let mut packet = vec![self.version << 6 | words, self.flags];
        packet.extend(protocol.to_be_bytes());
        packet.extend((self.vni << 8).to_be_bytes());
        packet.extend(&self.options);
        packet.extend(payload);
        self.outer.datagram(&packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_of_rfc_8926() {
        let mirrored = Mirror::vni(7).wrap(&[0xab; 20]);
        let geneve = Geneve { options: vec![1, 2, 3, 0], flags: 0x40, vni: 9, ..Geneve::default() };
        let frame = geneve.wrap(&mirrored);
        assert_eq!(frame[36..38], 6081_u16.to_be_bytes());
        assert_eq!(frame[42..54], [1, 0x40, 8, 0, 0, 0, 9, 0, 1, 2, 3, 0]);
        assert_eq!(frame[54..], mirrored[14..]);
        let whole = Geneve { ethernet: true, ..Geneve::default() }.wrap(&mirrored);
        assert_eq!(whole[42..50], [0, 0, 0x65, 0x58, 0, 0, 0, 0]);
        assert_eq!(whole[50..], mirrored);
    }
}
