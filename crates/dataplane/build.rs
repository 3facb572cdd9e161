//! Compiles the BPF object into a skeleton and turns the lists of `bpf/abi.h` into Rust.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use libbpf_cargo::SkeletonBuilder;

fn main() -> Result<()> {
    let bpf = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../bpf");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for entry in fs::read_dir(&bpf)? {
        println!("cargo:rerun-if-changed={}", entry?.path().display());
    }
    println!("cargo:rerun-if-changed=src/abi_export.h");
    let mut arguments: Vec<String> =
        ["-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-mcpu=v3"]
            .map(String::from)
            .into();
    arguments.extend(system_includes()?);
    SkeletonBuilder::new()
        .source(bpf.join("vxlan_pipeline.bpf.c"))
        .clang_args(&arguments)
        .build_and_generate(out.join("vxlan_pipeline.skel.rs"))
        .context("compiling bpf/vxlan_pipeline.bpf.c (is clang installed?)")?;
    fs::write(out.join("abi_lists.rs"), lists(&preprocess(&bpf)?)?)?;
    Ok(())
}

/// clang for the bpf target does not know where Debian keeps `asm/`.
fn system_includes() -> Result<Vec<String>> {
    let architecture = env::var("CARGO_CFG_TARGET_ARCH")?;
    let directory = format!("/usr/include/{architecture}-linux-gnu");
    Ok(if Path::new(&directory).exists() {
        vec!["-idirafter".into(), directory]
    } else {
        Vec::new()
    })
}

/// Runs the C preprocessor over `abi_export.h`, which prints each list of `abi.h` as lines.
fn preprocess(bpf: &Path) -> Result<String> {
    let output = Command::new(env::var("CLANG").unwrap_or_else(|_| "clang".into()))
        .args(["-E", "-P", "-x", "c", "-I"])
        .arg(bpf)
        .arg("src/abi_export.h")
        .output()
        .context("running clang -E")?;
    ensure!(output.status.success(), "clang -E: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// One entry of a list: `@Enum NAME name [CLASS] "text"`.
struct Entry {
    variant: String,
    name: String,
    class: Option<String>,
    text: String,
}

fn lists(preprocessed: &str) -> Result<String> {
    let mut source = String::new();
    // `text` may have been split into lines by the preprocessor: entries are separated by '@'.
    let mut enums: Vec<(String, Vec<Entry>)> = Vec::new();
    for item in preprocessed.split('@').skip(1) {
        let item = item.split_whitespace().collect::<Vec<_>>().join(" ");
        let (kind, rest) = item.split_once(' ').context("empty item")?;
        if kind == "const" {
            let (name, value) = rest.split_once(' ').context("constant without value")?;
            let (name, value) = (name.trim_matches('"'), value.trim_end_matches('u'));
            writeln!(
                source,
                "/// `{name}` of `bpf/abi.h`.\n#[allow(unused_parens)]\npub const {name}: u32 = {value};"
            )?;
            continue;
        }
        let (head, text) = rest.split_once('"').context("entry without description")?;
        let words: Vec<&str> = head.split_whitespace().collect();
        let text = text.trim_end_matches('"').to_string();
        ensure!(!text.is_empty(), "{rest}: empty description");
        let entry = match words[..] {
            [variant, name] => {
                Entry { variant: camel(variant), name: name.into(), class: None, text }
            }
            [variant, name, class] => Entry {
                variant: camel(variant),
                name: name.into(),
                class: Some(camel(class)),
                text,
            },
            _ => bail!("can't read list entry {item:?}"),
        };
        match enums.iter_mut().find(|(name, _)| name == kind) {
            Some((_, entries)) => entries.push(entry),
            None => enums.push((kind.to_string(), vec![entry])),
        }
    }
    for (name, entries) in &enums {
        write_enum(&mut source, name, entries)?;
    }
    Ok(source)
}

fn camel(constant: &str) -> String {
    constant.split('_').map(|word| word[..1].to_string() + &word[1..].to_lowercase()).collect()
}

fn write_enum(source: &mut String, name: &str, entries: &[Entry]) -> Result<()> {
    let arms = |f: &dyn Fn(&Entry) -> String| {
        entries.iter().map(|e| format!("Self::{} => {},\n", e.variant, f(e))).collect::<String>()
    };
    let variants: String =
        entries.iter().map(|e| format!("/// {}.\n{},\n", e.text, e.variant)).collect();
    let all: String = entries.iter().map(|e| format!("Self::{},", e.variant)).collect();
    write!(
        source,
        "/// Generated from the list of the same name in `bpf/abi.h`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum {name} {{ {variants} }}
        impl {name} {{
            /// All of them, in the order of their numbers.
            pub const ALL: [Self; {}] = [{all}];
            /// Name in counters, JSON and documents.
            pub fn name(self) -> &'static str {{ match self {{ {} }} }}
            /// What it means, for people.
            pub fn description(self) -> &'static str {{ match self {{ {} }} }}
        ",
        entries.len(),
        arms(&|e| format!("{:?}", e.name)),
        arms(&|e| format!("{:?}", e.text)),
    )?;
    if entries.iter().all(|e| e.class.is_some()) {
        write!(
            source,
            "/// Whose doing it is.
            pub fn class(self) -> {name}Class {{ match self {{ {} }} }}",
            arms(&|e| format!("{name}Class::{}", e.class.as_deref().unwrap_or_default())),
        )?;
    }
    writeln!(source, "}}")?;
    Ok(())
}
