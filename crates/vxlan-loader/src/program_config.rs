//! What the settings mean for the program that is loaded.

use std::time::Duration;

use config::{AllowlistMatch, Disposition, RewriteL2, Settings, VniMismatch};
use dataplane::abi::{
    ALLOWLIST_MATCH_BOTH, ALLOWLIST_MATCH_DST, ALLOWLIST_MATCH_EITHER, ALLOWLIST_MATCH_SRC,
    program_config,
};

/// The program's read-only data. `dedup_key` is random.
pub fn program_config(settings: &Settings, dedup_key: [u64; 2]) -> program_config {
    program_config {
        vxlan_port: settings.vxlan_port.to_be(),
        df_clear_threshold: settings.df_clear_threshold,
        vni_mismatch_pass: (settings.vni_mismatch == VniMismatch::Pass).into(),
        allowlist_enabled: settings.enable_allowlist.into(),
        allowlist_match: match settings.allowlist_match {
            AllowlistMatch::Either => ALLOWLIST_MATCH_EITHER,
            AllowlistMatch::Src => ALLOWLIST_MATCH_SRC,
            AllowlistMatch::Dst => ALLOWLIST_MATCH_DST,
            AllowlistMatch::Both => ALLOWLIST_MATCH_BOTH,
        } as u8,
        unmatched_drop: (settings.unmatched == Disposition::Drop).into(),
        non_ip_forward: (settings.non_ip == Disposition::Forward).into(),
        truncated_drop: (settings.truncated == Disposition::Drop).into(),
        geneve: settings.geneve.into(),
        rewrite_l2_all: (settings.rewrite_l2 == RewriteL2::All).into(),
        reassemble: settings.reassemble.into(),
        event_rate: settings.audit_log.as_ref().map_or(0, |_| settings.event_rate),
        fragment_timeout_ns: nanoseconds(settings.fragment_timeout),
        dedup_window_ns: nanoseconds(settings.dedup_window),
        dedup_key,
        ..Default::default()
    }
}

fn nanoseconds(time: Duration) -> u64 {
    time.as_nanos().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn switches(config: &program_config) -> [u8; 8] {
        [
            config.vni_mismatch_pass,
            config.allowlist_enabled,
            config.unmatched_drop,
            config.non_ip_forward,
            config.truncated_drop,
            config.geneve,
            config.rewrite_l2_all,
            config.reassemble,
        ]
    }

    #[test]
    fn the_defaults_are_the_program_that_most_users_run() {
        let config = program_config(&Settings::default(), [0; 2]);
        assert_eq!(config.vxlan_port.to_ne_bytes(), 4789u16.to_be_bytes());
        assert_eq!(config.df_clear_threshold, 1400);
        assert_eq!(switches(&config), [0; 8]);
        assert_eq!((config.event_rate, config.dedup_window_ns), (0, 0));
        assert_eq!(config.fragment_timeout_ns, 30_000_000_000);
    }

    #[test]
    fn every_switch_reaches_the_program() {
        let mut settings = Settings::default();
        settings.vni_mismatch = VniMismatch::Pass;
        settings.enable_allowlist = true;
        settings.allowlist_match = AllowlistMatch::Both;
        settings.unmatched = Disposition::Drop;
        settings.non_ip = Disposition::Forward;
        settings.truncated = Disposition::Drop;
        settings.geneve = true;
        settings.rewrite_l2 = RewriteL2::All;
        settings.reassemble = true;
        let config = program_config(&settings, [0; 2]);
        assert_eq!(u32::from(config.allowlist_match), ALLOWLIST_MATCH_BOTH);
        assert_eq!(switches(&config), [1; 8]);
    }

    #[test]
    fn every_number_reaches_the_program() {
        let mut settings = Settings::default();
        settings.fragment_timeout = Duration::from_millis(100);
        settings.dedup_window = Duration::from_millis(5);
        settings.audit_log = Some("/var/log/audit".into());
        settings.event_rate = 7;
        let config = program_config(&settings, [1, 2]);
        assert_eq!((config.fragment_timeout_ns, config.dedup_window_ns), (100_000_000, 5_000_000));
        assert_eq!((config.event_rate, config.dedup_key), (7, [1, 2]));
    }

    #[test]
    fn without_a_log_there_are_no_events() {
        let mut settings = Settings::default();
        settings.event_rate = 7;
        assert_eq!(program_config(&settings, [0; 2]).event_rate, 0);
    }
}
