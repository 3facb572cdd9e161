//! Compiles the lab's BPF programs and generates their skeletons.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use libbpf_cargo::SkeletonBuilder;

const PROGRAMS: [&str; 3] = ["generator", "pass", "sink"];
const HEADERS: [&str; 1] = ["bpf/stamp.h"];

fn main() -> Result<()> {
    let out = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR")?);
    let mut arguments = vec!["-Wall".to_owned(), "-Wextra".to_owned(), "-Werror".to_owned()];
    if let Some(directory) = architecture_headers() {
        arguments.extend(["-idirafter".to_owned(), directory]);
    }
    for program in PROGRAMS {
        let source = format!("bpf/{program}.bpf.c");
        println!("cargo:rerun-if-changed={source}");
        SkeletonBuilder::new()
            .source(&source)
            .clang_args(&arguments)
            .build_and_generate(out.join(format!("{program}.skel.rs")))
            .with_context(|| format!("cannot compile {source}"))?;
    }
    for header in HEADERS {
        println!("cargo:rerun-if-changed={header}");
    }
    Ok(())
}

/// Where `asm/types.h` is on distributions with one directory an architecture (Debian, Ubuntu);
/// on others it is in /usr/include, and nothing is needed.
fn architecture_headers() -> Option<String> {
    let printed = Command::new("cc").arg("-print-multiarch").output().ok();
    let printed = printed.and_then(|output| String::from_utf8(output.stdout).ok());
    let architecture = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    [printed.unwrap_or_default().trim().to_owned(), format!("{architecture}-linux-gnu")]
        .into_iter()
        .filter(|name| !name.is_empty())
        .map(|name| format!("/usr/include/{name}"))
        .find(|directory| Path::new(directory).join("asm/types.h").exists())
}
