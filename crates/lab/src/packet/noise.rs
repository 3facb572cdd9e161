//! Frames that the kernel sends of its own accord.

/// Whether a frame is neighbour resolution or group membership: ARP, or ICMPv6 of these kinds.
/// Captures keep such frames unless asked to leave them out.
pub fn is_noise(frame: &[u8]) -> bool {
    const HOP_BY_HOP: u8 = 0;
    const ICMPV6: u8 = 58;
    let byte = |at: usize| frame.get(at).copied();
    match frame.get(12..14) {
        Some([0x08, 0x06]) => true,
        Some([0x86, 0xdd]) => {
            let (next, at) = match byte(20) {
                // Multicast reports have a router alert of 8 bytes.
                Some(HOP_BY_HOP) => (byte(54), 62),
                next => (next, 54),
            };
            let listener = 130..=137;
            next == Some(ICMPV6)
                && byte(at).is_some_and(|kind| listener.contains(&kind) || kind == 143)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::is_noise;
    use crate::packet::{Extension, Inner, arp_request};

    #[test]
    fn noise_is_told_from_traffic() {
        let (a, b) = (Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST);
        assert!(is_noise(&arp_request([2; 6], [10, 0, 0, 1], [10, 0, 0, 2])));
        assert!(is_noise(&Inner::new(a, b).icmp(135, 0, [0; 4]).build()));
        let report = Inner::new(a, b).extension(Extension::hop_by_hop()).icmp(143, 0, [0; 4]);
        assert!(is_noise(&report.build()));
        assert!(!is_noise(&Inner::new(a, b).echo(1, 1).build()));
        assert!(!is_noise(&Inner::new([10, 0, 0, 1], [10, 0, 0, 2]).build()));
        assert!(!is_noise(&[]));
    }
}
