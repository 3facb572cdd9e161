//! The size of the ring buffer.

use std::fmt;

const KIB: u64 = 1024;
const UNITS: [(&str, u64); 3] = [("G", KIB * KIB * KIB), ("M", KIB * KIB), ("K", KIB)];

/// A size in bytes that a BPF ring buffer can have: a power of two from 64 KiB to 1 GiB. Each of
/// these is a multiple of the page size, which is 64 KiB at most on any machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RingSize(u32);

impl RingSize {
    /// 64 KiB.
    pub const MIN: Self = Self(64 << 10);
    /// 1 GiB.
    pub const MAX: Self = Self(1 << 30);

    pub(crate) const ALLOWED: &str =
        "a power of two from 64K to 1G, in bytes or with K, M or G (KiB, MiB, GiB)";

    /// The size in bytes.
    pub fn bytes(self) -> u32 {
        self.0
    }

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let bytes = parse_bytes(text).ok_or_else(String::new)?;
        match u32::try_from(bytes).map(Self) {
            Ok(size) if size.0.is_power_of_two() && (Self::MIN..=Self::MAX).contains(&size) => {
                Ok(size)
            }
            _ => {
                let nearest = Self::nearest(bytes);
                Err(format!(
                    "{bytes} bytes is not an allowed size, the nearest is {nearest} ({} bytes)",
                    nearest.bytes()
                ))
            }
        }
    }

    fn nearest(bytes: u64) -> Self {
        let bytes = bytes.clamp(Self::MIN.0.into(), Self::MAX.0.into()) as u32;
        let above = bytes.next_power_of_two();
        let below = if above == bytes { above } else { above / 2 };
        Self(if bytes - below <= above - bytes { below } else { above })
    }
}

impl fmt::Display for RingSize {
    /// With the largest unit that divides it, as it can be read again: `16M`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = u64::from(self.0);
        let (unit, size) = UNITS.into_iter().find(|(_, size)| bytes % size == 0).unwrap_or(("", 1));
        f.pad(&format!("{}{unit}", bytes / size))
    }
}

/// A number of bytes, with K, KiB, M, MiB, G or GiB in any case; saturates at `u64::MAX`.
fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let suffix = suffix.to_ascii_uppercase();
    let unit = match suffix.as_str() {
        "" => 1,
        suffix => {
            let letter = suffix.strip_suffix("IB").unwrap_or(suffix);
            UNITS.into_iter().find(|(unit, _)| *unit == letter)?.1
        }
    };
    match number.is_empty() {
        true => None,
        false => Some(number.parse().unwrap_or(u64::MAX).saturating_mul(unit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_bytes_and_units() {
        for (text, bytes) in [
            ("65536", 64 << 10),
            ("64K", 64 << 10),
            ("64kib", 64 << 10),
            ("16M", 16 << 20),
            ("16MiB", 16 << 20),
            ("1G", 1 << 30),
            ("1024m", 1 << 30),
        ] {
            assert_eq!(RingSize::parse(text).unwrap().bytes(), bytes, "{text}");
        }
    }

    #[test]
    fn a_refused_size_comes_with_the_nearest_allowed() {
        for (text, nearest) in [
            ("0", "64K"),
            ("4096", "64K"),
            ("65537", "64K (65536 bytes)"),
            ("20M", "16M"),
            ("30M", "32M"),
            ("24M", "16M"),
            ("2G", "1G"),
            ("99999999999999999999G", "1G"),
        ] {
            let problem = RingSize::parse(text).unwrap_err();
            assert!(problem.contains(&format!("nearest is {nearest}")), "{text}: {problem}");
        }
    }

    #[test]
    fn refuses_what_is_no_size() {
        for bad in ["", "M", "-1", "1.5M", "16 M", "16MB", "16T", "0x10000", "iB", "16Mi"] {
            assert_eq!(RingSize::parse(bad), Err(String::new()), "{bad:?}");
        }
    }

    #[test]
    fn prints_what_can_be_read_again() {
        for text in ["64K", "512K", "16M", "1G"] {
            assert_eq!(RingSize::parse(text).unwrap().to_string(), text);
        }
    }
}
