//! Random packets that are mostly valid, from a seed.

use crate::frame::{DF, Frame, MF, ethernet, outer, outer6, pattern, tcp4, tcp6, udp4, udp6};

/// splitmix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 to `n - 1`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn word(&mut self) -> u16 {
        self.next() as u16
    }

    /// True in so many of a hundred cases.
    pub fn percent(&mut self, n: usize) -> bool {
        self.below(100) < n
    }

    pub fn pick<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }
}

const TAGS: [u16; 5] = [0x8100, 0x8100, 0x88a8, 0x88a8, 0x9100];
const FIRST_LENGTHS: [u16; 6] = [0, 1, 19, 20, 28, 0xffff];

/// Changes some bytes.
fn mutate(random: &mut Random, bytes: &mut [u8]) {
    for _ in 0..=random.below(3) {
        if !bytes.is_empty() {
            // Headers stand in front: there it hurts most.
            let reach = if random.percent(80) { bytes.len().min(80) } else { bytes.len() };
            let at = random.below(reach);
            bytes[at] = random.next() as u8;
        }
    }
}

fn tags(random: &mut Random, mut frame: Frame) -> Frame {
    while random.percent(25) {
        frame = frame.tag(random.pick(&TAGS), random.word());
    }
    frame
}

/// IPv4 options or IPv6 extension headers.
fn options(random: &mut Random, mut frame: Frame) -> Frame {
    if frame.is_ipv4() {
        let words = if random.percent(20) { random.below(11) } else { 0 };
        return frame.options(&[1, 1, 1, 0].repeat(words));
    }
    while random.percent(20) {
        let units = 1 + random.below(6) as u8;
        frame = frame.options_header(random.pick(&[0, 43, 60]), units);
    }
    frame
}

fn fragment(random: &mut Random, frame: Frame) -> Frame {
    let frame = frame.id(random.below(20) as u16);
    let offset = if random.percent(50) { 0 } else { 1 + random.below(30) as u16 };
    match (frame.is_ipv4(), random.percent(60)) {
        (true, more) => frame.flags(offset | if more { MF } else { 0 }),
        (false, more) => frame.fragment_header(offset << 3 | u16::from(more)),
    }
}

pub fn inner(random: &mut Random) -> Vec<u8> {
    if random.percent(4) {
        let length = random.below(80);
        return ethernet(random.pick(&[0x0806, 0x88cc, 0x0026, 0x8847]), &pattern(length));
    }
    let frame = random.pick(&[udp4, tcp4, udp6, tcp6])();
    let host = random.below(3);
    let port = random.pick(&[31765, 31765, 31765, 53]);
    let mut frame = match frame.is_ipv4() {
        true => frame.from(&format!("10.{host}.0.1:40000")).to(&format!("198.51.{host}.7:{port}")),
        false => {
            frame.from(&format!("[fd0{host}::1]:40000")).to(&format!("[2001:db8:{host}::7]:{port}"))
        }
    };
    if random.percent(25) {
        frame = frame.reply();
    }
    let length = if random.percent(5) { 1300 + random.below(400) } else { random.below(150) };
    frame = frame.payload(&pattern(length));
    frame = tags(random, frame);
    frame = options(random, frame);
    if random.percent(20) {
        frame = fragment(random, frame);
    } else if random.percent(50) {
        frame = frame.flags(DF);
    }
    if random.percent(10) {
        let protocol = random.pick(&[0, 1, 2, 43, 44, 47, 50, 51, 58, 59, 60, 132, 136]);
        frame = frame.raw(protocol);
    }
    if random.percent(15) {
        frame = frame.checksum(random.pick(&[0, 0, 1, 0xffff, 0x1bad]));
    }
    if random.percent(8) {
        frame = frame.ip_checksum(random.pick(&[0, 0xffff, 0x1bad]));
    }
    if random.percent(4) {
        frame = frame.ip_length(random.pick(&FIRST_LENGTHS));
    }
    if random.percent(15) {
        frame = frame.trailer(&pattern(random.below(40)));
    }
    let mut bytes = frame.bytes();
    if random.percent(15) {
        mutate(random, &mut bytes);
    }
    if random.percent(15) {
        bytes.truncate(random.below(bytes.len() + 1));
    }
    bytes
}

pub fn packet(random: &mut Random) -> Vec<u8> {
    let inner = inner(random);
    let mut frame = if random.percent(60) { outer() } else { outer6() };
    if random.percent(30) {
        frame = tags(random, frame);
    }
    if random.percent(30) {
        frame = options(random, frame);
    }
    if random.percent(3) {
        frame = fragment(random, frame);
    }
    if random.percent(3) {
        let port = random.pick(&[8472, 4790, 53]);
        frame = match frame.is_ipv4() {
            true => frame.to(&format!("192.0.2.102:{port}")),
            false => frame.to(&format!("[2001:db8:aaaa::2]:{port}")),
        };
    }
    if random.percent(3) {
        frame = frame.ip_length(random.pick(&FIRST_LENGTHS));
    }
    if random.percent(3) {
        frame = frame.udp_length(random.pick(&[0, 7, 8, 15, 16, 29, 30, 60, 0xffff]));
    }
    let flags = if random.percent(3) { random.next() as u8 } else { 8 };
    let reserved = if random.percent(10) { random.next() as u8 } else { 0 };
    let vni = random.pick(&[7, 7, 7, 8, 9]);
    frame = frame.vxlan([flags, reserved, 0, 0, 0, 0, vni, reserved], &inner);
    if random.percent(20) {
        frame = frame.trailer(&pattern(random.below(60)));
    }
    let mut bytes = frame.bytes();
    if random.percent(10) {
        mutate(random, &mut bytes);
    }
    if random.percent(4) {
        bytes.truncate(14 + random.below(bytes.len() - 13));
    }
    bytes
}
