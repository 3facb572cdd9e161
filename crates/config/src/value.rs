//! Parsers of single values. Each gives the value, or what is wrong with the text ("" if there is
//! no more to say than what is allowed).

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Longest interface name in bytes: the kernel's IFNAMSIZ without the terminating zero.
const MAX_INTERFACE_NAME_BYTES: usize = 15;

/// The name of a network interface by the kernel's rule (`dev_valid_name`). Whether there is such
/// an interface is not checked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct InterfaceName(String);

impl InterfaceName {
    pub(crate) const ALLOWED: &str =
        "an interface name: 1 to 15 bytes, no '/', no ':', no whitespace, not \".\" or \"..\"";

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        // 0xa0 is white space to the kernel, whose isspace() takes bytes for Latin-1.
        let refused = |b: u8| matches!(b, 0 | b'/' | b':' | b' ' | 0x09..=0x0d | 0xa0);
        if text.is_empty() || text == "." || text == ".." || text.bytes().any(refused) {
            return Err(String::new());
        }
        if text.len() > MAX_INTERFACE_NAME_BYTES {
            return Err(format!("it has {} bytes", text.len()));
        }
        Ok(Self(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for InterfaceName {
    type Err = String;

    /// For names that don't come from a setting; the error is a whole message.
    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text)
            .map_err(|_| format!("bad interface name {text:?}; allowed: {}", Self::ALLOWED))
    }
}

/// How many threads send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WorkerThreads {
    /// As many as suit the machine; the injector decides.
    Auto,
    /// This many, 1 to 64.
    Count(usize),
}

impl WorkerThreads {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text {
            text if text.eq_ignore_ascii_case("auto") => Ok(Self::Auto),
            text => number(text, 1, 64).map(|count: u16| Self::Count(count.into())),
        }
    }
}

impl fmt::Display for WorkerThreads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.pad("auto"),
            Self::Count(count) => write!(f, "{count}"),
        }
    }
}

/// A decimal number between two bounds, both included.
pub(crate) fn number<T: TryFrom<u64>>(text: &str, min: u64, max: u64) -> Result<T, String> {
    // u64::from_str would take a sign.
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let value = digits.then(|| text.parse::<u64>().ok()).flatten();
    let value = value.filter(|v| (min..=max).contains(v)).ok_or_else(String::new)?;
    T::try_from(value).map_err(|_| String::new())
}

/// A TCP or UDP port.
pub(crate) fn port(text: &str) -> Result<u16, String> {
    number(text, 1, u16::MAX.into())
}

/// What [`switch`] takes.
pub(crate) const SWITCH: &str = "0 or 1 (also false, true, no, yes, off, on)";

/// On or off.
pub(crate) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err(String::new()),
    }
}

/// Whole milliseconds, from 0 on.
pub(crate) fn milliseconds(text: &str, max: u64) -> Result<Duration, String> {
    number(text, 0, max).map(Duration::from_millis)
}

/// Seconds between two bounds, with decimals or without.
pub(crate) fn seconds(text: &str, bounds: RangeInclusive<f64>) -> Result<Duration, String> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let seconds = plain.then(|| text.parse::<f64>().ok()).flatten();
    let seconds = seconds.filter(|s| bounds.contains(s)).ok_or_else(String::new)?;
    Ok(Duration::from_secs_f64(seconds))
}

/// The path of a file. Whether it is there is not checked.
pub(crate) fn path(text: &str) -> Result<PathBuf, String> {
    match text {
        "" => Err(String::new()),
        text if text.contains('\0') => Err("a path can't hold a zero byte".to_owned()),
        text => Ok(PathBuf::from(text)),
    }
}

/// A path that begins at the root.
pub(crate) fn absolute_path(text: &str) -> Result<PathBuf, String> {
    let path = path(text)?;
    match path.is_absolute() {
        true => Ok(path),
        false => Err("it doesn't begin with '/'".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_follow_the_kernel() {
        for good in ["e", "ens5", "a-b.c_d@7", "fifteen-bytes-x", "..."] {
            assert_eq!(InterfaceName::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "a/b", "a:b", "a b", "a\tb", "a\u{b}", "a\0", "x\u{e0}"] {
            assert!(InterfaceName::parse(bad).is_err(), "{bad:?}");
        }
        assert!(InterfaceName::parse("sixteen-bytes-xy").unwrap_err().contains("16 bytes"));
        let error = "a/b".parse::<InterfaceName>().unwrap_err();
        assert!(error.contains("\"a/b\"") && error.contains("no '/'"), "{error}");
    }

    #[test]
    fn numbers_are_plain_decimals_within_bounds() {
        assert_eq!(number(" 1".trim(), 1, 3), Ok(1u16));
        assert_eq!(number("3", 1, 3), Ok(3u16));
        for bad in ["", "0", "4", "+2", "-1", "2.0", "0x2", "2 ", "99999999999999999999999"] {
            assert!(number::<u16>(bad, 1, 3).is_err(), "{bad:?}");
        }
        assert!(number::<u16>("70000", 0, 100_000).is_err(), "doesn't fit the type");
        assert!(port("0").is_err() && port("65535") == Ok(65_535) && port("65536").is_err());
    }

    #[test]
    fn switches() {
        for on in ["1", "true", "YES", "On"] {
            assert_eq!(switch(on), Ok(true));
        }
        for off in ["0", "False", "no", "OFF"] {
            assert_eq!(switch(off), Ok(false));
        }
        assert!(switch("2").is_err() && switch("").is_err());
    }

    #[test]
    fn times() {
        assert_eq!(milliseconds("100", 100), Ok(Duration::from_millis(100)));
        assert!(milliseconds("101", 100).is_err() && milliseconds("1.5", 100).is_err());
        let interval = |text| seconds(text, 0.1..=86_400.0);
        assert_eq!(interval("0.1"), Ok(Duration::from_millis(100)));
        assert_eq!(interval("2"), Ok(Duration::from_secs(2)));
        for bad in ["0.09", "0", "-1", "inf", "NaN", "1e3", ".", "", "86400.1", "1s"] {
            assert!(interval(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn paths() {
        assert_eq!(path("a/b"), Ok(PathBuf::from("a/b")));
        assert!(path("").is_err() && path("a\0").is_err());
        assert_eq!(absolute_path("/sys/fs/bpf"), Ok(PathBuf::from("/sys/fs/bpf")));
        assert!(absolute_path("sys").unwrap_err().contains("begin with '/'"));
    }

    #[test]
    fn worker_threads() {
        assert_eq!(WorkerThreads::parse("AUTO"), Ok(WorkerThreads::Auto));
        assert_eq!(WorkerThreads::parse("64"), Ok(WorkerThreads::Count(64)));
        assert!(WorkerThreads::parse("0").is_err() && WorkerThreads::parse("65").is_err());
        assert_eq!(WorkerThreads::Count(8).to_string(), "8");
        assert_eq!(WorkerThreads::Auto.to_string(), "auto");
    }
}
