//! Security events and the file that they go to. Needs root.

mod common;

use std::fs;
use std::path::PathBuf;

use common::{Bench, assert_says, stop, wait_until};
use nix::sys::signal::Signal;

/// A path whose file is removed with the value.
struct Log(PathBuf);

impl Log {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("loader-{}-{name}", std::process::id())))
    }

    fn text(&self) -> &str {
        self.0.to_str().unwrap()
    }

    /// The lines without their times, which must be written like this.
    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        let parts = text
            .lines()
            .map(|line| line.split_at(r#"{"time":"2026-01-02T03:04:05.678901Z","#.len()));
        let rest = |(time, rest): (&str, &str)| {
            assert!(time.starts_with(r#"{"time":"2"#) && time.ends_with(r#"Z","#), "{time}");
            rest.to_owned()
        };
        parts.map(rest).collect()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn a_log_that_can_not_be_opened() {
    let bench = Bench::new();
    let text = bench.fails(1, &["--audit-log", "/no/such/directory/log"]);
    assert_says(&text, &["AUDIT_LOG /no/such/directory/log: ", "make the directory"]);
    bench.assert_nothing_left();
}

#[test]
fn a_blocked_packet_is_a_line_in_the_log() {
    let (bench, log) = (Bench::new(), Log::new("blocked"));
    let process = bench.start(&["--enable-allowlist", "1", "--audit-log", log.text()]);
    bench.send(1, 53);
    wait_until("an event", || !log.lines().is_empty());
    // What comes right before the end is written, too.
    bench.send(1, 54);
    stop(process);
    let line = |port| {
        format!(
            r#""verdict":"not_allowed","vni":7,"mirror":"198.18.0.1","source":"10.0.0.1","source_port":1234,"destination":"10.0.0.2","destination_port":{port},"protocol":"udp","interface":"ens5"}}"#
        )
    };
    assert_eq!(log.lines(), [line(53), line(54)]);
}

#[test]
fn events_without_a_loader_are_written_by_the_next_one() {
    let (bench, log) = (Bench::new(), Log::new("next"));
    let arguments = ["--target-vni", "5", "--audit-log", log.text()];
    let mut first = bench.start(&arguments);
    first.signal(Signal::SIGKILL).unwrap();
    first.wait(common::PATIENCE).unwrap();
    bench.send(2, 53);
    let second = bench.start(&arguments);
    stop(second);
    let line = r#""verdict":"vni_mismatch","vni":7,"mirror":"198.18.0.1","source":null,"source_port":null,"destination":null,"destination_port":null,"protocol":null,"interface":"ens5"}"#;
    assert_eq!(log.lines(), [line; 2]);
}

#[test]
fn a_log_that_takes_nothing_holds_up_nothing() {
    let bench = Bench::new();
    let process = bench.start(&["--target-vni", "5", "--audit-log", "/dev/full"]);
    bench.send(3, 53);
    let said = stop(process);
    assert_says(&said, &["AUDIT_LOG /dev/full: No space left", "3 events were never written"]);
    assert_eq!(said.matches("No space left").count(), 1, "{said}");
    bench.assert_nothing_left();
}
