//! An interface's own counters, as the kernel's drivers keep them.

use std::fs;

use anyhow::{Context, Result};

/// What one interface has counted since it was made.
///
/// Two facts of veth matter to tests. With XDP (or GRO) on the receiving end, a frame is counted
/// when the receiver's NAPI takes it, not when it is sent. And a frame refused because the
/// receiver's 256-slot ring was full is a `tx_dropped` of the sender, also if the sender then
/// tries again and succeeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterfaceCounters {
    /// Frames received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames dropped on receipt.
    pub rx_dropped: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames dropped on sending.
    pub tx_dropped: u64,
}

impl InterfaceCounters {
    /// Reads them in the namespace of the calling thread.
    pub fn read(interface: &str) -> Result<Self> {
        // Not /proc/net, which shows the namespace of the process's first thread.
        let table = fs::read_to_string("/proc/thread-self/net/dev")?;
        Self::find(&table, interface).with_context(|| format!("no interface {interface}"))
    }

    /// What was counted since an earlier reading; nothing, if the interface was made anew since.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            rx_packets: self.rx_packets.saturating_sub(earlier.rx_packets),
            rx_bytes: self.rx_bytes.saturating_sub(earlier.rx_bytes),
            rx_dropped: self.rx_dropped.saturating_sub(earlier.rx_dropped),
            tx_packets: self.tx_packets.saturating_sub(earlier.tx_packets),
            tx_bytes: self.tx_bytes.saturating_sub(earlier.tx_bytes),
            tx_dropped: self.tx_dropped.saturating_sub(earlier.tx_dropped),
        }
    }

    fn find(table: &str, interface: &str) -> Option<Self> {
        let (_, numbers) = table
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.trim() == interface)?;
        let n: Vec<u64> = numbers.split_whitespace().map_while(|n| n.parse().ok()).collect();
        Some(Self {
            rx_bytes: *n.first()?,
            rx_packets: *n.get(1)?,
            rx_dropped: *n.get(3)?,
            tx_bytes: *n.get(8)?,
            tx_packets: *n.get(9)?,
            tx_dropped: *n.get(11)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::InterfaceCounters;

    #[test]
    fn the_kernels_table_is_read() {
        let table = "Inter-| Receive | Transmit\n face |bytes packets\n  ens5: 10 2 0 3 0 0 0 0 40 5 0 6 0 0 0 0\n";
        let expected = InterfaceCounters {
            rx_bytes: 10,
            rx_packets: 2,
            rx_dropped: 3,
            tx_bytes: 40,
            tx_packets: 5,
            tx_dropped: 6,
        };
        assert_eq!(InterfaceCounters::find(table, "ens5"), Some(expected));
        assert_eq!(InterfaceCounters::find(table, "ens"), None);
    }
}
