//! The demo is a promise of the README: it must end well, say so in its last line, and leave
//! nothing behind.

use std::fs;
use std::process::Stdio;

use anyhow::{Result, ensure};
use lab::Programs;

#[test]
fn the_demo_ends_well_and_leaves_no_trace() -> Result<()> {
    let mut command = Programs::beside_this()?.command("vxlan-lab", &["demo"]);
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).stdin(Stdio::null());
    let demo = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let process = demo.id();
    let output = demo.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said.lines().last().unwrap_or_default();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}\n{said}\n{errors}", output.status);
    for part in ["OK: 8350 frames sent", "7550 delivered byte for byte", "unaccounted: 0"] {
        ensure!(line.contains(part), "{part:?} is missing in {line:?}");
    }
    for dropped in ["non_ip 200", "not_allowed 200", "vni_mismatch 200", "vxlan_no_vni 200"] {
        ensure!(line.contains(dropped), "{dropped:?} is missing in {line:?}");
    }
    let left = traces(process)?;
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}

/// What a demo could forget: pins and temporary files, which have its process ID in their names.
fn traces(process: u32) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for directory in ["/sys/fs/bpf".into(), std::env::temp_dir()] {
        for entry in fs::read_dir(directory)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let process = process.to_string();
            if name.starts_with("vxlan") && name.split('-').any(|part| part == process) {
                names.push(name);
            }
        }
    }
    Ok(names)
}
