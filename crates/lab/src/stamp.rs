//! The first bytes of every generated UDP payload, by which a sink knows what it has got.

/// What generators write at the start of the payload, big-endian:
///
/// | bytes | what |
/// |---|---|
/// | 0..4 | magic, 0x564d4c42 ("VMLB") |
/// | 4..8 | flow |
/// | 8..16 | sequence number within the flow, from 0 |
/// | 16..24 | when it was sent: `CLOCK_MONOTONIC` in nanoseconds, 0 if that was not noted |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Number of the flow.
    pub flow: u32,
    /// Number of the frame in its flow.
    pub sequence: u64,
    /// When it was sent, or 0.
    pub sent: u64,
}

impl Stamp {
    /// What a stamp starts with.
    pub const MAGIC: u32 = 0x564d_4c42;
    /// Length of a stamp, and so of the shortest payload with one.
    pub const LENGTH: usize = 24;

    /// The stamp on the wire.
    pub fn to_bytes(self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[..4].copy_from_slice(&Self::MAGIC.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.flow.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[16..].copy_from_slice(&self.sent.to_be_bytes());
        bytes
    }

    /// The stamp at the start of a UDP payload, if there is one.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let (magic, rest) = payload.get(..Self::LENGTH)?.split_first_chunk()?;
        let (flow, rest) = rest.split_first_chunk()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let (sent, _) = rest.split_first_chunk()?;
        (u32::from_be_bytes(*magic) == Self::MAGIC).then(|| Self {
            flow: u32::from_be_bytes(*flow),
            sequence: u64::from_be_bytes(*sequence),
            sent: u64::from_be_bytes(*sent),
        })
    }

    /// A payload of `length` bytes (at least `LENGTH`): the stamp and zeros.
    pub fn payload(self, length: usize) -> Vec<u8> {
        let mut payload = self.to_bytes().to_vec();
        payload.resize(length.max(Self::LENGTH), 0);
        payload
    }
}

#[cfg(test)]
mod tests {
    use super::Stamp;

    #[test]
    fn a_stamp_reads_back() {
        let stamp = Stamp { flow: 7, sequence: 1 << 40, sent: 99 };
        assert_eq!(Stamp::read(&stamp.payload(64)), Some(stamp));
        assert_eq!(&stamp.to_bytes()[..4], b"VMLB");
        assert_eq!(Stamp::read(&[0; 64]), None);
        assert_eq!(Stamp::read(&stamp.to_bytes()[..23]), None);
    }
}
