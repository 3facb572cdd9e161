//! Frames and infos for tests.

pub mod packet;

use dataplane::abi::{fragment_key, frame_info};

/// The frame of this name in testdata/packets.txt, which scapy made.
pub fn frame(name: &str) -> Vec<u8> {
    find(name).unwrap_or_else(|| panic!("no frame {name}"))
}

/// The fragments of the frame of this name, in order.
pub fn fragments(name: &str) -> Vec<Vec<u8>> {
    (0..).map_while(|number| find(&format!("{name}-{number}"))).collect()
}

fn find(name: &str) -> Option<Vec<u8>> {
    let hex = include_str!("../testdata/packets.txt")
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find_map(|(other, hex)| (other == name).then_some(hex))?;
    let bytes = hex.as_bytes().chunks(2);
    bytes.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// Where the IP header of a frame stands, by its tags.
pub fn l3_off(frame: &[u8]) -> usize {
    let mut at = 12;
    while matches!(frame[at..at + 2], [0x81, 0x00] | [0x88, 0xa8]) {
        at += 4;
    }
    at + 2
}

/// The info of a frame; datagrams are told apart by `id`.
pub fn info(frame: &[u8], id: u32, flags: u32, max_ip_len: u16) -> frame_info {
    frame_info {
        key: fragment_key { id, ..fragment_key::default() },
        flags: flags as u16,
        l3_off: l3_off(frame) as u16,
        max_ip_len,
        df_clear_threshold: u16::MAX,
    }
}

/// The same frame with a header checksum that is wrong by `error` (ones' complement).
pub fn with_wrong_checksum(frame: &[u8], error: u16) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let at = l3_off(&frame) + 10;
    let right = u16::from_be_bytes([frame[at], frame[at + 1]]);
    let sum = u32::from(right) + u32::from(error);
    let wrong = (sum & 0xffff) as u16 + (sum >> 16) as u16;
    frame[at..at + 2].copy_from_slice(&wrong.to_be_bytes());
    frame
}
