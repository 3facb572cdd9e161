//! What users get wrong: each gives an error that names what, where, and what to do.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use lab::{EGRESS, Lab, Pipeline, Programs};
use nix::sys::signal::Signal;

/// Runs a program in the pipeline namespace until it ends; returns status and what it said.
fn run(lab: &Lab, name: &str, arguments: &[&str]) -> Result<(i32, String)> {
    let mut command: Command = Programs::beside_this()?.command(name, arguments);
    command.arg("--pin-dir").arg(lab.pin_dir());
    let mut process = lab.spawn(EGRESS.namespace, command)?;
    let status = process.wait(Duration::from_secs(10))?;
    Ok((status.code().unwrap_or(-1), process.output()))
}

/// Checks the exit status and that the error has all of these words.
fn expect(result: (i32, String), status: i32, words: &[&str]) -> Result<()> {
    let (code, output) = result;
    ensure!(code == status, "exit status {code}, expected {status}:\n{output}");
    for word in words {
        ensure!(output.contains(word), "{word:?} is missing in:\n{output}");
    }
    Ok(())
}

#[test]
fn an_injector_without_a_pipeline_says_what_is_missing() -> Result<()> {
    let lab = Lab::new()?;
    let said = run(&lab, "packet-injector", &[EGRESS.name])?;
    expect(said, 1, &["no pin", "no pipeline is running", "vxlan-loader"])?;
    let said = run(&lab, "vxlanctl", &["stats"])?;
    expect(said, 1, &["no pipeline is running", "PIN_DIR"])
}

#[test]
fn an_injector_refuses_what_can_not_work() -> Result<()> {
    let lab = Lab::new()?;
    let pipeline = Pipeline::start(&lab, &[], &[])?;
    let said = run(&lab, "packet-injector", &[EGRESS.name])?;
    expect(said, 1, &["another packet-injector", "one consumer"])?;
    let said = run(&lab, "packet-injector", &["nosuch0"])?;
    expect(said, 1, &["no such interface: nosuch0", "ens5", "ens6"])?;
    let said = run(&lab, "packet-injector", &["ens5"])?;
    expect(said, 1, &["TARGET_INTERFACE", "index"])?;
    let said = run(&lab, "packet-injector", &[EGRESS.name, "65"])?;
    expect(said, 2, &["WORKER_THREADS", "65", "64"])?;
    let said = run(&lab, "packet-injector", &[EGRESS.name, "--batch-size", "0"])?;
    expect(said, 2, &["BATCH_SIZE", "0", "1024"])?;
    let said = run(&lab, "packet-injector", &[EGRESS.name, "--cpu-affinity", "x"])?;
    expect(said, 2, &["CPU_AFFINITY", "x", "none"])?;
    pipeline.stop()?;
    Ok(())
}

#[test]
fn a_second_loader_is_told_of_the_live_pipeline() -> Result<()> {
    let lab = Lab::new()?;
    let pipeline = Pipeline::start(&lab, &[], &[])?;
    let loader = pipeline.loader.id().to_string();
    let said = run(&lab, "vxlan-loader", &["-i", "ens5", "-t", "ens6"])?;
    expect(said, 1, &[&loader, "PIN_DIR"])?;
    ensure!(pipeline.stats()?["unaccounted"] == 0);
    pipeline.stop()?;
    Ok(())
}

#[test]
fn a_takeover_does_not_move_the_egress_away_from_a_live_injector() -> Result<()> {
    let lab = Lab::new()?;
    let mut pipeline = Pipeline::start(&lab, &[], &[])?;
    lab.run(EGRESS.namespace, &["ip", "link", "add", "ens7", "type", "veth"])?;
    lab.run(EGRESS.namespace, &["ip", "link", "set", "dev", "ens7", "up"])?;
    pipeline.loader.signal(Signal::SIGKILL)?;
    pipeline.loader.wait(Duration::from_secs(10))?;
    let said = run(&lab, "vxlan-loader", &["-i", "ens5", "-t", "ens7"])?;
    expect(said, 1, &["packet-injector", "TARGET_INTERFACE", "ens7"])?;
    pipeline.restart_loader(&[])?;
    pipeline.stop()?;
    Ok(())
}

#[test]
fn bad_settings_are_named_with_their_origin() -> Result<()> {
    let lab = Lab::new()?;
    let file = std::env::temp_dir().join(format!("bad-{}.env", std::process::id()));
    std::fs::write(&file, "INTERFACE=ens5\nTARGET_INTERFACE=ens6\nVXLAN_PORT=70000\n")?;
    let path = file.display().to_string();
    let said = run(&lab, "vxlan-loader", &["--env-file", &path])?;
    std::fs::remove_file(&file)?;
    expect(said, 2, &["VXLAN_PORT", "70000", &path, "line 3", "65535"])?;
    let said = run(&lab, "vxlan-loader", &["-i", "ens5", "-t", "ens6", "--nat-ip", "x"])?;
    expect(said, 2, &["NAT_IP", "x", "--nat-ip"])?;
    ensure!(std::fs::read_dir(lab.pin_dir())?.next().is_none(), "something is left behind");
    Ok(())
}

#[test]
fn a_bad_entry_changes_nothing() -> Result<()> {
    let lab = Lab::new()?;
    let pipeline = Pipeline::start(&lab, &[], &[])?;
    pipeline.control(&["allowlist", "add", "198.51.100.0/24", "2001:db8::7"])?;
    let before = pipeline.control(&["allowlist", "show"])?;
    let file = std::env::temp_dir().join(format!("bad-{}.json", std::process::id()));
    std::fs::write(
        &file,
        r#"{"organizations":[{"name":"Example","ips":["192.0.2.1","192.0.2.300"]}]}"#,
    )?;
    let path = file.display().to_string();
    let said = run(&lab, "vxlanctl", &["allowlist", "load", &path])?;
    std::fs::remove_file(&file)?;
    expect(said, 2, &["192.0.2.300", "organizations[0]", "Example", "ips[1]"])?;
    ensure!(pipeline.control(&["allowlist", "show"])? == before);
    let said = run(&lab, "vxlanctl", &["nat", "add", "--port", "53", "--to", "198.18.1.77"])?;
    expect(said, 1, &["198.18.1.77"])?;
    ensure!(!pipeline.control(&["nat", "show"])?.contains("198.18.1.77"));
    pipeline.stop()?;
    Ok(())
}
