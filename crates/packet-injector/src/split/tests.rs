use dataplane::abi::SendFailure;
use etherparse::Ipv4HeaderSlice;
use proptest::prelude::*;

use super::{Split, split};
use crate::testing::packet::{packet, padded};
use crate::testing::{fragments, frame, l3_off, with_wrong_checksum};

fn split_to(frame: &[u8], max_ip_len: usize) -> Result<Vec<Box<[u8]>>, SendFailure> {
    split(frame, Split { l3_off: l3_off(frame), max_ip_len })
}

/// Names of frames that scapy fragmented, and the MTU that it did so for.
const FRAGMENTED: [(&str, usize); 5] =
    [("udp", 420), ("small-pieces", 68), ("tagged", 276), ("middle", 276), ("options", 136)];

#[test]
fn fragments_are_those_that_scapy_makes() {
    for (name, mtu) in FRAGMENTED {
        let ours = split_to(&frame(name), mtu).unwrap();
        let theirs = fragments(name);
        assert!(theirs.len() > 1);
        assert!(ours.iter().map(|piece| piece.to_vec()).eq(theirs), "{name}");
    }
}

#[test]
fn what_stands_behind_the_packet_is_left_out() {
    let mut padded = frame("udp");
    padded.extend([0xaa; 6]);
    assert!(split_to(&padded, 420).unwrap().iter().map(|p| p.to_vec()).eq(fragments("udp")));
}

#[test]
fn a_wrong_header_checksum_stays_as_wrong() {
    for (name, mtu) in FRAGMENTED {
        let ours = split_to(&with_wrong_checksum(&frame(name), 0x1234), mtu).unwrap();
        let theirs = fragments(name).into_iter().map(|p| with_wrong_checksum(&p, 0x1234));
        assert!(ours.iter().map(|piece| piece.to_vec()).eq(theirs), "{name}");
    }
}

#[test]
fn a_packet_that_fits_stays_as_it_is() {
    for name in ["udp", "options", "middle"] {
        let whole = frame(name);
        let pieces = split_to(&whole, whole.len()).unwrap();
        assert_eq!(pieces.len(), 1);
        assert_eq!(*pieces[0], *whole, "{name}");
    }
}

#[test]
fn what_cannot_be_fragmented_is_refused() {
    let whole = frame("udp");
    assert_eq!(split_to(&whole, 27).unwrap_err(), SendFailure::Emsgsize, "no room for 8 bytes");
    assert_eq!(split_to(&whole, 0).unwrap_err(), SendFailure::Emsgsize);
    assert_eq!(split_to(&whole[..700], 420).unwrap_err(), SendFailure::FragmentInvalid, "cut");
    assert_eq!(split_to(&whole[..16], 420).unwrap_err(), SendFailure::FragmentInvalid);
    let mut far = frame("middle");
    far[20..22].copy_from_slice(&[0x3f, 0xff]); // data of 800 bytes at the largest offset
    assert_eq!(split_to(&far, 420).unwrap_err(), SendFailure::FragmentInvalid);
}

#[test]
fn an_option_that_cannot_be_read_ends_the_copying() {
    // Option 0x83 says that it has 40 bytes; the router alert in front of it is copied.
    let mut packet = frame("options");
    packet[34..54]
        .copy_from_slice(&[0x94, 4, 0, 0, 0x83, 40, 4, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
    let pieces = split_to(&packet, 136).unwrap();
    assert_eq!(pieces[0][34..54], packet[34..54]);
    assert_eq!(pieces[1][14], 0x46);
    assert_eq!(pieces[1][34..38], [0x94, 4, 0, 0]);
}

proptest! {
    #[test]
    fn the_data_of_all_pieces_are_the_packets(packet in packet(), mtu in 68usize..9000) {
        let whole = packet.build();
        let pieces = split_to(&whole, mtu).unwrap();
        let (mut offset, mut data) = (packet.offset, Vec::new());
        for (number, piece) in pieces.iter().enumerate() {
            prop_assert_eq!(&piece[..packet.link.len()], &packet.link[..]);
            let ip = &piece[packet.link.len()..];
            prop_assert!(ip.len() <= mtu);
            let header = Ipv4HeaderSlice::from_slice(ip).unwrap();
            let last = number + 1 == pieces.len();
            prop_assert_eq!(usize::from(header.total_len()), ip.len());
            prop_assert_eq!(header.header_checksum(), header.to_header().calc_header_checksum());
            prop_assert_eq!(header.fragments_offset().value(), offset);
            prop_assert_eq!(header.more_fragments(), !last || packet.more);
            prop_assert_eq!(header.options(), &padded(&packet.options, number > 0)[..]);
            prop_assert_eq!((header.identification(), header.ttl(), header.dcp().value()), (0xabcd, 64, 8));
            let part = &ip[header.slice().len()..];
            prop_assert!(last || part.len() % 8 == 0);
            let room = mtu - header.slice().len();
            prop_assert!(last || part.len() + 8 > room, "pieces are as large as they can be");
            offset += (part.len() / 8) as u16;
            data.extend_from_slice(part);
        }
        prop_assert_eq!(data, packet.data);
    }
}
