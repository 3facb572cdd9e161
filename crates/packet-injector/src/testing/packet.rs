//! Random IPv4 packets.

use etherparse::Ipv4HeaderSlice;
use proptest::collection::vec;
use proptest::prelude::*;

/// An option, and whether it is copied into all fragments.
pub type TestOption = (Vec<u8>, bool);

fn option() -> impl Strategy<Value = TestOption> {
    let long =
        (2u8..0x80, vec(any::<u8>(), 0..9), any::<bool>()).prop_map(|(kind, data, copied)| {
            let mut bytes = vec![kind | if copied { 0x80 } else { 0 }, data.len() as u8 + 2];
            bytes.extend(data);
            (bytes, copied)
        });
    prop_oneof![3 => long, 1 => Just((vec![1], false))]
}

/// An IPv4 packet, perhaps a fragment, behind 0 to 2 VLAN tags.
#[derive(Clone, Debug)]
pub struct Packet {
    pub link: Vec<u8>,
    pub options: Vec<TestOption>,
    pub offset: u16,
    pub more: bool,
    pub data: Vec<u8>,
}

/// Options as they stand in a header: all of them, or those that are copied.
pub fn padded(options: &[TestOption], only_copied: bool) -> Vec<u8> {
    let chosen = options.iter().filter(|(_, copied)| *copied || !only_copied);
    let mut bytes: Vec<u8> = chosen.flat_map(|(bytes, _)| bytes.clone()).collect();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Any of them, with whole units of 8 bytes if more fragments follow.
pub fn packet() -> impl Strategy<Value = Packet> {
    let link = (0usize..3).prop_map(|tags| {
        let tag = [0x81, 0, 0, 7];
        [&[2; 12][..], &tag.repeat(tags), &[8, 0]].concat()
    });
    let options = vec(option(), 0..6).prop_map(|mut options: Vec<TestOption>| {
        while padded(&options, false).len() > 40 {
            options.pop();
        }
        options
    });
    let data = (1usize..9000).prop_flat_map(|len| vec(any::<u8>(), len));
    (link, options, 0u16..4000, any::<bool>(), data).prop_map(
        |(link, options, offset, more, mut data)| {
            if more {
                data.resize(data.len().next_multiple_of(8), 0);
            }
            Packet { link, options, offset, more, data }
        },
    )
}

impl Packet {
    /// The frame.
    pub fn build(&self) -> Vec<u8> {
        let options = padded(&self.options, false);
        let header_len = 20 + options.len();
        let field = self.offset | if self.more { 0x2000 } else { 0 };
        let mut header = vec![0x40 | (header_len / 4) as u8, 0x20];
        header.extend(((header_len + self.data.len()) as u16).to_be_bytes());
        header.extend([0xab, 0xcd]);
        header.extend(field.to_be_bytes());
        header.extend([64, 17, 0, 0, 198, 51, 100, 1, 192, 0, 2, 9]);
        header.extend(options);
        let sum = Ipv4HeaderSlice::from_slice(&header).unwrap().to_header().calc_header_checksum();
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        [&self.link[..], &header, &self.data].concat()
    }
}
