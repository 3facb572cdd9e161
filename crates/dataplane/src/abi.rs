//! What the XDP program and userspace share, generated from `bpf/abi.h`: structs from the
//! object's type information, lists and constants through the C preprocessor.

pub use crate::pipeline::skel::types::{
    allowlist_key, allowlist_key_v6, config as program_config, conntrack_key, conntrack_value,
    control, event, fragment_key, fragment_value, frame_info, frame_record, injector_state,
    interface, maglev, nat_key, nat_target, nat_value, next_hop, vni_count, vni_key, vni_slot,
    weighted_target, worker_stats,
};

include!(concat!(env!("OUT_DIR"), "/abi_lists.rs"));

/// Whose doing a verdict is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VerdictClass {
    /// Handed to the host stack.
    Pass,
    /// Handed to the egress.
    Forward,
    /// Dropped: the packet is broken.
    Malformed,
    /// Dropped: the configuration says so.
    Policy,
    /// Dropped: the pipeline could not do its work.
    Error,
}

impl VerdictClass {
    /// Whether packets of this class end here.
    pub fn is_drop(self) -> bool {
        matches!(self, Self::Malformed | Self::Policy | Self::Error)
    }
}

impl Stage {
    /// Key in `stats_map`.
    pub fn key(self) -> u32 {
        self as u32
    }
}

impl Verdict {
    /// Key in `stats_map`: the verdicts stand behind the stages.
    pub fn key(self) -> u32 {
        Stage::ALL.len() as u32 + self as u32
    }
}

impl Note {
    /// Key in `stats_map`: the notes stand behind the verdicts.
    pub fn key(self) -> u32 {
        (Stage::ALL.len() + Verdict::ALL.len()) as u32 + self as u32
    }
}

impl Side {
    /// Key in `stats_map`: they stand behind the notes.
    pub fn key(self) -> u32 {
        (Stage::ALL.len() + Verdict::ALL.len() + Note::ALL.len()) as u32 + self as u32
    }
}

impl SendFailure {
    /// The reason for an error number of `sendmmsg`.
    pub fn from_errno(errno: i32) -> Self {
        match errno {
            libc::ENOBUFS => Self::Enobufs,
            libc::EAGAIN => Self::Eagain,
            libc::EMSGSIZE => Self::Emsgsize,
            libc::ENETDOWN => Self::Enetdown,
            libc::ENXIO | libc::ENODEV => Self::Enxio,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_nine_keys_are_those_that_users_know() {
        let names: Vec<_> = Stage::ALL.iter().map(|s| s.name()).collect();
        assert_eq!(
            names,
            [
                "total",
                "vxlan",
                "inner",
                "nat_applied",
                "df_cleared",
                "forwarded",
                "redirected",
                "errors",
                "bytes"
            ]
        );
        assert_eq!(Verdict::ALL[0].key(), 9);
    }

    #[test]
    fn every_list_entry_has_a_description_and_its_own_name() {
        let mut names: Vec<_> = Verdict::ALL.iter().map(|v| v.name()).collect();
        assert!(Verdict::ALL.iter().all(|v| !v.description().is_empty()));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Verdict::ALL.len());
    }
}
