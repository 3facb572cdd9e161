use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use clap::Command;

use super::*;
use crate::{CpuAffinity, Disposition, RewriteL2, VniMismatch, WorkerThreads, XdpMode};

/// A `.env` file that is removed with the value.
struct TempFile(PathBuf);

impl TempFile {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("config-{}-{name}.env", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

type Outcome = Result<(Settings, Vec<Warning>), ConfigError>;

fn resolve_with(command: Command, flags: &[&str], env: &[(&str, &str)], file: &Path) -> Outcome {
    let matches = command.try_get_matches_from([&["test"], flags].concat()).unwrap();
    let environment = |name: &str| {
        env.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
    };
    Settings::resolve(&matches, &environment, file)
}

fn all() -> Command {
    crate::command("test", "A test.", Key::ALL)
}

fn resolve(flags: &[&str], env: &[(&str, &str)]) -> Outcome {
    resolve_with(all(), flags, env, Path::new("/nonexistent/.env"))
}

fn refusal(flags: &[&str], env: &[(&str, &str)]) -> String {
    let error = resolve(flags, env).unwrap_err();
    assert_eq!(error.exit_status(), 2);
    error.to_string()
}

#[test]
fn defaults() {
    let (settings, warnings) = resolve(&[], &[]).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(settings.interface, None);
    assert_eq!(settings.target_interface, None);
    assert_eq!(settings.nat_ip, None);
    assert_eq!(settings.vxlan_port, 4789);
    assert!(settings.target_vni.is_any());
    assert_eq!(settings.vni_mismatch, VniMismatch::Drop);
    assert!(!settings.enable_allowlist);
    assert_eq!(settings.unmatched, Disposition::Forward);
    assert_eq!(settings.non_ip, Disposition::Drop);
    assert_eq!(settings.truncated, Disposition::Forward);
    assert!(!settings.geneve && !settings.reassemble);
    assert_eq!(settings.dedup_window, Duration::ZERO);
    assert_eq!(settings.conntrack_size, 65_536);
    assert_eq!(settings.fragment_timeout, Duration::from_secs(30));
    assert_eq!((settings.rewrite_l2, settings.next_hop), (RewriteL2::Nat, None));
    assert_eq!((settings.audit_log.as_deref(), settings.event_rate), (None, 100));
    assert_eq!(settings.df_clear_threshold, 1400);
    assert_eq!(settings.xdp_mode, XdpMode::Auto);
    assert_eq!(settings.worker_threads, WorkerThreads::Auto);
    assert_eq!(settings.ring_buffer_size.bytes(), 16 * 1024 * 1024);
    assert_eq!(settings.batch_size, 64);
    assert_eq!(settings.tx_retry, Duration::from_millis(100));
    assert_eq!(settings.cpu_affinity, CpuAffinity::Auto);
    assert_eq!(settings.stats_interval, Duration::from_secs(1));
    assert_eq!(settings.pin_dir, Path::new("/sys/fs/bpf"));
    assert!(settings.entries().all(|entry| entry.origin == Origin::Default));
    assert_eq!(settings.entries().count(), Key::ALL.len());
    assert_eq!(Settings::default().vxlan_port, 4789);
}

#[test]
fn flag_beats_environment_beats_file_beats_default() {
    let file = TempFile::new("precedence", "# x\nVXLAN_PORT=3\nBATCH_SIZE=3\nTX_RETRY_MS=3\n");
    let env = [("VXLAN_PORT", "2"), ("BATCH_SIZE", "2")];
    let (settings, _) = resolve_with(all(), &["--vxlan-port", "1"], &env, &file.0).unwrap();
    assert_eq!(settings.vxlan_port, 1);
    assert_eq!(settings.batch_size, 2);
    assert_eq!(settings.tx_retry, Duration::from_millis(3));
    assert_eq!(settings.df_clear_threshold, 1400);

    assert_eq!(settings.origin(Key::VxlanPort), &Origin::Flag);
    assert_eq!(settings.origin(Key::BatchSize), &Origin::Environment);
    let in_file = Origin::File { path: file.0.clone(), line: 4 };
    assert_eq!(settings.origin(Key::TxRetryMs), &in_file);
    assert_eq!(in_file.to_string(), format!("file {} line 4", file.0.display()));
    assert_eq!(settings.origin(Key::DfClearThreshold), &Origin::Default);
    let entry = settings.entries().find(|entry| entry.key == Key::BatchSize).unwrap();
    assert_eq!(entry.text.as_deref(), Some("2"));
}

#[test]
fn a_flag_with_the_value_of_the_default_still_wins() {
    let (settings, _) = resolve(&["--vxlan-port", "4789"], &[("VXLAN_PORT", "1")]).unwrap();
    assert_eq!(settings.vxlan_port, 4789);
    assert_eq!(settings.origin(Key::VxlanPort), &Origin::Flag);
}

#[test]
fn empty_means_unset_in_environment_and_file() {
    let file = TempFile::new("empty", "VXLAN_PORT=7\nNAT_IP=\nBATCH_SIZE=\"\"\n");
    let env = [("VXLAN_PORT", ""), ("NAT_IP", ""), ("INTERFACE", "")];
    let (settings, warnings) = resolve_with(all(), &[], &env, &file.0).unwrap();
    assert_eq!(settings.vxlan_port, 7, "an empty variable doesn't hide the file");
    assert_eq!((settings.nat_ip, settings.batch_size), (None, 64));
    assert_eq!(settings.interface, None);
    assert_eq!(settings.origin(Key::BatchSize), &Origin::Default);
    assert_eq!(warnings, []);
}

#[test]
fn an_empty_flag_is_refused() {
    for key in Key::ALL {
        let error = refusal(&[&format!("--{}=", key.long())], &[]);
        assert!(error.contains(&format!("bad value \"\" for {key} (flag --")), "{error}");
    }
}

#[test]
fn every_key_refuses_a_bad_value_in_full() {
    let bad = [
        ("INTERFACE", "a/b"),
        ("TARGET_INTERFACE", "a name"),
        ("XDP_MODE", "fast"),
        ("PIN_DIR", "sys/fs/bpf"),
        ("VXLAN_PORT", "0"),
        ("TARGET_VNI", "16777216"),
        ("VNI_MISMATCH", "forward"),
        ("GENEVE", "2"),
        ("ENABLE_ALLOWLIST", "maybe"),
        ("ALLOWLIST_FILE", "a\0b"),
        ("ALLOWLIST_MATCH", "any"),
        ("NON_IP", "pass"),
        ("TRUNCATED", "repair"),
        ("DEDUP_WINDOW_MS", "0.5"),
        ("NAT_IP", "192.0.2.256"),
        ("NAT_PORT", "65536"),
        ("SOURCE_PORT", "-1"),
        ("NAT_RULES_FILE", "\0"),
        ("UNMATCHED", "nat"),
        ("CONNTRACK_SIZE", "1023"),
        ("FRAGMENT_TIMEOUT", "0"),
        ("REASSEMBLE", "always"),
        ("REWRITE_L2", "none"),
        ("NEXT_HOP", "ens6"),
        ("DF_CLEAR_THRESHOLD", "65536"),
        ("RING_BUFFER_SIZE", "20M"),
        ("WORKER_THREADS", "65"),
        ("BATCH_SIZE", "0"),
        ("TX_RETRY_MS", "60001"),
        ("FRAGMENT_BUFFERS", "65537"),
        ("CPU_AFFINITY", "0,0"),
        ("AUDIT_LOG", "\0"),
        ("EVENT_RATE", "0"),
        ("STATS_INTERVAL", "0.05"),
    ];
    assert_eq!(
        bad.map(|(name, _)| name).to_vec(),
        Key::ALL.iter().map(|k| k.name()).collect::<Vec<_>>()
    );
    for (name, value) in bad {
        let key = Key::from_name(name).unwrap();
        let error = refusal(&[], &[(name, value)]);
        let start = format!("bad value {value:?} for {name} (environment variable {name}): ");
        assert!(error.starts_with(&start), "{error}");
        assert!(error.ends_with(&format!("allowed: {}", key.allowed())), "{error}");
    }
}

#[test]
fn the_bounds_of_numbers_are_those_of_the_allowed_text() {
    for (name, min, max) in [
        ("VXLAN_PORT", 1, 65_535),
        ("BATCH_SIZE", 1, 1024),
        ("TX_RETRY_MS", 0, 60_000),
        ("DF_CLEAR_THRESHOLD", 0, 65_535),
        ("WORKER_THREADS", 1, 64),
        ("DEDUP_WINDOW_MS", 0, 10_000),
        ("CONNTRACK_SIZE", 1024, 4_194_304),
        ("FRAGMENT_TIMEOUT", 1, 300),
        ("EVENT_RATE", 1, 100_000),
        ("STATS_INTERVAL", 1, 86_400),
    ] {
        let allowed = Key::from_name(name).unwrap().allowed();
        assert!(allowed.contains(&max.to_string()), "{name}");
        for (value, good) in [(min - 1, false), (min, true), (max, true), (max + 1, false)] {
            let outcome = resolve(&[], &[(name, &value.to_string())]);
            assert_eq!(outcome.is_ok(), good, "{name}={value}");
        }
    }
}

#[test]
fn an_error_says_where_the_value_came_from() {
    let error = refusal(&["--nat-port", "x"], &[]);
    assert!(error.contains("\"x\" for NAT_PORT (flag --nat-port)"), "{error}");
    let error = refusal(&["--batch-size", "-5"], &[]);
    assert!(error.contains("\"-5\" for BATCH_SIZE (flag --batch-size)"), "{error}");

    let file = TempFile::new("origin", "\n\nRING_BUFFER_SIZE=1000\n");
    let error = resolve_with(all(), &[], &[], &file.0).unwrap_err().to_string();
    let place = format!("for RING_BUFFER_SIZE (file {} line 3)", file.0.display());
    assert!(error.contains(&place) && error.contains("nearest is 64K"), "{error}");
}

#[test]
fn a_value_that_is_not_utf8_is_refused() {
    let matches = all().try_get_matches_from(["test"]).unwrap();
    let environment = |name: &str| (name == "INTERFACE").then(|| OsString::from_vec(vec![0xff]));
    let outcome = Settings::resolve(&matches, &environment, Path::new("/nonexistent/.env"));
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains("INTERFACE") && error.contains("not UTF-8"), "{error}");
}

#[test]
fn the_file_that_is_named_is_read_instead_of_the_default_one() {
    let named = TempFile::new("named", "BATCH_SIZE=2\nGENEVA=1\n");
    let default = TempFile::new("default", "BATCH_SIZE=3\n");
    let flags = ["--env-file", named.0.to_str().unwrap()];
    let (settings, warnings) = resolve_with(all(), &flags, &[], &default.0).unwrap();
    assert_eq!(settings.batch_size, 2);
    let warning = Warning::UnknownKey { name: "GENEVA".to_owned(), path: named.0.clone(), line: 2 };
    assert_eq!(warnings, [warning]);

    let error = refusal(&["--env-file", "/nonexistent/x.env"], &[]);
    assert!(error.starts_with("/nonexistent/x.env: "), "{error}");
    let error = resolve_with(all(), &[], &[], Path::new("/")).unwrap_err().to_string();
    assert!(error.starts_with("/: "), "a default file that is there has to be readable: {error}");
}

#[test]
fn a_line_that_cannot_be_parsed_is_named() {
    let file = TempFile::new("syntax", "BATCH_SIZE=2\nTARGET_VNI=1, 2\n");
    let error = resolve_with(all(), &[], &[], &file.0).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}: line 2: ", file.0.display())), "{error}");
}

#[test]
fn keys_of_other_commands_are_neither_judged_nor_taken() {
    let command = crate::command("test", "A test.", &[Key::PinDir, Key::StatsInterval]);
    let file = TempFile::new("subset", "NAT_PORT=x\nPIN_DIR=/tmp\nVXLAN_PORT=5\n");
    let env = [("BATCH_SIZE", "many"), ("NAT_IP", "192.0.2.1"), ("STATS_INTERVAL", "0.5")];
    let (settings, warnings) = resolve_with(command, &[], &env, &file.0).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(settings.pin_dir, Path::new("/tmp"));
    assert_eq!(settings.stats_interval, Duration::from_millis(500));
    assert_eq!((settings.batch_size, settings.vxlan_port), (64, 4789));
    assert_eq!(settings.nat_ip, None);
    let keys: Vec<_> = settings.entries().map(|entry| entry.key).collect();
    assert_eq!(keys, [Key::PinDir, Key::StatsInterval]);
}

#[test]
fn positional_arguments_give_settings() {
    let command = || {
        all()
            .arg(crate::positional(Key::TargetInterface))
            .arg(crate::positional(Key::WorkerThreads))
    };
    let env = [("TARGET_INTERFACE", "e1"), ("WORKER_THREADS", "1")];
    let none = Path::new("/nonexistent/.env");
    let (settings, _) = resolve_with(command(), &["ens6", "8"], &env, none).unwrap();
    assert_eq!(settings.egress().unwrap().as_str(), "ens6");
    assert_eq!(settings.worker_threads, WorkerThreads::Count(8));
    assert_eq!(settings.origin(Key::WorkerThreads), &Origin::Argument);

    let (settings, _) = resolve_with(command(), &["ens6"], &env, none).unwrap();
    assert_eq!(settings.origin(Key::WorkerThreads), &Origin::Environment);

    let error = resolve_with(command(), &["ens6", "99"], &[], none).unwrap_err().to_string();
    assert!(error.contains("\"99\" for WORKER_THREADS (argument COUNT)"), "{error}");

    let both = command().try_get_matches_from(["test", "ens6", "-t", "ens7"]);
    assert_eq!(both.unwrap_err().kind(), clap::error::ErrorKind::ArgumentConflict);
}

#[test]
fn global_flags_are_seen_before_and_after_a_subcommand() {
    let command = || {
        let args = crate::args(&[Key::PinDir, Key::BatchSize]);
        Command::new("test")
            .args(args.into_iter().map(|arg| arg.global(true)))
            .subcommand(Command::new("stats"))
    };
    let none = Path::new("/nonexistent/.env");
    for flags in [["--pin-dir", "/tmp", "stats"], ["stats", "--pin-dir", "/tmp"]] {
        let (settings, _) =
            resolve_with(command(), &flags, &[("PIN_DIR", "/x"), ("BATCH_SIZE", "9")], none)
                .unwrap();
        assert_eq!(settings.pin_dir, Path::new("/tmp"), "{flags:?}");
        assert_eq!(settings.batch_size, 9);
    }
}

#[test]
fn a_setting_that_is_needed_and_not_given() {
    let (settings, _) = resolve(&[], &[]).unwrap();
    let error = settings.ingress().unwrap_err();
    assert_eq!(error.exit_status(), 2);
    let error = error.to_string();
    assert!(error.contains("INTERFACE is needed") && error.contains("--interface"), "{error}");
    let error = settings.egress().unwrap_err().to_string();
    assert!(error.contains("--target-interface") && error.contains("15 bytes"), "{error}");
}
