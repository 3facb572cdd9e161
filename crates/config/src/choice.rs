//! Settings that are one word out of a few.

use std::fmt;

/// Declares an enum together with the words that it is written with.
macro_rules! choice {
    ($(#[$meta:meta])* $name:ident, allowed $allowed:literal {
        $( $(#[$doc:meta])* $variant:ident = $word:literal ),+ $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $( $(#[$doc])* $variant ),+ }

        impl $name {
            pub(crate) const ALLOWED: &str = $allowed;

            /// Every value, in the order of the documentation.
            pub const ALL: &[Self] = &[$( Self::$variant ),+];

            /// The word that stands for the value.
            pub fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $word ),+ }
            }

            pub(crate) fn parse(text: &str) -> Result<Self, String> {
                let known = Self::ALL.iter().find(|c| c.as_str().eq_ignore_ascii_case(text));
                known.copied().ok_or_else(String::new)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

choice! {
    /// What becomes of a VXLAN packet whose VNI is not accepted.
    VniMismatch, allowed "drop or pass" {
        /// It is dropped.
        Drop = "drop",
        /// It goes to the host's network stack.
        Pass = "pass",
    }
}

choice! {
    /// Which address of the inner packet has to be listed.
    AllowlistMatch, allowed "either, src, dst or both" {
        /// Source or destination.
        Either = "either",
        /// The source.
        Src = "src",
        /// The destination.
        Dst = "dst",
        /// Source and destination.
        Both = "both",
    }
}

choice! {
    /// What becomes of an inner frame of some kind.
    Disposition, allowed "forward or drop" {
        /// It leaves by the egress interface.
        Forward = "forward",
        /// It is dropped and counted under its own reason.
        Drop = "drop",
    }
}

choice! {
    /// Which frames get a new link-layer header.
    RewriteL2, allowed "nat or all" {
        /// Those that were translated.
        Nat = "nat",
        /// Every frame.
        All = "all",
    }
}

choice! {
    /// How the XDP program is attached.
    XdpMode, allowed "auto, native or generic" {
        /// Native where the driver can, else generic.
        Auto = "auto",
        /// In the driver.
        Native = "native",
        /// In the network stack, for every driver.
        Generic = "generic",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_in_any_case_and_printed_in_lower_case() {
        assert_eq!(AllowlistMatch::parse("BOTH"), Ok(AllowlistMatch::Both));
        assert_eq!(XdpMode::parse("native").unwrap().to_string(), "native");
        assert!(VniMismatch::parse("").is_err());
    }

    #[test]
    fn the_allowed_text_names_every_word() {
        fn check(allowed: &str, words: impl Iterator<Item = &'static str>) {
            let named: Vec<_> = allowed.split([' ', ',']).filter(|w| !w.is_empty()).collect();
            let words: Vec<_> = words.collect();
            assert_eq!(named.len(), words.len() + 1, "{allowed}");
            assert!(words.iter().all(|w| named.contains(w)), "{allowed}");
        }
        check(VniMismatch::ALLOWED, VniMismatch::ALL.iter().map(|c| c.as_str()));
        check(AllowlistMatch::ALLOWED, AllowlistMatch::ALL.iter().map(|c| c.as_str()));
        check(Disposition::ALLOWED, Disposition::ALL.iter().map(|c| c.as_str()));
        check(RewriteL2::ALLOWED, RewriteL2::ALL.iter().map(|c| c.as_str()));
        check(XdpMode::ALLOWED, XdpMode::ALL.iter().map(|c| c.as_str()));
    }
}
