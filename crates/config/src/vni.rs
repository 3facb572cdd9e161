//! VXLAN network identifiers.

use std::fmt;
use std::str::FromStr;

use crate::value::number;

/// The greatest VNI: it has 24 bits.
pub const MAX_VNI: u32 = 0xff_ffff;

/// How many VNIs a [`VniSet`] can list.
pub const MAX_VNIS: usize = 4096;

/// The VNIs that are accepted: all, or those of a list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VniSet(Option<Vec<u32>>);

impl VniSet {
    pub(crate) const ALLOWED: &str =
        "any, or VNIs 0 to 16777215 separated by commas (4096 at most)";

    /// Every VNI.
    pub fn any() -> Self {
        Self(None)
    }

    /// These VNIs, each counted once.
    ///
    /// # Errors
    /// In words, if there is none, one is greater than [`MAX_VNI`], or more than [`MAX_VNIS`]
    /// are left.
    pub fn list(vnis: impl IntoIterator<Item = u32>) -> Result<Self, String> {
        let mut vnis: Vec<u32> = vnis.into_iter().collect();
        vnis.sort_unstable();
        vnis.dedup();
        match vnis.last() {
            None => Err("the list of VNIs is empty".to_owned()),
            Some(vni) if *vni > MAX_VNI => Err(format!("VNI {vni} has more than 24 bits")),
            Some(_) if vnis.len() > MAX_VNIS => {
                Err(format!("{} VNIs are listed, at most {MAX_VNIS} can be", vnis.len()))
            }
            Some(_) => Ok(Self(Some(vnis))),
        }
    }

    /// The VNIs in ascending order, or `None` if every VNI is accepted.
    pub fn as_list(&self) -> Option<&[u32]> {
        self.0.as_deref()
    }

    /// Whether every VNI is accepted.
    pub fn is_any(&self) -> bool {
        self.0.is_none()
    }

    /// Whether `vni` is accepted.
    pub fn contains(&self, vni: u32) -> bool {
        self.as_list().is_none_or(|list| list.binary_search(&vni).is_ok())
    }
}

impl FromStr for VniSet {
    type Err = String;

    /// `any`, or a list separated by commas; spaces around a VNI are ignored.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim().eq_ignore_ascii_case("any") {
            return Ok(Self::any());
        }
        let vnis: Result<Vec<u32>, String> = text
            .split(',')
            .map(|part| {
                number(part.trim(), 0, MAX_VNI.into())
                    .map_err(|_| format!("{:?} is not a VNI", part.trim()))
            })
            .collect();
        Self::list(vnis?)
    }
}

impl fmt::Display for VniSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_list() {
            None => f.pad("any"),
            Some(vnis) => {
                let vnis: Vec<_> = vnis.iter().map(u32::to_string).collect();
                f.pad(&vnis.join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_accepts_everything() {
        let set: VniSet = "ANY".parse().unwrap();
        assert!(set.is_any() && set.contains(0) && set.contains(MAX_VNI));
        assert_eq!(set.as_list(), None);
        assert_eq!(set.to_string(), "any");
    }

    #[test]
    fn a_list_is_sorted_and_without_duplicates() {
        let set: VniSet = "9, 0,16777215,9".parse().unwrap();
        assert_eq!(set.as_list(), Some(&[0, 9, MAX_VNI][..]));
        assert!(set.contains(9) && !set.contains(8));
        assert_eq!(set.to_string(), "0,9,16777215");
        assert_eq!(set.to_string().parse(), Ok(set));
    }

    #[test]
    fn refusals_name_the_vni() {
        for (text, words) in [
            ("", "\"\" is not a VNI"),
            ("1,,2", "\"\" is not a VNI"),
            ("16777216", "\"16777216\" is not a VNI"),
            ("any,5", "\"any\" is not a VNI"),
            ("-1", "\"-1\""),
            ("1-3", "\"1-3\""),
        ] {
            let problem = text.parse::<VniSet>().unwrap_err();
            assert!(problem.contains(words), "{text:?}: {problem}");
        }
        assert!(VniSet::list([]).unwrap_err().contains("empty"));
        assert!(VniSet::list([1 << 24]).unwrap_err().contains("16777216"));
    }

    #[test]
    fn at_most_4096() {
        assert!(VniSet::list(0..4096).is_ok());
        assert!(VniSet::list((0..4096).chain(0..4096)).is_ok(), "counted after removing doubles");
        assert!(VniSet::list(0..4097).unwrap_err().contains("4097 VNIs"));
    }
}
