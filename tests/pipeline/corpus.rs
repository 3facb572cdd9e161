//! The corpus of real captures and the scripts that compute expected answers. Both are optional:
//! a test that needs them says so when it is skipped for their absence.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Where the captures and scripts are.
pub struct Corpus {
    captures: PathBuf,
    tools: PathBuf,
}

impl Corpus {
    /// The corpus, or `None` after saying that `test` is skipped. `CORPUS_DIR` names its folder
    /// (with `data/pcaps` and `tools`); without it, `shared` beside the checkout is looked at.
    pub fn find(test: &str) -> Option<Self> {
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
        let root = env::var_os("CORPUS_DIR").map_or(beside, PathBuf::from);
        let corpus = Self { captures: root.join("data/pcaps"), tools: root.join("tools") };
        if corpus.captures.is_dir() && corpus.tools.is_dir() {
            return Some(corpus);
        }
        eprintln!("SKIPPED {test}: no captures in {} (set CORPUS_DIR)", root.display());
        None
    }

    /// All captures of a kind (`vxlan` or `inner`), sorted by name.
    pub fn captures(&self, kind: &str) -> Result<Vec<PathBuf>> {
        let directory = self.captures.join(kind);
        let mut files: Vec<PathBuf> = fs::read_dir(&directory)
            .with_context(|| directory.display().to_string())?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_>>()?;
        files.retain(|path| {
            let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
            !name.contains(".inner.") && !name.contains(".port8472.")
        });
        files.sort();
        Ok(files)
    }

    /// A script of the corpus.
    pub fn tool(&self, name: &str) -> PathBuf {
        self.tools.join(name)
    }
}

/// Frames written as hexadecimal lines.
pub fn read_hex_lines(path: &Path) -> Result<Vec<Vec<u8>>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    text.lines().filter(|line| !line.is_empty()).map(parse_hex).collect()
}

/// Bytes from hexadecimal digits.
pub fn parse_hex(digits: &str) -> Result<Vec<u8>> {
    (0..digits.len())
        .step_by(2)
        .map(|at| {
            let pair = digits.get(at..at + 2).context("odd number of digits")?;
            u8::from_str_radix(pair, 16).with_context(|| format!("{pair:?} is not a byte"))
        })
        .collect()
}

/// Hexadecimal digits of bytes.
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
